//! Podwire.
pub mod proto;
