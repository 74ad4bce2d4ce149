//! The library: scripts, rights, what a test can see, and the end of it all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on should stop; the peer is shared with the replays"
)]

#[path = "replay/ask.rs"]
mod ask;
#[path = "replay/peer.rs"]
mod peer;

use ask::{FRAME, PIPES, TTY, cluster, exec, exec_words, is_alive, request, says, status};
use fake_cluster::{Behaviour, FakeCluster, Gate, Options, Rights, Script, Step, misbehaviour};
use peer::{Peer, soon};

#[tokio::test]
async fn the_end_of_the_cluster_is_the_end_of_every_process() {
    let cluster = cluster(Behaviour::default()).await;
    let script = "nohup sleep 4711 > /dev/null 2>&1 & setsid sleep 4712 & echo =$!=; sleep 4713";
    let mut peer = exec(&cluster, script, TTY).await;
    says(&mut peer, "=\r\n").await;
    let printed = String::from_utf8(peer.channel(1)).unwrap();
    let child: u32 = printed.split('=').nth(1).unwrap().parse().unwrap();
    let shell = cluster.session(0).await.facts().pid.unwrap();
    assert!(is_alive(child) && is_alive(shell));
    drop(peer);
    drop(cluster);
    let gone = async {
        while is_alive(child) || is_alive(shell) {
            tokio::task::yield_now().await;
        }
    };
    soon("the processes' end", gone).await;
}

#[tokio::test]
async fn a_flood_has_its_length_and_its_bytes() {
    let cluster = cluster(Behaviour::default()).await;
    let words = "command=podwire-test-flood&command=100000&";
    let (mut peer, _) = exec_words(&cluster, words, "stdout=true").await;
    peer.until_end().await;
    let frame: Vec<u8> = (0..=250).cycle().take(FRAME).collect();
    let wanted: Vec<u8> = frame.iter().copied().cycle().take(100_000).collect();
    assert!(peer.channel(1) == wanted);
    assert!(status(&peer).contains("Success"));
}

#[tokio::test]
async fn a_script_waits_for_the_test_and_comes_only_once() {
    let cluster = cluster(Behaviour::default()).await;
    let gate = Gate::new();
    let refusal = misbehaviour::named("503").unwrap().0;
    let steps = std::iter::once(Step::Wait(gate.clone())).chain(refusal);
    cluster.script_next(Script::new(steps));
    gate.open();
    let (_, status) = exec_words(&cluster, "command=true&", PIPES).await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    exec(&cluster, "true", PIPES).await.until_end().await;
}

/// The names that answer at all, and with what.
#[tokio::test]
async fn misbehaviours_do_what_their_names_say() {
    let table = [
        ("status-then-reset", "101", "hello\r\n", Some(3)),
        ("split-status", "101", "hello\r\n", Some(3)),
        ("no-status", "101", "hello\r\n", None),
        ("unknown-channels", "101", "hello\r\n", Some(0)),
        ("early-frames", "101", "hello\r\n", Some(3)),
        ("split-utf8", "101", "a\u{e4}\u{20ac}\u{1f600}z", Some(0)),
        ("100-continue", "100", "", None),
        ("redirect", "302", "", None),
        ("403-empty", "403", "", None),
        ("502-html", "502", "", None),
    ];
    for (name, code, output, exit) in table {
        let cluster = cluster(Behaviour::scripted(misbehaviour::named(name).unwrap())).await;
        let (mut peer, line) = exec_words(&cluster, "command=true&", PIPES).await;
        assert!(line.starts_with(&format!("HTTP/1.1 {code} ")), "{name}: {line}");
        if code != "101" {
            continue;
        }
        peer.until_end().await;
        assert_eq!(String::from_utf8(peer.channel(1)).unwrap(), output, "{name}");
        let said = match exit {
            Some(0) => "Success",
            Some(_) => "exit code 3",
            None => "",
        };
        assert!(
            status(&peer).contains(said) && status(&peer).is_empty() == exit.is_none(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn access_reviews_follow_the_rights() {
    let cluster = cluster(Behaviour::default()).await;
    let ask = async |user: &str| {
        let mut peer = Peer::connect(&cluster).await;
        let body = r#"{"spec":{"resourceAttributes":{"namespace":"demo","verb":"create","resource":"pods","subresource":"exec"}}}"#;
        let head = format!(
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews HTTP/1.1\r\nHost: x\r\n\
             Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            cluster.token(user),
            body.len()
        );
        peer.send(head.as_bytes()).await;
        let (line, headers) = soon("the response", peer.head()).await;
        assert_eq!(line, "HTTP/1.1 201 Created");
        let length = headers.iter().find(|(name, _)| name == "Content-Length").unwrap();
        let body = peer.body(length.1.parse().unwrap()).await;
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["status"]["allowed"] == true
    };
    assert!(ask("execer").await);
    assert!(!ask("nobody").await);
    cluster.set_rights("execer", Rights::none());
    assert!(!ask("execer").await);
}

#[tokio::test]
async fn an_impersonated_user_has_his_own_rights() {
    let cluster = cluster(Behaviour::default()).await;
    let path = "GET /api/v1/namespaces/demo/pods/shell HTTP/1.1";
    let mut peer = request(&cluster, &format!("{path}\r\nImpersonate-User: alice")).await;
    assert!(peer.head().await.0.contains("403"));
    cluster.set_rights("group:dev", Rights::all());
    let groups = "Impersonate-User: alice\r\nImpersonate-Group: ops\r\nImpersonate-Group: dev";
    let mut peer = request(&cluster, &format!("{path}\r\n{groups}")).await;
    assert!(peer.head().await.0.contains("200"));
}

#[tokio::test]
async fn an_old_cluster_speaks_only_what_it_knows() {
    let cluster = cluster(Behaviour::only(&["v4.channel.k8s.io"])).await;
    let (mut peer, line) = exec_words(&cluster, "command=true&", PIPES).await;
    assert_eq!(line, "HTTP/1.1 403 Forbidden");
    peer.until_end().await;
    assert_eq!(cluster.sessions()[0].facts().answered, Some(403));
}

#[tokio::test]
async fn a_client_certificate_is_admin() {
    let cluster = cluster(Behaviour::default()).await;
    let identity = cluster.client_identity();
    let mut peer = Peer::connect_as(&cluster, Some(identity), b"http/1.1").await;
    peer.send(b"GET /api/v1/namespaces/demo/pods HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(soon("the response", peer.head()).await.0, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_peer_that_takes_h2_gets_nothing() {
    let options = Options { offer_h2: true, ..Options::default() };
    let cluster = FakeCluster::start(options).await.unwrap();
    let mut peer = Peer::connect_as(&cluster, None, b"h2").await;
    peer.until_end().await;
    assert!(peer.frames.is_empty());
}
