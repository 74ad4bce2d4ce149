//! What a setting can be.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// Whose identity the cluster sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// The caller's bearer token.
    Passthrough,
    /// The relay's own, for everybody who can reach it.
    Own,
    /// That of whoever a trusted proxy names, whom the relay impersonates.
    Headers,
    /// Whatever somebody else decides who is asked about each session.
    Hook,
}

/// Somebody whose word about others counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// Whoever connects from these addresses.
    Net(IpNet),
    /// Whoever connects to a Unix socket.
    Unix,
}

/// What `podwire check` looks at, besides what is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subject {
    /// The cluster; none for the default one.
    pub cluster: Option<String>,
    /// Where a process is started, if anywhere.
    pub namespace: Option<String>,
    /// The pod in that namespace.
    pub pod: Option<String>,
    /// The container in that pod.
    pub container: Option<String>,
}

/// Where somebody connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket, mode 0600.
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Whether the two cannot be bound at the same time. A port of 0 is whichever is free.
    pub(super) fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(two)) => {
                let any = one.ip().is_unspecified() || two.ip().is_unspecified();
                one.port() == two.port() && one.port() != 0 && (any || one.ip() == two.ip())
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for Listen {
    /// As `--listen` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What is done about a process whose browser left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The keys or the end of input, then the signal to what is left of the session.
    Signal,
    /// The keys that end most programs, or the end of input without a terminal.
    Keys,
    /// Nothing: it runs on until it ends by itself.
    None,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What the head of a request may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeadLimits {
    /// For the head, and before it for TLS: a peer that sends a byte now and then must not hold a
    /// connection for long.
    pub time: Duration,
    /// Its bytes. The default is what nginx allows in sum, because login proxies put large cookies
    /// into it.
    pub size: usize,
    /// Its fields.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(10), size: 32 * 1024, fields: 100 }
    }
}
