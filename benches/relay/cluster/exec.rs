//! One exec: a program behind the channels of the protocol.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::timeout;

use super::Shared;
use super::feed::{Feed, output_of};
use super::program::Program;
use crate::wire::frame::{self, Parser, Run};
use crate::wire::line::{Line, READ};
use crate::wire::{CLOSE, END_OF_INPUT, PATIENCE, STATUS, STDIN, STDOUT};

/// What a process that ended well leaves on the status channel.
const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;

/// Close 1000.
const NORMAL: [u8; 2] = 1000u16.to_be_bytes();

/// How many pieces of text go out between two pauses, and how long one is: long enough for a relay
/// to have read what there is, so that it meets every cut.
const PIECES: usize = 8;
const PAUSE: Duration = Duration::from_millis(1);

/// How a turn ends.
enum Turn {
    Again,
    Pause,
    Over,
}

pub(super) struct Exec {
    line: Line,
    parser: Parser,
    state: State,
    /// Output that is queued in the line, as far as that can be told.
    queued: u64,
}

struct State {
    shared: Arc<Shared>,
    tty: bool,
    program: Program,
    feed: Option<Feed>,
    /// Frames that go out between two frames of the feed, and the output in them.
    small: Vec<u8>,
    message: Message,
    pieces: usize,
    /// Whether the close is queued.
    closing: bool,
    /// Whether the peer has ended.
    left: bool,
}

/// The message that is being read.
#[derive(Default)]
struct Message {
    channel: Option<u8>,
    len: usize,
    /// Its first bytes: a control frame's payload, or enough to know an end of input by.
    head: Vec<u8>,
}

/// The longest control frame.
const HEAD_MAX: usize = 125;

impl Exec {
    pub(super) fn new(
        line: Line,
        shared: &Arc<Shared>,
        words: &[String],
        tty: bool,
    ) -> Result<Self, String> {
        let shared = Arc::clone(shared);
        let (program, feed) = Program::start(words, &shared)?;
        let mut small = Vec::new();
        // Every recording begins with an empty frame on stdout.
        frame::append(&mut small, frame::BINARY, &[&[STDOUT]], false);
        let message = Message::default();
        let (closing, left) = (false, false);
        let state = State { shared, tty, program, feed, small, message, pieces: 0, closing, left };
        Ok(Self { line, parser: Parser::default(), state, queued: 0 })
    }

    /// Runs to the end; `behind` is what came together with the request.
    pub(super) async fn run(mut self, mut behind: Vec<u8>) -> Result<(), String> {
        let Self { parser, state, .. } = &mut self;
        parser.feed(&mut behind, |run| state.on_run(&run))?;
        loop {
            match poll_fn(|cx| self.turn(cx)).await? {
                // Other sessions, and what the kernel has for this one, come first.
                Turn::Again => tokio::task::yield_now().await,
                Turn::Pause => tokio::time::sleep(PAUSE).await,
                Turn::Over => break,
            }
        }
        if self.state.left {
            return Ok(());
        }
        timeout(PATIENCE, self.line.goodbye()).await.map_err(|_| "the peer does not go")?
    }

