//! The loop over connections that misbehave in ways that no socket of a test can be made to.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::panic)]

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::poll;
use podwire::bytes::Bytes;
use podwire::proto::channel::{Size, Subprotocol};
use podwire::proto::message::{Dialect, Place};
use podwire::{Browser, Cluster, Limits, relay};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A peer that says nothing. Where it counts, it takes what is written and fails to flush it, as
/// TLS does over a connection that was reset; else it takes nothing.
struct Peer(Option<Arc<AtomicUsize>>);

impl AsyncRead for Peer {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.0.is_some() { Poll::Ready(Ok(bytes.len())) } else { Poll::Pending }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(flushes) = &self.0 else { return Poll::Pending };
        flushes.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The cluster's socket broke while a flush was due and the browser took nothing: the flush was
/// tried again in every turn, with all of a processor, for as long as the browser was waited for.
#[tokio::test]
async fn a_broken_socket_is_not_flushed_again_and_again() {
    let flushes = Arc::new(AtomicUsize::new(0));
    let browser = Browser { io: Peer(None), early: Bytes::new(), dialect: Dialect::V1 };
    let place = Place { tty: true, ..Place::default() };
    let cluster = Cluster::new(Peer(Some(Arc::clone(&flushes))), Subprotocol::V5, place);
    let cluster = Cluster { size: Some(Size::DEFAULT), ..cluster };
    let mut session = pin!(relay(browser, cluster, Limits::default(), std::future::pending()));
    for _ in 0..10 {
        assert!(poll!(session.as_mut()).is_pending());
    }
    assert_eq!(flushes.load(Ordering::Relaxed), 1, "one flush, of the terminal's size");
}
