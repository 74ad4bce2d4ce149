//! What a connection is made of, to whichever peer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::secure::Secure;

/// A connection: a socket, or TLS over a connection, which is a socket but for the cluster behind a
/// proxy that is reached by TLS itself. One type for all of them, for the machine code of HTTP and
/// of sessions is there once for each type; so what only looks like a connection is one, too.
pub enum Line {
    /// A socket.
    Tcp(TcpStream),
    /// A socket of this machine's; only browsers and operators have such.
    Unix(UnixStream),
    /// TLS to whom we called.
    Called(Box<Secure<Line, UnbufferedClientConnection>>),
    /// TLS to who called us.
    Caller(Box<Secure<Line, UnbufferedServerConnection>>),
    /// A browser's on a server that is not ours.
    Other(Box<TokioIo<Upgraded>>),
    /// A browser's that is a part of this program.
    Pipe(DuplexStream),
    /// A browser that never says anything and does not listen.
    Nobody,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

/// Calls the same method of whichever it is.
macro_rules! whichever {
    ($this:ident, $io:ident => $call:expr, $nobody:expr) => {
        match $this.get_mut() {
            Line::Tcp($io) => {
                let $io = Pin::new($io);
                $call
            }
            Line::Unix($io) => {
                let $io = Pin::new($io);
                $call
            }
            Line::Called($io) => {
                let $io = Pin::new($io);
                $call
            }
            Line::Caller($io) => {
                let $io = Pin::new($io);
                $call
            }
            Line::Other($io) => {
                let $io = Pin::new($io);
                $call
            }
            Line::Pipe($io) => {
                let $io = Pin::new($io);
                $call
            }
            Line::Nobody => $nobody,
        }
    };
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        whichever!(self, io => io.poll_read(cx, out), Poll::Pending)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        whichever!(self, io => io.poll_write(cx, bytes), Poll::Ready(Ok(bytes.len())))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = || slices.iter().map(|slice| slice.len()).sum();
        whichever!(self, io => io.poll_write_vectored(cx, slices), Poll::Ready(Ok(length())))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(io) => io.is_write_vectored(),
            Self::Unix(io) => io.is_write_vectored(),
            Self::Other(io) => io.is_write_vectored(),
            Self::Called(_) | Self::Caller(_) | Self::Pipe(_) | Self::Nobody => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(self, io => io.poll_flush(cx), Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(self, io => io.poll_shutdown(cx), Poll::Ready(Ok(())))
    }
}
