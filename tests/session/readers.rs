//! What the machine says to its peers, read by somebody who forgives nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use podwire::proto::channel::FRAME_MAX;
use podwire::proto::message::Dialect;
use serde_json::Value;

/// What a browser is told. Neighbours of one sort are merged, because how output is cut into
/// frames means nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    /// Output on a channel, in the dialect that keeps it as bytes.
    Output(u8, Vec<u8>),
    /// Terminal text of the dialect that has nothing else.
    Text(String),
    /// A message in JSON, or a status that is.
    Json(Value),
    /// A status that is not.
    Status(String),
    /// An empty message on a channel.
    Stream(u8),
    /// A message of ttyd's that is no output: what it is, and what stands in it.
    Ttyd(u8, String),
    Ping,
    Pong(Vec<u8>),
    Close(u16, String),
}

/// What a cluster is sent, merged likewise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Input(Vec<u8>),
    Size(u64, u64),
    /// `FF 00`.
    CloseInput,
    /// A message without even a channel.
    Empty,
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

pub(crate) fn tell(told: &mut Vec<Told>, next: Told) {
    match (told.last_mut(), next) {
        (Some(Told::Output(channel, bytes)), Told::Output(same, more)) if *channel == same => {
            bytes.extend_from_slice(&more);
        }
        (Some(Told::Text(text)), Told::Text(more)) => text.push_str(&more),
        (_, next) => told.push(next),
    }
}

pub(crate) fn send(sent: &mut Vec<Sent>, next: Sent) {
    match (sent.last_mut(), next) {
        (Some(Sent::Input(bytes)), Sent::Input(more)) => bytes.extend_from_slice(&more),
        (_, next) => sent.push(next),
    }
}

/// One frame off the front, if it is whole: its first byte, its payload, whether it was masked.
fn cut_frame(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>, bool)> {
    let (&first, &second) = (buffer.first()?, buffer.get(1)?);
    let (len, mut at) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().unwrap())), 4),
        127 => {
            let len = u64::from_be_bytes(buffer.get(2..10)?.try_into().unwrap());
            (usize::try_from(len).unwrap(), 10)
        }
        short => (usize::from(short), 2),
    };
    let masked = second & 0x80 != 0;
    let mut key = [0; 4];
    if masked {
        key.copy_from_slice(buffer.get(at..at + 4)?);
        at += 4;
    }
    let payload = buffer.get(at..at + len)?;
    let mut payload = payload.to_vec();
    if masked {
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    }
    buffer.drain(..at + len);
    assert_eq!(first & 0xf0, 0x80, "every frame is whole and has no reserved bit");
    Some((first & 0x0f, payload, masked))
}

/// What stands on the status channel.
pub(crate) fn status(bytes: Vec<u8>) -> Told {
    match serde_json::from_slice(&bytes) {
        Ok(json @ Value::Object(_)) => Told::Json(json),
        _ => Told::Status(String::from_utf8(bytes).unwrap()),
    }
}

fn on_channel(channel: u8, bytes: Vec<u8>) -> Told {
    match channel {
        1 | 2 if bytes.is_empty() => Told::Stream(channel),
        1 | 2 => Told::Output(channel, bytes),
        3 => status(bytes),
        _ => panic!("channel {channel} for a browser"),
    }
}

fn close(payload: &[u8]) -> Option<(u16, String)> {
    let (code, reason) = payload.split_first_chunk()?;
    Some((u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap()))
}

#[derive(Clone, Debug)]
pub(crate) struct BrowserReader {
    dialect: Dialect,
    buffer: Vec<u8>,
    pub(crate) told: Vec<Told>,
}

