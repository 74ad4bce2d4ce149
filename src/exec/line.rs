//! What a connection to a cluster is made of.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::read_ahead::ReadAhead;

/// A socket.
pub(super) type Tcp = ReadAhead<TcpStream>;

/// What reaches as far as the cluster: a socket, or one inside TLS to a proxy. The latter is rare
/// and large, and in a box so that the former is small.
pub(super) type Wire = Either<Tcp, Box<TlsStream<Tcp>>>;

/// A connection to a cluster, without or with TLS of its own.
pub(super) type Line = Either<Wire, TlsStream<Wire>>;

/// One of two kinds of connections.
#[derive(Debug)]
pub enum Either<A, B> {
    /// The simpler one.
    One(A),
    /// The one with more to it.
    Other(B),
}

/// Calls the same method of whichever it is.
macro_rules! either {
    ($this:ident, $io:ident => $call:expr) => {
        match $this.get_mut() {
            Either::One($io) => {
                let $io = Pin::new($io);
                $call
            }
            Either::Other($io) => {
                let $io = Pin::new($io);
                $call
            }
        }
    };
}

impl<A: AsyncRead + Unpin, B: AsyncRead + Unpin> AsyncRead for Either<A, B> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_read(cx, out))
    }
}

impl<A: AsyncWrite + Unpin, B: AsyncWrite + Unpin> AsyncWrite for Either<A, B> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::One(io) => io.is_write_vectored(),
            Self::Other(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_without_a_proxy_do_not_pay_for_one() {
        assert!(size_of::<Wire>() <= size_of::<Tcp>() + size_of::<usize>());
        let direct = size_of::<TlsStream<Tcp>>();
        assert!(size_of::<Line>() <= direct + 2 * size_of::<usize>(), "{}", size_of::<Line>());
    }
}
