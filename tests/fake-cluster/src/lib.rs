//! A pretend Kubernetes API server for Podwire's tests, benches and demo.
//!
//! It behaves on the wire as a real cluster of version 1.36.2 was recorded to behave (the
//! recordings lie in `tests/recordings`, the proof in this crate's tests), down to the habits of
//! `golang.org/x/net/websocket`: frames are not joined, one blocked write blocks every read, and
//! processes outlive their sessions. Its shells are real processes of the host, in real
//! terminals, with the programs that an [`Image`] has. A container's main process, which everybody
//! who attaches shares, says each line again.
//!
//! What is another cluster's habit, or goes wrong with one, is a switch of [`Behaviour`]; what no
//! cluster should do is a [`Script`], some of which have names in [`misbehaviour`]. A [`Cable`]
//! stands for a slow or dead line in front of it, or in front of anything else.
//!
//! It knows nothing of Podwire. The peer is called the peer, or the relay.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use fake_cluster::{FakeCluster, Options};
//!
//! let cluster = FakeCluster::start(Options::default()).await?;
//! println!("{}", cluster.kubeconfig());
//! // … let the relay open a session …
//! let session = cluster.session(0).await;
//! session.until_stdin(b"exit\r").await;
//! # Ok(())
//! # }
//! ```

mod access;
mod api;
mod attach;
mod behaviour;
mod builtin;
mod cable;
mod cluster;
mod connection;
mod exec;
mod http;
mod idle;
mod image;
mod leftovers;
mod link;
pub mod misbehaviour;
mod output;
mod pki;
mod process;
mod random;
mod resize;
mod script;
mod seen;
mod session;
mod socket;
mod status;
mod stdin;
pub mod wire;

pub use access::Rights;
pub use behaviour::{Behaviour, Mode};
pub use cable::{Cable, Speed};
pub use cluster::{Bound, FakeCluster, Options};
pub use http::Request;
pub use image::Image;
pub use pki::ClientIdentity;
pub use script::{Gate, Script, Step, Until, Upgrade};
pub use seen::{Facts, Frame, Session};
