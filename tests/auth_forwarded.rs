//! What a gateway says about a request besides the user: where it comes from, and which trace it
//! belongs to; and what of a request reaches the cluster.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::path::Path;

use common::{Start, cluster, session, short, terminal, upgrade};
use fake_cluster::Behaviour;
use podwire::hyper::HeaderMap;
use podwire::hyper::header::HeaderValue;
use podwire::{Clusters, Identity, Own, Target, Trace};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// H21: who is at the other end is a gateway's to say, and an address in any case.
#[tokio::test]
async fn the_log_has_the_address_of_whoever_asks() {
    let cluster = cluster(Behaviour::default()).await;
    let flags = ["--trusted-proxy=127.0.0.1,10.0.0.0/8", "--admin-listen=127.0.0.1:0"];
    let trusting = Start::flags(&flags).before(&cluster).await;
    let wary = Start::flags(&["--trusted-proxy=10.0.0.0/8"]).before(&cluster).await;
    let hops = format!("203.0.113.1, 192.0.2.7{}", ", 10.0.0.9".repeat(500));
    let nearer = format!("203.0.113.1, 192.0.2.7{}", ", 10.0.0.9".repeat(9));
    let rows = [
        ("H21 one", "192.0.2.1", "192.0.2.1"),
        ("H21 a caller's own word", "203.0.113.1, 192.0.2.2", "192.0.2.2"),
        ("H21 ten hops", &nearer, "192.0.2.7"),
        ("H21 500 hops", &hops, "10.0.0.9"),
        ("H21 zone", "fe80::1%eth0", "fe80::1"),
        ("H21 zone of nonsense", "fe80::2%\" user=root <b>", "fe80::2"),
        ("H21 garbage", "x\" remote=192.0.2.9 y=\"", "127.0.0.1:"),
        ("H21 not text", "\u{202e}192.0.2.9", "127.0.0.1:"),
        ("H21 long", &"9".repeat(2000), "127.0.0.1:"),
        ("H21 empty", "", "127.0.0.1:"),
    ];
    for (number, (id, value, remote)) in rows.into_iter().enumerate() {
        let headers = format!("X-Forwarded-For: {value}\r\n");
        for (relay, remote) in [(&trusting, remote), (&wary, "127.0.0.1:")] {
            let request = upgrade(&short(&["true"], ""), &headers);
            let answer = relay.http(request).await.unwrap();
            assert_eq!(answer.status, 101, "{id}: {answer:?}");
            let line = relay.until_logged("session start ", number + 1).await;
            let field = line.split_once(" remote=").unwrap().1.split(' ').next().unwrap();
            let matches = match remote.strip_suffix(':') {
                Some(address) => field.starts_with(&format!("{address}:")),
                None => field == remote,
            };
            assert!(matches, "{id}: {line}");
        }
    }
    // It is the same in the list, and where a request is refused.
    let address = ("x-forwarded-for", "192.0.2.77");
    let mut page = trusting.browser(&terminal("echo ready; cat"), &[address]).await;
    page.until_output("ready").await;
    let list = trusting.sessions().await;
    assert!(list.iter().any(|session| session["remote"] == "192.0.2.77"), "{list:?}");
    trusting.ask("/exec?namespace=..&pod=a", "X-Forwarded-For: 192.0.2.88\r\n").await;
    trusting.until_logged("request refused remote=192.0.2.88 kind=bad_request", 1).await;
}

