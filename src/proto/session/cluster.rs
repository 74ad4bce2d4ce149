//! The cluster's leg: what goes to the cluster, and where in its life the leg stands.

use super::super::channel::{self, FRAME_MAX, Size, Status, Subprotocol};
use super::super::frame::{self, Masking, Opcode, Parser};
use super::super::outbox::Outbox;
use super::pulse::Pulse;
use super::{Leaving, Limits, Time};

/// Two sizes in quicker succession become one, the newest: a window dragged by its corner says
/// hundreds a second, and every one makes the program in the terminal draw anew.
const SIZE_SPACING: Time = Time::from_millis(50);

/// Ctrl-C.
const INTERRUPT: u8 = 0x03;
/// Ctrl-D.
const END_OF_INPUT: u8 = 0x04;

/// Between the interrupt and the end of input of a hang-up. A terminal drops what is typed
/// together with an interrupt, and a shell that is just being interrupted drops it, too: with
/// both bytes in one write, neither bash nor dash at its prompt was seen to end.
const HANGUP_SPACING: Time = Time::from_millis(200);

/// Between two tries of a hang-up. A shell that is still starting loses both keys: of sixty that
/// were left while they started, one ended at the first try and all at the second.
const HANGUP_AGAIN: Time = Time::from_millis(800);

/// Input of which nobody knows that it was read, and which yet blocks no server: the least that
/// lies between a recorded server's reading loop and a process that reads nothing, which is one
/// pipe of Linux. Above it a missing pong says nothing, for pings wait behind the input.
const UNREAD_MAX: u64 = 64 * 1024;

/// Where the leg stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The process runs, as far as anybody knows.
    Open,
    /// The status was read. Nothing is sent any more, because the server closes without reading
    /// it and a reset could overtake output; what still comes is read until its close.
    StatusSeen {
        until: Time,
    },
    /// The ending is known and the process was asked to go; its output is discarded.
    HangingUp {
        until: Time,
        /// What is to be typed next, and when; nothing without a terminal.
        key: Option<(Time, u8)>,
    },
    /// Nothing was started. Something else may be, on another connection; once the session has
    /// ended, that is awaited until then.
    Unstarted {
        until: Option<Time>,
    },
    /// Our close is queued.
    Closing {
        until: Time,
    },
    Gone,
}

/// What the leg leads to.
#[derive(Clone, Copy)]
pub(super) struct Exec {
    pub(super) subprotocol: Subprotocol,
    pub(super) tty: bool,
    pub(super) stdin: bool,
    pub(super) attached: bool,
    pub(super) leaving: Leaving,
}

impl Exec {
    /// Nothing at all.
    pub(super) const NONE: Self = Self {
        subprotocol: Subprotocol::V5,
        tty: false,
        stdin: false,
        attached: false,
        leaving: Leaving::Nothing,
    };
}

pub(super) struct Leg {
    pub(super) state: State,
    pub(super) parser: Parser,
    pub(super) outbox: Outbox,
    pub(super) exec: Exec,
    /// The channel of the message that is being read; none before its first byte.
    pub(super) channel: Option<u8>,
    pub(super) status_text: Vec<u8>,
    pub(super) status: Option<Box<Status>>,
    /// Whether input can be sent: it was asked for, and not closed.
    pub(super) takes_input: bool,
    /// Whether bytes that were taken may be held back by TLS.
    pub(super) unflushed: bool,
    pub(super) pulse: Pulse,
    /// When data last went either way.
    pub(super) data_at: Time,
    /// The frame that takes input, while one turn lasts.
    open: Option<usize>,
    size_wanted: Option<Size>,
    size_sent: Option<Size>,
    size_sent_at: Time,
    masks: Masks,
    /// How many pings were sent: each carries its number.
    pings: u32,
    /// The newest number that came back.
    ponged: u32,
    /// The last ping that was sent before the newest input, and how much input there was.
    typed_after: u32,
    typed: u64,
}

