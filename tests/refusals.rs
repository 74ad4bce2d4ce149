//! Requests that get no session: what is no handshake, what names nothing, what has no right.
//!
//! One row for each input; the ids are those of the project's list of bad inputs. Of the list's
//! handshakes H8 and H9 (slow heads) are in `hostile_clock.rs`, H18 and H19 (bytes behind the
//! head) in `hostile_frames.rs` and `relay_bytes.rs`, H14 and the origins in `refusals_access.rs`.
//! Not here, because there is nothing to test yet: U19 (tickets), U20 (hooks). A bare LF (H10)
//! ends a line, as RFC 9112 section 2.2 allows.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Answer, KEY, Kind, Relay, Start, both, session, short, upgrade, within};
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

fn long_form(namespace: &str, pod: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{pod}/exec?command=true&stdout=true")
}

#[tokio::test]
async fn what_names_nothing_is_refused_before_anything_is_dialled() {
    let (cluster, relay) = both(Kind::V5).await;
    let (l63, l64, l253, l254) = ("a".repeat(63), "a".repeat(64), "a".repeat(253), "a".repeat(254));
    // In the path and in the query; a slash that is not encoded makes it another path.
    let bad_names = [
        "..",
        ".",
        "../../nodes",
        "a/b",
        "%2e%2e",
        "%2E%2E%2F",
        "%252e",
        "a%2Fexec",
        "a%3Fx=1",
        "a%23f",
        "a;b",
        "a%20b",
        "a%0d%0aX:%20y",
        "A",
        "a_b",
        "-a",
        "a-",
        ".a",
        "a.",
        "a..b",
        "",
        "%00",
        "%ff",
        "%D0%B0",
        "xn--%C3%A9",
        "%E2%80%AEa",
        &l254,
    ];
    let mut rows: Vec<(String, u16)> = Vec::new();
    for name in bad_names {
        rows.push((format!("/exec?namespace={name}&pod=shell"), 400));
        rows.push((format!("/exec?namespace=demo&pod={name}"), 400));
        if !name.is_empty() {
            rows.push((format!("/exec?namespace=demo&pod=shell&container={name}"), 400));
        }
        let status = if name.contains('/') { 404 } else { 400 };
        rows.push((long_form(name, "shell"), status));
        rows.push((long_form("demo", name), status));
    }
    let demo = "/exec?namespace=demo&pod=shell";
    let path = "/api/v1/namespaces/demo/pods/shell";
    let all_false = "&command=a&stdin=false&stdout=false&stderr=false&tty=false";
    let rest: &[(String, u16)] = &[
        (format!("/exec?namespace={l64}&pod=shell"), 400),
        (format!("{demo}&container={l64}"), 400),
        (format!("/exec?namespace={l63}&pod={l253}&namespace=x"), 400),
        ("/exec?pod=shell".into(), 400),
        ("/exec?namespace=demo".into(), 400),
        // U7: twice, under any of its names, even with the same value.
        (format!("{demo}&namespace=demo"), 400),
        (format!("{demo}&ns=demo"), 400),
        (format!("{demo}&podName=shell"), 400),
        (format!("{demo}&name=shell"), 400),
        (format!("{demo}&container=main&containerName=main"), 400),
        (format!("{demo}&tty=true&tty=true"), 400),
        (format!("{demo}&cols=80&cols=80"), 400),
        (format!("{demo}&proto=seed&proto=seed"), 400),
        (format!("{demo}&proto=nope"), 400),
        (format!("{path}/exec?command=a&stdout=1&container=main&container=side"), 400),
        // U9
        (format!("{demo}&tty=yes"), 400),
        (format!("{demo}&stdin=2"), 400),
        (format!("{path}/exec?command=a&stdout=on"), 400),
        (format!("{demo}{all_false}"), 400),
        (format!("{path}/exec?command=a"), 400),
        // U11
        (format!("{demo}&command=a%00b"), 400),
        (format!("{demo}&command=a%FFb"), 400),
        // U12
        ("//exec?namespace=demo&pod=shell".into(), 404),
        ("/exec/?namespace=demo&pod=shell".into(), 404),
        ("/exec//".into(), 404),
        ("/nope".into(), 404),
        (format!("{path}/exec/x?command=a"), 404),
        (format!("{path}/log?command=a"), 404),
        ("/api/v1/namespaces/demo/pods/exec".into(), 404),
        (format!("/{}", "a/".repeat(1000)), 404),
        (format!("/clusters{path}/exec?command=a"), 404),
        // U14
        (format!("{demo}&shell=%2Fbin%2Fsh%3Bid"), 400),
        (format!("{demo}&shell=..%2F..%2Fx"), 400),
        (format!("{demo}&shell=zsh"), 400),
        // U17, U18
        (format!("{demo}&cluster=http:%2F%2F169.254.169.254"), 404),
        (format!("{demo}&cluster=127.0.0.1:6443"), 404),
        (format!("{demo}&cluster=demo-nobody"), 404),
        (format!("/clusters/nope{path}/exec?command=a&stdout=1"), 404),
        (format!("/clusters/%2e%2e{path}/exec?command=a&stdout=1"), 404),
    ];
    rows.extend(rest.iter().cloned());
    for (target, status) in rows {
        let kind = if status == 404 { "not_found" } else { "bad_request" };
        relay.ask(&target, "").await.assert_refusal(status, kind, &target);
    }
    // U11: the longest command that fits into a request's head.
    let long = format!("{demo}&container=main&command={}", "a".repeat(20_000));
    assert_eq!(relay.ask(&long, "").await.status, 101, "20 000 bytes are taken");
    assert_eq!(cluster.connections(), 1, "nothing else was dialled");
}

/// U13, U15, U16: what is not read, and what is not allowed.
#[tokio::test]
async fn places_that_are_not_read_name_nothing() {
    let (cluster, relay) = both(Kind::V5).await;
    for headers in [
        "Referer: http://localhost/exec?namespace=demo&pod=shell\r\n",
        "Cookie: namespace=demo; pod=shell\r\n",
        "Namespace: demo\r\nPod: shell\r\n",
    ] {
        relay.ask("/exec", headers).await.assert_refusal(400, "bad_request", headers);
    }
    let strict = Start::flags(&["--no-command"]).before(&cluster).await;
    let answer = strict.ask(&short(&["id"], ""), "").await;
    answer.assert_refusal(403, "forbidden", "U15");
    let passthrough = Start::passthrough().before(&cluster).await;
    for name in ["token", "access_token", "ticket"] {
        let target = short(&["id"], &format!("&{name}={}", cluster.token("admin")));
        passthrough.ask(&target, "").await.assert_refusal(401, "unauthorized", "U16");
        assert!(!passthrough.log().contains(&cluster.token("admin")));
    }
    assert_eq!(cluster.connections(), 0, "nothing was dialled");
}
