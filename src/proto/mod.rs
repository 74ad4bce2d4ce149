//! What is true without a network: bytes in, bytes out.
//!
//! Nothing in here waits, sleeps, logs or knows what time it is, and bytes that pass through cost no
//! allocation. It imports `serde`, `serde_json`, `base64` and the standard library, and
//! `tests/walls.rs` keeps it so. Read in this order: [`frame`] (RFC 6455), [`channel`] (what Kubernetes puts into frames),
//! [`message`] (what browsers put into them), [`ending`] (the ways a session ends) and [`session`],
//! the one place where all of them meet.

pub mod channel;
pub mod ending;
pub mod frame;
pub mod message;
mod outbox;
pub mod session;
