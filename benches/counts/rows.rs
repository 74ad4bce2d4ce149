//! What the micro figures are of. The same rows are counted in instructions (`cargo bench --bench
//! counts`), in time (`--bench codec`) and in allocations (`tests/budgets.rs`).
//!
//! A row moves [`FRAMES`] messages through a codec, a session or a loop that has moved as many
//! before, so that no figure has the cost of a beginning in it.

// Each of the three uses its part of this; a bench that meets something impossible may stop.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::cell::RefCell;
use std::hint::black_box;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use podwire::bytes::Bytes;
use podwire::proto::channel::{Status, Subprotocol};
use podwire::proto::frame::{Event, Masking, Opcode, Parser, append, begin, finish};
use podwire::proto::message::{Dialect, FromBrowser, Place};
use podwire::proto::session::{Options, Session, Time};
use podwire::{Browser, Cluster, Limits, Outcome, relay};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

/// Messages in a row: a total is the thousandth part of what one message costs.
pub const FRAMES: usize = 1000;

/// The most that one read of the loop brings.
pub const READ: usize = 64 * 1024;

/// The payloads of a real cluster's frames, with the channel: a full one, and a line.
pub const LARGE: usize = 32_769;
pub const SMALL: usize = 101;

/// A paste: as much as a page puts into one message at most times.
const PASTE: usize = 32 * 1024;

const KEY: Option<[u8; 4]> = Some([0x11, 0x22, 0x33, 0x44]);

/// One row, ready to go. It says how many bytes came out, and goes once: what it moves is unmasked
/// in place.
pub type Work = Box<dyn FnMut() -> usize>;

/// What comes in.
#[derive(Clone, Copy, Debug)]
pub enum Message {
    /// Output of this many bytes with the channel.
    Output(usize),
    /// The same, each a read of its own, as it comes from a cluster that is no faster than we are.
    Single(usize),
    /// Output of a full frame, of characters that have three bytes.
    Characters,
    /// A key as a binary message.
    Key,
    /// A key as the page sends it.
    KeyInJson,
    /// Some text as a binary message.
    Paste,
}

impl Message {
    fn is_from_cluster(self) -> bool {
        matches!(self, Self::Output(_) | Self::Single(_) | Self::Characters)
    }