impl Leg {
    pub(super) fn new(exec: Exec, mask_seed: u64, limits: &Limits, now: Time) -> Self {
        Self {
            state: State::Open,
            parser: Parser::new(Masking::Plain, limits.cluster_frame_max),
            outbox: Outbox::default(),
            exec,
            channel: None,
            status_text: Vec::new(),
            status: None,
            takes_input: exec.stdin,
            unflushed: false,
            pulse: Pulse::new(now),
            data_at: now,
            open: None,
            size_wanted: None,
            size_sent: None,
            size_sent_at: now,
            masks: Masks(mask_seed),
            pings: 0,
            ponged: 0,
            typed_after: 0,
            typed: 0,
        }
    }

    /// The leg of another exec in place of this one, which never started. It wants the newest size.
    pub(super) fn replace(&mut self, subprotocol: Subprotocol, limits: &Limits, now: Time) {
        let exec = Exec { subprotocol, ..self.exec };
        let size = self.size_wanted.or(self.size_sent);
        *self = Self { size_wanted: size, ..Self::new(exec, self.masks.0, limits, now) };
        self.send_size(now, true);
    }

    /// Adds input to the open frame; a full frame is finished and the next one begun. Frames are
    /// never fragmented: the server takes every frame for a message (`golang.org/x/net/websocket`).
    pub(super) fn input(&mut self, mut bytes: &[u8], now: Time) {
        if bytes.is_empty() || !self.takes_input || self.state != State::Open {
            return;
        }
        // The size belongs to what is typed after it, so it does not wait any longer.
        self.send_size(now, true);
        self.data_at = now;
        if self.ponged > self.typed_after {
            // All that was typed before was read past, so it blocks nobody.
            self.typed = 0;
        }
        self.typed_after = self.pings;
        self.typed += bytes.len() as u64;
        while !bytes.is_empty() {
            let out = self.outbox.tail();
            let start = *self.open.get_or_insert_with(|| {
                let start = frame::begin(out, Masking::Masked);
                out.push(channel::STDIN);
                start
            });
            let used = out.len() - start - frame::reserved(Masking::Masked);
            let (piece, rest) = bytes.split_at((FRAME_MAX - used).min(bytes.len()));
            bytes = rest;
            out.extend_from_slice(piece);
            if used + piece.len() == FRAME_MAX {
                self.finish();
            }
        }
    }

    /// Finishes the open frame. Every turn ends with it.
    pub(super) fn finish(&mut self) {
        if let Some(start) = self.open.take() {
            let key = self.masks.next();
            frame::finish(self.outbox.tail(), start, Opcode::Binary, Some(key));
        }
    }

    fn append(&mut self, opcode: Opcode, payload: &[u8]) {
        self.finish();
        let key = self.masks.next();
        frame::append(self.outbox.tail(), opcode, payload, Some(key));
    }

    pub(super) fn pong(&mut self, payload: &[u8]) {
        if matches!(self.state, State::Open | State::HangingUp { .. }) {
            self.finish();
            let before = self.outbox.len();
            self.append(Opcode::Pong, payload);
            self.outbox.answered(before);
        }
    }

    /// Wants the terminal to have this size. Without a terminal nothing may be sent: a second
    /// resize stops the server's read loop for good (recorded).
    pub(super) fn resize(&mut self, size: Size) {
        if self.exec.tty && matches!(self.state, State::Open | State::Unstarted { .. }) {
            self.size_wanted = (self.size_sent != Some(size)).then_some(size);
        }
    }

    /// Sends the wanted size if it is due.
    pub(super) fn send_size(&mut self, now: Time, hurry: bool) {
        if !hurry && self.size_due().is_none_or(|due| now < due) {
            return;
        }
        let Some(size) = self.size_wanted.take() else { return };
        if self.state == State::Open {
            self.say_size(size);
            self.size_sent = Some(size);
            self.size_sent_at = now;
            self.data_at = now;
        }
    }

