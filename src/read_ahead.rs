//! Reads more of a socket at once than its reader asks for.
//!
//! rustls asks for 4 KiB at a time, five system calls for each 16 KiB record. This adapter stands
//! below it, reads up to [`READ_AHEAD`] bytes into a buffer of the thread's and hands out what is
//! asked. It keeps the buffer only while something is left in it, so an idle connection owns none.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What one system call may bring: four of the largest TLS records.
const READ_AHEAD: usize = 64 * 1024;

thread_local! {
    /// A buffer that no connection needs at the moment. A second one that comes back is freed.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A socket that reads ahead.
pub struct ReadAhead<S> {
    io: S,
    /// Either empty, with nothing left, or a whole buffer.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<S> fmt::Debug for ReadAhead<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadAhead({} bytes ahead)", self.end - self.start)
    }
}

impl<S> ReadAhead<S> {
    /// Wraps a socket from which nothing was read ahead yet.
    pub fn new(io: S) -> Self {
        Self { io, buffer: Vec::new(), start: 0, end: 0 }
    }

    /// The socket. What was read ahead is not in it any more.
    pub fn get_ref(&self) -> &S {
        &self.io
    }

    fn hand_out(&mut self, out: &mut ReadBuf<'_>) {
        let n = out.remaining().min(self.end - self.start);
        out.put_slice(&self.buffer[self.start..self.start + n]);
        self.start += n;
        if self.start == self.end {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        self.start = 0;
        self.end = 0;
        let buffer = std::mem::take(&mut self.buffer);
        SPARE.with_borrow_mut(|spare| {
            if spare.is_empty() {
                *spare = buffer;
            }
        });
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.buffer.is_empty() {
            if out.remaining() >= READ_AHEAD {
                return Pin::new(&mut this.io).poll_read(cx, out);
            }
            this.buffer = SPARE.with_borrow_mut(std::mem::take);
            if this.buffer.is_empty() {
                this.buffer = vec![0; READ_AHEAD];
            }
            let mut ahead = ReadBuf::new(&mut this.buffer);
            let result = Pin::new(&mut this.io).poll_read(cx, &mut ahead);
            this.end = ahead.filled().len();
            if this.end == 0 {
                this.give_back();
            }
            ready!(result)?;
        }
        this.hand_out(out);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
