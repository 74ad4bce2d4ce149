//! Log lines on stderr: a few words, and the facts behind them as fields.
//!
//! Whatever stands in a line, it is one line and cannot drive the terminal it is read on. What it
//! must never know: tokens, terminal bytes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::SystemTime;

use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use log::{LevelFilter, Metadata, Record};
use serde::ser::{SerializeMap, Serializer};

use crate::config::LogFormat;
use crate::proto::ending::is_odd;

/// Begins to log, panics too: where they happened, and not what they say, for that can be what a
/// user typed.
pub fn start(level: LevelFilter, format: LogFormat) {
    log::set_max_level(level);
    // This fails only if there is a logger, which is then the one to use.
    let _ = log::set_boxed_logger(Box::new(Stderr(format)));
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map_or_else(String::new, ToString::to_string);
        crate::metrics::note_panic();
        log::error!(location; "panicked");
    }));
}

struct Stderr(LogFormat);

impl log::Log for Stderr {
    /// Only our own lines: at trace level some libraries print what goes through them.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("podwire") || metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = line(self.0, SystemTime::now(), record);
            // Nobody is left to tell if stderr is closed.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// A whole line: it goes out in one write, so that no other gets between.
fn line(format: LogFormat, now: SystemTime, record: &Record<'_>) -> String {
    let now = humantime::format_rfc3339_millis(now).to_string();
    let level = record.level().as_str().to_ascii_lowercase();
    let words = record.args().to_string();
    let mut fields = Fields(Vec::new());
    // Reading the fields fails only where a reader wants it to.
    let _ = record.key_values().visit(&mut fields);
    let plain = match format {
        LogFormat::Text => text(&now, &level, &words, &fields),
        LogFormat::Json => json(&now, &level, &words, &fields),
    };
    let mut line = String::with_capacity(plain.len() + 1);
    if plain.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        // Most lines are: two for each session.
        line.push_str(&plain);
        line.push('\n');
        return line;
    }
    for c in plain.chars() {
        match format {
            _ if !is_odd(c) => line.push(c),
            LogFormat::Text => line.extend(c.escape_default()),
            // Outside of strings JSON has nothing odd, and everything odd has four digits.
            LogFormat::Json => drop(write!(line, "\\u{:04x}", u32::from(c))),
        }
    }
    line.push('\n');
    line
}

fn text(now: &str, level: &str, words: &str, fields: &Fields) -> String {
    let mut text = format!("{now} {level:5} {words}");
    for (key, value) in &fields.0 {
        let _ = match value {
            serde_json::Value::Null => write!(text, " {key}=-"),
            serde_json::Value::String(value) if is_plain(value) => write!(text, " {key}={value}"),
            serde_json::Value::String(value) => {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                write!(text, " {key}=\"{value}\"")
            }
            value => write!(text, " {key}={value}"),
        };
    }
    text
}

/// Whether it is seen where a value ends.
fn is_plain(value: &str) -> bool {
    let unclear = |c: char| c.is_whitespace() || is_odd(c) || matches!(c, '"' | '\\' | '=');
    !value.is_empty() && !value.contains(unclear)
}

fn json(now: &str, level: &str, words: &str, fields: &Fields) -> String {
    let mut bytes = Vec::new();
    let mut write = || {
        let mut serializer = serde_json::Serializer::new(&mut bytes);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ts", now)?;
        map.serialize_entry("level", level)?;
        map.serialize_entry("msg", words)?;
        for (key, value) in &fields.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    };
    // Writing to memory cannot fail, and JSON is UTF-8.
    let _: Result<(), serde_json::Error> = write();
    String::from_utf8(bytes).unwrap_or_default()
}

/// The fields of a record as both formats take them, in their order.
struct Fields(Vec<(String, serde_json::Value)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let mut json = Json(serde_json::Value::Null);
        value.visit(&mut json)?;
        self.0.push((key.to_string(), json.0));
        Ok(())
    }
}

struct Json(serde_json::Value);

impl VisitValue<'_> for Json {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.0 = value.to_string().into();
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        self.0 = serde_json::Value::Null;
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CANARY: &str = "a\u{1b}]0;x\u{7}\r\n\u{9b}2J\u{7f}\u{202e}b\u{200f}\u{2028} \"c\" d=\\e";

    fn canary(format: LogFormat) -> String {
        let fields: &[(&str, Value<'_>)] = &[
            ("pod", CANARY.into()),
            ("container", Value::null()),
            ("user", "token:12ab".into()),
            ("empty", "".into()),
            ("tty", true.into()),
            ("input", 7_u64.into()),
            ("code", (-7_i64).into()),
            ("duration", 1.25_f64.into()),
        ];
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let words = format_args!("session {CANARY}");
        let mut record = Record::builder();
        let record = record.level(log::Level::Info).args(words).key_values(&fields).build();
        line(format, now, &record)
    }

    #[test]
    fn a_line_of_text_is_one_line_and_drives_no_terminal() {
        let line = canary(LogFormat::Text);
        let odd = "a\\u{1b}]0;x\\u{7}\\r\\n\\u{9b}2J\\u{7f}\\u{202e}b\\u{200f}\\u{2028} ";
        let words = format!("{odd}\"c\" d=\\e");
        let quoted = format!("\"{odd}\\\"c\\\" d=\\\\e\"");
        let expected = format!(
            "2023-11-14T22:13:20.123Z info  session {words} pod={quoted} container=- \
             user=token:12ab empty=\"\" tty=true input=7 code=-7 duration=1.25\n"
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn a_line_of_json_is_one_line_and_says_the_same() {
        let line = canary(LogFormat::Json);
        assert!(line.trim_end_matches('\n').chars().all(|c| !is_odd(c)), "{line}");
        assert!(line.starts_with("{\"ts\":\"2023-11-14T22:13:20.123Z\",\"level\":\"info\","));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        let said = serde_json::json!({
            "ts": "2023-11-14T22:13:20.123Z", "level": "info", "msg": format!("session {CANARY}"),
            "pod": CANARY, "container": null, "user": "token:12ab", "empty": "", "tty": true,
            "input": 7, "code": -7, "duration": 1.25,
        });
        assert_eq!(read, said);
    }

    #[test]
    fn a_library_says_only_what_is_wrong() {
        let is_said = |target: &str, level: log::Level| {
            let metadata = Metadata::builder().target(target).level(level).build();
            log::Log::enabled(&Stderr(LogFormat::Text), &metadata)
        };
        assert!(is_said("podwire::attend", log::Level::Trace));
        assert!(is_said("rustls::conn", log::Level::Warn));
        assert!(!is_said("tungstenite::protocol", log::Level::Info));
    }
}