/// H22: a valid trace is passed on in every request of its session and stands in its lines.
#[tokio::test]
async fn a_trace_reaches_the_cluster_and_the_log() {
    let behaviour =
        Behaviour { default_container: Some("side".to_owned()), ..Behaviour::default() };
    let cluster = cluster(behaviour).await;
    let flags = ["--context=demo", "--admin-listen=127.0.0.1:0"];
    let relay = Start::flags(&flags).before(&cluster).await;
    let valid = format!("00-{TRACE}-{PARENT}-01");
    let line = |value: &str| format!("Traceparent: {value}\r\n");
    let long = format!("01-{TRACE}-{PARENT}-01-{}", "a".repeat(1024));
    let rows = [
        ("H22 valid", line(&valid), Some(valid.clone())),
        (
            "H22 not sampled",
            line(&format!("00-{TRACE}-{PARENT}-00")),
            Some(format!("00-{TRACE}-{PARENT}-00")),
        ),
        (
            "H22 of a later version",
            line(&format!("cc-{TRACE}-{PARENT}-01-more")),
            Some(valid.clone()),
        ),
        ("H22 none", String::new(), None),
        ("H22 empty", line(""), None),
        ("H22 malformed", line("00-xyz"), None),
        ("H22 no trace", line(&format!("00-{}-{PARENT}-01", "0".repeat(32))), None),
        ("H22 version ff", line(&format!("ff-{TRACE}-{PARENT}-01")), None),
        ("H22 upper case", line(&valid.to_uppercase()), None),
        ("H22 1 KiB", line(&long), None),
        ("H22 two", line(&valid) + &line(&valid), None),
        ("H22 state alone", "Tracestate: a=b\r\n".to_owned(), None),
    ];
    // Without a container the relay reads the pod, so there are three requests.
    let target = "/exec?namespace=demo&pod=shell&command=true";
    for (number, (id, headers, wanted)) in rows.into_iter().enumerate() {
        let from = cluster.requests().len();
        let answer = relay.ask(target, &(headers + "Baggage: a=b\r\n")).await;
        assert_eq!(answer.status, 101, "{id}: {answer:?}");
        let requests = cluster.requests();
        assert_eq!(requests.len(), from + 3, "{id}");
        for request in &requests[from..] {
            assert_eq!(request.header("traceparent"), wanted.as_deref(), "{id}");
            assert_eq!(request.header("tracestate"), None, "{id}");
            assert_eq!(request.header("baggage"), None, "{id}");
        }
        let field = if wanted.is_some() { TRACE } else { "-" };
        for what in ["session start ", "session end "] {
            let line = relay.until_logged(what, number + 1).await;
            assert!(line.contains(&format!(" trace_id={field} ")), "{id}: {line}");
        }
    }
    let mut page = relay.browser(&terminal("echo ready; cat"), &[("traceparent", &valid)]).await;
    page.until_output("ready").await;
    let list = relay.sessions().await;
    assert!(list.iter().any(|session| session["trace_id"] == TRACE), "{list:?}");
}

/// The cluster's audit log knows a session by the id that ours has.
#[tokio::test]
async fn the_audit_id_is_the_sessions() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::default().before(&cluster).await;
    let headers =
        [("sec-websocket-protocol", "podwire.v1"), ("audit-id", "mine"), ("x-request-id", "mine")];
    let mut page = relay.browser(&short(&["true"], ""), &headers).await;
    let id = page.message("ready").await["session"].as_str().unwrap().to_owned();
    assert_eq!(session(&cluster, 0).await.request().header("audit-id"), Some(&*id));
    let line = relay.until_logged("session end ", 1).await;
    assert!(line.contains(&format!(" session={id} ")), "{line}");
}

/// Whoever embeds the crate passes a trace on by the same rules.
#[tokio::test]
async fn an_embedder_names_the_trace_in_the_target() {
    let cluster = cluster(Behaviour::default()).await;
    let mut headers = HeaderMap::new();
    let value = format!("00-{TRACE}-{PARENT}-01");
    headers.insert("traceparent", HeaderValue::from_str(&value).unwrap());
    let mut target = Target::new("demo", "shell");
    target.container = Some("main".to_owned());
    target.trace = Trace::of(&headers);
    assert_eq!(target.trace.as_ref().map(Trace::id), Some(TRACE));
    let text = cluster.kubeconfig();
    let clusters = Clusters::parse(text.as_bytes(), Path::new("."), None, &[], Own::Included);
    let clusters = clusters.unwrap();
    let opened = clusters.default().open(&target, &Identity::Own).await;
    assert!(opened.is_ok(), "{:?}", opened.err());
    assert_eq!(session(&cluster, 0).await.request().header("traceparent"), Some(&*value));
}
