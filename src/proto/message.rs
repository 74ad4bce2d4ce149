//! Browser messages: the dialects of JSON and text that a browser and the relay speak.
//!
//! `proto-notes/browser.md` has the tables. Frames in, frames out are [`super::frame`]'s; this
//! module knows what stands in them. What it must never know: channels, sockets, when a session
//! ends.

use std::borrow::Cow;
use std::{fmt, str};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::channel::Size;
use super::ending::Ending;

/// How a browser wants to be talked to; chosen once, at the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The two seed articles' front ends: JSON in, text of the terminal out.
    Seed,
    /// `podwire.v1`: JSON and bytes in, JSON and bytes out.
    V1,
}

impl Dialect {
    /// The subprotocol that chooses [`Dialect::V1`].
    pub const V1_NAME: &str = "podwire.v1";

    /// Its name in logs and metrics, and as the parameter `proto`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::V1 => Self::V1_NAME,
        }
    }

    /// The dialect that a subprotocol or the parameter `proto` names.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Seed, Self::V1].into_iter().find(|dialect| dialect.name() == name)
    }
}

/// What a text message asks for.
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
    /// A question for a pong with the same id.
    Ping(u64),
    /// A type that this version does not know.
    Unknown,
    /// Nothing but white space.
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
            Self::Ping(id) => write!(f, "Ping({id})"),
            Self::Unknown => f.write_str("Unknown"),
            Self::Empty => f.write_str("Empty"),
        }
    }
}

/// A text message that is not understood: what to tell the browser about it.
pub type Misunderstood = &'static str;

/// A text that is borrowed where it has no escapes. serde does that for a `Cow`, but not for one
/// inside an `Option`.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

// Each type is read with its own fields only: what else stands in a message is not ours, whatever
// its name, and may have any type. Nothing in them can nest, so no input can exhaust the stack.

#[derive(Deserialize)]
struct Type<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    input: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Resize {
    cols: Option<f64>,
    rows: Option<f64>,
}

#[derive(Deserialize)]
struct Ack {
    bytes: Option<u64>,
}

#[derive(Deserialize)]
struct Ping {
    id: Option<u64>,
}

