//! The two ends of a session, as plain data, and what a session tells while it lasts.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::proto::channel::{Size, Subprotocol};
use crate::proto::ending::Ending;
use crate::proto::message::{Dialect, Place};
use crate::proto::session::{Leaving, Traffic};

/// The browser's end of a session, after the 101.
pub struct Browser<S> {
    /// The connection.
    pub io: S,
    /// Bytes that were read together with the request; they belong to the WebSocket.
    pub early: Bytes,
    /// How the browser wants to be talked to.
    pub dialect: Dialect,
}

/// The cluster's end of a session, after its 101.
pub struct Cluster<S> {
    /// The connection.
    pub io: S,
    /// Bytes that were read together with the response; they belong to the WebSocket.
    pub early: Bytes,
    /// Which version the cluster chose.
    pub subprotocol: Subprotocol,
    /// What the browser is told that it is connected to.
    pub place: Place,
    /// Whether input was asked for.
    pub stdin: bool,
    /// Whether error output was asked for. With a terminal there is none.
    pub stderr: bool,
    /// The terminal's first size.
    pub size: Option<Size>,
    /// What becomes of the process if the session ends first.
    pub leaving: Leaving,
    /// Whether the process ran before, and was attached to.
    pub attached: bool,
    /// What else can be started, if it turns out that nothing was.
    pub again: Option<Again<S>>,
    /// Where it is noted how much goes through, while it does.
    pub meter: Option<Arc<Meter>>,
}

/// Called when nothing was started and nothing that was typed has been read, with the ending that
/// says why: opens the next candidate, or gives the ending that the session is to have.
///
/// The future is polled by the session's loop, beside the browser. An exec that it opens after the
/// browser left is hung up.
pub type Again<S> = Box<dyn FnMut(Ending) -> Result<Opening<S>, Ending> + Send>;

/// A cluster's end that is being opened.
pub type Opening<S> = Pin<Box<dyn Future<Output = Result<Cluster<S>, Ending>> + Send>>;

/// How much went through a session, told while it lasts.
#[derive(Debug, Default)]
pub struct Meter {
    /// Bytes typed.
    pub input_bytes: AtomicU64,
    /// Bytes of output told to the browser.
    pub output_bytes: AtomicU64,
    /// Messages of the browser's.
    pub browser_frames: AtomicU64,
    /// Messages of the cluster's.
    pub cluster_frames: AtomicU64,
    /// Messages of either that mean nothing here.
    pub ignored: AtomicU64,
    /// Microseconds in which the browser was not read, because the cluster took no input.
    pub browser_paused_us: AtomicU64,
    /// Microseconds in which the cluster was not read, because the browser took no output.
    pub cluster_paused_us: AtomicU64,
}

impl Meter {
    pub(super) fn note(&self, traffic: &Traffic) {
        self.input_bytes.store(traffic.input, Ordering::Relaxed);
        self.output_bytes.store(traffic.output, Ordering::Relaxed);
        self.browser_frames.store(traffic.browser_messages, Ordering::Relaxed);
        self.cluster_frames.store(traffic.cluster_messages, Ordering::Relaxed);
        self.ignored.store(traffic.ignored, Ordering::Relaxed);
        self.browser_paused_us.store(traffic.browser_paused_us, Ordering::Relaxed);
        self.cluster_paused_us.store(traffic.cluster_paused_us, Ordering::Relaxed);
    }
}

impl<S> Cluster<S> {
    /// A process on a connection from which nothing was read yet: with input and error output, without a
    /// first size, hung up if the session ends first.
    pub fn new(io: S, subprotocol: Subprotocol, place: Place) -> Self {
        Self {
            io,
            early: Bytes::new(),
            subprotocol,
            place,
            stdin: true,
            stderr: true,
            size: None,
            leaving: Leaving::HangUp,
            attached: false,
            again: None,
            meter: None,
        }
    }
}

impl<S> fmt::Debug for Browser<S> {
    /// What was read early is the user's, and is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Browser({:?}, {} bytes early)", self.dialect, self.early.len())
    }
}

impl<S> fmt::Debug for Cluster<S> {
    /// What was read early is the user's, and is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({:?}, {} bytes early)", self.place, self.early.len())
    }
}
