//! A connection, plain or under TLS, with the buffers lent by the thread.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::at;
use super::records::{Opener, Sealer, first_record, take_over};

/// What one read takes at most: more than a socket usually has.
pub(crate) const READ: usize = 256 * 1024;

thread_local! {
    static READ_SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
    static WRITE_SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection. It owns memory only while its peer does not take what is written.
pub(crate) struct Line {
    stream: TcpStream,
    tls: Option<(Sealer, Opener)>,
    /// What was read together with the end of the handshake.
    early: Vec<u8>,
    rest: Vec<u8>,
    written: usize,
    ended: bool,
}

impl Line {
    /// A connection without TLS.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        let (early, rest) = (Vec::new(), Vec::new());
        Self { stream, tls: None, early, rest, written: 0, ended: false }
    }

    /// The side that was called.
    pub(crate) async fn accept(
        stream: TcpStream,
        config: Arc<ServerConfig>,
    ) -> Result<Self, String> {
        let connection = ServerConnection::new(config).map_err(at("TLS"))?;
        Self::handshake(stream, connection.into()).await
    }

    /// The side that calls.
    pub(crate) async fn connect(
        stream: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, String> {
        let connection = ClientConnection::new(config, name).map_err(at("TLS"))?;
        Self::handshake(stream, connection.into()).await
    }

    /// Lets rustls shake hands, record by record, so that it reads nothing that is behind.
    async fn handshake(stream: TcpStream, mut tls: Connection) -> Result<Self, String> {
        let mut line = Self::plain(stream);
        let mut out = Vec::new();
        loop {
            while tls.wants_write() {
                tls.write_tls(&mut out).map_err(at("TLS"))?;
            }
            if !out.is_empty() {
                line.stream.write_all(&out).await.map_err(at("TLS handshake"))?;
                out.clear();
            }
            if !tls.is_handshaking() {
                break;
            }
            while let Some(len) = first_record(&line.early)?
                && tls.is_handshaking()
            {
                let record: Vec<u8> = line.early.drain(..len).collect();
                let mut left = &record[..];
                while !left.is_empty() {
                    tls.read_tls(&mut left).map_err(at("TLS"))?;
                    tls.process_new_packets().map_err(at("TLS handshake"))?;
                }
            }
            if tls.is_handshaking() && !tls.wants_write() {
                let got = line.stream.read_buf(&mut line.early).await;
                if got.map_err(at("TLS handshake"))? == 0 {
                    return Err("the peer ended inside the TLS handshake".into());
                }
            }
        }
        let secrets = tls.dangerous_extract_secrets().map_err(at("TLS"))?;
        line.tls = Some(take_over(secrets)?);
        Ok(line)
    }

    /// Reads once, at most `most` bytes of the socket, and gives what was in them to `on`. Says
    /// false once the peer has ended.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        mut on: impl FnMut(&mut [u8]) -> Result<(), String>,
    ) -> Poll<Result<bool, String>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        if !self.early.is_empty() {
            let mut early = std::mem::take(&mut self.early);
            self.ended = !self.opened(&mut early, &mut on)?;
            return Poll::Ready(Ok(!self.ended));
        }
        READ_SCRATCH.with_borrow_mut(|scratch| {
            let most = most.min(scratch.len());
            let mut buffer = ReadBuf::new(&mut scratch[..most]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).map_err(at("read"))?;
            let read = buffer.filled_mut();
            self.ended = read.is_empty() || !self.opened(read, &mut on)?;
            Poll::Ready(Ok(!self.ended))
        })
    }

    fn opened(
        &mut self,
        read: &mut [u8],
        on: &mut impl FnMut(&mut [u8]) -> Result<(), String>,
    ) -> Result<bool, String> {
        match &mut self.tls {
            Some((_, opener)) => opener.open(read, on),
            None => on(read).map(|()| true),
        }
    }

    /// Reads once and appends what came.
    pub(crate) async fn read_into(&mut self, out: &mut Vec<u8>) -> Result<bool, String> {
        // A small read, so that little of what is behind a head is read with it.
        poll_fn(|cx| {
            self.poll_read(cx, 4096, |bytes| {
                out.extend_from_slice(bytes);
                Ok(())
            })
        })
        .await
    }

    /// Queues bytes in as few records as they fit in; [`Line::poll_flush`] writes them.
    pub(crate) fn push(&mut self, plain: &[u8]) -> Result<(), String> {
        if let Some((sealer, _)) = &mut self.tls {
            return sealer.seal_all(&mut self.rest, plain);
        }
        self.rest.extend_from_slice(plain);
        Ok(())
    }

    /// Writes what is queued.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        while self.written < self.rest.len() {
            let rest = &self.rest[self.written..];
            let stream = Pin::new(&mut self.stream);
            self.written += ready!(stream.poll_write(cx, rest)).map_err(at("write"))?;
        }
        if self.written > 0 {
            // Not kept: thousands of sessions would each keep their largest.
            self.rest = Vec::new();
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Queues bytes and writes all that is queued.
    pub(crate) async fn write(&mut self, plain: &[u8]) -> Result<(), String> {
        self.push(plain)?;
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// What is queued, as bytes of the socket.
    pub(crate) fn queued(&self) -> usize {
        self.rest.len() - self.written
    }

    /// Lets `fill` append bytes of the socket to the thread's buffer and writes them; what is not
    /// taken is queued. Nothing may be queued before.
    pub(crate) fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        fill: impl FnOnce(Option<&mut Sealer>, &mut Vec<u8>) -> Result<(), String>,
    ) -> Poll<Result<(), String>> {
        WRITE_SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            fill(self.tls.as_mut().map(|(sealer, _)| sealer), scratch)?;
            let mut written = 0;
            while written < scratch.len() {
                match Pin::new(&mut self.stream).poll_write(cx, &scratch[written..]) {
                    Poll::Ready(n) => written += n.map_err(at("write"))?,
                    Poll::Pending => {
                        self.rest.extend_from_slice(&scratch[written..]);
                        return Poll::Pending;
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Ends our direction and reads until the peer has ended its own, so that nothing unread makes
    /// the kernel throw away what was written.
    pub(crate) async fn goodbye(mut self) -> Result<(), String> {
        if let Some((sealer, _)) = &mut self.tls {
            sealer.goodbye(&mut self.rest)?;
        }
        poll_fn(|cx| self.poll_flush(cx)).await?;
        self.stream.shutdown().await.map_err(at("shutdown"))?;
        while poll_fn(|cx| self.poll_read(cx, READ, |_| Ok(()))).await? {}
        Ok(())
    }
}