impl<'a> FromBrowser<'a> {
    /// Decodes one whole text message.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words for the browser. The session lives on.
    pub fn parse(text: &'a [u8]) -> Result<Self, Misunderstood> {
        let trimmed = text.trim_ascii();
        // serde would take an array for a struct, too.
        match trimmed.first() {
            None => return Ok(Self::Empty),
            Some(b'{') => {}
            Some(_) => return Err("not a JSON object"),
        }
        let Some(Text(kind)) = read::<Type>(trimmed)?.kind else { return Ok(Self::Unknown) };
        match &*kind {
            "input" => match read(trimmed)? {
                Input { input: Some(Text(text)), data: None } => Ok(Self::Input(match text {
                    Cow::Borrowed(text) => text.as_bytes().into(),
                    Cow::Owned(text) => text.into_bytes().into(),
                })),
                Input { input: None, data: Some(Text(data)) } => match STANDARD.decode(&*data) {
                    Ok(bytes) => Ok(Self::Input(bytes.into())),
                    Err(_) => Err("data is not base64"),
                },
                _ => Err("input needs either \"input\" or \"data\""),
            },
            "resize" => {
                let Resize { cols, rows } = read(trimmed)?;
                Ok(Self::Resize(Size::new(side(cols)?, side(rows)?)))
            }
            "eof" => Ok(Self::Eof),
            "ack" => read::<Ack>(trimmed)?.bytes.map(Self::Ack).ok_or("ack needs \"bytes\""),
            "ping" => read::<Ping>(trimmed)?.id.map(Self::Ping).ok_or("ping needs \"id\""),
            _ => Ok(Self::Unknown),
        }
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Misunderstood> {
    let wrong = "a field is doubled or of the wrong type";
    serde_json::from_slice(text)
        .map_err(|error| if error.is_data() { wrong } else { "malformed JSON" })
}

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

/// Who and what a session is connected to: the content of `ready`, and [`Place::tty`] decides how
/// the process is talked to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The session's id, a UUID.
    pub session: String,
    /// The subprotocol that the cluster chose.
    pub protocol: &'static str,
    /// The cluster's name in our configuration.
    pub cluster: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container, if one was named or found.
    pub container: Option<String>,
    /// Whether there is a terminal. It must be what the process has: a terminal without input lives
    /// on for ever, and without a terminal a size stops the cluster's reading.
    pub tty: bool,
}

/// The text messages of `podwire.v1` to the browser.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum ToBrowser<'a> {
    Ready(&'a Place),
    Stderr { data: String },
    Error { message: &'a str },
    Notice { kind: &'static str, message: &'a str },
    Exit(Exit<'a>),
    Pong { id: u64 },
}

#[derive(Serialize)]
pub(super) struct Exit<'a> {
    kind: &'static str,
    #[serde(rename = "exitCode")]
    code: Option<u8>,
    message: &'a str,
    retry: bool,
}

impl<'a> ToBrowser<'a> {
    pub(super) fn stderr(bytes: &[u8]) -> Self {
        Self::Stderr { data: STANDARD.encode(bytes) }
    }

    pub(super) fn exit(ending: &'a Ending) -> Self {
        let facts = ending.kind.facts();
        Self::Exit(Exit {
            kind: facts.name,
            code: ending.exit_code,
            message: &ending.message,
            retry: facts.retry,
        })
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // Serializing strings and numbers into a vector has no way to fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// How a dialect without messages of its own shows what the relay has to say: a line of the
/// terminal.
pub(super) fn line(message: &str) -> String {
    format!("\r\n[podwire: {message}]\r\n")
}

/// Turns output that is cut anywhere into text that is cut between characters.
///
/// At most three bytes of a cut character are carried over to the next piece. Bytes that no
/// continuation could make a character become U+FFFD, one for each maximal subpart as
/// [`String::from_utf8_lossy`] does it, so that any cutting gives the same text.
#[derive(Clone, Copy, Default)]
pub struct Carry {
    bytes: [u8; 4],
    len: u8,
}

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

impl fmt::Debug for Carry {
    /// Shows how much is carried, not what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Carry({} bytes)", self.len)
    }
}

impl Carry {
    /// The most that one byte of output can grow to.
    pub const GROWTH: usize = REPLACEMENT.len();

    /// Appends the text of the carried bytes and this piece.
    pub fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while self.len > 0 {
            let [byte, after @ ..] = piece else { return };
            let len = usize::from(self.len);
            self.bytes[len] = *byte;
            match str::from_utf8(&self.bytes[..=len]) {
                Ok(whole) => {
                    out.extend_from_slice(whole.as_bytes());
                    self.len = 0;
                    piece = after;
                }
                Err(error) if error.error_len().is_none() => {
                    self.len += 1;
                    piece = after;
                }
                Err(_) => {
                    // The carried bytes stay unfinished; this one may begin something new.
                    out.extend_from_slice(REPLACEMENT);
                    self.len = 0;
                }
            }
        }
        loop {
            let error = match str::from_utf8(piece) {
                Ok(text) => return out.extend_from_slice(text.as_bytes()),
                Err(error) => error,
            };
            let (text, rest) = piece.split_at(error.valid_up_to());
            out.extend_from_slice(text);
            let Some(invalid) = error.error_len() else {
                self.bytes[..rest.len()].copy_from_slice(rest);
                self.len = u8::try_from(rest.len()).unwrap_or(0);
                return;
            };
            out.extend_from_slice(REPLACEMENT);
            piece = &rest[invalid..];
        }
    }

    /// Appends what is left when no more will come: a character that stayed unfinished.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.len > 0 {
            out.extend_from_slice(REPLACEMENT);
            self.len = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<FromBrowser<'_>, Misunderstood> {
        FromBrowser::parse(text.as_bytes())
    }

    fn input(bytes: &[u8]) -> FromBrowser<'_> {
        FromBrowser::Input(bytes.into())
    }

