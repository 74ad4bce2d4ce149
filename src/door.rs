//! What every listener of the program does: let in whoever connects, and speak HTTP within limits.
//!
//! What it must never know: who comes, and what for.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;

use crate::config::HeadLimits;
use crate::line::Line;
use crate::listener::Listener;

/// A pause after a failed accept: out of file descriptors, trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    Tcp(SocketAddr),
    /// A Unix socket, whose mode says who may connect.
    Unix,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// Who answers at a listener.
pub(crate) trait Door {
    /// Asks the kernel for what the connections in here need.
    fn prepare(&self, stream: &TcpStream);

    /// Takes care of a connection, in a task of its own.
    fn enter(&self, stream: Line, remote: Remote);
}

/// Lets in whoever connects.
pub(crate) async fn accept_all(listener: &Listener, door: &impl Door) {
    loop {
        let accepted = match listener {
            Listener::Tcp(tcp) => match tcp.accept().await {
                Ok((stream, remote)) => {
                    door.prepare(&stream);
                    door.enter(Line::Tcp(stream), Remote::Tcp(remote));
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Listener::Unix(unix) => match unix.accept().await {
                Ok((stream, _)) => {
                    door.enter(Line::Unix(stream), Remote::Unix);
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = accepted {
            log::warn!("cannot accept a connection: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// HTTP/1 with the limits of a head.
pub(crate) fn http(head: &HeadLimits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(head.time)
        .max_buf_size(head.size)
        .max_headers(head.fields);
    http
}
