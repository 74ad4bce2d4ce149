//! What a session is about, what it may hold and how long it may wait.

use std::sync::Arc;
use std::time::Duration;

use super::super::channel::{Size, Subprotocol};
use super::super::message::{Dialect, Place};

/// What a session is about.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "two are Kubernetes' own parameters")]
pub struct Options {
    /// How the browser wants to be talked to.
    pub dialect: Dialect,
    /// Which version the cluster chose.
    pub subprotocol: Subprotocol,
    /// What the browser is told that it is connected to, and whether there is a terminal.
    pub place: Place,
    /// Whether input was asked for.
    pub stdin: bool,
    /// Whether error output was asked for. With a terminal there is none.
    pub stderr: bool,
    /// The terminal's first size, sent before anything else. Without a terminal it is not used.
    pub size: Option<Size>,
    /// What becomes of a process that is still running when the session ends.
    pub leaving: Leaving,
    /// Whether the process ran before the session did, and was attached to.
    pub attached: bool,
    /// Whether something else can be started if it turns out that nothing was; see
    /// [`Session::unstarted`](super::Session::unstarted).
    pub again: bool,
    /// A secret number, for the mask keys.
    pub mask_seed: u64,
    /// The limits. All sessions of a program share them.
    pub limits: Arc<Limits>,
}

impl Options {
    /// A process that the session started, is to hang up, and has no other for.
    pub fn new(dialect: Dialect, subprotocol: Subprotocol, place: Place, mask_seed: u64) -> Self {
        Self {
            dialect,
            subprotocol,
            place,
            stdin: true,
            stderr: true,
            size: None,
            leaving: Leaving::HangUp,
            attached: false,
            again: false,
            mask_seed,
            limits: Arc::default(),
        }
    }
}

/// What becomes of a process that is still running when its session ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaving {
    /// It is asked to go, as by a terminal line that is hung up.
    #[default]
    HangUp,
    /// Nothing is said to it. A process that was attached to is always left like this: it was
    /// there before, and is the container's own.
    Nothing,
}

/// The limits of one session. The defaults are the contract's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes queued for a peer above which nothing is read that could add to them. What is queued
    /// may exceed it by what one read or one message came to. Answers to the peer's own pings and
    /// questions are counted apart, up to as much again.
    pub outbox: usize,
    /// The longest message of a browser, in bytes. Pages paste in one message.
    pub message_max: usize,
    /// The longest frame of a cluster, in bytes; real ones have 32769.
    pub cluster_frame_max: usize,
    /// Output bytes that may be unacknowledged, once the page acknowledges at all.
    pub ack_window: u64,
    /// How long an unfinished text message may take, apart from its bytes' own time.
    pub message_time: Duration,
    /// How long a process that was hung up may take to end.
    pub hangup_grace: Duration,
    /// How long a peer may take to answer a close, or to close after the status.
    pub close_wait: Duration,
    /// How long a browser may take nothing at all.
    pub slow_browser: Duration,
    /// How often the browser is pinged.
    pub browser_ping: Duration,
    /// How often the cluster is pinged. Some gateways before API servers cut after 20 s.
    pub cluster_ping: Duration,
    /// How long either peer may be silent, while it is read and takes what there is for it.
    pub dead_after: Duration,
    /// How long a terminal may be idle before its size is said again, which is the one thing that
    /// crosses to the kubelet and changes nothing; none to leave it out.
    pub size_keepalive: Option<Duration>,
    /// How long no data may go either way before an empty message does, where no size is said
    /// again. Servers drop a connection after four hours without any; pings do not count
    /// (`k8s.io/apiserver/pkg/util/proxy/websocket.go`, `defaultIdleConnectionTimeout`).
    pub data_keepalive: Duration,
    /// How long nothing may be typed; none for ever. It does not count where no input was asked
    /// for.
    pub idle_timeout: Option<Duration>,
    /// How long a session may last; none for ever.
    pub max_session: Option<Duration>,
    /// How long before its end a user is told that the session is about to end, where the end can
    /// be foreseen; at most half of what the limit itself is.
    pub warning: Duration,
    /// How long a user is left to read that the relay is being stopped.
    pub drain_notice: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            outbox: 256 * 1024,
            message_max: 1024 * 1024,
            cluster_frame_max: 1024 * 1024,
            ack_window: 512 * 1024,
            message_time: Duration::from_secs(30),
            hangup_grace: Duration::from_secs(5),
            close_wait: Duration::from_secs(2),
            slow_browser: Duration::from_mins(5),
            browser_ping: Duration::from_secs(20),
            cluster_ping: Duration::from_secs(10),
            dead_after: Duration::from_mins(1),
            size_keepalive: Some(Duration::from_mins(1)),
            data_keepalive: Duration::from_hours(1),
            idle_timeout: Some(Duration::from_mins(30)),
            max_session: Some(Duration::from_hours(12)),
            warning: Duration::from_mins(1),
            drain_notice: Duration::from_secs(5),
        }
    }
}