    /// One frame.
    fn frame(self) -> Vec<u8> {
        let (opcode, payload) = match self {
            Self::Output(bytes) | Self::Single(bytes) => {
                (Opcode::Binary, [&[1], vec![b'x'; bytes - 1].as_slice()].concat())
            }
            Self::Characters => {
                let text = "\u{4e2d}\u{6587}".repeat(LARGE / 6 + 1);
                (Opcode::Binary, [&[1], &text.as_bytes()[..LARGE - 1]].concat())
            }
            Self::Key => (Opcode::Binary, b"a".to_vec()),
            Self::KeyInJson => (Opcode::Text, br#"{"type":"input","input":"a"}"#.to_vec()),
            Self::Paste => (Opcode::Binary, vec![b'x'; PASTE]),
        };
        let mut frame = Vec::new();
        append(&mut frame, opcode, &payload, if self.is_from_cluster() { None } else { KEY });
        frame
    }

    /// What arrives if there are [`FRAMES`] of them, and how much one read brings of it. What
    /// people type comes one by one.
    pub fn stream(self) -> (Vec<u8>, usize) {
        let frame = self.frame();
        let read = match self {
            Self::Output(_) | Self::Characters => READ,
            _ => frame.len(),
        };
        (frame.repeat(FRAMES), read)
    }
}

/// The frame codec: parses what a read brings and makes one frame of it.
pub fn codec(message: Message) -> Work {
    let masking = if message.is_from_cluster() { Masking::Plain } else { Masking::Masked };
    let mut parser = Parser::new(masking, usize::MAX);
    let mut out = Vec::with_capacity(2 * READ);
    let (mut stream, read) = message.stream();
    merge(&mut parser, &mut out, &mut stream, read);
    let (mut stream, read) = message.stream();
    Box::new(move || merge(&mut parser, &mut out, &mut stream, read))
}

fn merge(parser: &mut Parser, out: &mut Vec<u8>, stream: &mut [u8], read: usize) -> usize {
    let mut written = 0;
    for mut piece in stream.chunks_mut(read) {
        let start = begin(out, Masking::Plain);
        while let Some(event) = parser.next(&mut piece).unwrap() {
            if let Event::Data { payload, .. } = event {
                out.extend_from_slice(payload);
            }
        }
        finish(out, start, Opcode::Binary, None);
        written += black_box(&*out).len();
        out.clear();
    }
    written
}

/// The session machine with the thread's two buffers, and peers that take everything.
struct Machine {
    session: Session,
    for_browser: Vec<u8>,
    for_cluster: Vec<u8>,
}

/// The session machine: frames of one peer in, frames for the other one out.
pub fn session(dialect: Dialect, message: Message) -> Work {
    let options = Options::new(dialect, Subprotocol::V5, Place::default(), 1);
    let mut session = Session::new(options);
    // What it says first is in a buffer of its own, and only once that is gone are others lent.
    session.browser_took(session.to_browser().len(), Time::ZERO);
    session.browser_flushed(Time::ZERO);
    session.reclaim(&mut Vec::new(), &mut Vec::new());
    let mut machine = Machine { session, for_browser: Vec::new(), for_cluster: Vec::new() };
    let (mut stream, read) = message.stream();
    machine.relay(message, &mut stream, read);
    let (mut stream, read) = message.stream();
    Box::new(move || machine.relay(message, &mut stream, read))
}

impl Machine {
    fn relay(&mut self, message: Message, stream: &mut [u8], read: usize) -> usize {
        let session = &mut self.session;
        let mut written = 0;
        for piece in stream.chunks_mut(read) {
            session.lend(&mut self.for_browser, &mut self.for_cluster);
            if message.is_from_cluster() {
                session.on_cluster(piece, Time::ZERO);
            } else {
                session.on_browser(piece, Time::ZERO);
            }
            let n = black_box(session.to_browser()).len();
            if n > 0 {
                session.browser_took(n, Time::ZERO);
                session.browser_flushed(Time::ZERO);
            }
            let m = black_box(session.to_cluster()).len();
            if m > 0 {
                session.cluster_took(m);
                session.cluster_flushed(Time::ZERO);
            }
            session.reclaim(&mut self.for_browser, &mut self.for_cluster);
            written += n + m;
        }
        written
    }
}

/// What a peer of the loop sends, and how much it has taken.
#[derive(Default)]
struct Peer {
    stream: Vec<u8>,
    at: usize,
    read: usize,
    /// Whether a read finds nothing more after one that found something, until the next wake.
    is_slow: bool,
    is_dry: bool,
    taken: usize,
}

/// A connection that is always ready, but where there is nothing to read.
struct Pipe(Rc<RefCell<Peer>>);

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let peer = &mut *self.0.borrow_mut();
        let rest = &peer.stream[peer.at..];
        if rest.is_empty() || peer.is_dry {
            return Poll::Pending;
        }
        let n = rest.len().min(peer.read).min(buffer.remaining());
        buffer.put_slice(&rest[..n]);
        peer.at += n;
        peer.is_dry = peer.is_slow;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().taken += black_box(bytes).len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A session as it runs, but for sockets and TLS.
struct Running {
    // Dropped before the runtime that its timer is in.
    relay: Pin<Box<dyn Future<Output = Outcome>>>,
    browser: Rc<RefCell<Peer>>,
    cluster: Rc<RefCell<Peer>>,
    /// Time stands still in it, so that no timer is ever due.
    runtime: Runtime,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// The loop over two pipes, to be made within a runtime.
fn looped(
    browser: &Rc<RefCell<Peer>>,
    cluster: &Rc<RefCell<Peer>>,
) -> impl Future<Output = Outcome> + use<> {
    let io = Pipe(Rc::clone(browser));
    let page = Browser { io, early: Bytes::new(), dialect: Dialect::V1 };
    let io = Pipe(Rc::clone(cluster));
    let exec = Cluster::new(io, Subprotocol::V5, Place { tty: true, ..Place::default() });
    relay(page, exec, Limits::default(), std::future::pending())
}

/// Bytes of the loop's future.
pub fn size_of_loop() -> usize {
    let runtime = runtime();
    let _inside = runtime.enter();
    size_of_val(&looped(&Rc::default(), &Rc::default()))
}

/// The whole loop over connections in memory.
pub fn whole(message: Message) -> Work {
    let runtime = runtime();
    let (browser, cluster) = (Rc::default(), Rc::default());
    let relay = {
        let _inside = runtime.enter();
        Box::pin(looped(&browser, &cluster))
    };
    let mut running = Running { relay, browser, cluster, runtime };
    running.relay(message, message.stream());
    let (mut stream, read) = message.stream();
    Box::new(move || running.relay(message, (std::mem::take(&mut stream), read)))
}

impl Running {
    fn relay(&mut self, message: Message, (stream, read): (Vec<u8>, usize)) -> usize {
        let _inside = self.runtime.enter();
        let (from, to) = if message.is_from_cluster() {
            (&self.cluster, &self.browser)
        } else {
            (&self.browser, &self.cluster)
        };
        let before = to.borrow().taken;
        let is_slow = read < READ;
        *from.borrow_mut() = Peer { stream, read, is_slow, ..Peer::default() };
        let mut context = Context::from_waker(Waker::noop());
        while from.borrow().at < from.borrow().stream.len() {
            from.borrow_mut().is_dry = false;
            assert!(self.relay.as_mut().poll(&mut context).is_pending());
        }
        to.borrow().taken - before
    }
}

/// What a cluster says of a process that ended with an exit code.
pub fn status() -> Work {
    let text = br#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
    Box::new(|| (0..FRAMES).filter(|_| Status::parse(black_box(text)).is_some()).count())
}

/// A key as the page sends it, without the frame.
pub fn json() -> Work {
    let text = br#"{"type":"input","input":"a"}"#;
    Box::new(|| (0..FRAMES).filter(|_| FromBrowser::parse(black_box(text)).is_ok()).count())
}
