//! The browser's leg: output on its way to the browser, and where in its life the leg stands.

use super::super::channel;
use super::super::frame::{self, MERGE_MAX, Masking, Opcode, Parser};
use super::super::message::{Carry, Dialect, OUTPUT, ToBrowser, encode_in_place};
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

/// What output comes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streams {
    /// One stream, a terminal's.
    Terminal,
    Stdout,
    /// Two, which may come in the middle of each other's characters.
    StdoutAndStderr,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact by itself, and two are rare")]
pub(super) struct Leg {
    pub(super) state: State,
    pub(super) parser: Parser,
    pub(super) outbox: Outbox,
    pub(super) dialect: Dialect,
    pub(super) streams: Streams,
    /// The frame that takes output, while one turn lasts.
    open: Option<Open>,
    pub(super) stdout: Carry,
    pub(super) stderr: Carry,
    /// A message that is not complete and is no plain input; freed when it is.
    pub(super) unfinished: Option<Box<Unfinished>>,
    /// Whether what comes belongs to a message that began as input.
    pub(super) in_input: bool,
    /// Whether the cluster's own status was told, in a dialect that has a place for it.
    pub(super) status_told: bool,
    pub(super) misunderstood: u8,
    /// Bytes of output told to the browser.
    pub(super) told: u64,
    pub(super) consumed: Consumed,
    /// Whether more is unacknowledged than may be, once the page acknowledges at all, or it wants
    /// nothing now; kept by [`Leg::settle`].
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
    /// When something was last typed; the end of all time where no input was asked for, for there
    /// is nobody who could be idle.
    pub(super) typed_at: Time,
}

/// What the page says about the output that it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consumed {
    /// Nothing.
    Untold,
    /// It has consumed so many bytes of it.
    Acked(u64),
    /// It wants no more for now.
    Paused,
}

/// The beginning of a message, and when it came.
pub(super) struct Unfinished {
    pub(super) bytes: Vec<u8>,
    pub(super) since: Time,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    start: usize,
    what: What,
    /// The channel whose output is appended as it is, whatever else would be looked at; or zero, on
    /// which there is none.
    joins: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Bytes,
    /// The same of a dialect that has nothing else, not even a place for stderr.
    Raw,
    Text,
    /// Raw stderr, which becomes base64 when the frame is finished.
    Stderr,
    /// Bytes behind one that says which they are.
    Tagged(u8),
    /// The same as text, the rest of which becomes base64 when the frame is finished.
    Base64(u8),
}

