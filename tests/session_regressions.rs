//! Mistakes that the session machine once made, each with the scene in which it showed.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;
