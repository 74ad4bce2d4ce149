//! Random traffic of one peer, as bytes that know what they mean.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use podwire::proto::channel::{Size, Subprotocol};
use podwire::proto::ending::Kind;
use podwire::proto::message::Dialect;
use podwire::proto::session::{Options, Process, Time};

use super::model::{Effect, Expect, Model};
use super::{
    SUCCESS, browser_frame, exit_status, frame, internal_error, ms, on_channel, options, speak,
};

/// splitmix64: small, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    /// A length: mostly short, sometimes at an edge of the length field, rarely long.
    pub(crate) fn len(&mut self, max: usize) -> usize {
        let len = match self.below(10) {
            0..=4 => self.below(12),
            5..=7 => self.below(300),
            8 => self.pick(&[0, 1, 125, 126, 127, 32_767, 32_768, 65_535, 65_536]),
            _ => self.below(max),
        };
        len.min(max)
    }

    /// Bytes as terminals have them: text, characters of many lengths, now and then nonsense.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 4);
        while bytes.len() < len {
            match self.below(8) {
                0 => bytes.extend_from_slice("é世😀".as_bytes()),
                1 => bytes.push(self.next().to_le_bytes()[0]),
                _ => bytes.extend_from_slice(&b"ls -l\r\n\x1b[1m"[..=self.below(10)]),
            }
        }
        bytes.truncate(len);
        bytes
    }
}

/// A session with limits so small that they are met.
pub(crate) fn random_options(random: &mut Random) -> Options {
    let tty = random.percent(50);
    let mut options = options(random.pick(&Dialect::ALL), tty);
    options.subprotocol =
        random.pick(&[Subprotocol::V5, Subprotocol::V5, Subprotocol::V4, Subprotocol::V1]);
    options.stdin = random.percent(90);
    options.size = random.pick(&[None, Size::new(80, 24)]);
    options.mask_seed = random.next();
    options.stderr = !options.mask_seed.is_multiple_of(4);
    let limits = Arc::make_mut(&mut options.limits);
    limits.outbox = random.pick(&[64, 1000, 16 * 1024, 256 * 1024]);
    limits.message_max = random.pick(&[1024, 20_000, 200_000]);
    limits.cluster_frame_max = 100_000;
    limits.ack_window = random.pick(&[100, 10_000, 512 * 1024]);
    limits.message_time = random.pick(&[ms(700), ms(30_000)]);
    limits.hangup_grace = random.pick(&[ms(0), ms(100), ms(300), ms(5000)]);
    limits.slow_browser = random.pick(&[ms(1000), ms(300_000)]);
    options
}

#[derive(Clone, Copy)]
enum Each {
    Nothing,
    Input,
    Output(u8),
    Status,
    /// A text message of the browser's, of which this is the last frame or is not.
    Text {
        last: bool,
    },
}

struct Segment {
    wire: Vec<u8>,
    fed: usize,
    each: Each,
    /// The end of `wire`, unmasked: what has a meaning byte by byte.
    plain: Vec<u8>,
    then: Effect,
}

/// What one peer is about to say.
#[derive(Default)]
pub(crate) struct Tape {
    segments: VecDeque<Segment>,
}

impl Tape {
    fn push(&mut self, wire: Vec<u8>, each: Each, plain: &[u8], then: Effect) {
        self.segments.push_back(Segment { wire, fed: 0, each, plain: plain.to_vec(), then });
    }

