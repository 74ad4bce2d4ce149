//! What the program says on stderr, and what it must not say.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::process::Command;

use common::{Start, cluster, pipes, short};
use fake_cluster::wire::{channel, close};
use fake_cluster::{Behaviour, Script};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use podwire::config::LogFormat;
use podwire::logging;
use serde_json::Value;

#[tokio::test]
async fn every_line_of_json_is_an_object_with_the_facts_as_fields() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--log-format", "json"]).before(&cluster).await;
    relay.v1(&pipes("exit 3")).await.assert_exit("exit", Some(3), 1000, "").await;
    relay.until_logged("session end", 1).await;
    let log = relay.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert!(line["ts"].as_str().unwrap().ends_with('Z'), "{line}");
        assert!(line["level"].is_string() && line["msg"].is_string(), "{line}");
    }
    let start = lines.iter().find(|line| line["msg"] == "start").unwrap();
    assert_eq!(start["admin"], "off");
    assert_eq!(start["listen"], relay.url.as_str());
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    let end = lines.iter().find(|line| line["msg"] == "session end").unwrap();
    assert_eq!((&end["kind"], &end["exit_code"]), (&"exit".into(), &3.into()), "{end}");
}

#[tokio::test]
async fn the_first_line_says_where_everything_is() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--admin-listen", "127.0.0.1:0"]).before(&cluster).await;
    let line = relay.until_logged(" start version=", 1).await;
    assert!(line.contains(&format!(" listen={} auth=own ", relay.url)), "{line}");
    assert_ne!(relay.admin().await.port(), 0);
}

/// What would drive the terminal or the program that reads it.
fn is_odd(c: char) -> bool {
    let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}');
    c.is_control() || reorders || matches!(c, '\u{2066}'..='\u{2069}')
}

/// Somebody else's words, in every place where they are shown.
#[tokio::test]
async fn hostile_words_stay_words() {
    let rows = [
        ("L1 a terminal's title", "\u{1b}]0;x\u{7}"),
        ("L1 a terminal of 8 bits", "\u{9b}2J"),
        ("L1 another line", "\r\n{\"level\":\"error\",\"msg\":\"forged\"}"),
        ("L1 right to left", "\u{202e}txt.exe\u{2066}"),
        ("L1 quotes", "\" forged=\"1\" \\"),
        ("L1 NUL", "\0"),
    ];
    for format in ["text", "json"] {
        let cluster = cluster(Behaviour::default()).await;
        let relay = Start::flags(&["--log-format", format]).before(&cluster).await;
        for (id, words) in rows {
            let said = format!("before {words} after");
            // Before the 101 as text and as a Status, and after it.
            let status = serde_json::json!({
                "metadata": {}, "status": "Failure", "message": said, "reason": "InternalError",
            });
            let status = status.to_string();
            let head = |len| format!("HTTP/1.1 500 X\r\nContent-Length: {len}\r\n\r\n");
            let scripts = [
                Script::answer(head(said.len()) + &said),
                Script::answer(head(status.len()) + &status),
                Script::after_upgrade([channel(3, status.as_bytes()), close(1000)].concat()),
            ];
            for script in scripts {
                cluster.set_behaviour(Behaviour::scripted(script));
                let (exit, close) = relay.v1(&pipes("")).await.exit().await;
                assert!(!close.reason.contains(is_odd), "{id}: {close:?}");
                let message = exit["message"].as_str().unwrap();
                assert!(message.contains("before") && !message.contains(is_odd), "{id}: {exit}");
                let mut page = relay.seed(&pipes("")).await;
                page.ended().await;
                let text = page.text();
                let line = text.strip_prefix("\r\n[podwire: ").unwrap();
                let line = line.strip_suffix("]\r\n").unwrap();
                assert!(!line.contains(is_odd), "{id}: {line:?}");
            }
            // What a caller says of itself, as names and as headers.
            let encoded = utf8_percent_encode(words, NON_ALPHANUMERIC);
            for target in [
                format!("/exec?namespace=demo&pod={encoded}"),
                format!("/clusters/{encoded}/api/v1/namespaces/demo/pods/shell/exec?stdout=1"),
                short(&["true"], &format!("&cluster={encoded}")),
                format!("/exec?namespace=demo&pod=shell&shell={encoded}"),
                format!("/{encoded}"),
            ] {
                let answer = relay.ask(&target, "").await;
                assert!((400..500).contains(&answer.status), "{id}: {target}: {answer:?}");
                let json = answer.json();
                let message = json["message"].as_str().unwrap();
                assert!(!message.contains(is_odd), "{id}: {target}: {message:?}");
            }
        }
        let log = relay.log();
        assert!(!log.contains(|c: char| c != '\n' && is_odd(c)), "{log:?}");
        assert!(log.contains("before") && log.contains("after"), "it was logged: {log}");
        for line in log.lines() {
            match format {
                "json" => {
                    let line: Value = serde_json::from_str(line).unwrap();
                    assert_ne!(line["msg"], "forged", "{line}");
                    assert!(line.get("forged").is_none(), "{line}");
                }
                _ => assert!(line.starts_with("20"), "each line is one of ours: {line}"),
            }
        }
    }
}

/// Set where this program runs itself again.
const PANICS: &str = "PODWIRE_TEST_PANICS";

#[test]
fn a_panic_says_where_and_not_what() {
    let format = match std::env::var(PANICS).as_deref() {
        Ok("text") => LogFormat::Text,
        Ok(_) => LogFormat::Json,
        Err(_) => {
            for format in ["text", "json"] {
                let name = "a_panic_says_where_and_not_what";
                let mut again = Command::new(std::env::current_exe().unwrap());
                again.args(["--exact", name, "--nocapture"]).env(PANICS, format);
                let output = again.env("RUST_BACKTRACE", "1").output().unwrap();
                let said = String::from_utf8(output.stderr).unwrap();
                let lines = said.lines().filter(|line| line.contains("panicked")).count();
                assert!(lines == 1 && said.contains("tests/logs.rs:"), "{said}");
                assert!(said.contains("error") && !said.contains("typed-secret"), "{said}");
            }
            return;
        }
    };
    logging::start(log::LevelFilter::Info, format);
    std::panic::catch_unwind(|| panic!("typed-secret")).unwrap_err();
}
