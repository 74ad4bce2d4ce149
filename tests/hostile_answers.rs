//! A cluster that answers wrongly, before there is a session. Each answer is told twice: to a
//! page inside a WebSocket, and to any other caller with an HTTP status.
//!
//! The ids are those of the project's list of bad inputs. Answers that do not come at all (S9,
//! S10, S11) are in `hostile_clock.rs`, more of S12 and S13 in `hostile_tls.rs`, S15 in `proxies.rs`,
//! S17 there and in `src/exec/dial.rs`, S18 in `relay_bytes.rs`.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Kind, Relay, Start, both, cluster, pipes, session, within};
use fake_cluster::{Behaviour, FakeCluster, Options, Script, Step, Upgrade, misbehaviour};

/// What is expected: the kind, and words of the sentence.
type Row<'a> = (&'a str, Script, &'a str, &'a str);

fn codes(kind: &str) -> (u16, u16) {
    match kind {
        "bad_request" => (400, 4400),
        "unauthorized" => (401, 4401),
        "forbidden" => (403, 4403),
        "not_found" => (404, 4404),
        "limit" => (503, 4429),
        "cluster_unreachable" | "cluster_protocol" => (502, 4502),
        other => panic!("{other}"),
    }
}

fn named(name: &str) -> Script {
    misbehaviour::named(name).unwrap()
}

