//! What a test may look at: the requests that came, and of each exec what its peer sent and
//! what became of its process. Everything can be awaited; nothing needs a sleep.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use crate::http::Request;
use crate::wire::{Head, opcode};

/// Payload bytes kept of one frame.
const FRAME_KEPT_BYTES: usize = 16 * 1024;
/// Payload bytes kept of one session; beyond it only the heads of frames are kept.
const SESSION_KEPT_BYTES: usize = 1024 * 1024;
/// Frames kept of one session, so that a bench that sends millions does not fill the memory.
const FRAMES_KEPT: usize = 64 * 1024;

/// One frame the peer sent.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The FIN bit.
    pub fin: bool,
    /// The three reserved bits.
    pub rsv: u8,
    /// The opcode, see [`crate::wire::opcode`].
    pub opcode: u8,
    /// Whether it was masked, as every frame of a client must be.
    pub masked: bool,
    /// Declared length of the payload, channel byte included.
    pub length: u64,
    /// The payload unmasked, channel byte included, up to 16 KiB.
    pub payload: Bytes,
}

impl Frame {
    /// The channel of a data frame.
    pub fn channel(&self) -> Option<u8> {
        self.payload.first().copied().filter(|_| self.opcode < opcode::CLOSE)
    }

    /// The code of a Close frame.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk::<2>().filter(|_| self.opcode == opcode::CLOSE)?;
        Some(u16::from_be_bytes(*code))
    }
}

/// What is known of an exec session at one moment.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The HTTP status of the answer, once there is one.
    pub answered: Option<u16>,
    /// The subprotocol that was chosen.
    pub protocol: Option<String>,
    /// The frames of the peer, in order.
    pub frames: Vec<Frame>,
    /// How many frames came, kept or not.
    pub frames_total: u64,
    /// How many payload bytes came on channel 0, kept or not.
    pub stdin_bytes: u64,
    /// The sizes the terminal took, columns and rows.
    pub sizes: Vec<(u16, u16)>,
    /// The process, once it is started. It keeps its number after it has ended.
    pub pid: Option<u32>,
    /// The exit code, once the process has ended.
    pub exit_code: Option<i32>,
    /// The read loop stopped for good, see `resize_to_nontty` among the recordings.
    pub wedged: bool,
    /// The connection is over, whoever ended it.
    pub closed: bool,
}

impl Facts {
    /// The kept bytes of one channel, frames joined.
    pub fn channel(&self, channel: u8) -> Vec<u8> {
        let of_channel = self.frames.iter().filter(|frame| frame.channel() == Some(channel));
        of_channel.flat_map(|frame| frame.payload[1..].iter().copied()).collect()
    }

    /// Whether any frame has this opcode.
    pub fn has(&self, opcode: u8) -> bool {
        self.frames.iter().any(|frame| frame.opcode == opcode)
    }
}

/// One exec request and all that followed. Clones look at the same session.
#[derive(Clone)]
pub struct Session(Arc<Record>);

struct Record {
    request: Request,
    kept_bytes: Mutex<usize>,
    facts: watch::Sender<Facts>,
}

impl Session {
    pub(crate) fn new(request: Request) -> Session {
        let facts = watch::Sender::new(Facts::default());
        Session(Arc::new(Record { request, kept_bytes: Mutex::new(0), facts }))
    }

    /// The request that opened it.
    pub fn request(&self) -> &Request {
        &self.0.request
    }

    /// What is known now.
    pub fn facts(&self) -> Facts {
        self.0.facts.borrow().clone()
    }

    /// Waits until `look` finds something. It has no deadline; give it one from outside.
    pub async fn until<T>(&self, mut look: impl FnMut(&Facts) -> Option<T>) -> T {
        let mut receiver = self.0.facts.subscribe();
        loop {
            let found = look(&receiver.borrow_and_update());
            if let Some(found) = found {
                return found;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until channel 0 has brought `needle`.
    pub async fn until_stdin(&self, needle: &[u8]) {
        let contains =
            |hay: &[u8]| needle.is_empty() || hay.windows(needle.len()).any(|w| w == needle);
        self.until(|facts| contains(&facts.channel(0)).then_some(())).await;
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut Facts)) {
        self.0.facts.send_modify(change);
    }

    pub(crate) fn frame(&self, head: &Head, payload: &Bytes) {
        let mut used = self.0.kept_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = payload.len().min(FRAME_KEPT_BYTES).min(SESSION_KEPT_BYTES - *used);
        *used += keep;
        self.note(|facts| {
            facts.frames_total += 1;
            if head.opcode < opcode::CLOSE && payload.first() == Some(&0) {
                facts.stdin_bytes += payload.len() as u64 - 1;
            }
            if facts.frames.len() < FRAMES_KEPT {
                facts.frames.push(Frame {
                    fin: head.fin,
                    rsv: head.rsv,
                    opcode: head.opcode,
                    masked: head.mask.is_some(),
                    length: head.length,
                    // A copy, lest a kept slice keeps the whole read buffer alive.
                    payload: Bytes::copy_from_slice(&payload[..keep]),
                });
            }
        });
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Session").field("target", &self.0.request.target).finish()
    }
}

/// Everything the cluster has seen.
#[derive(Default)]
pub(crate) struct Seen {
    state: watch::Sender<State>,
}

#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) requests: Vec<Request>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) connections: u64,
}

impl Seen {
    pub(crate) fn note(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    pub(crate) fn now(&self) -> State {
        self.state.borrow().clone()
    }

    pub(crate) async fn until<T>(&self, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let mut receiver = self.state.subscribe();
        loop {
            let found = look(&receiver.borrow_and_update());
            if let Some(found) = found {
                return found;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
