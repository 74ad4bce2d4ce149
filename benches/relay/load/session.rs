//! A session as the generator sees it: input goes out, output is counted.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::STALL;
use super::target::{Dialect, Target};
use crate::wire::frame::{self, Parser, Run};
use crate::wire::http::read_head;
use crate::wire::line::{Line, READ};
use crate::wire::{PATIENCE, STATUS, STDOUT, now};

/// The longest thing that a relay says of itself, and the longest status.
const WORDS_MAX: usize = 64 * 1024;

/// Close 1000.
const NORMAL: [u8; 2] = 1000u16.to_be_bytes();

/// What came in.
#[derive(Default)]
pub(super) struct Inbox {
    /// Bytes of output and the messages with output in them.
    pub(super) output: u64,
    pub(super) messages: u64,
    /// When the first and the last output came, of the machine's clock.
    pub(super) first: Option<u64>,
    pub(super) last: u64,
    /// Whether the relay said that it is ready, or the cluster has said anything.
    pub(super) ready: bool,
    /// Whether the process ended well, where the dialect shows that.
    pub(super) succeeded: bool,
    /// The code of the peer's close.
    pub(super) closed: Option<u16>,
    /// Output and where its messages begin, if somebody wants to look at it.
    pub(super) kept: Option<Kept>,
    dialect: Dialect,
    channel: Option<u8>,
    /// Whether this message is counted already.
    counted: bool,
    words: Vec<u8>,
    pongs: Vec<u8>,
}

/// Output that is kept.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) bytes: Vec<u8>,
    /// Where each message begins, and whether it claims to be text.
    pub(super) messages: Vec<(usize, bool)>,
}