    fn say_size(&mut self, size: Size) {
        let mut payload = vec![channel::RESIZE];
        size.append_json(&mut payload);
        self.append(Opcode::Binary, &payload);
    }

    /// Whether everything that there was for the cluster is on its way.
    pub(super) fn is_clear(&self) -> bool {
        self.outbox.is_empty() && !self.unflushed
    }

    /// Whether pongs may be missing because the process does not read its input: the server reads
    /// pings and input in one loop, and waits for the process in it (recorded:
    /// `ping_while_stdin_blocked`). Such a session is healthy, and nothing in the protocol can tell it
    /// from one that is dead; TCP's own keepalive and the idle limit are what is left.
    pub(super) fn is_starved(&self) -> bool {
        self.typed > UNREAD_MAX && self.ponged <= self.typed_after
    }

    pub(super) fn on_pong(&mut self, payload: &[u8]) {
        if let Ok(number) = payload.try_into().map(u32::from_be_bytes) {
            self.ponged = self.ponged.max(number.min(self.pings));
        }
    }

    /// The size that is said again to keep the connection alive, and after how long. It crosses to
    /// the kubelet, whose connection pings do not reach (kubernetes#128314), and changes nothing:
    /// Linux tells a program only of a size that is new.
    fn size_again(&self, limits: &Limits) -> Option<(Time, Size)> {
        limits.size_keepalive.zip(self.size_sent)
    }

    /// When data is to be sent for its own sake.
    pub(super) fn data_due(&self, limits: &Limits) -> Time {
        let after = self.size_again(limits).map_or(limits.data_keepalive, |(after, _)| after);
        self.data_at.saturating_add(after)
    }

    /// Does what is due to keep the connection alive and to know that it is: a ping, and data,
    /// which is the newest size or else an empty message, which servers ignore (recorded).
    ///
    /// A server whose process has ended closes at once, with the last output still on its way. It
    /// answers whatever comes then with a reset, and the output is lost. So nothing is said that
    /// need not be: only to a cluster that is read and has been silent for long. Where bytes wait
    /// already, more of them would help nobody.
    pub(super) fn keep_alive(&mut self, limits: &Limits, reads: bool, now: Time) {
        let may_speak = reads && self.is_clear();
        if self.pulse.question_at(limits.cluster_ping) <= now {
            self.pulse.asked(now);
            if may_speak {
                self.pings = self.pings.wrapping_add(1);
                let number = self.pings.to_be_bytes();
                self.append(Opcode::Ping, &number);
            }
        }
        if now < self.data_due(limits) {
            return;
        }
        self.data_at = now;
        if !may_speak {
            return;
        }
        match self.size_again(limits) {
            Some((_, size)) => self.say_size(size),
            None => self.append(Opcode::Binary, &[]),
        }
    }

    /// When the wanted size is to be sent, if there is one.
    pub(super) fn size_due(&self) -> Option<Time> {
        let spacing = if self.size_sent.is_none() { Time::ZERO } else { SIZE_SPACING };
        let wanted = self.size_wanted.filter(|_| self.state == State::Open);
        wanted.map(|_| self.size_sent_at + spacing)
    }

    /// Whether [`Leg::close_input`] is a thing that can be done here. On a TTY it would leave a
    /// shell without input and without end (recorded: `client_close_stdin_tty`).
    pub(super) fn can_close_input(&self) -> bool {
        !self.exec.tty && self.exec.subprotocol.can_half_close()
    }

    /// Whether the process reads from something that has an end.
    pub(super) fn awaits_end_of_input(&self) -> bool {
        !self.exec.tty && self.takes_input
    }

    /// Tells the process that no more input comes.
    pub(super) fn close_input(&mut self) {
        if self.takes_input && self.can_close_input() {
            if self.state == State::Open {
                self.append(Opcode::Binary, &[channel::CLOSE, channel::STDIN]);
            }
            self.takes_input = false;
        }
    }

