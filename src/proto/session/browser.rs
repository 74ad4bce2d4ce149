//! The browser's leg: what goes to the browser, and where in its life the leg stands.

use super::super::channel;
use super::super::ending::{Ending, Kind};
use super::super::frame::{self, MERGE_MAX, Masking, Opcode, Parser};
use super::super::message::{Carry, Dialect, ToBrowser, line};
use super::super::outbox::Outbox;
use super::pulse::Pulse;
use super::{Limits, Time};

/// A text message must come at this pace after its first [`super::Limits::message_time`]: a paste
/// over the slowest line anybody types on is faster, a byte now and then is not.
const MESSAGE_BYTES_PER_SECOND: u64 = 4 * 1024;

/// Where the leg stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The browser is told output.
    Open,
    /// The last words and the close are queued; input is discarded.
    Closing,
    /// Everything was sent. Input is discarded until the browser's close, so that a reset cannot
    /// overtake our close frame on its way.
    Lingering {
        until: Time,
    },
    Gone,
}

pub(super) struct Leg {
    pub(super) state: State,
    pub(super) parser: Parser,
    pub(super) outbox: Outbox,
    dialect: Dialect,
    /// The frame that takes output, while one turn lasts.
    open: Option<Open>,
    stdout: Carry,
    stderr: Carry,
    /// A text message that is not complete; freed when it is.
    pub(super) unfinished: Option<Box<Unfinished>>,
    pub(super) misunderstood: u8,
    /// Bytes of output told to the browser.
    pub(super) told: u64,
    /// The part of them that the page has consumed, once it began to say so.
    pub(super) acked: Option<u64>,
    /// Whether more is unacknowledged than may be, once the page acknowledges at all; kept by
    /// [`Leg::settle`].
    pub(super) is_behind: bool,
    /// Whether bytes that were taken may be held back by TLS. Until they are not, they wait for
    /// the browser like those in the outbox.
    pub(super) unflushed: bool,
    /// When the outbox last shrank or was empty.
    pub(super) progress_at: Time,
    /// How long after that a browser that takes nothing is given up.
    patience: Time,
    /// Whether the browser's close was read.
    pub(super) closed: bool,
    pub(super) pulse: Pulse,
    /// When something was last typed.
    pub(super) typed_at: Time,
}

/// The beginning of a text message, and when it came.
pub(super) struct Unfinished {
    pub(super) bytes: Vec<u8>,
    pub(super) since: Time,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    start: usize,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Bytes,
    Text,
    /// Raw stderr, which becomes base64 when the frame is finished.
    Stderr,
}

impl Leg {
    pub(super) fn new(dialect: Dialect, limits: &Limits) -> Self {
        Self {
            state: State::Open,
            parser: Parser::new(Masking::Masked, limits.message_max),
            outbox: Outbox::default(),
            dialect,
            open: None,
            stdout: Carry::default(),
            stderr: Carry::default(),
            unfinished: None,
            misunderstood: 0,
            told: 0,
            acked: None,
            is_behind: false,
            unflushed: false,
            progress_at: Time::ZERO,
            patience: limits.slow_browser,
            closed: false,
            pulse: Pulse::new(Time::ZERO),
            typed_at: Time::ZERO,
        }
    }

    /// Adds output to the open frame, so that what arrives together leaves as one.
    pub(super) fn output(&mut self, channel: u8, mut bytes: &[u8]) {
        self.told += bytes.len() as u64;
        if let Some(Open { start, what: What::Bytes }) = self.open
            && channel == channel::STDOUT
        {
            // The next of many small ones.
            let out = self.outbox.tail();
            if out.len() - start + bytes.len() <= MERGE_MAX {
                return out.extend_from_slice(bytes);
            }
        }
        // Carried text may come out as one more replacement, hence the 16 to spare. Bytes have none:
        // two full frames of a cluster's, which is what one read brings, must fit into one.
        let (what, growth, spare) = match (self.dialect, channel) {
            (Dialect::Seed, _) => (What::Text, Carry::GROWTH, 16),
            (Dialect::V1, channel::STDERR) => (What::Stderr, 2, 0),
            (Dialect::V1, _) => (What::Bytes, 1, 0),
        };
        while !bytes.is_empty() {
            let start = self.open(what);
            let used = self.outbox.tail().len() - start;
            let room = MERGE_MAX.saturating_sub(used + spare) / growth;
            if room == 0 {
                self.finish();
                continue;
            }
            let (piece, rest) = bytes.split_at(room.min(bytes.len()));
            bytes = rest;
            let out = self.outbox.tail();
            match (what, channel) {
                (What::Text, channel::STDERR) => self.stderr.push(piece, out),
                (What::Text, _) => self.stdout.push(piece, out),
                _ => out.extend_from_slice(piece),
            }
        }
    }

    /// Where the payload of the frame that takes such output starts.
    fn open(&mut self, what: What) -> usize {
        if self.open.is_some_and(|open| open.what != what) {
            self.finish();
        }
        let out = self.outbox.tail();
        let open = *self
            .open
            .get_or_insert_with(|| Open { start: frame::begin(out, Masking::Plain), what });
        open.start
    }