    fn whole(&mut self, wire: Vec<u8>, then: Effect) {
        self.push(wire, Each::Nothing, &[], then);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Takes at most `n` bytes, and tells the model what they mean.
    pub(crate) fn take(&mut self, n: usize, model: &mut Model, now: Time) -> Vec<u8> {
        let mut wire = Vec::new();
        while wire.len() < n
            && let Some(segment) = self.segments.front_mut()
        {
            let header = segment.wire.len() - segment.plain.len();
            let end = segment.wire.len().min(segment.fed + n - wire.len());
            wire.extend_from_slice(&segment.wire[segment.fed..end]);
            let plain =
                &segment.plain[segment.fed.saturating_sub(header)..end.saturating_sub(header)];
            match segment.each {
                Each::Nothing => {}
                Each::Input => model.input(if model.ended.is_none() { plain } else { &[] }),
                Each::Output(channel) => model.output(channel, plain),
                Each::Status => model.status_bytes(plain),
                Each::Text { last } => model.message_open = !last || end < segment.wire.len(),
            }
            segment.fed = end;
            if end == segment.wire.len() {
                model.apply(&segment.then, now);
                self.segments.pop_front();
            }
        }
        wire
    }

    /// Something that a browser may say.
    pub(crate) fn browser(
        &mut self,
        random: &mut Random,
        dialect: Dialect,
        message_max: usize,
        wild: bool,
    ) {
        let is_json = matches!(dialect, Dialect::Seed | Dialect::V1);
        match random.below(if wild { 24 } else { 18 }) {
            4..=7 if is_json => {
                let len = random.len(message_max / 8);
                let input = String::from_utf8_lossy(&random.bytes(len)).into_owned();
                let json = serde_json::json!({"type": "input", "input": input}).to_string();
                if json.len() <= message_max {
                    self.browser_text(random, &json, Effect::Input(input.into_bytes()));
                }
            }
            0..=7 => self.input(random, dialect, message_max),
            8..=10 => {
                let sides = [1, 24, 80, 81, 300, 65_535, 65_536, 1_000_000, 0];
                let (cols, rows) = (random.pick(&sides), random.pick(&sides));
                let clamp = |side: u64| side.min(65_535);
                let effect = match (cols, rows) {
                    (0, _) | (_, 0) => Effect::Nothing,
                    _ => Effect::Size(clamp(cols), clamp(rows)),
                };
                if let Some((opcode, payload)) = speak::size(dialect, cols, rows) {
                    self.collected(random, opcode, &payload, effect);
                }
            }
            11 if is_json => {
                let json = r#"{"type":"ack","bytes":123456789}"#;
                self.browser_text(random, json, Effect::Ack(123_456_789));
            }
            12 if is_json => {
                let bytes = random.below(2000);
                let json = format!(r#"{{"type":"ack","bytes":{bytes}}}"#);
                self.browser_text(random, &json, Effect::Ack(bytes as u64));
            }
            11 | 12 if dialect == Dialect::Ttyd => {
                let (command, pause) = random.pick(&[(b"2", true), (b"3", false), (b"3", false)]);
                self.collected(random, 2, command, Effect::Pause(pause));
            }
            13 if is_json => {
                self.browser_text(random, r#"{"type":"ping","id":5}"#, Effect::JsonPing(5));
            }
            11..=14 => {
                let (opcode, payload) = random.pick(&speak::ignored(dialect));
                self.collected(random, opcode, payload, Effect::Nothing);
            }
            15 | 16 => {
                let payload = vec![b'p'; random.below(126)];
                self.whole(browser_frame(0x89, &payload), Effect::BrowserPing(payload.clone()));
                self.whole(browser_frame(0x8a, &payload), Effect::Nothing);
            }
            17 => self.fragmented_input(random, dialect),
            18 if is_json => self.browser_text(random, r#"{"type":"eof"}"#, Effect::Eof),
            18 if dialect == Dialect::KubeV5 => {
                self.collected(random, 2, b"\xff\0", Effect::Eof);
            }
            18..=21 => {
                if let [_, ..] = &speak::malformed(dialect)[..] {
                    let (opcode, payload) = random.pick(&speak::malformed(dialect));
                    self.collected(random, opcode, payload, Effect::Malformed);
                }
            }
            22 => {
                let payload = random.pick(&[&b""[..], b"\x03\xe8", b"\x03\xe9bye"]);
                self.whole(browser_frame(0x88, payload), Effect::BrowserClose);
            }
            _ => {
                let (wire, code) = random.pick(&[
                    (&[0xc2, 0x80, 1, 2, 3, 4][..], 1002),
                    (&[0x83, 0x80, 1, 2, 3, 4], 1002),
                    (&[0x82, 0x05], 1002),
                    (&[0x09, 0x80, 1, 2, 3, 4], 1002),
                    (&[0x88, 0x81, 1, 2, 3, 4, 5], 1002),
                    (&[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
                    (&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1009),
                ]);
                self.whole(wire.to_vec(), Effect::Violation(code));
            }
        }
    }

    fn input(&mut self, random: &mut Random, dialect: Dialect, message_max: usize) {
        let len =
            random.len(if speak::is_base64(dialect) { message_max / 2 } else { message_max - 1 });
        let plain = random.bytes(len);
        if speak::is_base64(dialect) {
            let message = format!("0{}", STANDARD.encode(&plain));
            return self.collected(random, 1, message.as_bytes(), Effect::Input(plain));
        }
        self.push(speak::input(dialect, &plain), Each::Input, &plain, Effect::Nothing);
    }

    fn browser_text(&mut self, random: &mut Random, message: &str, then: Effect) {
        self.collected(random, 1, message.as_bytes(), then);
    }

    /// One message that means something as a whole, in one frame or in several with pings between
    /// them.
    fn collected(&mut self, random: &mut Random, opcode: u8, message: &[u8], then: Effect) {
        if random.percent(80) {
            let wire = browser_frame(0x80 | opcode, message);
            self.push(wire, Each::Text { last: true }, &[], then);
            return;
        }
        let mut first = opcode;
        let cut = random.below(message.len() + 1);
        for piece in [&message[..cut], b""] {
            let wire = browser_frame(first, piece);
            self.push(wire, Each::Text { last: false }, &[], Effect::Nothing);
            first = 0;
            if random.percent(30) {
                self.whole(browser_frame(0x89, b"mid"), Effect::BrowserPing(b"mid".to_vec()));
            }
        }
        self.push(browser_frame(0x80, &message[cut..]), Each::Text { last: true }, &[], then);
    }

    fn fragmented_input(&mut self, random: &mut Random, dialect: Dialect) {
        if speak::is_base64(dialect) {
            return self.input(random, dialect, 300);
        }
        for first in [0x02, 0x00, 0x80] {
            let len = random.len(300);
            let plain = random.bytes(len);
            let tag = if first == 0x02 { speak::tag(dialect) } else { b"" };
            let wire = browser_frame(first, &[tag, &plain].concat());
            self.push(wire, Each::Input, &plain, Effect::Nothing);
        }
    }

    /// Something that a cluster may say. Of a status only the whole is pushed, so that two never
    /// mix.
    pub(crate) fn cluster(&mut self, random: &mut Random, v1: bool, wild: bool) {
        match random.below(if wild { 17 } else { 13 }) {
            0..=6 => self.output(random, 1),
            7 | 8 => self.output(random, 2),
            9 => {
                let channel = random.pick(&[0, 4, 5, 9, 254, 255]);
                self.whole(on_channel(channel, b"ignored"), Effect::Nothing);
            }
            10 => {
                let (empty, effect) = random.pick(&[
                    (&[0x82, 0][..], Effect::Nothing),
                    (&[0x82, 1, 1], Effect::Stream(1)),
                    (&[0x82, 1, 3], Effect::Nothing),
                ]);
                self.whole(empty.to_vec(), effect);
            }
            11 => {
                let payload = vec![b'q'; random.below(126)];
                self.whole(frame(0x89, &payload, None), Effect::ClusterPing(payload.clone()));
            }
            12 => {
                // Fragmented, with the channel in the first frame that has a byte at all.
                self.whole(vec![0x02, 0], Effect::Nothing);
                self.push(
                    vec![0x00, 4, 1, b'a', b'b', b'c'],
                    Each::Output(1),
                    b"abc",
                    Effect::Nothing,
                );
                self.push(vec![0x80, 1, b'd'], Each::Output(1), b"d", Effect::Nothing);
            }
            13 | 14 => self.status(random, v1),
            15 => {
                let code = random.pick(&[None, Some(1000), Some(1000), Some(1001), Some(1011)]);
                let payload = code.map_or(Vec::new(), |code: u16| code.to_be_bytes().to_vec());
                self.whole(frame(0x88, &payload, None), Effect::ClusterClose(code));
            }
            _ => {
                let broken = random.pick(&[
                    &[0x81, 1, b'x'][..],
                    &[0x82, 0x81, 0, 0, 0, 0],
                    &[0xc2, 0],
                    &[0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0],
                ]);
                self.whole(broken.to_vec(), Effect::ClusterBroke);
            }
        }
    }

    fn output(&mut self, random: &mut Random, channel: u8) {
        let len = random.len(40_000);
        let plain = random.bytes(len);
        let then = if len == 0 { Effect::Stream(channel) } else { Effect::Nothing };
        self.push(on_channel(channel, &plain), Each::Output(channel), &plain, then);
    }

    fn status(&mut self, random: &mut Random, v1: bool) {
        let kind = |kind, process| (Expect::of(kind), process);
        let (message, (expect, process)) = random.pick(&[
            (SUCCESS.to_vec(), (Expect::exit(0), Process::Ended(Some(0)))),
            (exit_status("3"), (Expect::exit(3), Process::Ended(Some(3)))),
            (exit_status("255"), (Expect::exit(255), Process::Ended(Some(255)))),
            (exit_status("256"), kind(Kind::ClusterProtocol, Process::Unknown)),
            (b"{}".to_vec(), kind(Kind::ClusterProtocol, Process::Unknown)),
            (internal_error("nothing to run"), kind(Kind::Failed, Process::Ended(None))),
        ]);
        let cut = random.below(message.len());
        let then = Effect::StatusEnd(Some((expect, process)));
        match random.below(3) {
            0 => self.push(on_channel(3, &message), Each::Status, &message, then),
            // Two messages, with something between them.
            1 => {
                let (front, back) = message.split_at(cut);
                self.push(on_channel(3, front), Each::Status, front, Effect::StatusEnd(None));
                self.output(random, 1);
                self.push(on_channel(3, back), Each::Status, back, then);
            }
            // One message of two frames.
            _ => {
                let (front, back) = message.split_at(cut);
                let first = frame(0x02, &[&[3], front].concat(), None);
                self.push(first, Each::Status, front, Effect::Nothing);
                self.push(frame(0x80, back, None), Each::Status, back, then);
            }
        }
        if !v1 && random.percent(70) {
            self.whole(frame(0x88, b"\x03\xe8", None), Effect::ClusterClose(Some(1000)));
        }
    }
}