    /// Asks the process to go, as a terminal line that is hung up does, and gives it until then.
    /// Where nothing can be said to it, the connection is closed at once: on v4 without a TTY
    /// that is what ends its input.
    pub(super) fn hang_up(&mut self, now: Time, grace: Time, close_wait: Time) {
        if let State::Unstarted { until } = &mut self.state {
            *until = Some(now.saturating_add(grace));
        }
        if self.state != State::Open {
            return;
        }
        self.size_wanted = None;
        let mut key = None;
        if self.exec.leaving == Leaving::Nothing {
            self.close(now, close_wait);
            return;
        }
        if self.exec.tty && self.takes_input {
            self.append(Opcode::Binary, &[channel::STDIN, INTERRUPT]);
            key = Some((now + HANGUP_SPACING, END_OF_INPUT));
        } else if self.can_close_input() {
            self.close_input();
        } else {
            self.close(now, close_wait);
            return;
        }
        self.state = State::HangingUp { until: now.saturating_add(grace), key };
    }

    /// Goes on with a hang-up: types what is due, again and again, and closes at the end.
    pub(super) fn go_on_hanging_up(&mut self, now: Time, close_wait: Time) {
        let State::HangingUp { until, key } = self.state else { return };
        let next = match key {
            // A grace shorter than the spacing shortens the spacing, so that both are typed.
            Some((at, END_OF_INPUT)) if at.min(until) <= now => Some((HANGUP_AGAIN, INTERRUPT)),
            Some((at, INTERRUPT)) if at <= now && now < until => {
                Some((HANGUP_SPACING, END_OF_INPUT))
            }
            _ => None,
        };
        if let (Some((_, byte)), Some((wait, other))) = (key, next) {
            self.append(Opcode::Binary, &[channel::STDIN, byte]);
            self.state = State::HangingUp { until, key: Some((now + wait, other)) };
        }
        if until <= now {
            self.close(now, close_wait);
        }
    }

    /// Queues our close.
    pub(super) fn close(&mut self, now: Time, close_wait: Time) {
        self.finish();
        let key = self.masks.next();
        frame::append_close(self.outbox.tail(), 1000, "", Some(key));
        self.state = State::Closing { until: now.saturating_add(close_wait) };
    }

    pub(super) fn status_seen(&mut self, status: Status, until: Time) {
        self.status = Some(Box::new(status));
        self.status_text = Vec::new();
        self.size_wanted = None;
        self.open = None;
        self.outbox.clear();
        self.state = State::StatusSeen { until };
    }

    /// The socket takes nothing more. What the cluster said before that can still be read.
    pub(super) fn deaf(&mut self) {
        self.takes_input = false;
        self.unflushed = false;
        self.open = None;
        self.outbox.clear();
        if matches!(self.state, State::Closing { .. }) {
            self.gone();
        }
    }

    /// Nothing was started: the connection is of no use any more.
    pub(super) fn unstarted(&mut self) {
        self.gone();
        self.state = State::Unstarted { until: None };
    }

    pub(super) fn gone(&mut self) {
        self.state = State::Gone;
        self.unflushed = false;
        self.open = None;
        self.outbox.clear();
        self.status_text = Vec::new();
    }
}

/// Mask keys: splitmix64 over a secret seed.
///
/// RFC 6455 section 10.3 wants keys that whoever chooses the payload cannot foresee. That is the
/// browser, which never sees a byte of this leg, so a secret seed is enough; no call to the
/// system's generator is needed for each frame.
struct Masks(u64);

impl Masks {
    fn next(&mut self) -> [u8; 4] {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mut key = [0; 4];
        key.copy_from_slice(&(mixed ^ mixed >> 31).to_be_bytes()[..4]);
        key
    }
}