    /// Reads once and writes once, if there is something to read and room to write.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<Turn, String>> {
        let mut moved = false;
        if !self.state.closing {
            let Self { line, parser, state, .. } = self;
            let read =
                line.poll_read(cx, READ, |bytes| parser.feed(bytes, |run| state.on_run(&run)))?;
            match read {
                Poll::Ready(true) => moved = true,
                // Nobody is there to read the rest.
                Poll::Ready(false) => {
                    self.state.left = true;
                    return Poll::Ready(Ok(Turn::Over));
                }
                Poll::Pending => {}
            }
        }
        let had = self.queued;
        let flushed = self.line.poll_flush(cx)?.is_ready();
        self.queued = self.queued.min(self.line.queued() as u64);
        self.state.shared.wrote(had - self.queued);
        if flushed && let Some(turn) = self.write(cx)? {
            return Poll::Ready(Ok(turn));
        }
        if moved { Poll::Ready(Ok(Turn::Again)) } else { Poll::Pending }
    }

    /// Writes the next of what there is; nothing is queued. None if there is nothing to do, or no
    /// more room.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<Option<Turn>, String> {
        let state = &mut self.state;
        if state.feed.as_ref().is_none_or(Feed::is_over) {
            state.feed = state.program.next_feed(&state.shared);
        }
        if !state.small.is_empty() && state.feed.as_ref().is_none_or(Feed::is_between) {
            let small = std::mem::take(&mut state.small);
            let fill = |sealer: Option<&mut _>, out: &mut Vec<u8>| match sealer {
                Some(sealer) => crate::wire::records::Sealer::seal_all(sealer, out, &small),
                None => Err("a cluster without TLS".into()),
            };
            let done = self.line.poll_batch(cx, fill)?.is_ready();
            return Ok(done.then_some(Turn::Again));
        }
        if let Some(feed) = &mut state.feed {
            let between = !state.small.is_empty();
            for _ in 0..feed.fills() {
                let mut output = 0;
                let done = self.line.poll_batch(cx, |sealer, out| {
                    let sealer = sealer.ok_or("a cluster without TLS")?;
                    output = feed.fill(sealer, out, between)?;
                    Ok(())
                })?;
                self.queued = output.min(self.line.queued() as u64);
                state.shared.wrote(output - self.queued);
                if done.is_pending() {
                    return Ok(None);
                }
                if feed.is_over() || (!state.small.is_empty() && feed.is_between()) {
                    break;
                }
            }
            return Ok(Some(Turn::Again));
        }
        if state.closing {
            return Ok(Some(Turn::Over));
        }
        if let Some(piece) = state.program.next_piece() {
            state.shared.wrote(output_of(&piece));
            state.small = piece;
            state.pieces += 1;
            let pause = state.pieces.is_multiple_of(PIECES);
            return Ok(Some(if pause { Turn::Pause } else { Turn::Again }));
        }
        if state.program.ends() {
            state.end();
            return Ok(Some(Turn::Again));
        }
        Ok(None)
    }
}

impl State {
    fn on_run(&mut self, run: &Run<'_>) -> Result<(), String> {
        if self.closing {
            return Ok(());
        }
        if run.start {
            self.message.channel = None;
            self.message.len = 0;
            self.message.head.clear();
        }
        if run.opcode >= frame::CLOSE {
            self.message.head.extend_from_slice(run.bytes);
            if run.end {
                self.on_control(run.opcode);
            }
            return Ok(());
        }
        let mut bytes = run.bytes;
        if self.message.channel.is_none()
            && let Some((channel, rest)) = bytes.split_first()
        {
            self.message.channel = Some(*channel);
            bytes = rest;
        }
        let room = HEAD_MAX.saturating_sub(self.message.head.len()).min(bytes.len());
        self.message.len += bytes.len();
        match self.message.channel {
            Some(STDIN) => {
                if self.message.len <= 2 {
                    self.message.head.extend_from_slice(&bytes[..room]);
                }
                self.on_stdin(bytes, run.end)
            }
            Some(CLOSE) => {
                self.message.head.extend_from_slice(&bytes[..room]);
                if run.end && self.message.head == [STDIN] && !self.tty {
                    self.end();
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_stdin(&mut self, bytes: &[u8], end: bool) -> Result<(), String> {
        self.shared.read(bytes.len());
        // What a relay whose browser has left sends to an idle shell, and what that does then.
        if end && self.message.len <= 2 && self.message.head.last() == Some(&END_OF_INPUT) {
            if self.tty {
                self.end();
            }
            return Ok(());
        }
        self.program.input(bytes, end, &mut self.small, &self.shared)
    }

    fn on_control(&mut self, opcode: u8) {
        match opcode {
            frame::PING => {
                frame::append(&mut self.small, frame::PONG, &[&self.message.head], false);
            }
            // The recordings' answer to any close.
            frame::CLOSE => self.close(),
            _ => {}
        }
    }

    /// The process is over.
    fn end(&mut self) {
        frame::append(&mut self.small, frame::BINARY, &[&[STATUS], SUCCESS], false);
        self.close();
    }

    fn close(&mut self) {
        if let Some(feed) = &mut self.feed {
            feed.stop();
        }
        frame::append(&mut self.small, frame::CLOSE, &[&NORMAL], false);
        self.closing = true;
    }
}
