//! TLS over a connection, without a buffer of its own.
//!
//! rustls' usual connection keeps 4 KiB for what it reads, asks for no more at a time, and copies
//! every record twice; after a burst its grown buffers leave holes in the heap that no other
//! session fits into. This is rustls' other door ([`rustls::unbuffered`]): records are decrypted
//! where the socket's read put them, in a buffer of the thread's, and a connection owns heap only
//! for the part of a record, for plaintext that its reader had no room for, and for ciphertext that
//! the socket did not take. Every secret and every decision stays with rustls.
//!
//! What it must never know: who is trusted, and what is said.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What one read of the socket, or one write, may move: four of the largest records.
const TURN_MAX: usize = 64 * 1024;

/// The largest record on the wire (RFC 5246 section 6.2.3, which is more than RFC 8446 has).
const RECORD_MAX: usize = 5 + 16 * 1024 + 2048;

/// What the headers and tags of a turn's records take besides.
const OVERHEAD: usize = 1024;

/// What four full records of TLS 1.3 are longer by than what is in them: with it they come in one
/// read, and without it three, and a part that is moved to and fro.
const FULL: usize = 4 * (5 + 1 + 16);

/// The most of a handshake that is held, or of a message in several records: what rustls' usual
/// connection holds. Certificates come in it, and real ones are a few kilobytes.
const HANDSHAKE_MAX: usize = TURN_MAX;

/// What one read brings while the handshake lasts.
const HANDSHAKE_READ: usize = 4 * 1024;

thread_local! {
    /// The buffer that a turn works in, unless one of TLS within TLS has it.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The thread's buffer, for the length of one turn.
struct Scratch(Vec<u8>);

impl Scratch {
    fn take() -> Self {
        let mut bytes = SPARE.with_borrow_mut(std::mem::take);
        if bytes.is_empty() {
            bytes = vec![0; TURN_MAX + OVERHEAD];
        }
        Self(bytes)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SPARE.with_borrow_mut(|spare| *spare = std::mem::take(&mut self.0));
    }
}

/// One end of TLS: [`UnbufferedClientConnection`] or [`UnbufferedServerConnection`].
pub trait End {
    /// What rustls has for this end only.
    type Data;

    /// Looks at ciphertext, decrypting it in place.
    fn process<'c, 'i>(
        &'c mut self,
        ciphertext: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What is known of the connection.
    fn state(&self) -> &CommonState;
}

impl End for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        ciphertext: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(ciphertext)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

impl End for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        ciphertext: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(ciphertext)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

/// A connection that speaks TLS.
pub struct Secure<S, E> {
    io: S,
    end: E,
    /// Ciphertext that is no whole record yet, or belongs to a message that is not.
    unread: Vec<u8>,
    /// Plaintext that its reader had no room for, and how much of it was read since.
    plain: Vec<u8>,
    taken: usize,
    /// Ciphertext that the socket did not take.
    unsent: Vec<u8>,
    /// Whether the peer said that it says no more.
    is_over: bool,
    /// Whether we said it.
    is_closed: bool,
    /// What is wrong, if plaintext before it has to be read first.
    broken: Option<io::Error>,
}

impl<S, E> fmt::Debug for Secure<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secure")
    }
}

/// What became of some ciphertext.
struct Digested {
    /// How much of it is not needed any more.
    used: usize,
    /// Whether the handshake is behind.
    may_write: bool,
    /// Whether the peer said that it says no more.
    is_over: bool,
    result: io::Result<()>,
}