    /// Finishes the open frame. Every turn ends with it, so that nothing waits for more.
    pub(super) fn finish(&mut self) {
        let Some(Open { start, what }) = self.open.take() else { return };
        let out = self.outbox.tail();
        let payload = start + frame::reserved(Masking::Plain);
        match what {
            // All of it was carried over: an empty text would be a message without a meaning.
            _ if out.len() == payload => out.truncate(start),
            What::Bytes => frame::finish(out, start, Opcode::Binary, None),
            What::Text => frame::finish(out, start, Opcode::Text, None),
            What::Stderr => {
                let message = ToBrowser::stderr(&out[payload..]).to_json();
                out.truncate(start);
                frame::append(out, Opcode::Text, &message, None);
            }
        }
    }

    /// Sends a message of the relay's own, if the dialect has such.
    pub(super) fn tell(&mut self, message: &ToBrowser<'_>) {
        if self.dialect == Dialect::V1 && self.state == State::Open {
            self.answer(Opcode::Text, &message.to_json());
        }
    }

    /// Tells the user something that is no ending, in the way of the dialect.
    pub(super) fn notice(&mut self, kind: &'static str, message: &str) {
        if self.state != State::Open {
            return;
        }
        self.finish();
        let text = match self.dialect {
            Dialect::Seed => line(message).into_bytes(),
            Dialect::V1 => ToBrowser::Notice { kind, message }.to_json(),
        };
        frame::append(self.outbox.tail(), Opcode::Text, &text, None);
    }

    /// Asks whether the browser is there, unless something is on its way to it anyway. It is asked
    /// even while it talks: a gateway may cut a connection on which nothing comes from here.
    pub(super) fn ping(&mut self, now: Time) {
        self.pulse.asked(now);
        if self.state == State::Open && self.is_clear() {
            frame::append(self.outbox.tail(), Opcode::Ping, &[], None);
        }
    }

    pub(super) fn pong(&mut self, payload: &[u8]) {
        if self.state == State::Open {
            self.answer(Opcode::Pong, payload);
        }
    }

    fn answer(&mut self, opcode: Opcode, payload: &[u8]) {
        self.finish();
        let before = self.outbox.len();
        frame::append(self.outbox.tail(), opcode, payload, None);
        self.outbox.answered(before);
    }

    /// Queues the last words, in the way of the dialect, and the close behind everything else.
    pub(super) fn last_words(&mut self, ending: &Ending) {
        if self.state != State::Open {
            return;
        }
        let Some(code) = ending.close_code else {
            self.farewell(ending.kind);
            return;
        };
        if self.dialect == Dialect::Seed {
            self.open(What::Text);
            let out = self.outbox.tail();
            self.stdout.finish(out);
            self.stderr.finish(out);
            self.finish();
            frame::append(self.outbox.tail(), Opcode::Text, line(&ending.message).as_bytes(), None);
        }
        self.tell(&ToBrowser::exit(ending));
        self.finish();
        frame::append_close(self.outbox.tail(), code, &ending.message, None);
        self.state = State::Closing;
        self.unfinished = None;
    }

    /// The browser ended it: answers its close, or forgets it.
    fn farewell(&mut self, kind: Kind) {
        self.unfinished = None;
        if kind == Kind::BrowserClosed {
            self.finish();
            // RFC 6455 section 5.5.1 asks for an answer; which code it has matters to nobody.
            frame::append_close(self.outbox.tail(), 1000, "", None);
            self.state = State::Closing;
        } else {
            self.gone();
        }
    }

    pub(super) fn gone(&mut self) {
        self.state = State::Gone;
        self.open = None;
        self.outbox.clear();
        self.unflushed = false;
        self.unfinished = None;
    }

    /// The clock of a browser that takes nothing starts with the first byte that waits for it, or
    /// with the first that is too far ahead of its acknowledgements.
    pub(super) fn mark_progress(&mut self, now: Time) {
        if self.is_clear() && !self.is_behind {
            self.progress_at = now;
        }
    }

    /// Some of what waits was taken. A page that is behind takes it without showing it.
    pub(super) fn took(&mut self, now: Time) {
        if !self.is_behind {
            self.progress_at = now;
        }
    }

    /// The page says how much it has consumed. It cannot be more than it was told, nor less than
    /// it said before.
    pub(super) fn ack(&mut self, bytes: u64, now: Time) {
        let before = self.acked.unwrap_or(0);
        let acked = bytes.clamp(before, self.told);
        self.acked = Some(acked);
        if acked > before {
            self.progress_at = now;
        }
    }

    /// From now on the browser has no more than this to take some of what waits for it.
    pub(super) fn hurry(&mut self, patience: Time, now: Time) {
        self.patience = self.patience.min(patience);
        self.progress_at = now;
    }

    /// When a message that is still not complete is given up.
    pub(super) fn message_until(&self, time: Time) -> Option<Time> {
        let Unfinished { bytes, since } = self.unfinished.as_deref()?;
        let allowance = Time::from_secs(bytes.len() as u64 / MESSAGE_BYTES_PER_SECOND);
        Some(since.saturating_add(time).saturating_add(allowance))
    }

    /// When a browser that takes nothing is given up.
    pub(super) fn slow_at(&self) -> Option<Time> {
        let waits = !self.is_clear() || self.state == State::Open && self.is_behind;
        waits.then(|| self.progress_at.saturating_add(self.patience))
    }

    /// Whether nothing waits for the browser.
    pub(super) fn is_clear(&self) -> bool {
        self.outbox.is_empty() && !self.unflushed
    }

    /// Takes note of whether the page is too far behind, and of whether its silence counts.
    pub(super) fn settle(&mut self, is_read: bool, ack_window: u64, now: Time) {
        self.is_behind = self.acked.is_some_and(|acked| self.told - acked > ack_window);
        self.pulse.settle(is_read && self.is_clear(), now);
    }
}