    #[test]
    fn the_articles_messages_are_understood() {
        assert_eq!(parse(r#"{"type":"input","input":"ls\r"}"#), Ok(input(b"ls\r")));
        let size = Size::new(120, 30);
        assert_eq!(
            parse(r#"{"type":"resize","rows":30,"cols":120}"#),
            Ok(FromBrowser::Resize(size))
        );
        assert_eq!(parse(r#" {"type":"input","input":""} "#), Ok(input(b"")));
    }

    #[test]
    fn input_is_byte_exact() {
        assert_eq!(
            parse(r#"{"type":"input","input":"\u0000\u0003\r\n"}"#),
            Ok(input(b"\0\x03\r\n"))
        );
        assert_eq!(parse(r#"{"type":"input","input":"\ud83d\ude00"}"#), Ok(input("😀".as_bytes())));
        assert_eq!(parse(r#"{"type":"input","data":"AP+A"}"#), Ok(input(b"\x00\xff\x80")));
        assert!(parse(r#"{"type":"input","input":"\ud800"}"#).is_err(), "a lone surrogate");
    }

    #[test]
    fn nonsense_is_named_and_harmless() {
        let deep = "[".repeat(100_000);
        let nested = format!(r#"{{"type":"input","x":{deep}"#);
        let nonsense = [
            "{",
            "[",
            "nul",
            "{}x",
            "[]",
            "\"x\"",
            "5",
            "null",
            "\u{feff}{}",
            &deep,
            &nested,
            r#"{"type":"input","type":"resize"}"#,
            r#"{"type":"input"}"#,
            r#"{"type":"input","input":null}"#,
            r#"{"type":"input","input":5}"#,
            r#"{"type":"input","input":{}}"#,
            r#"{"type":"input","input":"a","data":"YQ=="}"#,
            r#"{"type":"input","data":"!"}"#,
            r#"{"type":"resize","rows":24}"#,
            r#"{"type":"resize","rows":"24","cols":"80"}"#,
            r#"{"type":"resize","rows":-1,"cols":80}"#,
            r#"{"type":"resize","rows":1.5,"cols":80}"#,
            r#"{"type":"ack"}"#,
            r#"{"type":"ack","bytes":-1}"#,
            r#"{"type":"ping"}"#,
        ];
        for text in nonsense {
            assert!(parse(text).is_err(), "{}", &text[..text.len().min(60)]);
        }
    }

    #[test]
    fn what_is_unknown_or_empty_is_ignored() {
        for text in ["{}", r#"{"type":"nope"}"#, r#"{"type":null}"#, r#"{"Op":"stdin","Data":"x"}"#]
        {
            assert_eq!(parse(text), Ok(FromBrowser::Unknown), "{text}");
        }
        for text in ["", " \r\n\t"] {
            assert_eq!(parse(text), Ok(FromBrowser::Empty));
        }
    }

    #[test]
    fn fields_that_a_type_does_not_use_may_be_anything() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let others = r#""id":"x","id":1,"bytes":-1"#;
        let resize = format!(r#"{{"type":"resize","rows":1,"cols":1,{others},"data":{deep}}}"#);
        assert_eq!(parse(&resize), Ok(FromBrowser::Resize(Size::new(1, 1))));
        let text = format!(r#"{{"type":"input","input":"a",{others},"rows":{deep}}}"#);
        assert_eq!(parse(&text), Ok(input(b"a")));
        let eof = format!(r#"{{"type":"eof",{others},"input":{deep},"cols":"","cols":""}}"#);
        assert_eq!(parse(&eof), Ok(FromBrowser::Eof));
        let ping = r#"{"type":"ping","id":7,"rows":[],"input":{"type":"eof"}}"#;
        assert_eq!(parse(ping), Ok(FromBrowser::Ping(7)));
        for text in [
            r#"{"type":"resize","rows":1,"cols":1,"rows":1}"#,
            r#"{"type":"input","input":"a","input":"a"}"#,
            r#"{"type":"ack","bytes":1,"bytes":1}"#,
            r#"{"type":"ping","id":"x"}"#,
            &format!(r#"{{"type":"input","input":{deep}}}"#),
            &format!(r#"{{"type":{deep}}}"#),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, "a field is doubled or of the wrong type");
        }
    }

    #[test]
    fn text_without_escapes_is_not_copied() {
        let borrows = |text| matches!(parse(text), Ok(FromBrowser::Input(Cow::Borrowed(_))));
        assert!(borrows(r#"{"type":"input","input":"ls"}"#));
        assert!(!borrows(r#"{"type":"input","input":"ls\r"}"#));
    }

    #[test]
    fn sizes_are_clamped_and_zero_is_ignored() {
        let resize = |rows, cols| format!(r#"{{"type":"resize","rows":{rows},"cols":{cols}}}"#);
        let sizes = [
            ("0", "80", None),
            ("24", "0", None),
            ("65536", "1e9", Size::new(65_535, 65_535)),
            ("24.0", "80", Size::new(80, 24)),
        ];
        for (rows, cols, size) in sizes {
            assert_eq!(parse(&resize(rows, cols)), Ok(FromBrowser::Resize(size)), "{rows}x{cols}");
        }
    }

    #[test]
    fn any_cut_gives_the_same_text() {
        let samples: [&[u8]; 5] = [
            "aé世😀z".as_bytes(),
            b"\xf0\x9f\x98 \xe4\xb8 \xc3 \x80 \xff\xfe",
            b"\xed\xa0\x80\xf4\x90\x80\x80\xc0\xaf",
            b"\xe4\xe4\xb8\x96\xf0\xf0\x9f\x98\x80",
            b"\xe4\xb8",
        ];
        for sample in samples {
            let expected = String::from_utf8_lossy(sample);
            for first in 0..=sample.len() {
                for second in first..=sample.len() {
                    let mut carry = Carry::default();
                    let mut out = Vec::new();
                    for piece in [&sample[..first], &sample[first..second], &sample[second..]] {
                        carry.push(piece, &mut out);
                        assert!(str::from_utf8(&out).is_ok());
                    }
                    carry.finish(&mut out);
                    assert_eq!(String::from_utf8_lossy(&out), expected, "cut at {first}, {second}");
                }
            }
        }
    }
}