impl Inbox {
    fn on_run(&mut self, run: &Run<'_>) -> Result<(), String> {
        if run.opcode >= frame::CLOSE {
            return self.on_control(run);
        }
        if run.start {
            self.channel = None;
            self.counted = false;
            self.words.clear();
        }
        let mut bytes = run.bytes;
        match self.dialect {
            Dialect::V1 if run.opcode == frame::TEXT => return self.on_words(run),
            Dialect::V1 | Dialect::Seed => {}
            Dialect::V5 => {
                self.ready = true;
                if self.channel.is_none()
                    && let Some((channel, rest)) = bytes.split_first()
                {
                    self.channel = Some(*channel);
                    bytes = rest;
                }
                match self.channel {
                    Some(STDOUT) => {}
                    Some(STATUS) => return self.on_status(bytes, run.end),
                    _ => return Ok(()),
                }
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.counted {
            self.counted = true;
            self.messages += 1;
            if let Some(kept) = &mut self.kept {
                kept.messages.push((kept.bytes.len(), run.opcode == frame::TEXT));
            }
        }
        self.output += bytes.len() as u64;
        if let Some(kept) = &mut self.kept {
            kept.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn keep_words(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.words.len() + bytes.len() > WORDS_MAX {
            return Err("the relay says too much of itself".into());
        }
        self.words.extend_from_slice(bytes);
        Ok(())
    }

    fn on_words(&mut self, run: &Run<'_>) -> Result<(), String> {
        self.keep_words(run.bytes)?;
        if !run.end {
            return Ok(());
        }
        let words: serde_json::Value =
            serde_json::from_slice(&self.words).map_err(|e| format!("the relay's words: {e}"))?;
        match words["type"].as_str() {
            Some("ready") => self.ready = true,
            Some("exit") => self.succeeded = words["exitCode"] == 0,
            Some("error") => return Err(format!("the relay says {words}")),
            _ => {}
        }
        Ok(())
    }

    fn on_status(&mut self, bytes: &[u8], end: bool) -> Result<(), String> {
        self.keep_words(bytes)?;
        if end {
            self.succeeded = String::from_utf8_lossy(&self.words).contains(r#""Success""#);
            if !self.succeeded {
                return Err(format!("the status is {}", String::from_utf8_lossy(&self.words)));
            }
        }
        Ok(())
    }

    fn on_control(&mut self, run: &Run<'_>) -> Result<(), String> {
        if run.start {
            self.words.clear();
        }
        self.keep_words(run.bytes)?;
        if run.end && run.opcode == frame::PING {
            frame::append(&mut self.pongs, frame::PONG, &[&self.words], true);
        }
        if run.end && run.opcode == frame::CLOSE {
            let code = self.words.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
            self.closed = Some(code);
        }
        Ok(())
    }
}

/// An open session.
pub(super) struct Session {
    line: Line,
    parser: Parser,
    pub(super) inbox: Inbox,
    /// Whether the peer has ended the connection.
    pub(super) ended: bool,
}

impl Session {
    /// Connects and upgrades.
    pub(super) async fn open(target: &Target, program: &str) -> Result<Self, String> {
        let inbox = Inbox { dialect: target.dialect, ..Inbox::default() };
        Self::open_into(inbox, target, program).await
    }

    /// The same, and keeps all output.
    pub(super) async fn open_keeping(target: &Target, program: &str) -> Result<Self, String> {
        let kept = Some(Kept::default());
        let inbox = Inbox { dialect: target.dialect, kept, ..Inbox::default() };
        Self::open_into(inbox, target, program).await
    }

    async fn open_into(inbox: Inbox, target: &Target, program: &str) -> Result<Self, String> {
        timeout(PATIENCE, Self::upgrade(inbox, target, program))
            .await
            .map_err(|_| "an upgrade that takes too long")?
    }

    async fn upgrade(inbox: Inbox, target: &Target, program: &str) -> Result<Self, String> {
        let mut line = target.connect().await?;
        let key = STANDARD.encode(u128::from(now()).to_be_bytes());
        line.write(target.request(program, &key).as_bytes()).await?;
        let head = read_head(&mut line, Vec::new()).await?.ok_or("an end instead of an answer")?;
        if head.first_line().nth(1) != Some("101") {
            let body = String::from_utf8_lossy(&head.behind);
            let line = head.first_line().collect::<Vec<_>>().join(" ");
            return Err(format!("the answer is {line}: {}", body.trim()));
        }
        if head.header("sec-websocket-accept") != Some(&derive_accept_key(key.as_bytes())) {
            return Err("the answer does not know our key".into());
        }
        let chosen = head.header("sec-websocket-protocol").filter(|name| !name.is_empty());
        if chosen != target.dialect.subprotocol() {
            return Err(format!("the answer is in {chosen:?}"));
        }
        let mut session = Self { line, parser: Parser::default(), inbox, ended: false };
        let mut behind = head.behind;
        let (parser, inbox) = (&mut session.parser, &mut session.inbox);
        feed(parser, inbox, &mut behind)?;
        Ok(session)
    }

    /// Queues input as one message; any wait of the session sends it.
    pub(super) fn input(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut message = Vec::new();
        self.inbox.dialect.input(&mut message, bytes);
        self.line.push(&message)
    }

    /// Queues a message that was made before, by [`Dialect::input`].
    pub(super) fn push(&mut self, message: &[u8]) -> Result<(), String> {
        self.line.push(message)
    }

    /// Writes what is queued: input, and answers to pings.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        ready!(self.line.poll_flush(cx))?;
        if !self.inbox.pongs.is_empty() {
            self.line.push(&std::mem::take(&mut self.inbox.pongs))?;
        }
        self.line.poll_flush(cx)
    }

    /// Writes what is queued and reads once, at most `most` bytes: ready as soon as something came
    /// or the peer ended.
    pub(super) fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Result<(), String>> {
        // Whatever cannot be written does not keep anything from being read.
        let _ = self.poll_send(cx)?;
        let Self { line, parser, inbox, ended } = self;
        let read = line.poll_read(cx, most, |bytes| feed(parser, inbox, bytes))?;
        read.map(|more| {
            *ended = !more;
            Ok(())
        })
    }

    /// One turn, with as much as there is.
    pub(super) async fn turn(&mut self) -> Result<(), String> {
        poll_fn(|cx| self.poll_turn(cx, READ)).await
    }

    /// Writes all that is queued, and reads meanwhile.
    pub(super) async fn flush(&mut self) -> Result<(), String> {
        let flushed = poll_fn(|cx| {
            if self.poll_send(cx)?.is_ready() {
                return Poll::Ready(Ok::<_, String>(()));
            }
            while self.poll_turn(cx, READ)?.is_ready() {
                if self.ended {
                    return Poll::Ready(Err("the session ended".into()));
                }
            }
            Poll::Pending
        });
        timeout(STALL, flushed).await.map_err(|_| "input is not taken")?
    }

    /// Reads until something is so. Something must come all the time.
    pub(super) async fn until(
        &mut self,
        what: &str,
        mut so: impl FnMut(&Inbox) -> bool,
    ) -> Result<(), String> {
        while !so(&self.inbox) {
            if self.ended {
                let closed = self.inbox.closed;
                return Err(format!("the session ended ({closed:?}) before {what}"));
            }
            timeout(STALL, self.turn()).await.map_err(|_| format!("no {what}"))??;
        }
        Ok(())
    }

    /// Waits until the relay and, where it is seen, the cluster have said something.
    pub(super) async fn until_ready(&mut self) -> Result<(), String> {
        // The seed dialect has no word for it: input waits in the relay.
        self.until("first word", |inbox| inbox.ready || inbox.dialect == Dialect::Seed).await
    }

    /// Closes and waits for the peer's close. Says whether that came in time.
    pub(super) async fn close(mut self) -> Result<bool, String> {
        let mut close = Vec::new();
        frame::append(&mut close, frame::CLOSE, &[&NORMAL], true);
        self.line.push(&close)?;
        let deadline = Instant::now() + PATIENCE;
        while self.inbox.closed.is_none() && !self.ended {
            match tokio::time::timeout_at(deadline, self.turn()).await {
                Ok(Ok(())) => {}
                // A reset, or nothing: both are no answer.
                Ok(Err(_)) | Err(_) => return Ok(false),
            }
        }
        let closed = self.inbox.closed.is_some();
        if !self.ended {
            // The peer ends the connection: whoever was called does (RFC 6455 section 7.1.1).
            let _ = tokio::time::timeout_at(deadline, self.line.goodbye()).await;
        }
        Ok(closed)
    }
}

fn feed(parser: &mut Parser, inbox: &mut Inbox, bytes: &mut [u8]) -> Result<(), String> {
    let before = inbox.output;
    parser.feed(bytes, |run| inbox.on_run(&run))?;
    if inbox.output > before {
        inbox.last = now();
        inbox.first.get_or_insert(inbox.last);
    }
    Ok(())
}
