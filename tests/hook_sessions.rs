//! What an authorizer decides about a session holds while it lasts, and is decided again.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Authorizer, Relay, cluster, response, session, terminal, yes};
use fake_cluster::{Behaviour, FakeCluster, Rights};
use serde_json::{Value, json};

async fn all(flags: &[&str]) -> (FakeCluster, Authorizer, Relay) {
    let cluster = cluster(Behaviour::default()).await;
    let authorizer = Authorizer::start().await;
    let relay = authorizer.before(&cluster, flags).await;
    (cluster, authorizer, relay)
}

/// A session that may be watched: nothing that is typed reaches it, and all else works.
#[tokio::test]
async fn a_session_that_is_read_only_takes_no_input() {
    let (cluster, authorizer, relay) = all(&[]).await;
    authorizer.allow(json!({"token": cluster.token("admin"), "readOnly": true}));
    let script = "trap 'exit 7' WINCH; echo rea''dy; while :; do sleep 0.05; done";
    for dialect in ["podwire.v1", ""] {
        let protocol = [("sec-websocket-protocol", dialect)];
        let headers = if dialect.is_empty() { &[][..] } else { &protocol };
        let mut page = relay.browser(&terminal(script), headers).await;
        page.until_output("ready").await;
        page.input("exit 5\r").await;
        page.bytes(b"\x03\x04").await;
        page.say(r#"{"type":"resize","rows":30,"cols":120}"#).await;
        let close = page.ended().await;
        assert_eq!(close.code, 1000, "{dialect}: {close:?}");
        assert!(close.reason.contains('7'), "{dialect}: {close:?}");
    }
    for number in 0..2 {
        let stdin = session(&cluster, number).await.facts().channel(0);
        assert!(stdin.is_empty(), "{stdin:?}");
    }
    // Whoever leaves is seen off all the same.
    let mut page = relay.v1("/exec?namespace=demo&pod=shell&container=main").await;
    page.message("ready").await;
    page.leave().await;
    let end = relay.until_logged(" session end ", 3).await;
    assert!(end.contains("hangup=signal"), "{end}");
}

/// Limits of an answer shorten those of the relay and never lengthen them.
#[tokio::test]
async fn limits_are_only_ever_shortened() {
    let rows: [(&str, &[&str], Value); 4] = [
        ("max_session", &[], json!({"maxSession": "1s"})),
        ("max_session", &["--max-session=1s"], json!({"maxSession": "9h", "idleTimeout": "9h"})),
        ("idle", &[], json!({"idleTimeout": "1s"})),
        ("idle", &["--idle-timeout=1s"], json!({"idleTimeout": "9h"})),
    ];
    for (kind, flags, mut limits) in rows {
        let (cluster, authorizer, relay) = all(flags).await;
        limits["token"] = cluster.token("admin").into();
        authorizer.allow(limits.clone());
        let mut page = relay.v1(&terminal("read x")).await;
        let exit = page.message("exit").await;
        assert_eq!(exit["kind"], kind, "{flags:?} {limits}: {exit}");
    }
}

/// What is decided is decided again while the session lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_when_the_answer_is_another() {
    let first = json!({"user": "ann", "groups": ["a", "b"], "namespace": "demo", "pod": "shell"});
    let with = |name: &str, value: Value| {
        let mut answer = first.clone();
        answer[name] = value;
        answer
    };
    let yes = |answer: Value| yes(&answer.to_string());
    let rows = [
        ("403", response("403 No", ""), "does not allow"),
        ("401", response("401 No", ""), "does not allow"),
        ("another pod", yes(with("pod", "done".into())), "something else"),
        ("another cluster", yes(with("cluster", "demo".into())), "something else"),
        ("another user", yes(with("user", "bob".into())), "something else"),
        ("another group", yes(with("groups", json!(["a"]))), "something else"),
        ("a token", yes(json!({"token": "x", "namespace": "demo", "pod": "shell"})), "else"),
        ("read only", yes(with("readOnly", true.into())), "something else"),
        ("another command", yes(with("command", json!(["id"]))), "something else"),
        ("500", response("500 No", ""), "could not be checked"),
        ("nonsense", yes(json!([])), "could not be checked"),
    ];
    let ends = rows.map(|(id, then, words)| {
        let first = first.clone();
        async move {
            let (cluster, authorizer, relay) = all(&["--recheck=1s", "--recheck-grace=1s"]).await;
            cluster.set_rights("ann", Rights::all());
            authorizer.allow(first);
            let mut page = relay.v1(&terminal("echo rea''dy; read x")).await;
            page.until_output("ready").await;
            authorizer.asked(3).await;
            authorizer.reply(then);
            let exit = page.message("exit").await;
            assert_eq!(exit["kind"], "revoked", "{id}: {exit}");
            assert!(exit["message"].as_str().unwrap().contains(words), "{id}: {exit}");
            let questions = authorizer.questions();
            let same = questions.iter().all(|it| it.headers == questions[0].headers);
            assert!(same, "{id}: {questions:?}");
        }
    });
    futures_util::future::join_all(ends).await;
}

/// A newer token and another order of groups are no other decision.
#[tokio::test]
async fn a_session_goes_on_with_a_newer_token() {
    let (cluster, authorizer, relay) = all(&["--recheck=1s"]).await;
    authorizer.allow(json!({"token": cluster.token("execer")}));
    let mut page = relay.v1(&terminal("echo rea''dy; read x; exit 3")).await;
    page.until_output("ready").await;
    authorizer.allow(json!({"token": "newer", "maxSession": "5h"}));
    cluster.set_token("execer", "newer");
    let reviewed = cluster.request(|request| {
        request.path().contains("selfsubjectaccessreviews")
            && request.header("authorization") == Some("Bearer newer")
    });
    common::within("a review with the newer token", reviewed).await;
    // One that cannot be had for a moment ends nothing.
    authorizer.refuse(503);
    relay.until_logged("access not checked", 1).await;
    authorizer.allow(json!({"token": "newer"}));
    let asked = authorizer.questions().len();
    authorizer.asked(asked + 2).await;
    page.input("\r").await;
    page.assert_exit("exit", Some(3), 1000, "a newer token").await;
}