impl BrowserReader {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self { dialect, buffer: Vec::new(), told: Vec::new() }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while let Some((opcode, payload, masked)) = cut_frame(&mut self.buffer) {
            assert!(!masked, "frames for a browser carry no mask");
            assert!(!self.is_closed(), "nothing comes after the close");
            let next = match (opcode, self.dialect) {
                (1, Dialect::Seed) => {
                    assert!(!payload.is_empty(), "an empty text means nothing");
                    Told::Text(String::from_utf8(payload).unwrap())
                }
                (1, Dialect::V1) => match serde_json::from_slice(&payload).unwrap() {
                    Value::Object(it) if it["type"] == "stderr" => {
                        Told::Output(2, STANDARD.decode(it["data"].as_str().unwrap()).unwrap())
                    }
                    json => Told::Json(json),
                },
                (2, Dialect::V1 | Dialect::Raw) => {
                    assert!(!payload.is_empty(), "an empty frame means nothing");
                    Told::Output(1, payload)
                }
                (2, Dialect::Ttyd) => match payload.split_first().unwrap() {
                    (b'0', output) => {
                        assert!(!output.is_empty(), "an empty frame means nothing");
                        Told::Output(1, output.to_vec())
                    }
                    (tag, text) => Told::Ttyd(*tag, String::from_utf8(text.to_vec()).unwrap()),
                },
                (2, Dialect::KubeV5 | Dialect::KubeV4 | Dialect::KubeV1) => {
                    let (channel, bytes) = payload.split_first().unwrap();
                    on_channel(*channel, bytes.to_vec())
                }
                (1, Dialect::Base64V4 | Dialect::Base64V1) => {
                    let (digit, text) = payload.split_first().unwrap();
                    on_channel(digit - b'0', STANDARD.decode(text).unwrap())
                }
                (8, _) => {
                    assert!(payload.len() <= 125);
                    let (code, reason) = close(&payload).unwrap();
                    Told::Close(code, reason)
                }
                (9, _) => {
                    assert!(payload.is_empty(), "nothing to be said with it");
                    Told::Ping
                }
                (10, _) => Told::Pong(payload),
                (opcode, _) => panic!("opcode {opcode} for a browser"),
            };
            tell(&mut self.told, next);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.told.last(), Some(Told::Close(..)))
    }

    /// Whether the close is told, or will be with these bytes.
    pub(crate) fn will_close(&self, pending: &[u8]) -> bool {
        let mut ahead =
            Self { told: self.told.last().cloned().into_iter().collect(), ..self.clone() };
        ahead.feed(pending);
        ahead.is_closed()
    }

    /// All output, as one text or one run of bytes of both channels.
    pub(crate) fn output(&self) -> Vec<u8> {
        let bytes = |told: &Told| match told {
            Told::Output(_, bytes) => bytes.clone(),
            Told::Text(text) => text.clone().into_bytes(),
            _ => Vec::new(),
        };
        self.told.iter().flat_map(bytes).collect()
    }

    /// The last JSON message.
    pub(crate) fn last_json(&self) -> Option<&Value> {
        self.told.iter().rev().find_map(|told| match told {
            Told::Json(json) => Some(json),
            _ => None,
        })
    }

    pub(crate) fn close(&self) -> Option<(u16, &str)> {
        match self.told.last()? {
            Told::Close(code, reason) => Some((*code, reason)),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterReader {
    buffer: Vec<u8>,
    pub(crate) sent: Vec<Sent>,
}

impl ClusterReader {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while let Some((opcode, payload, masked)) = cut_frame(&mut self.buffer) {
            assert!(masked, "frames for a cluster carry a mask");
            assert!(payload.len() <= FRAME_MAX, "the server buffers whole frames");
            assert!(!matches!(self.sent.last(), Some(Sent::Close(_))), "nothing after the close");
            let next = match (opcode, &payload[..]) {
                (2, [0, input @ ..]) => {
                    assert!(!input.is_empty(), "empty input means nothing");
                    Sent::Input(input.to_vec())
                }
                (2, [4, json @ ..]) => {
                    let size: Value = serde_json::from_slice(json).unwrap();
                    let side = |name: &str| {
                        let side = size[name].as_u64().unwrap();
                        assert!((1..=65535).contains(&side), "a size that kills resizing: {side}");
                        side
                    };
                    Sent::Size(side("Width"), side("Height"))
                }
                (2, [255, 0]) => Sent::CloseInput,
                (2, []) => Sent::Empty,
                (9, payload) => Sent::Ping(payload.to_vec()),
                (8, payload) => Sent::Close(close(payload).map(|(code, _)| code)),
                (10, payload) => Sent::Pong(payload.to_vec()),
                other => panic!("for a cluster: {other:?}"),
            };
            send(&mut self.sent, next);
        }
    }

    pub(crate) fn input(&self) -> Vec<u8> {
        let input = |sent: &Sent| match sent {
            Sent::Input(bytes) => bytes.clone(),
            _ => Vec::new(),
        };
        self.sent.iter().flat_map(input).collect()
    }

    pub(crate) fn sizes(&self) -> Vec<(u64, u64)> {
        let sizes = self.sent.iter().filter_map(|sent| match *sent {
            Sent::Size(cols, rows) => Some((cols, rows)),
            _ => None,
        });
        sizes.collect()
    }

    /// Everything but the sizes, whose number and place depend on the time.
    pub(crate) fn without_sizes(&self) -> Vec<Sent> {
        let mut rest = Vec::new();
        for sent in self.sent.iter().filter(|sent| !matches!(sent, Sent::Size(..))) {
            send(&mut rest, sent.clone());
        }
        rest
    }
}

/// Whether what was seen is the beginning of what was expected.
pub(crate) trait Begins {
    fn begins(&self, whole: &Self) -> bool;
}

impl Begins for Told {
    fn begins(&self, whole: &Self) -> bool {
        match (self, whole) {
            (Self::Output(a, seen), Self::Output(b, all)) => a == b && all.starts_with(seen),
            (Self::Text(seen), Self::Text(all)) => all.starts_with(&**seen),
            (seen, all) => seen == all,
        }
    }
}

impl Begins for Sent {
    fn begins(&self, whole: &Self) -> bool {
        match (self, whole) {
            (Self::Input(seen), Self::Input(all)) => all.starts_with(seen),
            (seen, all) => seen == all,
        }
    }
}

/// What was seen is what was expected, or the beginning of it, cut anywhere.
pub(crate) fn assert_prefix<T: Begins + PartialEq + std::fmt::Debug>(seen: &[T], expected: &[T]) {
    let Some((last, before)) = seen.split_last() else { return };
    let expects = (expected.last(), expected.len());
    assert!(expected.len() >= seen.len(), "{last:?} is more than expected: {expects:?}");
    assert_eq!(before, &expected[..before.len()], "{last:?}");
    let whole = &expected[before.len()];
    assert!(last.begins(whole), "{last:?} is not the beginning of {whole:?}");
}
