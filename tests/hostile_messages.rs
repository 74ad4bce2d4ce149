//! Text that is no message, and messages that ask for what cannot be: the session lives, says
//! what it did not understand, and forwards nothing that could harm.
//!
//! One row for each input; the ids are those of the project's list. J13's other spellings belong
//! to dialects that do not exist yet; here they are unknown.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Browser, Kind, both, contains, pipes, session, short, terminal, within};
use fake_cluster::{FakeCluster, Session};
use futures_util::SinkExt;
use serde_json::json;

const INPUT: &str = r#"{"type":"input","input":"#;

/// How many `error` messages came for this text, told apart by a ping behind it.
async fn errors(browser: &mut Browser, text: &str) -> usize {
    browser.say(text).await;
    browser.say(r#"{"type":"ping","id":99}"#).await;
    let before = browser.messages.len();
    browser.message("pong").await;
    browser.messages[before..].iter().filter(|it| it["type"] == "error").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_understood_is_said_and_does_no_harm() {
    let nested = "[".repeat(100_000);
    let deep = format!("{}{}", r#"{"a":"#.repeat(100_000), "1");
    let huge = format!(r#"{{"type":"nope","x":"{}"}}"#, "y".repeat(1_000_000));
    let inner = format!(r#"{{"type":"nope","x":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    let read = inner.replace("nope", "input").replace("\"x\"", "\"input\"");
    let rows: &[(&str, &str, usize)] = &[
        ("J1 empty", "", 0),
        ("J1 spaces", " \t\r\n ", 0),
        ("J2 open", "{", 1),
        ("J2 list", "[", 1),
        ("J2 word", "nul", 1),
        ("J2 trailing", "{}x", 1),
        ("J2 two", "{}{}", 1),
        ("J2 single quotes", "{'type':'input'}", 1),
        ("J2 comment", "{}//", 1),
        ("J3 array", "[]", 1),
        ("J3 array for a struct", r#"["input","x"]"#, 1),
        ("J3 string", r#""x""#, 1),
        ("J3 number", "5", 1),
        ("J3 null", "null", 1),
        ("J4 no type", "{}", 0),
        ("J4 unknown", r#"{"type":"nope"}"#, 0),
        ("J4 unknown field", r#"{"type":"ping","id":1,"x":[{}]}"#, 0),
        ("J4 type null", r#"{"type":null}"#, 0),
        ("J4 huge", &huge, 0),
        ("J5 lists", &nested, 1),
        ("J5 objects", &deep, 1),
        ("J5 in what is skipped", &inner, 0),
        ("J5 in what is read", &read, 1),
        ("J6 two types", r#"{"type":"ping","type":"ping","id":1}"#, 1),
        ("J6 two inputs", r#"{"type":"input","input":"a","input":"b"}"#, 1),
        ("J7 none", r#"{"type":"input"}"#, 1),
        ("J7 null", r#"{"type":"input","input":null}"#, 1),
        ("J7 number", r#"{"type":"input","input":5}"#, 1),
        ("J7 object", r#"{"type":"input","input":{}}"#, 1),
        ("J7 both", r#"{"type":"input","input":"a","data":"YQ=="}"#, 1),
        ("J7 no base64", r#"{"type":"input","data":"a b"}"#, 1),
        ("J8 surrogate", r#"{"type":"input","input":"\ud800"}"#, 1),
        ("J8 raw control", "{\"type\":\"input\",\"input\":\"\u{3}\"}", 1),
        ("J10 negative", r#"{"type":"resize","rows":-1,"cols":80}"#, 1),
        ("J10 fraction", r#"{"type":"resize","rows":1.5,"cols":80}"#, 1),
        ("J10 string", r#"{"type":"resize","rows":"24","cols":80}"#, 1),
        ("J10 null", r#"{"type":"resize","rows":null,"cols":80}"#, 1),
        ("J10 missing", r#"{"type":"resize","rows":24}"#, 1),
        ("J10 object", r#"{"type":"resize","rows":{},"cols":80}"#, 1),
        ("J10 infinite", r#"{"type":"resize","rows":1e999,"cols":80}"#, 1),
        ("J10 zero", r#"{"type":"resize","rows":0,"cols":80}"#, 0),
        ("J13 case", r#"{"TYPE":"input","INPUT":"x"}"#, 0),
        ("J13 type's case", r#"{"type":"INPUT","input":"x"}"#, 0),
        ("J13 other names", r#"{"operation":"stdin","data":"x"}"#, 0),
        ("J14 BOM", "\u{feff}{}", 1),
        ("J15 close", r#"{"type":"close","code":99999}"#, 0),
        ("J15 exit", r#"{"type":"exit","kind":"exit","exitCode":0}"#, 0),
        ("J15 ready", r#"{"type":"ready"}"#, 0),
        ("ack", r#"{"type":"ack"}"#, 1),
        ("ack negative", r#"{"type":"ack","bytes":-1}"#, 1),
        ("ack huge", r#"{"type":"ack","bytes":18446744073709551615}"#, 0),
        ("ping", r#"{"type":"ping"}"#, 1),
        ("ping text", r#"{"type":"ping","id":"1"}"#, 1),
    ];
    let (cluster, relay) = both(Kind::V5).await;
    let mut wrong = Vec::new();
    // Ten that are not understood would end a session.
    for (number, rows) in rows.chunks(9).enumerate() {
        let mut browser = relay.v1(&terminal("echo up; read x; exit 3")).await;
        browser.until_output("up").await;
        for (id, text, wanted) in rows {
            let count = errors(&mut browser, text).await;
            if count != *wanted {
                wrong.push((id, count));
            }
        }
        browser.input("\r").await;
        browser.assert_exit("exit", Some(3), 1000, "the session lives").await;
        let facts = session(&cluster, number).await.facts();
        assert_eq!(facts.channel(0), b"\r", "nothing of it is input");
        let sizes = facts.frames.iter().filter(|frame| frame.channel() == Some(4)).count();
        assert_eq!(sizes, 1, "nothing of it is a size");
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn the_tenth_misunderstanding_is_the_last() {
    let (cluster, relay) = both(Kind::V5).await;
    for number in 0..2 {
        let target = terminal("echo up; sleep 1000");
        let mut browser =
            if number == 0 { relay.v1(&target).await } else { relay.seed(&target).await };
        browser.until_output("up").await;
        for _ in 0..10 {
            browser.say("{").await;
        }
        let close = browser.ended().await;
        assert_eq!(close.code, 4400);
        let count = browser.messages.iter().filter(|it| it["type"] == "error").count();
        assert_eq!(count, if number == 0 { 9 } else { 0 });
        let seen = session(&cluster, number).await;
        let over = seen.until(|facts| facts.exit_code);
        within("the process is hung up", over).await;
    }
    assert_eq!(relay.until_logged("kind=protocol_error", 2).await.matches("input=0").count(), 1);
}

/// J8, J9, U+FFFD: what is input arrives as it was typed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_is_exact() {
    let (cluster, relay) = both(Kind::V5).await;
    let text = "a\u{0}\u{3}\u{1b}\r\n\u{7f}\u{85}\u{e4}\u{fffd}\u{1f600}\u{2028}\"\\/";
    let escaped: String = text.encode_utf16().fold(String::new(), |mut all, unit| {
        use std::fmt::Write;
        let _ = write!(all, "\\u{unit:04x}");
        all
    });
    let mut browser = relay.v1(&pipes("cat")).await;
    browser.input(text).await;
    browser.say(&format!("{INPUT}\"{escaped}\"}}")).await;
    browser.say(&format!(" \r\n{INPUT} \"{}\" }} ", r"\/\b\f")).await;
    let wanted = format!("{text}{text}/\u{8}\u{c}");
    browser.until_output(&wanted).await;
    assert_eq!(browser.text(), wanted);
    assert_eq!(session(&cluster, 0).await.facts().channel(0), wanted.as_bytes());

    // The longest message, which shrinks to a sixth, and one more byte.
    let room = (1 << 20) - INPUT.len() - 3;
    let zeros = "\\u0000".repeat(room / 6);
    let pad = " ".repeat((1 << 20) - INPUT.len() - zeros.len() - 3);
    let message = format!("{INPUT}\"{zeros}\"{pad}}}");
    assert_eq!(message.len(), 1 << 20);
    let mut browser = relay.v1(&pipes(&format!("head -c {} | sha256sum", room / 6))).await;
    browser.say(&message).await;
    browser.assert_exit("exit", Some(0), 1000, "1 MiB").await;
    assert_eq!(browser.text(), format!("{}  -\n", common::sha256(&vec![0; room / 6])));
    let facts = session(&cluster, 1).await.facts();
    let frames = facts.frames.iter().filter(|frame| frame.channel() == Some(0));
    for frame in frames {
        assert!(frame.fin && frame.masked && frame.rsv == 0 && frame.length <= 32 * 1024);
    }
    let mut browser = relay.v1(&pipes("cat")).await;
    let _ = browser.socket.send((message + " ").into()).await;
    assert_eq!(browser.closed().await.code, 1009);
}

/// Which sizes the cluster has been sent, once it has this one.
async fn sizes(seen: &Session, last: &str) -> Vec<String> {
    let sent = seen.until(|facts| {
        let frames = facts.frames.iter().filter(|frame| frame.channel() == Some(4));
        let sizes: Vec<String> =
            frames.map(|frame| String::from_utf8_lossy(&frame.payload[1..]).into_owned()).collect();
        sizes.last().is_some_and(|size| size == last).then_some(sizes)
    });
    within("the last size", sent).await
}

fn size(cols: u32, rows: u32) -> String {
    format!(r#"{{"Width":{cols},"Height":{rows}}}"#)
}

/// J10, J11: sizes that a terminal can have, and no more of them than make sense.
#[tokio::test]
async fn sizes_are_clamped_and_the_newest_wins() {
    let (cluster, relay) = both(Kind::V5).await;
    let mut browser = relay.v1(&terminal("echo up; read x; stty size; exit 3")).await;
    browser.until_output("up").await;
    let seen = session(&cluster, 0).await;
    let resize = |cols: u64, rows: u64| json!({"type": "resize", "cols": cols, "rows": rows});
    let mut first = vec![size(80, 24)];
    for (cols, rows, wanted) in [
        (65_536, 1, Some(size(65_535, 1))),
        (1, 1_000_000_000, Some(size(1, 65_535))),
        (0, 24, None),
        (24, 0, None),
        (100, 50, Some(size(100, 50))),
        (100, 50, None),
        (80, 24, Some(size(80, 24))),
    ] {
        browser.say(&resize(cols, rows).to_string()).await;
        if let Some(wanted) = wanted {
            first.push(wanted);
            assert_eq!(sizes(&seen, first.last().unwrap()).await, first);
        }
    }
    for number in 1..=10_000 {
        browser.say(&resize(number, 7).to_string()).await;
    }
    let all = sizes(&seen, &size(10_000, 7)).await;
    assert!(all.len() < 1000, "{} sizes for 10 000 wishes", all.len());
    assert!(!seen.facts().wedged);
    // Whole numbers however they are written.
    browser.say(r#"{"type":"resize","cols":1e2,"rows":30.0}"#).await;
    sizes(&seen, &size(100, 30)).await;
    browser.input("\r").await;
    browser.assert_exit("exit", Some(3), 1000, "resized").await;
}

/// J12: without a terminal a size would stop the cluster's reading for good.
#[tokio::test]
async fn sizes_are_for_terminals_only() {
    async fn check(cluster: &FakeCluster, mut browser: Browser, number: usize) {
        for rows in 1..10 {
            let resize = json!({"type": "resize", "cols": 80, "rows": rows});
            browser.say(&resize.to_string()).await;
        }
        browser.input("still read\n").await;
        browser.until_output("still read").await;
        let facts = session(cluster, number).await.facts();
        assert!(!facts.frames.iter().any(|frame| frame.channel() == Some(4)));
        assert!(!facts.wedged);
        browser.leave().await;
    }
    let (cluster, relay) = both(Kind::V5).await;
    let target = short(&["cat"], "&tty=false&cols=100&rows=30");
    check(&cluster, relay.v1(&target).await, 0).await;
    check(&cluster, relay.seed(&target).await, 1).await;
    assert!(!contains(relay.log().as_bytes(), b"panicked"));
}