/// Lets TLS look at ciphertext until it needs more. Plaintext goes to `read`; what TLS itself has
/// to say goes to `unsent`; `write` is called if something may be said besides.
fn digest<E: End>(
    end: &mut E,
    ciphertext: &mut [u8],
    unsent: &mut Vec<u8>,
    mut read: impl FnMut(&[u8]),
    write: impl FnOnce(WriteTraffic<'_, E::Data>, &mut Vec<u8>) -> io::Result<()>,
) -> Digested {
    let mut it = Digested { used: 0, may_write: false, is_over: false, result: Ok(()) };
    loop {
        let UnbufferedStatus { mut discard, state } = end.process(&mut ciphertext[it.used..]);
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            read(record.payload);
                            discard += record.discard;
                        }
                        Err(error) => it.result = Err(invalid(error)),
                    }
                }
            }
            Ok(ConnectionState::EncodeTlsData(data)) => it.result = encode(data, unsent),
            // It is in the queue, which is as good as sent.
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => it.is_over = true,
            Ok(ConnectionState::WriteTraffic(traffic)) => {
                it.used += discard;
                it.may_write = true;
                it.result = write(traffic, unsent);
                return it;
            }
            // Early data, which is the only other state, is never accepted.
            Ok(_) => {
                it.used += discard;
                return it;
            }
            Err(error) => {
                // The peer is told why. To look at what is broken again is not allowed.
                while end.state().wants_write() {
                    let told = end.process(&mut ciphertext[it.used + discard..]).state;
                    let Ok(ConnectionState::EncodeTlsData(data)) = told else { break };
                    if encode(data, unsent).is_err() {
                        break;
                    }
                }
                it.result = Err(invalid(error));
            }
        }
        it.used += discard;
        if it.result.is_err() {
            return it;
        }
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, unsent: &mut Vec<u8>) -> io::Result<()> {
    // Asked with no room, it says how much it needs.
    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else { return Ok(()) };
    let start = unsent.len();
    unsent.resize(start + size.required_size, 0);
    data.encode(&mut unsent[start..]).map(drop).map_err(invalid)
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Secure<S, UnbufferedClientConnection> {
    /// Speaks TLS with somebody who must be `name`.
    ///
    /// # Errors
    ///
    /// What the socket says, [`io::ErrorKind::UnexpectedEof`] if it ends, or a [`rustls::Error`]
    /// inside.
    pub(crate) async fn connect(
        io: S,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        Self::begin(io, UnbufferedClientConnection::new(config, name).map_err(invalid)?).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Secure<S, UnbufferedServerConnection> {
    /// Speaks TLS with whoever connected.
    ///
    /// # Errors
    ///
    /// As for [`Secure::connect`].
    pub(crate) async fn accept(io: S, config: Arc<ServerConfig>) -> io::Result<Self> {
        Self::begin(io, UnbufferedServerConnection::new(config).map_err(invalid)?).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, E: End> Secure<S, E> {
    fn over(io: S, end: E) -> Self {
        Self {
            io,
            end,
            unread: Vec::new(),
            plain: Vec::new(),
            taken: 0,
            unsent: Vec::new(),
            is_over: false,
            is_closed: false,
            broken: None,
        }
    }

    async fn begin(io: S, end: E) -> io::Result<Self> {
        let mut it = Self::over(io, end);
        poll_fn(|cx| it.shake_hands(cx)).await?;
        if it.unread.is_empty() {
            it.unread = Vec::new();
        }
        Ok(it)
    }

    /// What is known of the connection.
    pub(crate) fn state(&self) -> &CommonState {
        self.end.state()
    }

    fn shake_hands(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Self { end, unread, plain, unsent, .. } = self;
            let it = digest(end, unread, unsent, |bytes| plain.extend(bytes), |_, _| Ok(()));
            self.unread.drain(..it.used);
            self.is_over |= it.is_over;
            if it.result.is_err() {
                // Whether the peer hears why or not, this is the end.
                let _ = self.push(cx);
                return Poll::Ready(it.result);
            }
            // The peer may take nothing until we have taken what it says.
            let pushed = self.push(cx)?;
            if it.may_write {
                return pushed.map(Ok);
            }
            let start = self.unread.len();
            if start >= HANDSHAKE_MAX {
                let error = io::Error::new(io::ErrorKind::InvalidData, "too long a handshake");
                return Poll::Ready(Err(error));
            }
            self.unread.resize(start + HANDSHAKE_READ, 0);
            let mut room = ReadBuf::new(&mut self.unread[start..]);
            let result = Pin::new(&mut self.io).poll_read(cx, &mut room);
            let n = room.filled().len();
            self.unread.truncate(start + n);
            ready!(result)?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Sends what the socket did not take before.
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.unsent))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.drain(..n);
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whatever is broken is not looked at again.
    fn fails(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            (self.is_over, self.is_closed, self.broken) = (true, true, Some(error));
        }
    }

    /// Hands out plaintext that there was no room for before. True if there was some.
    fn hand_out(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let left = &self.plain[self.taken..];
        if left.is_empty() {
            return false;
        }
        let n = left.len().min(out.remaining());
        out.put_slice(&left[..n]);
        self.taken += n;
        if self.taken == self.plain.len() {
            (self.plain, self.taken) = (Vec::new(), 0);
        }
        true
    }

    /// Reads the socket once and decrypts what that completes.
    fn fetch(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut scratch = Scratch::take();
        let held = self.unread.len();
        // What is read here should fit there, for a record is shorter decrypted than on the wire.
        // But there is always room for one more, behind what is held.
        let limit = (out.remaining() + FULL).max(held + RECORD_MAX).min(TURN_MAX + FULL);
        if held >= limit {
            // Only a message in several records is held in such a length.
            let error = io::Error::new(io::ErrorKind::InvalidData, "too long a message");
            return Poll::Ready(Err(error));
        }
        let mut room = ReadBuf::new(&mut scratch.0[held..limit]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
        let filled = held + room.filled().len();
        if filled == held {
            // Without a goodbye, somebody on the way may have cut off what was to come.
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        scratch.0[..held].copy_from_slice(&self.unread);
        let was_silent = self.unsent.is_empty();
        let Self { end, plain, unsent, .. } = self;
        let read = |bytes: &[u8]| {
            let (fits, rest) = bytes.split_at(bytes.len().min(out.remaining()));
            out.put_slice(fits);
            plain.extend(rest);
        };
        let it = digest(end, &mut scratch.0[..filled], unsent, read, |_, _| Ok(()));
        self.is_over |= it.is_over;
        self.fails(it.result);
        // Behind a goodbye, or what is broken, nothing is looked at any more.
        let rest = if self.is_over { &[] } else { &scratch.0[it.used..filled] };
        if rest.is_empty() {
            self.unread = Vec::new();
        } else {
            // Under a flood the next turn's rest takes the place of this one's.
            self.unread.clear();
            self.unread.extend_from_slice(rest);
        }
        drop(scratch);
        if was_silent {
            // An alert, or a refusal of something: nobody else may come by to send it. If something
            // was waiting already, its writer is, and must not lose the socket's next word to us.
            let _ = self.push(cx);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, E: End + Unpin> AsyncRead for Secure<S, E> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        loop {
            if this.hand_out(out) || out.filled().len() > before || out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = this.broken.take() {
                // Whoever reads on must not take it for an end.
                this.broken = Some(io::Error::new(error.kind(), error.to_string()));
                return Poll::Ready(Err(error));
            }
            if this.is_over {
                return Poll::Ready(Ok(()));
            }
            ready!(this.fetch(cx, out))?;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, E: End + Unpin> AsyncWrite for Secure<S, E> {
    /// All that is taken is encrypted, and what the socket does not take of that waits for the next
    /// call: at most a turn's.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.push(cx))?;
        if this.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let bytes = &bytes[..bytes.len().min(TURN_MAX)];
        let mut scratch = Scratch::take();
        let mut sealed = 0;
        let Self { end, unread, plain, unsent, .. } = this;
        let it = digest(
            end,
            unread,
            unsent,
            |bytes| plain.extend(bytes),
            |mut traffic, _| {
                sealed = traffic.encrypt(bytes, &mut scratch.0).map_err(invalid)?;
                Ok(())
            },
        );
        this.unread.drain(..it.used);
        this.is_over |= it.is_over;
        this.fails(it.result);
        if this.is_closed || !it.may_write {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut sealed = &scratch.0[..sealed];
        if this.unsent.is_empty()
            && let Poll::Ready(n) = Pin::new(&mut this.io).poll_write(cx, sealed)?
        {
            sealed = &sealed[n..];
        }
        this.unsent.extend_from_slice(sealed);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.push(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_closed {
            this.is_closed = true;
            let Self { end, unread, plain, unsent, .. } = this;
            let it = digest(
                end,
                unread,
                unsent,
                |bytes| plain.extend(bytes),
                |mut it, unsent| {
                    let start = unsent.len();
                    unsent.resize(start + OVERHEAD, 0);
                    let said = it.queue_close_notify(&mut unsent[start..]);
                    unsent.truncate(start + said.as_ref().map_or(0, |n| *n));
                    said.map(drop).map_err(invalid)
                },
            );
            this.unread.drain(..it.used);
            this.is_over |= it.is_over;
            this.fails(it.result);
        }
        ready!(this.push(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
