//! Sessions as people have them, through the real binary, on every kind of cluster.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Kind, both, pipes, session, sha256, short, terminal, within};
use serde_json::json;

on_every_cluster!(
    a_terminal_speaks_podwire_v1,
    a_terminal_speaks_the_seed_dialect,
    stderr_stays_apart_in_podwire_v1,
    stderr_is_merged_where_the_dialect_has_no_place_for_it,
    input_ends_by_half_close,
    every_exit_code_is_told,
    what_cannot_be_started_says_why,
    a_shell_is_found,
);

/// Shell that waits until the terminal has this size. A size and what is typed after it take
/// different ways through a cluster, so nothing else tells that it has come.
fn size_is(size: &str) -> String {
    format!("until [ \"$(stty size)\" = '{size}' ]; do sleep 0.02; done; echo size is {size}")
}

async fn a_terminal_speaks_podwire_v1(kind: Kind) {
    let (cluster, relay) = both(kind).await;
    let script = "read x; echo \"<$x>\"; exit 3";
    let script = [size_is("30 120"), size_is("50 132"), script.to_owned()].join("; ");
    let mut browser = relay.v1(&terminal(&script)).await;
    assert_eq!(browser.response.headers()["sec-websocket-protocol"], "podwire.v1");
    let ready = browser.message("ready").await;
    assert_eq!(browser.messages.len(), 1, "ready is the first message");
    let seen = session(&cluster, 0).await;
    assert_eq!(
        ready,
        json!({
            "type": "ready", "session": seen.request().header("audit-id"),
            "protocol": kind.protocol(), "cluster": "demo", "namespace": "demo",
            "pod": "shell", "container": "main", "tty": true,
        })
    );
    assert_eq!(ready["session"].as_str().unwrap().len(), 36, "a UUID");

    browser.say(r#"{"type":"resize","rows":30,"cols":120}"#).await;
    browser.until_output("size is 30 120").await;
    browser.say(r#"{"type":"ping","id":7}"#).await;
    assert_eq!(browser.message("pong").await, json!({"type": "pong", "id": 7}));
    browser.say(r#"{"type":"resize","rows":50,"cols":132}"#).await;
    browser.until_output("size is 50 132").await;
    browser.say(r#"{"type":"input","data":"w6Q="}"#).await;
    browser.input("\u{20ac}\r").await;
    browser.assert_exit("exit", Some(3), 1000, "exit 3").await;
    let text = browser.text();
    assert!(text.ends_with("<\u{e4}\u{20ac}>\r\n"), "{text:?}");
    let line = relay.until_logged("session end", 1).await;
    assert!(line.contains("kind=exit exit_code=3") && line.contains("process=ended"), "{line}");
}

async fn a_terminal_speaks_the_seed_dialect(kind: Kind) {
    let (_cluster, relay) = both(kind).await;
    for proto in ["", "&proto=seed"] {
        let script = format!("{}; read x; echo \"<$x>\"; exit 3", size_is("30 120"));
        let mut browser = relay.seed(&(terminal(&script) + proto)).await;
        assert!(!browser.response.headers().contains_key("sec-websocket-protocol"));
        browser.say(r#"{"type":"resize","rows":30,"cols":120}"#).await;
        browser.until_output("size is 30 120").await;
        browser.say(r#"{"type":"input","input":"l\u00e4s"}"#).await;
        browser.bytes(b"\r").await;
        let close = browser.ended().await;
        assert_eq!((close.code, &*close.reason), (1000, "exit code 3"));
        let text = browser.text();
        let end = "<l\u{e4}s>\r\n\r\n[podwire: exit code 3]\r\n";
        assert!(text.ends_with(end), "{text:?}");
    }
}

async fn stderr_stays_apart_in_podwire_v1(kind: Kind) {
    let (_cluster, relay) = both(kind).await;
    let mut browser = relay.v1(&pipes("echo out; echo err >&2; echo more")).await;
    browser.assert_exit("exit", Some(0), 1000, "exit 0").await;
    assert_eq!(browser.output, b"out\nmore\n");
    assert_eq!(browser.stderr, b"err\n");
}

async fn stderr_is_merged_where_the_dialect_has_no_place_for_it(kind: Kind) {
    let (_cluster, relay) = both(kind).await;
    let script = "echo out; read x; printf 'e\\303' >&2; read x; echo; read x; printf '\\244' >&2";
    let mut browser = relay.seed(&pipes(script)).await;
    browser.until_output("out\n").await;
    browser.input("\n").await;
    browser.until_output("out\ne").await;
    browser.input("\n").await;
    browser.until_output("out\ne\n").await;
    browser.input("\n").await;
    assert_eq!(browser.ended().await.code, 1000);
    // The cut character waits for its rest, though the other stream spoke between.
    assert_eq!(browser.text(), "out\ne\n\u{e4}\r\n[podwire: exit code 0]\r\n");
}

async fn input_ends_by_half_close(kind: Kind) {
    let (cluster, relay) = both(kind).await;
    let mut browser = relay.v1(&pipes("cat | sha256sum; cat; exit 4")).await;
    browser.bytes(b"hello ").await;
    browser.input("world").await;
    browser.say(r#"{"type":"eof"}"#).await;
    if kind == Kind::V4 {
        let error = browser.message("error").await;
        assert!(error["message"].as_str().unwrap().contains("eof"), "{error}");
        // The session lives: it still takes input, and ends as any other.
        browser.input("!").await;
        let seen = session(&cluster, 0).await;
        within("input after the error", seen.until_stdin(b"hello world!")).await;
        assert!(!seen.facts().frames.iter().any(|frame| frame.channel() == Some(255)));
        browser.leave().await;
        return;
    }
    // Input after its end has nowhere to go, and harms nobody.
    browser.input("lost").await;
    browser.assert_exit("exit", Some(4), 1000, "after eof").await;
    assert_eq!(browser.text(), format!("{}  -\n", sha256(b"hello world")));

    let mut browser = relay.v1(&terminal("read x; exit 5")).await;
    browser.say(r#"{"type":"eof"}"#).await;
    browser.message("error").await;
    browser.input("\r").await;
    browser.assert_exit("exit", Some(5), 1000, "a terminal's input has no end").await;
    let seen = session(&cluster, 1).await;
    assert!(!seen.facts().frames.iter().any(|frame| frame.channel() == Some(255)));
}

async fn every_exit_code_is_told(kind: Kind) {
    let (_cluster, relay) = both(kind).await;
    let table =
        [("exit 0", 0), ("exit 1", 1), ("exit 3", 3), ("kill -9 $$", 137), ("exit 255", 255)];
    for (script, code) in table {
        for target in [pipes(script), terminal(script)] {
            let mut browser = relay.v1(&target).await;
            browser.assert_exit("exit", Some(code), 1000, script).await;
            let mut browser = relay.seed(&target).await;
            let close = browser.ended().await;
            assert_eq!((close.code, close.reason), (1000, format!("exit code {code}")));
        }
    }
    assert_eq!(relay.until_logged("session end", 20).await.matches("kind=exit").count(), 1);
}

/// Each both ways: told to a page inside a WebSocket, and to anybody else with an HTTP status
/// where the cluster said it before the 101.
async fn what_cannot_be_started_says_why(kind: Kind) {
    let (cluster, relay) = both(kind).await;
    let nobody = common::Start::flags(&["--context", "demo-nobody"]).before(&cluster).await;
    let pod = |name: &str| format!("/exec?namespace=demo&pod={name}&command=true");
    let container = "/exec?namespace=demo&pod=shell&container=nope&command=true".to_owned();
    let missing = short(&["no-such-program"], "");
    let rows = [
        ("no program", &relay, missing, "failed", 4422, 101, "executable file not found"),
        ("no pod", &relay, pod("nope"), "not_found", 4404, 404, "pods \"nope\" not found"),
        ("no container", &relay, container, "not_found", 4404, 404, "nope is not valid"),
        ("a pod that is done", &relay, pod("done"), "not_found", 4404, 404, "container not found"),
        ("no rights", &nobody, pod("shell"), "forbidden", 4403, 403, "get and create"),
    ];
    for (what, relay, target, name, code, status, words) in rows {
        let mut page = relay.v1(&target).await;
        page.assert_exit(name, None, code, what).await;
        let exit = page.messages.last().unwrap();
        assert!(exit["message"].as_str().unwrap().contains(words), "{what}: {exit}");
        assert_eq!(exit["retry"], false, "{what}");

        let mut page = relay.seed(&target).await;
        let close = page.ended().await;
        assert_eq!(close.code, code, "{what}");
        assert!(page.text().starts_with("\r\n[podwire: "), "{what}: {}", page.text());
        assert!(page.text().contains(words), "{what}: {}", page.text());

        let answer = relay.ask(&target, "").await;
        // The API server of 1.30 says after its 101 what the others say before.
        if status == 101 || (kind == Kind::V5ApiServer && what == "a pod that is done") {
            assert_eq!(answer.status, 101, "{what}");
            continue;
        }
        answer.assert_refusal(status, name, what);
        assert!(answer.json()["message"].as_str().unwrap().contains(words), "{what}: {answer:?}");
    }
}

async fn a_shell_is_found(kind: Kind) {
    let (_cluster, relay) = both(kind).await;
    let target = "/exec?ns=demo&podName=shell&containerName=";
    let say = "echo \"<$0 $TERM $PODWIRE_SESSION>\"; exit\r";
    for (rest, shell) in [("main", "bash"), ("main&shell=sh", "sh"), ("side", "sh")] {
        let mut browser = relay.v1(&format!("{target}{rest}")).await;
        let ready = browser.message("ready").await;
        browser.input(say).await;
        browser.assert_exit("exit", Some(0), 1000, rest).await;
        let wanted = format!("<{shell} xterm-256color {}>", ready["session"].as_str().unwrap());
        assert!(browser.text().contains(&wanted), "{rest}: {}", browser.text());
    }
}
