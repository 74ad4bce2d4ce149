//! A browser that breaks the WebSocket protocol: each gets the close code that the RFC names, as
//! a real frame, the process is hung up, and nobody else notices.
//!
//! One row for each input; the ids are those of the project's list. F8 (an unfinished message) is
//! in `hostile_clock.rs`, F12 and F13 (browsers that go) in `endings.rs`, F14 (a flood of pings) in
//! `backpressure.rs`, F17 (input before the session) in `relay_bytes.rs`. F10 has no case: no dialect
//! refuses binary, as no API server does. Each dialect's own are in `dialect_each.rs`.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Browser, Kind, MASK, Relay, both, pipes, session, upgrade, within};
use fake_cluster::wire::{head, opcode, raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const FIN: u8 = 0x80;
const MIB: u64 = 1024 * 1024;

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    raw(first, MASK, payload)
}

/// A frame's head that declares a length, a key, and no payload.
fn declared(first: u8, length: u64) -> Vec<u8> {
    [head(first, true, length), vec![1, 2, 3, 4]].concat()
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    masked(FIN | opcode::CLOSE, &[&code.to_be_bytes(), reason].concat())
}

fn fragments(kind: u8, pieces: &[&[u8]]) -> Vec<u8> {
    let last = pieces.len() - 1;
    let frame = |(number, piece): (usize, &&[u8])| {
        let code = if number == 0 { kind } else { opcode::CONTINUATION };
        masked(if number == last { FIN | code } else { code }, piece)
    };
    pieces.iter().enumerate().flat_map(frame).collect()
}

fn violations() -> Vec<(String, Vec<u8>, u16)> {
    let mut rows: Vec<(String, Vec<u8>, u16)> = Vec::new();
    let mut row = |id: &str, bytes: Vec<u8>, code: u16| rows.push((id.to_owned(), bytes, code));
    row("F1 text", raw(FIN | opcode::TEXT, None, b"{}"), 1002);
    row("F1 binary", raw(FIN | opcode::BINARY, None, b"x"), 1002);
    row("F1 ping", raw(FIN | opcode::PING, None, b""), 1002);
    row("F1 close", raw(FIN | opcode::CLOSE, None, b"\x03\xe8"), 1002);
    for bit in [0x40, 0x20, 0x10] {
        row(&format!("F2 bit {bit:#x}"), masked(FIN | bit | opcode::TEXT, b"{}"), 1002);
    }
    for code in (3..=7).chain(11..=15) {
        row(&format!("F2 opcode {code}"), masked(FIN | code, b""), 1002);
    }
    row("F3 fragmented ping", masked(opcode::PING, b"x"), 1002);
    row("F3 fragmented close", masked(opcode::CLOSE, b"\x03\xe8"), 1002);
    row("F3 long ping", masked(FIN | opcode::PING, &[0; 126]), 1002);
    row("F3 long close", close(1000, &[b'x'; 124]), 1002);
    row("F3 close of 1 byte", masked(FIN | opcode::CLOSE, b"\x03"), 1002);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1100, 2999, 5000, 65535] {
        row(&format!("F3 close {code}"), close(code, b""), 1002);
    }
    row("F3 reason", close(1000, b"\xff"), 1007);
    row("F4 continuation", masked(FIN | opcode::CONTINUATION, b"x"), 1002);
    row("F4 text in text", [masked(1, b"{"), masked(FIN | 1, b"}")].concat(), 1002);
    row("F4 binary in text", [masked(1, b"{"), masked(FIN | 2, b"}")].concat(), 1002);
    row("F5 1 MiB + 1", declared(FIN | opcode::TEXT, MIB + 1), 1009);
    row("F5 binary", declared(FIN | opcode::BINARY, MIB + 1), 1009);
    row("F5 16 MiB", declared(FIN | opcode::TEXT, 16 * MIB), 1009);
    row("F5 2^62", declared(FIN | opcode::BINARY, 1 << 62), 1009);
    row("F5 2^63", declared(FIN | opcode::BINARY, 1 << 63), 1009);
    let piece = vec![b' '; 1049];
    row("F6 text", fragments(opcode::TEXT, &vec![&*piece; 1000]), 1009);
    row("F6 binary", fragments(opcode::BINARY, &vec![&*piece; 1000]), 1009);
    let empty = masked(opcode::CONTINUATION, b"").repeat(2000);
    row("F7", [masked(opcode::TEXT, b""), empty].concat(), 4400);
    for (name, bytes) in [
        ("lone", &b"\x80"[..]),
        ("overlong", b"\xc0\xaf"),
        ("surrogate", b"\xed\xa0\x80"),
        ("too high", b"\xf4\x90\x80\x80"),
        ("cut", b"{\"type\":\"\xe2\x82"),
    ] {
        row(&format!("F9 {name}"), masked(FIN | opcode::TEXT, bytes), 1007);
    }
    row("F9 across fragments", fragments(opcode::TEXT, &[b"\xe2", b"\x28\xa1"]), 1007);
    // Behind the request or later, it is frames, and wrong ones.
    row("H18 a second request", upgrade(&pipes("echo second"), "").into_bytes(), 1002);
    rows
}

