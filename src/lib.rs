//! Podwire puts the shell of a Kubernetes container into a browser.
//!
//! ```text
//!  browser ──WebSocket──▶ accept ─┐                            ┌─ open ──TLS, WebSocket──▶ cluster
//!  JSON and bytes                 ├──▶ relay: one loop, one ◀──┤      v5.channel.k8s.io
//!                                 │    session, no buffers     │
//!                                 └────────── proto ───────────┘
//!                                  frames · channels · messages
//! ```
//!
//! The modules in reading order: [`proto`] is what is true without a network, bytes in and bytes
//! out; [`relay()`] is the one loop over two connections; [`accept()`] is the browser's door and
//! [`Connector::open`] the cluster's; [`Clusters`] knows where clusters are; [`socket`] prepares
//! both sides' connections. [`server`], [`sources`], [`config`], [`listener`] and [`logging`] are
//! the program, which is only the library's first user.
//!
//! # What holds
//!
//! 1. `proto` depends on nothing that can wait or fail to answer: no I/O, no clock, no logs.
//! 2. Every byte of either side is delivered once and in order, or the session ends with an
//!    [`Ending`] that says so. There is exactly one ending.
//! 3. An idle session owns no buffer. A session owns memory only for what a peer did not take, at
//!    most [`Limits::outbox`] and one read or message for each peer, and for a message that is
//!    not complete.
//! 4. Neither direction waits for the other: an interrupt passes a stalled reader.
//! 5. Any input of either peer comes to an outcome; nothing that arrives can panic.
//! 6. Exit code 0 is said only after the cluster said `Success`.
//! 7. After the stop future completes, [`relay()`] returns in bounded time, and what is known of
//!    the process is in the [`Outcome`].
//! 8. No token and no terminal byte stands in a log line, an error or a `Debug` output.
//! 9. A request to a cluster has the rights of one [`Identity`]: beside a caller's token nothing of
//!    our own is shown, and where a caller has none there is no request.
//!
//! The library spawns nothing, and logs nothing above debug; [`server`] is the program and does both.
//!
//! # Embedding
//!
//! A gateway checks a request by its own rules, then:
//!
//! ```no_run
//! use podwire::hyper::{Request, Response, body::Incoming};
//! use podwire::{Body, Clusters, Ending, Identity, Kind, Limits, Refusal, Target};
//! use podwire::{accept, check_origin, hang_up, refuse, relay};
//!
//! async fn shell(
//!     clusters: &Clusters,
//!     mut request: Request<Incoming>,
//!     revoked: impl Future<Output = ()> + Send + 'static,
//! ) -> Result<Response<Body>, Refusal> {
//!     check_origin(request.headers(), "https", &[])?;
//!     let (response, upgrade) = accept(&mut request)?;
//!     let connector = clusters.default().clone();
//!     let stop = async {
//!         revoked.await;
//!         Ending::new(Kind::Revoked, "the right was withdrawn")
//!     };
//!     podwire::tokio::spawn(async move {
//!         let opened = connector.open(&Target::new("default", "web-0"), &Identity::Own).await;
//!         let limits = Limits::default();
//!         let outcome = match (upgrade.browser().await, opened) {
//!             (Ok(browser), Ok(cluster)) => relay(browser, cluster, limits, stop).await,
//!             (Ok(browser), Err(ending)) => refuse(browser, ending, limits).await,
//!             (Err(_), Ok(cluster)) => hang_up(cluster, limits).await,
//!             (Err(_), Err(_)) => return,
//!         };
//!         println!("{}: {:?}", outcome.ending, outcome.process);
//!     });
//!     Ok(response)
//! }
//! ```
//!
//! Here the 101 goes out at once, and a failure is told inside the WebSocket, as a page needs it.
//! The task owns the cluster's end from the start: a handler may be dropped whenever the browser
//! leaves, and a process that was started by then must be hung up. `examples/embed.rs` is a whole
//! gateway in sixty lines; [`Refusal`] is an HTTP answer for callers that are no page.

pub mod proto;

mod relay;

mod accept;
mod exec;
mod hangup;
mod line;
mod secure;
mod target;
mod trace;

mod clusters;
mod credential;
mod tls;

mod admin;
mod attend;
mod auth;
pub mod check;
pub mod config;
mod door;
pub mod listener;
pub mod logging;
mod metrics;
mod origin;
mod read;
mod recheck;
mod registry;
mod route;
pub mod server;
mod shell;
pub mod socket;
pub mod sources;
mod threads;
mod ttyd;

#[cfg(feature = "ui")]
mod page;
#[cfg(feature = "ui")]
mod ui;

pub use accept::{Body, BrowserIo, Refusal, Upgrade, accept};
pub use clusters::{Choice, Clusters, Own};
pub use credential::{Certificate, Credential, Identity, Impersonated, Token};
pub use exec::{ClusterIo, Connector, OpenLimits, Via};
pub use origin::{Origin, check_origin};
pub use proto::channel::{Size, Subprotocol};
pub use proto::ending::{Ending, Kind};
pub use proto::message::{Dialect, Place};
pub use proto::session::{Leaving, Limits, Outcome};
pub use relay::{Again, Browser, Cluster, Meter, Opening, hang_up, refuse, relay};
pub use route::Template;
pub use target::{Target, Verb};
pub use tls::Tls;
pub use trace::Trace;
// The crates whose types stand in signatures.
pub use {bytes, hyper, tokio};

/// What fuzzers call.
#[doc(hidden)]
pub mod fuzz {
    /// What a path and a query ask for, with the address that an API server would get for it.
    pub fn target(path: &str, query: &str) -> Option<(crate::Target, String)> {
        let wanted = crate::route::find(path, query, &[])?.wanted.ok()?;
        wanted.check().ok()?;
        let target = wanted.target;
        let address = target.path(target.container.as_deref());
        Some((target, address))
    }
}
