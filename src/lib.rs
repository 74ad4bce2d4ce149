//! Podwire.
