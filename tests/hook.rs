//! `--auth hook`: what an authorizer is asked, what it may decide, and what is refused of it.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::ffi::OsString;

use common::{Authorizer, Relay, cluster, eventually, response, session, short, upgrade, yes};
use fake_cluster::{Behaviour, FakeCluster, Rights};
use podwire::config::{Command, parse};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

/// What a caller has that must never be seen.
const SECRET: &str = "c4naryVaXq7";

async fn all(flags: &[&str]) -> (FakeCluster, Authorizer, Relay) {
    let cluster = cluster(Behaviour::default()).await;
    let authorizer = Authorizer::start().await;
    let relay = authorizer.before(&cluster, flags).await;
    (cluster, authorizer, relay)
}

#[tokio::test]
async fn the_authorizer_is_asked_with_what_the_caller_sent() {
    let (cluster, authorizer, relay) = all(&[]).await;
    authorizer.allow(json!({"token": cluster.token("admin")}));
    let target = short(&["true"], "&cols=100&x=%2F+%zz&pod=two");
    let headers = format!(
        "Cookie: a={SECRET}\r\nCookie: b\r\nAuthorization: Basic {SECRET}\r\nX-Team: blue\r\n\
         X-Hop: 1\r\nUser-Agent: mine\r\nAccept: text/html\r\nAccept-Encoding: gzip\r\nTE: x\r\n\
         Proxy-Authorization: {SECRET}\r\nIf-None-Match: x\r\nRange: bytes=0-1\r\nExpect: y\r\n\
         X-Original-URI: /forged\r\nX-Original-Method: POST\r\nX-Podwire-Session: forged\r\n\
         X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-User: root\r\nForwarded: for=1.2.3.4\r\n\
         X-Real-IP: 1.2.3.4\r\nRemote-User: root\r\nX-Auth-Request-User: root\r\n\
         X-Remote-User: root\r\nSec-WebSocket-Protocol: podwire.v1\r\nKeep-Alive: 5\r\n"
    );
    let request = upgrade(&target, &headers)
        .replace("Connection: Upgrade", "Connection: Upgrade, X-Hop, x-original-uri");
    // What is asked for makes no sense; who asks is looked at all the same.
    relay.http(&request).await.unwrap().assert_refusal(400, "bad_request", "two pods");
    let request = request.replace("&pod=two", "");
    assert_eq!(relay.http(&request).await.unwrap().status, 101);
    let asked = authorizer.asked(2).await;
    assert_eq!(asked.line, "GET /may?by=podwire HTTP/1.1");
    let mut names: Vec<_> = asked.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
    names.sort();
    let ours = [
        "accept",
        "authorization",
        "cookie",
        "cookie",
        "host",
        "user-agent",
        "x-forwarded-for",
        "x-original-method",
        "x-original-uri",
        "x-podwire-session",
        "x-team",
    ];
    assert_eq!(names, ours);
    assert_eq!(asked.all("cookie"), [format!("a={SECRET}"), "b".to_owned()]);
    assert_eq!(asked.one("authorization"), format!("Basic {SECRET}"));
    assert_eq!(asked.one("user-agent"), "mine");
    assert_eq!(asked.one("accept"), "application/json");
    assert_eq!(asked.one("x-original-uri"), target.replace("&pod=two", ""));
    assert_eq!(asked.one("x-original-method"), "GET");
    assert_eq!(asked.one("x-forwarded-for"), "127.0.0.1");
    let seen = session(&cluster, 0).await;
    assert_eq!(seen.request().header("audit-id"), Some(asked.one("x-podwire-session")));
    assert_eq!(seen.request().header("cookie"), None);
    assert!(!relay.log().contains(SECRET), "{}", relay.log());
}