impl Leg {
    pub(super) fn new(dialect: Dialect, limits: &Limits) -> Self {
        Self {
            state: State::Open,
            parser: Parser::new(Masking::Masked, limits.message_max),
            outbox: Outbox::default(),
            dialect,
            streams: Streams::Terminal,
            open: None,
            stdout: Carry::default(),
            stderr: Carry::default(),
            unfinished: None,
            in_input: false,
            status_told: false,
            misunderstood: 0,
            told: 0,
            consumed: Consumed::Untold,
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
    #[inline]
    pub(super) fn output(&mut self, channel: u8, bytes: &[u8]) {
        self.told += bytes.len() as u64;
        if let Some(Open { start, joins, .. }) = self.open
            && joins == channel
        {
            // The next of many small ones.
            let out = self.outbox.tail();
            if out.len() - start + bytes.len() <= MERGE_MAX {
                return out.extend_from_slice(bytes);
            }
        }
        self.add(channel, bytes);
    }

    /// The same where there is more to it.
    #[inline(never)]
    fn add(&mut self, channel: u8, mut bytes: &[u8]) {
        // Carried text may come out as one more replacement, hence the 16 to spare. Bytes have none:
        // two full frames of a cluster's, which is what one read brings, must fit into one.
        let carries = self.carries_bytes();
        let carried = if carries { Carry::MAX } else { 0 };
        let (what, growth, spare) = match (self.dialect, channel) {
            (Dialect::Seed, _) => (What::Text, Carry::GROWTH, 16),
            (Dialect::V1, channel::STDERR) => (What::Stderr, 2, 0),
            (Dialect::V1, _) => (What::Bytes, 1, 0),
            (Dialect::Raw, _) => (What::Raw, 1, carried),
            (Dialect::Ttyd, _) => (What::Tagged(OUTPUT), 1, carried),
            (Dialect::Base64V4 | Dialect::Base64V1, _) => {
                // Three bytes become four, the last of them perhaps with some to spare.
                (What::Base64(b'0' + channel), 1, MERGE_MAX / 4 + 4)
            }
            (_, _) => (What::Tagged(channel), 1, 0),
        };
        let is_plain = !carries && matches!(what, What::Bytes | What::Raw | What::Tagged(_));
        let joins = if is_plain { channel } else { 0 };
        while !bytes.is_empty() {
            let start = self.open(what, joins);
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
                (_, channel::STDERR) if carries => self.stderr.pass(piece, out),
                (_, _) if carries => self.stdout.pass(piece, out),
                _ => out.extend_from_slice(piece),
            }
        }
    }

    /// Whether both streams become one of bytes, so that what is cut of a character must wait for
    /// the rest.
    fn carries_bytes(&self) -> bool {
        matches!(self.dialect, Dialect::Raw | Dialect::Ttyd)
            && self.streams == Streams::StdoutAndStderr
    }

    /// Passes on what stayed unfinished, in such a frame.
    pub(super) fn pass_all(&mut self, what: What) {
        if self.carries_bytes() {
            self.open(what, 0);
            let out = self.outbox.tail();
            self.stdout.pass_all(out);
            self.stderr.pass_all(out);
            self.finish();
        }
    }

    /// Where the payload of the frame that takes such output starts.
    pub(super) fn open(&mut self, what: What, joins: u8) -> usize {
        if self.open.is_some_and(|open| open.what != what) {
            self.finish();
        }
        let out = self.outbox.tail();
        let open = *self.open.get_or_insert_with(|| {
            let start = frame::begin(out, Masking::Plain);
            if let What::Tagged(tag) | What::Base64(tag) = what {
                out.push(tag);
            }
            Open { start, what, joins }
        });
        open.start
    }

    /// Finishes the open frame. Every turn ends with it, so that nothing waits for more.
    pub(super) fn finish(&mut self) {
        let Some(Open { start, what, .. }) = self.open.take() else { return };
        let out = self.outbox.tail();
        let payload = start + frame::reserved(Masking::Plain);
        match what {
            // All of it was carried over: an empty text would be a message without a meaning.
            _ if out.len() == payload => out.truncate(start),
            What::Tagged(_) if out.len() == payload + 1 => out.truncate(start),
            What::Bytes => frame::finish(out, start, Opcode::Binary, None),
            What::Raw | What::Tagged(_) => {
                self.follow(what, payload);
                frame::finish(self.outbox.tail(), start, Opcode::Binary, None);
            }
            What::Text => frame::finish(out, start, Opcode::Text, None),
            What::Stderr => {
                let message = ToBrowser::stderr(&out[payload..]).to_json();
                out.truncate(start);
                frame::append(out, Opcode::Text, &message, None);
            }
            What::Base64(_) => {
                self.follow(what, payload);
                let out = self.outbox.tail();
                encode_in_place(out, payload + 1);
                frame::finish(out, start, Opcode::Text, None);
            }
        }
    }

    /// Takes note of whether a frame ends in a character that is passed on as it comes.
    fn follow(&mut self, what: What, payload: usize) {
        let (carry, from) = match what {
            _ if self.carries_bytes() => return,
            What::Tagged(channel::STDERR) | What::Base64(b'2') => (&mut self.stderr, payload + 1),
            What::Raw => (&mut self.stdout, payload),
            _ => (&mut self.stdout, payload + 1),
        };
        carry.follow(&self.outbox.tail()[from..]);
    }

    /// Whether a line would stand in the middle of a character now. Where what is cut is held back
    /// it never does.
    pub(super) fn is_cut(&self) -> bool {
        match self.dialect {
            Dialect::Seed | Dialect::V1 => false,
            _ if self.carries_bytes() => false,
            _ if self.dialect.kube().is_some() && self.streams != Streams::Terminal => {
                !self.stderr.is_empty()
            }
            _ => !self.stdout.is_empty(),
        }
    }

    /// Sends a message of the relay's own, if the dialect has such.
    pub(super) fn tell(&mut self, message: &ToBrowser<'_>) {
        if self.dialect == Dialect::V1 && self.state == State::Open {
            self.answer(Opcode::Text, &message.to_json());
        }
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
        let before = if let Consumed::Acked(before) = self.consumed { before } else { 0 };
        let acked = bytes.clamp(before, self.told);
        self.consumed = Consumed::Acked(acked);
        if acked > before {
            self.progress_at = now;
        }
    }

    /// The page that had paused wants more.
    pub(super) fn resume(&mut self, now: Time) {
        if self.consumed == Consumed::Paused {
            self.consumed = Consumed::Untold;
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
        self.is_behind = match self.consumed {
            Consumed::Untold => false,
            Consumed::Acked(acked) => self.told - acked > ack_window,
            Consumed::Paused => true,
        };
        self.pulse.settle(is_read && self.is_clear(), now);
    }
}