/// Opens a session by hand and sends bytes in the way that is asked for.
async fn send(relay: &Relay, bytes: &[u8], how: How) -> Browser {
    let mut request = upgrade(&pipes("echo up; cat"), "").into_bytes();
    if how == How::WithTheRequest {
        request.extend_from_slice(bytes);
    }
    let (answer, rest, tcp) = common::exchange(relay.addr(), &request).await.expect("an answer");
    assert_eq!(answer.status, 101);
    let mut browser = Browser::continued(tcp, rest).await;
    match how {
        How::WithTheRequest => {}
        // The relay may close before it has read all of it.
        How::Whole => drop(browser.raw(bytes).await),
        How::Bytewise => {
            for byte in bytes.chunks(1) {
                if browser.raw(byte).await.is_err() {
                    break;
                }
            }
        }
    }
    browser
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Whole,
    /// F16: each byte in a segment of its own.
    Bytewise,
    /// H18: behind the head, where another request could stand.
    WithTheRequest,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_breaks_the_protocol_is_told_how() {
    let (cluster, relay) = both(Kind::V5).await;
    let mut witness = relay.v1(&pipes("cat")).await;
    session(&cluster, 0).await;
    witness.message("ready").await;
    let before = relay.descriptors();
    let memory = relay.memory("VmRSS");
    let rows = violations();
    for how in [How::Whole, How::Bytewise, How::WithTheRequest] {
        for (id, bytes, code) in &rows {
            // A megabyte byte by byte would say no more than a few bytes do.
            if how == How::Bytewise && bytes.len() > 10_000 {
                continue;
            }
            let mut browser = send(&relay, bytes, how).await;
            let close = browser.closed().await;
            assert_eq!(close.code, *code, "{id} {how:?}: {close:?}");
            assert!(!close.reason.is_empty(), "{id}");
            assert!(!browser.text().contains("HTTP/1.1"), "{id}: it is never served");
            assert!(browser.text().ends_with(&format!("[podwire: {}]\r\n", close.reason)), "{id}");
        }
    }
    witness.input("still here\n").await;
    witness.until_output("still here").await;
    relay.until_descriptors(before).await;
    let count = cluster.sessions().len();
    for number in 1..count {
        let seen = session(&cluster, number).await;
        let over = seen.until(|facts| facts.exit_code);
        assert_eq!(within("each process is hung up", over).await, 0);
    }
    relay.until_logged("kind=protocol_error", count - 1).await;
    assert_eq!(relay.logged("session end"), count - 1);
    let most = relay.memory("VmHWM");
    assert!(most < memory + 8 * 1024, "{memory} KiB before, {most} KiB at most");
}

/// What is odd and allowed.
#[tokio::test]
async fn unusual_frames_are_understood() {
    let (_cluster, relay) = both(Kind::V5).await;
    let input = |text: &str| format!(r#"{{"type":"input","input":"{text}"}}"#);
    let mut bytes = Vec::new();
    // With a ping between two fragments, and a pong that nobody asked for.
    let message = input("one \u{20ac} ");
    let (first, second) = message.as_bytes().split_at(message.len() - 5);
    bytes.extend(masked(opcode::TEXT, first));
    bytes.extend(masked(FIN | opcode::PING, b"between"));
    bytes.extend(masked(FIN | opcode::PONG, b"nobody asked"));
    bytes.extend(masked(FIN | opcode::CONTINUATION, second));
    bytes.extend(fragments(opcode::BINARY, &[b"t", b"", b"wo "]));
    bytes.extend(masked(FIN | opcode::BINARY, b""));
    // A length in more bytes than it needs, and a key of zeros.
    bytes.extend([&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0], &b"three "[..]].concat());
    bytes.extend(masked(FIN | opcode::TEXT, input("\\n").as_bytes()));
    bytes.extend(masked(FIN | opcode::TEXT, br#"{"type":"eof"}"#));
    for how in [How::Whole, How::Bytewise, How::WithTheRequest] {
        let mut browser = send(&relay, &bytes, how).await;
        browser.until_output("one \u{20ac} two three \n").await;
        assert_eq!(browser.ended().await.code, 1000, "{how:?}");
    }
    // Exactly as long as a message may be.
    let mut browser = send(&relay, &masked(FIN | 2, &vec![b'x'; 1 << 20]), How::Whole).await;
    browser.until("all of it", |it| it.output.len() > 1 << 20).await;
    browser.leave().await;
}

/// F11: after the relay's close frames are ignored, and the connection ends though the peer
/// neither answers nor goes.
#[tokio::test]
async fn a_browser_that_ignores_the_close_is_left() {
    let (_cluster, relay) = both(Kind::V5).await;
    let request = upgrade(&pipes("echo up; cat"), "");
    let exchange = common::exchange(relay.addr(), request.as_bytes()).await;
    let (_, _, mut tcp) = exchange.expect("an answer");
    tcp.write_all(&masked(FIN | 3, b"")).await.unwrap();
    let mut came = Vec::new();
    let (mut reader, mut writer) = tcp.split();
    let more = masked(FIN | opcode::BINARY, b"more").repeat(100);
    let talk = async { while writer.write_all(&more).await.is_ok() {} };
    // Either way it is over: by an end, or by a reset for what nobody reads any more.
    let end = async {
        let ((), _) = tokio::join!(talk, reader.read_to_end(&mut came));
    };
    within("the connection ends", end).await;
    assert!(common::contains(&came, b"\x03\xea"), "the close came: {came:?}");
    let line = relay.until_logged("session end", 1).await;
    assert!(line.contains("input=0"), "nothing after the close is input: {line}");
}

/// F15: a hundred thousand messages that mean nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_mean_nothing_hold_nobody_up() {
    let (_cluster, relay) = both(Kind::V5).await;
    let mut witness = relay.v1(&pipes("cat")).await;
    let flood = [masked(FIN | 1, b""), masked(FIN | 1, b"{}")].concat().repeat(50_000);
    let mut browser = relay.v1(&pipes("cat")).await;
    let send = async {
        browser.raw(&flood).await.unwrap();
        browser.input("through\n").await;
        browser.until_output("through").await;
    };
    let other = async {
        for number in 0..20 {
            witness.input(&format!("{number}\n")).await;
            witness.until_output(&format!("{number}\n")).await;
        }
    };
    tokio::join!(send, other);
    assert!(browser.messages.iter().all(|it| it["type"] == "ready"), "{:?}", browser.messages);
}