#[tokio::test]
async fn what_a_gateway_says_is_passed_on_if_it_is_trusted() {
    let cluster = cluster(Behaviour::default()).await;
    let authorizer = Authorizer::start().await;
    let relay = authorizer.before(&cluster, &["--trusted-proxy=127.0.0.1"]).await;
    let headers = "X-Forwarded-For: 8.8.8.8, 192.0.2.1\r\nX-Forwarded-User: ann\r\n\
                   X-Forwarded-Proto: https\r\nX-Real-IP: 192.0.2.1\r\n";
    relay.ask(&short(&["true"], ""), headers).await.assert_refusal(403, "forbidden", "no");
    let asked = authorizer.asked(1).await;
    assert_eq!(asked.one("x-forwarded-for"), "192.0.2.1", "whom the nearest gateway saw");
    assert_eq!(asked.one("x-forwarded-user"), "ann");
    assert_eq!(asked.one("x-real-ip"), "192.0.2.1");
}

#[tokio::test]
async fn a_foreign_page_is_refused_before_anybody_is_asked() {
    let (cluster, authorizer, relay) = all(&["--allow-origin=https://good"]).await;
    authorizer.allow(json!({"token": cluster.token("admin")}));
    let target = short(&["true"], "");
    for (origin, status) in [
        ("", 101),
        ("Origin: http://localhost\r\n", 101),
        ("Origin: https://good\r\n", 101),
        ("Origin: https://evil\r\n", 403),
        ("Origin: null\r\n", 403),
    ] {
        let before = authorizer.questions().len();
        let answer = relay.ask(&target, &format!("Cookie: a=b\r\n{origin}")).await;
        assert_eq!(answer.status, status, "{origin}");
        assert_eq!(authorizer.questions().len() - before, usize::from(status == 101), "{origin}");
    }
}

/// Each row is an answer and what becomes of the request `pod=shell&container=main` for a session
/// with `true` in it: the path and query at the cluster, and whose rights it has.
#[tokio::test]
async fn an_answer_decides_and_what_it_leaves_out_is_the_callers() {
    let (cluster, authorizer, relay) = all(&["--no-command", "--clusters=demo-nobody"]).await;
    for user in ["ann", "group:dev", "nobody"] {
        cluster.set_rights(user, Rights::all());
    }
    let admin = cluster.token("admin");
    let pod = "/api/v1/namespaces/demo/pods/shell";
    let usual = "command=true&container=main";
    let tty = "&stdin=true&stdout=true&tty=true";
    let bearer = Some(format!("Bearer {admin}"));
    let rows: &[(&str, &str, Value, String)] = &[
        (
            "token",
            "/exec?command=true",
            json!({"namespace": "demo", "pod": "shell",
            "container": "main", "command": ["true"]}),
            format!("{pod}/exec?{usual}{tty}"),
        ),
        (
            "target",
            "/exec?namespace=x&pod=y&container=z&tty=false",
            json!({"namespace": "demo",
            "pod": "shell", "container": "main", "command": ["true"]}),
            format!("{pod}/exec?{usual}&stdin=true&stdout=true&stderr=true"),
        ),
        (
            "cluster",
            "/exec?cluster=nope&ns=demo&pod=shell&container=main",
            json!({"cluster": "demo-nobody", "command": ["true"]}),
            format!("{pod}/exec?{usual}{tty}"),
        ),
        (
            "server",
            "/exec?ns=demo&pod=shell&container=main",
            json!({"server": cluster.url(),
            "command": ["true"]}),
            format!("{pod}/exec?{usual}{tty}"),
        ),
        (
            "container",
            "/exec?ns=demo&pod=shell&container=main",
            json!({"container": "side", "command": ["true"]}),
            format!("{pod}/exec?command=true&container=side{tty}"),
        ),
        (
            "tty away",
            "/exec?ns=demo&pod=shell&container=main",
            json!({"command": ["true"], "tty": false}),
            format!("{pod}/exec?{usual}&stdin=true&stdout=true&stderr=true"),
        ),
        (
            "tty",
            "/exec?ns=demo&pod=shell&container=main&tty=0",
            json!({"command": ["true"], "tty": true}),
            format!("{pod}/exec?{usual}{tty}"),
        ),
        (
            "read only",
            "/exec?ns=demo&pod=shell&container=main",
            json!({"command": ["true"], "readOnly": true}),
            format!("{pod}/exec?{usual}&stdout=true&tty=true"),
        ),
        (
            "no attaching instead",
            &format!("{pod}/attach?stdin=1&stdout=1&tty=1&container=main"),
            json!({"command": ["true"]}),
            format!("{pod}/exec?{usual}{tty}"),
        ),
        (
            "null",
            "/exec?ns=demo&pod=shell&container=main",
            json!({"command": ["true"], "pod": null, "cluster": null, "tty": null}),
            format!("{pod}/exec?{usual}{tty}"),
        ),
    ];
    let mut number = 0;
    for (id, target, answer, wanted) in rows {
        for rights in [json!({"token": admin}), json!({"user": "ann", "groups": ["dev", "ops"]})] {
            let mut answer = answer.clone();
            answer.as_object_mut().unwrap().extend(rights.as_object().unwrap().clone());
            authorizer.allow(answer);
            let opened = relay.ask(target, "").await;
            assert_eq!(opened.status, 101, "{id}: {opened:?}");
            let seen = session(&cluster, number).await;
            number += 1;
            assert_eq!(seen.request().target, *wanted, "{id}");
            if rights["token"].is_string() {
                let header = seen.request().header("authorization").map(str::to_owned);
                assert_eq!(header, bearer, "{id}");
                assert_eq!(seen.request().header("impersonate-user"), None, "{id}");
            } else {
                assert_eq!(seen.request().header("impersonate-user"), Some("ann"), "{id}");
                let groups = seen.request().header_lines("impersonate-group");
                assert_eq!(groups, ["dev", "ops"], "{id}");
            }
        }
    }
    assert!(!relay.log().contains(&admin), "{}", relay.log());
}

