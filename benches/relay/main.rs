//! The relay and its peers under load, as separate processes side by side.
#![allow(missing_docs)] // A bench has no callers.

fn main() {}