fn answer(head: &str, body: &str) -> Script {
    Script::answer(format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

fn with_header(name: &str, value: &str) -> Script {
    let mut upgrade = Upgrade::honest();
    upgrade.headers.push((name.to_owned(), value.to_owned()));
    Script::new([Step::Upgrade(upgrade), Step::Hang])
}

/// Asserts that this ending is told to everybody who asks, in the way that each can hear.
async fn told(relay: &Relay, id: &str, kind: &str, words: &str) {
    let (status, code) = codes(kind);
    let retry = matches!(kind, "cluster_unreachable" | "limit");
    let answer = relay.ask(&pipes("true"), "").await;
    answer.assert_refusal(status, kind, id);
    let sentence = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(sentence.contains(words), "{id}: {sentence:?}");
    let odd = |c: char| c.is_control() || c == '<';
    assert!(!sentence.contains(odd) && sentence.len() < 1200, "{id}: {sentence:?}");
    assert!(
        !sentence.contains("198.51.100.7"),
        "{id}: where a redirect leads is nobody's business"
    );
    if status == 503 {
        assert!(answer.header("retry-after").is_some(), "{id}");
    }

    let mut page = relay.v1(&pipes("true")).await;
    page.assert_exit(kind, None, code, id).await;
    let exit = &page.messages[0];
    assert_eq!(exit["message"], sentence.as_str(), "{id}");
    assert_eq!(exit["retry"], retry, "{id}");

    let mut page = relay.seed(&pipes("true")).await;
    let close = page.ended().await;
    assert_eq!(close.code, code, "{id}");
    assert_eq!(page.text(), format!("\r\n[podwire: {sentence}]\r\n"), "{id}");
    assert!(sentence.starts_with(close.reason.trim_end_matches('\u{2026}')), "{id}: {close:?}");
}

#[tokio::test]
async fn an_answer_that_is_no_session_is_told_to_everybody() {
    let (cluster, relay) = both(Kind::V5).await;
    let mut witness = relay.v1(&pipes("cat")).await;
    session(&cluster, 0).await;
    witness.message("ready").await;
    let before = relay.descriptors();

    let moved = "301 Moved Permanently\r\nLocation: https://198.51.100.7/";
    let unreachable = "cluster_unreachable";
    let rows: &[Row] = &[
        ("S1 wrong", named("wrong-accept"), "cluster_protocol", "Sec-WebSocket-Accept"),
        ("S1 missing", named("missing-accept"), "cluster_protocol", "Sec-WebSocket-Accept"),
        (
            "S1 two",
            with_header("Sec-WebSocket-Accept", "{accept}"),
            "cluster_protocol",
            "Sec-WebSocket-Accept",
        ),
        ("S2 none", named("no-subprotocol"), "cluster_protocol", "subprotocol"),
        ("S2 empty", named("empty-subprotocol"), "cluster_protocol", "subprotocol"),
        ("S2 unoffered", named("unoffered-subprotocol"), "cluster_protocol", "subprotocol"),
        ("S2 list", named("two-subprotocols"), "cluster_protocol", "subprotocol"),
        (
            "S2 two",
            with_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io"),
            "cluster_protocol",
            "subprotocol",
        ),
        ("S4 302", named("redirect"), "cluster_protocol", "302"),
        ("S4 301", answer(moved, ""), "cluster_protocol", "301"),
        ("S4 308", answer("308 Permanent Redirect\r\nLocation: /", "x"), "cluster_protocol", "308"),
        ("S5 200", named("ok-body"), "cluster_protocol", "200"),
        ("S5 204", Script::answer("HTTP/1.1 204 No Content\r\n\r\n"), "cluster_protocol", "204"),
        ("S6 401", named("401"), "cluster_protocol", "relay's own credential"),
        ("S7 Status", named("403-status"), "forbidden", "something else forbids it"),
        ("S7 empty", named("403-empty"), "cluster_protocol", "none of the subprotocols"),
        (
            "S7 length 0",
            answer("403 Forbidden", ""),
            "cluster_protocol",
            "none of the subprotocols",
        ),
        ("S7 HTML", named("403-html"), "forbidden", "403"),
        ("S8 404", named("404"), "not_found", "pods \"shell\" not found"),
        ("S8 404 empty", answer("404 Not Found", ""), "not_found", "404"),
        ("S8 400", answer("400 Bad Request", "nonsense"), "bad_request", "nonsense"),
        (
            "S8 stripped",
            answer("400 Bad Request", "Upgrade request required"),
            "cluster_protocol",
            "proxy",
        ),
        ("S8 409", answer("409 Conflict", "no"), "cluster_protocol", "409"),
        ("S8 429", named("429"), "limit", "maximum number exceeded"),
        ("S8 500", named("500-text"), unreachable, "bad\\u{1b}[31m\\u{7}thing\\r\\nhappened"),
        ("S8 502", named("502-html"), unreachable, "502"),
        ("S8 503", named("503"), unreachable, "upstream connect error"),
        ("S8 long", answer("500 Internal Server Error", &"x".repeat(100_000)), unreachable, "xxx"),
        ("S8 odd JSON", answer("500 Internal Server Error", "{\"message\":5}"), unreachable, "500"),
        ("S9 long head", named("endless-head"), "cluster_protocol", "HTTP"),
        ("S10 endless", named("endless-body"), unreachable, "502"),
        ("not HTTP", named("garbage"), "cluster_protocol", "HTTP"),
        ("end", Script::new([Step::Close]), unreachable, "cannot reach"),
        ("reset", Script::new([Step::Reset]), unreachable, "cannot reach"),
        ("half a head", Script::answer("HTTP/1.1 101 Switch"), unreachable, "cannot reach"),
    ];
    for (id, script, kind, words) in rows {
        cluster.set_behaviour(Behaviour::scripted(script.clone()));
        told(&relay, id, kind, words).await;
    }
    cluster.set_behaviour(Behaviour { kubelet_down: true, ..Behaviour::default() });
    told(&relay, "kubelet down", unreachable, "error dialing backend").await;

    // Nobody else noticed, and nothing is left.
    witness.input("still here\n").await;
    witness.until_output("still here").await;
    relay.until_descriptors(before).await;
    assert_eq!(relay.logged("session end"), 0);
    // Each was told to two pages and refused to one caller, and each of them is logged once.
    assert_eq!(relay.logged("session refused"), 3 * (rows.len() + 1));
}

/// S3, S5: answers that are right in an unusual way.
#[tokio::test]
async fn unusual_answers_are_good_enough() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Relay::start(&cluster).await;
    let end = b"\x88\x02\x03\xe8";
    let mut upgrade = Upgrade::with_protocol("v4.channel.k8s.io");
    upgrade.headers.push(("Connection".to_owned(), "keep-alive".to_owned()));
    let end = Step::Send(end.as_slice().into());
    cluster.script_next(Script::new([Step::Upgrade(upgrade), end, Step::Close]));
    let mut page = relay.v1(&pipes("true")).await;
    assert_eq!(page.message("ready").await["protocol"], "v4.channel.k8s.io");
    page.assert_exit("cluster_lost", None, 4502, "S3").await;

    cluster.script_next(named("100-continue"));
    let mut page = relay.v1(&pipes("echo hello")).await;
    page.assert_exit("exit", Some(0), 1000, "S5").await;
    assert_eq!(page.text(), "hello\n");
}

/// A server that knows none of the newer subprotocols is asked once more, for the oldest.
#[tokio::test]
async fn the_oldest_subprotocol_is_the_last_resort() {
    let cluster = cluster(Behaviour::only(&["channel.k8s.io"])).await;
    let relay = Relay::start(&cluster).await;
    let mut page = relay.v1(&pipes("echo hello; exit 3")).await;
    assert_eq!(page.message("ready").await["protocol"], "channel.k8s.io");
    let (exit, close) = page.exit().await;
    // It tells no exit codes, only in words that there was one.
    assert_eq!((exit["exitCode"].as_u64(), page.text().as_str()), (None, "hello\n"), "{exit}");
    assert!(exit["message"].as_str().unwrap().contains("non-zero exit code"), "{exit}");
    assert_eq!((exit["kind"].as_str(), close.code), (Some("exit"), 1000), "{exit}");

    let mut page = relay.v1(&pipes("true")).await;
    let (exit, close) = page.exit().await;
    assert_eq!((exit["kind"].as_str(), exit["exitCode"].as_u64()), (Some("exit"), None));
    assert_eq!(close.code, 1000);
    let offers: Vec<String> = cluster
        .requests()
        .iter()
        .map(|request| request.header("sec-websocket-protocol").unwrap().to_owned())
        .collect();
    let both = ["v5.channel.k8s.io, v4.channel.k8s.io", "channel.k8s.io"];
    assert_eq!(offers, [both, both].concat());
}

/// S12, S13, and nobody at home.
#[tokio::test]
async fn a_cluster_that_cannot_be_trusted_or_reached_is_named() {
    let honest = cluster(Behaviour::default()).await;
    let stranger = cluster(Behaviour::default()).await;
    let plain = FakeCluster::start(Options { tls: false, ..Options::default() }).await.unwrap();
    let at = |url: &str| honest.kubeconfig().replace(&honest.url(), url);
    let tls = |cluster: &FakeCluster| format!("https://{}", cluster.addr());
    let gone = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("https://{}", socket.local_addr().unwrap())
    };
    let rows = [
        ("S12 unknown CA", at(&tls(&stranger)), "tls: the certificate is by an unknown authority"),
        ("S13 plain HTTP", at(&tls(&plain)), "cannot reach the cluster: tls: "),
        ("nobody listens", at(&gone), "refused"),
    ];
    for (id, kubeconfig, words) in rows {
        let start = Start { kubeconfig: Some(kubeconfig), ..Start::default() };
        let relay = Relay::with(&honest, start).await;
        told(&relay, id, "cluster_unreachable", words).await;
    }
    // The certificate is for 127.0.0.1 and localhost.
    let start = |name: &str| {
        let server = format!("\"tls-server-name\": \"{name}\", \"server\":");
        let kubeconfig = Some(honest.kubeconfig().replace("\"server\":", &server));
        Start { kubeconfig, ..Start::default() }
    };
    let relay = Relay::with(&honest, start("wrong.example")).await;
    let words = "tls: the certificate is not valid for wrong.example, only for";
    told(&relay, "S12 wrong name", "cluster_unreachable", words).await;
    let relay = Relay::with(&honest, start("localhost")).await;
    relay.v1(&pipes("true")).await.assert_exit("exit", Some(0), 1000, "S12 right name").await;

    // S13: h2 is not chosen, because it is not offered.
    let cluster = FakeCluster::start(Options { offer_h2: true, ..Options::default() });
    let cluster = within("a cluster", cluster).await.unwrap();
    let relay = Relay::start(&cluster).await;
    relay.v1(&pipes("true")).await.assert_exit("exit", Some(0), 1000, "S13 h2").await;
}