/// `--no-command` is for callers, and so is a command that an answer does not want.
#[tokio::test]
async fn an_answer_decides_what_is_started() {
    let (cluster, authorizer, relay) = all(&["--no-command"]).await;
    let admin = cluster.token("admin");
    authorizer.allow(json!({"token": admin}));
    let answer = relay.ask(&short(&["true"], ""), "").await;
    answer.assert_refusal(403, "forbidden", "the caller's command");
    // A shell that the answer names is started, and not the command that the caller wants.
    authorizer.allow(json!({"token": admin, "shell": "bash"}));
    assert_eq!(relay.ask(&short(&["id"], ""), "").await.status, 101);
    let seen = session(&cluster, 0).await;
    assert!(seen.request().query().contains("exec%20bash"), "{:?}", seen.request());
}

/// U20: what an authorizer can do wrong. Nothing of it opens a session, nor dials anybody.
#[tokio::test]
async fn a_wrong_answer_opens_nothing() {
    let (cluster, authorizer, relay) = all(&["--authorize-timeout=1s"]).await;
    let other = Authorizer::start().await;
    other.allow(json!({"token": "x"}));
    let json = "Content-Type: application/json";
    let token = format!(r#"{{"token":"{SECRET}"}}"#);
    let cut = yes(&token).split_last().unwrap().1.to_vec();
    let says = |more: &str| yes(&format!(r#"{{"token":"{SECRET}",{more}}}"#));
    let long = format!(r#"{{"token":"{SECRET}","pod":"{}"}}"#, "a".repeat(2 << 20));
    let location = format!("302 Found\r\nLocation: {}\r\n{json}", other.url());
    let rows: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("U20 server", says(r#""server":"https://169.254.169.254""#), 502, "no configured cluster"),
        (
            "U20 server's prefix",
            says(&format!(r#""server":"{}@evil""#, cluster.url())),
            502,
            "no configured cluster",
        ),
        ("U20 cluster", says(r#""cluster":"demo-nobody""#), 502, "no such cluster"),
        ("U20 both", says(r#""cluster":"demo","server":"x""#), 502, "a cluster and a server"),
        ("U20 redirect", response(&location, &token), 502, "answered 302"),
        ("U20 redirect with 307", response(&location.replace("302", "307"), &token), 502, "307"),
        ("U20 2 MiB", yes(&long), 502, "longer than 64 KiB"),
        ("U20 no body", yes(""), 502, "no JSON object"),
        ("U20 204", response("204 No Content", ""), 502, "answered 204"),
        ("U20 201", response(&format!("201 Created\r\n{json}"), &token), 502, "answered 201"),
        ("U20 500", response("500 Oops", ""), 502, "answered 500"),
        ("U20 404", response("404 Not Found", ""), 502, "answered 404"),
        ("U20 unknown field", says(r#""readonly":true"#), 502, "a field is unknown"),
        ("U20 doubled field", says(r#""pod":"a","pod":"b""#), 502, "doubled"),
        ("U20 wrong type", says(r#""readOnly":"true""#), 502, "wrong"),
        ("U20 content type", response("200 OK\r\nContent-Type: text/html", &token), 502, "json"),
        ("U20 no content type", response("200 OK", &token), 502, "application/json"),
        ("U20 cut", cut.clone(), 502, "malformed"),
        ("U20 array", yes(&format!(r#"["{SECRET}"]"#)), 502, "no JSON object"),
        ("U20 no rights", yes("{}"), 502, "a token is needed"),
        ("U20 system user", yes(r#"{"user":"system:admin"}"#), 502, "system:"),
        ("U20 system group", yes(r#"{"user":"a","groups":["system:masters"]}"#), 502, "system:"),
        ("U20 namespace", says(r#""namespace":"..""#), 502, "namespace is not a valid name"),
        ("U20 pod", says(r#""pod":"a/../b""#), 502, "pod is not a valid name"),
        ("U20 empty pod", says(r#""pod":"""#), 502, "pod is missing"),
        ("U20 container", says(r#""container":"A""#), 502, "container is not a valid name"),
        ("U20 shell", says(r#""shell":"sh;id""#), 502, "none of --shells"),
        ("U20 shell and command", says(r#""shell":"sh","command":["a"]"#), 502, "and a shell"),
        ("U20 limit", says(r#""maxSession":"1 day""#), 502, "not a time"),
        ("U20 not HTTP", b"SSH-2.0-OpenSSH_9\r\n".to_vec(), 502, "does not speak HTTP"),
        ("U20 ends", Vec::new(), 502, "authorizer"),
        ("401", response(&format!("401 No\r\n{json}"), &token), 401, "wants a login"),
        ("403", response(&format!("403 No\r\n{json}"), &token), 403, "does not allow"),
    ];
    for (id, bytes, status, words) in rows {
        authorizer.reply(bytes);
        let answer = relay.ask(&short(&["true"], ""), "").await;
        assert_eq!(answer.status, status, "{id}: {answer:?}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{id}: {message}");
        assert!(!message.contains(SECRET), "{id}: {message}");
    }
    for (id, bytes) in [("U20 hangs", Vec::new()), ("U20 hangs in the answer", cut)] {
        authorizer.hang(&bytes);
        let answer = relay.ask(&short(&["true"], ""), "").await;
        answer.assert_refusal(504, "cluster_timeout", id);
        assert!(answer.json()["message"].as_str().unwrap().starts_with("the authorizer"), "{id}");
    }
    let address = authorizer.address;
    drop(authorizer);
    eventually("nobody listens", || std::net::TcpStream::connect(address).is_err()).await;
    let answer = relay.ask(&short(&["true"], ""), "").await;
    answer.assert_refusal(502, "cluster_unreachable", "U20 gone");
    assert!(cluster.requests().is_empty() && other.questions().is_empty());
    assert!(!relay.log().contains(SECRET), "{}", relay.log());
}

#[tokio::test]
async fn what_neither_says_is_missing() {
    let (cluster, authorizer, relay) = all(&[]).await;
    authorizer.allow(json!({"token": cluster.token("admin"), "namespace": "demo"}));
    for (target, words) in [("/exec", "the pod is missing"), ("/exec?pod=A", "the pod is not")] {
        let answer = relay.ask(target, "").await;
        answer.assert_refusal(400, "bad_request", target);
        assert!(answer.json()["message"].as_str().unwrap().contains(words), "{answer:?}");
    }
    authorizer.refuse(401);
    relay.ask("/exec", "").await.assert_refusal(401, "unauthorized", "nothing without a login");
}

/// A page cannot read a failed handshake, so it hears inside its WebSocket what the authorizer says;
/// what it does wrong itself it hears as everybody does.
#[tokio::test]
async fn a_page_is_told_what_the_authorizer_says() {
    let (cluster, authorizer, relay) = all(&["--authorize-timeout=1s"]).await;
    let target = short(&["true"], "");
    for (status, kind, code) in
        [(401, "unauthorized", 4401), (403, "forbidden", 4403), (500, "cluster_protocol", 4502)]
    {
        authorizer.refuse(status);
        relay.v1(&target).await.assert_exit(kind, None, code, "a page").await;
    }
    authorizer.hang(b"");
    relay.v1(&target).await.assert_exit("cluster_timeout", None, 4504, "a page").await;
    relay.until_logged("the authorizer is of no help", 2).await;
    authorizer.allow(json!({"token": cluster.token("admin")}));
    let page = "Origin: http://localhost\r\n";
    relay.ask("/exec?namespace=..", page).await.assert_refusal(400, "bad_request", "names");
    assert!(cluster.requests().is_empty());
}

/// Whoever can reach the relay can make it ask: only so many at once.
#[tokio::test]
async fn only_so_many_callers_wait_for_the_authorizer() {
    let (cluster, authorizer, relay) = all(&["--authorize-timeout=30s"]).await;
    authorizer.hang(b"");
    let target = short(&["true"], "");
    let ask = || async { relay.ask(&target, "").await.status };
    let mut waiting = Vec::new();
    for _ in 0..256 {
        let mut tcp = tokio::net::TcpStream::connect(relay.addr()).await.unwrap();
        tcp.write_all(upgrade(&target, "").as_bytes()).await.unwrap();
        waiting.push(tcp);
    }
    authorizer.asked(256).await;
    assert_eq!(ask().await, 503);
    // Whoever leaves makes room.
    drop(waiting);
    authorizer.allow(json!({"token": cluster.token("admin")}));
    let mut often = tokio::time::interval(std::time::Duration::from_millis(10));
    let let_in = async {
        while ask().await != 101 {
            often.tick().await;
        }
    };
    common::within("there is room again", let_in).await;
}

#[tokio::test]
async fn an_authorizer_is_verified_by_its_authority_and_no_other() {
    let (tls, certified) = common::tls();
    let (_, other) = common::tls();
    let cluster = cluster(Behaviour::default()).await;
    let authorizer = Authorizer::start_tls(tls).await;
    authorizer.allow(json!({"token": cluster.token("admin")}));
    let folder = common::folder();
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        format!("--authorize-ca={}", path.display())
    };
    let (right, wrong) = (file("right", certified.cert.pem()), file("wrong", other.cert.pem()));
    let relay = authorizer.before(&cluster, &[&right]).await;
    assert_eq!(relay.ask(&short(&["true"], ""), "").await.status, 101);
    let relay = authorizer.before(&cluster, &[&wrong]).await;
    let answer = relay.ask(&short(&["true"], ""), "").await;
    answer.assert_refusal(502, "cluster_unreachable", "another authority");
    assert!(answer.json()["message"].as_str().unwrap().contains("the authorizer: tls:"));
    assert_eq!(authorizer.questions().len(), 1);
    // What cannot be a certificate is found out at the start.
    for path in [file("empty", String::new()), "--authorize-ca=/nowhere".to_owned()] {
        let url = authorizer.url();
        let flags = ["podwire", "--auth=hook", "--authorize-url", &url, &path].map(OsString::from);
        let Ok(Command::Serve(config)) = parse(flags, |_| None) else { panic!("{path}") };
        let error = podwire::sources::Sources::read(&config).unwrap_err();
        assert!(error.contains("--authorize-ca ") && error.contains("PEM"), "{error}");
    }
}
