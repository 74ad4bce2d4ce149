//! Browser messages: the dialects that a browser and the relay speak.
//!
//! `proto-notes/browser.md` has the tables. Frames in, frames out are [`super::frame`]'s; this
//! module knows what stands in them. `json` is what the seed dialect and `podwire.v1` take, `seed`
//! and `v1` what they tell, `kube` and `ttyd` are those dialects whole; `raw` is bytes both ways and
//! has nothing to say about them. What it must never know: sockets, when a session ends.

mod carry;
mod json;
mod kube;
mod seed;
mod ttyd;
mod v1;

pub use self::carry::Carry;
pub(crate) use self::kube::status;
pub(super) use self::kube::{encode_in_place, last_status, translated};
pub(super) use self::seed::line;
pub(super) use self::ttyd::{NO_RECONNECT, OUTPUT, greeting};
pub use self::v1::Place;
pub(super) use self::v1::ToBrowser;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;

use super::channel::{self, Size, Subprotocol};

/// How a browser wants to be talked to; chosen once, at the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The two seed articles' front ends: JSON in, text of the terminal out.
    Seed,
    /// `podwire.v1`: JSON and bytes in, JSON and bytes out.
    V1,
    /// `v5.channel.k8s.io`: Kubernetes' own channels as they are, with JSON on the one for the
    /// status, and half-close.
    KubeV5,
    /// `v4.channel.k8s.io`: the same without half-close.
    KubeV4,
    /// `channel.k8s.io`: the same with text in place of JSON, and only where something failed.
    KubeV1,
    /// `v4.base64.channel.k8s.io`: [`Dialect::KubeV4`] in text frames.
    Base64V4,
    /// `base64.channel.k8s.io`: [`Dialect::KubeV1`] in text frames.
    Base64V1,
    /// Bytes and nothing else, as xterm's `addon-attach` has it.
    Raw,
    /// The page of ttyd.
    Ttyd,
}

impl Dialect {
    /// The subprotocol that chooses [`Dialect::V1`].
    pub const V1_NAME: &str = "podwire.v1";

    /// Every dialect.
    pub const ALL: [Self; 9] = [
        Self::Seed,
        Self::V1,
        Self::KubeV5,
        Self::KubeV4,
        Self::KubeV1,
        Self::Base64V4,
        Self::Base64V1,
        Self::Raw,
        Self::Ttyd,
    ];

    /// Its name in logs and metrics, and as the parameter `proto`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::V1 => Self::V1_NAME,
            Self::KubeV5 => Subprotocol::V5.name(),
            Self::KubeV4 => Subprotocol::V4.name(),
            Self::KubeV1 => Subprotocol::V1.name(),
            Self::Base64V4 => "v4.base64.channel.k8s.io",
            Self::Base64V1 => "base64.channel.k8s.io",
            Self::Raw => "raw",
            Self::Ttyd => "ttyd",
        }
    }

    /// The subprotocol that chooses it; none where only the parameter does.
    pub fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::Seed | Self::Raw => None,
            Self::Ttyd => Some("tty"),
            other => Some(other.name()),
        }
    }

    /// The dialect that the parameter `proto` names.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name || it.subprotocol() == Some(name))
    }

    /// The dialect that a subprotocol chooses.
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.subprotocol() == Some(name))
    }

    /// The version of Kubernetes' own protocol that the browser takes the relay to speak, if it is
    /// one of those. It need not be the one that the cluster speaks.
    pub fn kube(self) -> Option<Subprotocol> {
        match self {
            Self::KubeV5 => Some(Subprotocol::V5),
            Self::KubeV4 | Self::Base64V4 => Some(Subprotocol::V4),
            Self::KubeV1 | Self::Base64V1 => Some(Subprotocol::V1),
            Self::Seed | Self::V1 | Self::Raw | Self::Ttyd => None,
        }
    }

    /// The first byte of a message that is input, in the dialects whose messages have one.
    pub(super) fn input_tag(self) -> u8 {
        if self == Self::Ttyd { ttyd::INPUT } else { channel::STDIN }
    }

    /// Decodes one whole message that is not just input.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words for the browser. The session lives on.
    pub fn read(self, message: &[u8]) -> Result<FromBrowser<'_>, Misunderstood> {
        match self {
            Self::Seed | Self::V1 => FromBrowser::parse(message),
            Self::KubeV5 => kube::read(message, Subprotocol::V5),
            Self::KubeV4 => kube::read(message, Subprotocol::V4),
            Self::KubeV1 => kube::read(message, Subprotocol::V1),
            Self::Base64V4 | Self::Base64V1 => kube::read_base64(message),
            Self::Raw => Ok(FromBrowser::Input(message.into())),
            Self::Ttyd => ttyd::read(message),
        }
    }
}

/// What a message asks for.
#[derive(Clone, PartialEq, Eq)]
pub enum FromBrowser<'a> {
    /// Bytes for the process.
    Input(Cow<'a, [u8]>),
    /// The terminal's size, or nothing if it was given as zero.
    Resize(Option<Size>),
    /// No more input will come.
    Eof,
    /// All output bytes that the page has consumed so far.
    Ack(u64),
    /// No output may come until [`FromBrowser::Resume`].
    Pause,
    /// Output may come again.
    Resume,
    /// A question for a pong with the same id.
    Ping(u64),
    /// A type or a channel that this version does not know, or that a browser has no use for.
    Unknown,
    /// Nothing, or nothing but white space.
    Empty,
}

impl fmt::Debug for FromBrowser<'_> {
    /// Shows how much was typed, not what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(bytes) => write!(f, "Input({} bytes)", bytes.len()),
            Self::Resize(size) => write!(f, "Resize({size:?})"),
            Self::Eof => f.write_str("Eof"),
            Self::Ack(bytes) => write!(f, "Ack({bytes})"),
            Self::Pause => f.write_str("Pause"),
            Self::Resume => f.write_str("Resume"),
            Self::Ping(id) => write!(f, "Ping({id})"),
            Self::Unknown => f.write_str("Unknown"),
            Self::Empty => f.write_str("Empty"),
        }
    }
}

/// A message that is not understood: what to tell the browser about it.
pub type Misunderstood = &'static str;

/// One side of a size: a whole number, not negative, however it is written.
fn side(number: Option<f64>) -> Result<u64, Misunderstood> {
    match number {
        Some(side) if side >= 0.0 && side.fract() == 0.0 => {
            // The cast saturates, and `Size` clamps to 65535 anyway.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Ok(side as u64)
        }
        _ => Err("rows and cols are whole numbers from 1 to 65535"),
    }
}

/// The fields of a type.
fn read_json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Misunderstood> {
    let wrong = "a field is doubled or of the wrong type";
    serde_json::from_slice(text)
        .map_err(|error| if error.is_data() { wrong } else { "malformed JSON" })
}

/// The fields of an object: serde would take an array for a struct, too.
fn read_object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Misunderstood> {
    match text.trim_ascii_start().first() {
        Some(b'{') => read_json(text),
        _ => Err("not a JSON object"),
    }
}
