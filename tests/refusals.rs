//! Requests that get no session because they are no handshake, and odd ones that are.
//!
//! One row for each input; the ids are those of the project's list of bad inputs. Of the list's
//! handshakes H8 and H9 (slow heads) are in `hostile_clock.rs`, H18 and H19 (bytes behind the
//! head) in `hostile_frames.rs` and `relay_bytes.rs`, H14 and the origins in `refusals_access.rs`.
//! What an address may ask for is in `targets.rs`. A bare LF (H10) ends a line, as RFC 9112 section
//! 2.2 allows.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Answer, KEY, Kind, Relay, both, session, short, upgrade, within};
use tokio::io::AsyncReadExt;

/// A request that would get a session, with one header line replaced by others.
fn handshake(line: &str, others: &str) -> String {
    let request = upgrade(&short(&["true"], ""), "");
    assert!(request.contains(line));
    request.replace(&format!("{line}\r\n"), others)
}

async fn refused(relay: &Relay, id: &str, request: impl AsRef<[u8]>, status: u16) -> Answer {
    let answer = relay.http(request).await.unwrap_or_else(|| panic!("{id}: no answer"));
    assert_eq!(answer.status, status, "{id}: {answer:?}");
    answer
}

#[tokio::test]
async fn what_is_no_handshake_is_refused() {
    let (cluster, relay) = both(Kind::V5).await;
    let target = short(&["true"], "");
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let version = "Sec-WebSocket-Version: 13";
    let method = |name: &str| upgrade(&target, "").replacen("GET", name, 1);
    let field = |name: &str, value: &str| format!("{name}: {value}\r\n");
    let offer = |names: &str| upgrade(&target, &field("Sec-WebSocket-Protocol", names));
    let many = "X: x\r\n".repeat(200);
    let rows: Vec<(&str, String, u16)> = vec![
        ("H1", handshake("Upgrade: websocket", ""), 426),
        ("H1 no connection", handshake("Connection: Upgrade", ""), 426),
        ("H1 h2c", handshake("Upgrade: websocket", "Upgrade: h2c\r\n"), 426),
        ("H2 post", method("POST"), 405),
        ("H2 put", method("PUT"), 405),
        ("H2 delete", method("DELETE"), 405),
        ("H2 options", method("OPTIONS"), 405),
        ("H2 unknown", method("BREW"), 405),
        ("H3 no key", handshake(&key, ""), 400),
        ("H3 empty key", handshake(&key, "Sec-WebSocket-Key:\r\n"), 400),
        ("H3 15 bytes", handshake(&key, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n"), 400),
        ("H3 17 bytes", handshake(&key, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=\r\n"), 400),
        ("H3 no base64", handshake(&key, "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n"), 400),
        ("H3 two keys", handshake(&key, &format!("{key}\r\n{key}\r\n")), 400),
        ("H4 8", handshake(version, "Sec-WebSocket-Version: 8\r\n"), 426),
        ("H4 none", handshake(version, ""), 426),
        ("H4 list", handshake(version, "Sec-WebSocket-Version: 13, 8\r\n"), 426),
        ("H6 1.0", upgrade(&target, "").replace("HTTP/1.1", "HTTP/1.0"), 400),
        ("H6 0.9", format!("GET {target}\r\n\r\n"), 400),
        ("H6 2.0", upgrade(&target, "").replace("HTTP/1.1", "HTTP/2.0"), 400),
        ("H7 fields", upgrade(&target, &many), 431),
        ("H7 field", upgrade(&target, &field("X", &"x".repeat(1 << 20))), 431),
        ("H7 uri", upgrade(&format!("{target}&x={}", "x".repeat(70_000)), ""), 431),
        ("H10 nul", upgrade(&target, "X: a\0b\r\n"), 400),
        ("H10 bare cr", upgrade(&target, "X: a\rb\r\n"), 400),
        ("H10 folded", upgrade(&target, "X: a\r\n b\r\n"), 400),
        ("H10 space", upgrade(&target, "X : a\r\n"), 400),
        ("H10 no name", upgrade(&target, ": a\r\n"), 400),
        ("H12 no host", handshake("Host: localhost", ""), 400),
        ("H12 two hosts", handshake("Host: localhost", "Host: localhost\r\nHost: evil\r\n"), 400),
        ("H12 evil", handshake("Host: localhost", "Host: evil\r\n"), 403),
        ("H12 user", handshake("Host: localhost", "Host: u@localhost\r\n"), 400),
        ("H12 path", handshake("Host: localhost", "Host: localhost/x\r\n"), 400),
        ("H13 unknown", offer("chat, superchat"), 400),
        ("H13 case", offer("Podwire.V1"), 400),
        (
            "H13 unknown and a parameter",
            offer("chat").replacen(" HTTP", "&proto=seed HTTP", 1),
            400,
        ),
        ("H16 length", upgrade(&target, "Content-Length: 10\r\n") + "0123456789", 400),
        ("H16 chunked", upgrade(&target, "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400),
        (
            "H17 both",
            upgrade(&target, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n",
            400,
        ),
        ("H17 lengths", upgrade(&target, "Content-Length: 0\r\nContent-Length: 1\r\n"), 400),
        ("H23 authority", "GET evil:80 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 404),
        ("H23 connect", "CONNECT evil:80 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 404),
        ("H23 star", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 404),
    ];
    let mut wrong = Vec::new();
    for (id, request, status) in rows {
        let came = common::exchange(relay.addr(), request.as_bytes()).await;
        let Some((answer, _, mut tcp)) = came.filter(|(answer, _, _)| answer.status == status)
        else {
            wrong.push((id, status));
            continue;
        };
        if status == 405 {
            assert_eq!(answer.header("allow"), Some("GET"), "{id}");
        }
        if status == 426 {
            assert_eq!(answer.header("upgrade"), Some("websocket"), "{id}");
            assert_eq!(answer.header("connection"), Some("Upgrade, close"), "{id}");
            let version = answer.header("sec-websocket-version");
            assert_eq!(version == Some("13"), id.starts_with("H4"), "{id}");
        } else {
            // Whatever follows such a head must not be taken for the next request.
            let end = within("the connection ends", tcp.read_to_end(&mut Vec::new())).await;
            assert!(!matches!(end, Ok(1..)), "{id}");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The preface of HTTP/2 is no request; hyper may answer it or not, but with no session.
    let preface = relay.http("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(preface.is_none_or(|answer| answer.status == 400));
    assert_eq!(cluster.connections(), 0, "nothing was dialled");
}

#[tokio::test]
async fn odd_handshakes_that_are_right_get_a_session() {
    let (cluster, relay) = both(Kind::V5).await;
    let target = short(&["true"], "");
    let offer = |names: &str| upgrade(&target, &format!("Sec-WebSocket-Protocol: {names}\r\n"));
    let fifty = "name, ".repeat(50);
    let long = "n".repeat(4096);
    let absolute = upgrade(&format!("http://198.51.100.7{target}"), "");
    let rows = [
        ("H5 list", handshake("Connection: Upgrade", "Connection: keep-alive, Upgrade\r\n"), None),
        ("H5 case", handshake("Upgrade: websocket", "upgrade: WebSocket\r\n"), None),
        ("H13 none", offer(" , "), None),
        ("H13 fifty", offer(&(fifty + "podwire.v1")), Some("podwire.v1")),
        ("H13 empty member", offer(", ,podwire.v1,"), Some("podwire.v1")),
        ("H13 long", offer(&format!("{long}, podwire.v1")), Some("podwire.v1")),
        ("H13 lines", offer("chat\r\nSec-WebSocket-Protocol: podwire.v1"), Some("podwire.v1")),
        ("H15", upgrade(&target, "Sec-WebSocket-Extensions: permessage-deflate\r\n"), None),
        ("H16 no body", upgrade(&target, "Content-Length: 0\r\n"), None),
        ("H21", upgrade(&target, "X-Forwarded-For: fe80::1%eth0, nonsense, 1.2.3.4\r\n"), None),
        ("H23 absolute", absolute, None),
    ];
    for (number, (id, request, protocol)) in rows.into_iter().enumerate() {
        let answer = refused(&relay, id, request, 101).await;
        assert_eq!(answer.header("sec-websocket-protocol"), protocol, "{id}: {answer:?}");
        assert_eq!(answer.header("sec-websocket-extensions"), None, "{id}");
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        session(&cluster, number).await;
    }
}
