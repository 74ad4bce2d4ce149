//! JSON of the seed dialect and of `podwire.v1`: what a browser asks for.
//!
//! Both say the same things; only what is answered differs.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::super::channel::Size;
use super::{FromBrowser, Misunderstood, read_json, read_object, side};

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
        if trimmed.is_empty() {
            return Ok(Self::Empty);
        }
        let Some(Text(kind)) = read_object::<Type>(trimmed)?.kind else { return Ok(Self::Unknown) };
        match &*kind {
            "input" => match read_json(trimmed)? {
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
                let Resize { cols, rows } = read_json(trimmed)?;
                Ok(Self::Resize(Size::new(side(cols)?, side(rows)?)))
            }
            "eof" => Ok(Self::Eof),
            "ack" => read_json::<Ack>(trimmed)?.bytes.map(Self::Ack).ok_or("ack needs \"bytes\""),
            "ping" => read_json::<Ping>(trimmed)?.id.map(Self::Ping).ok_or("ping needs \"id\""),
            _ => Ok(Self::Unknown),
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
}
