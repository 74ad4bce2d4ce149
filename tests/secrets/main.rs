//! Secrets stay secret (L2): every way in for a token, a key, a cookie, a ticket or a terminal's
//! bytes is given one that carries a mark, at `--log-level trace` and in both formats, before
//! clusters that behave and clusters that do not; then everything that comes out is searched for
//! the mark.
//!
//! `callers.rs` has what callers bring and type, `own.rs` what the relay has of its own. What
//! libraries would log is in `secrets_inside.rs`.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod callers;
#[path = "../common/mod.rs"]
mod common;
mod hook;
mod leak;
mod own;
