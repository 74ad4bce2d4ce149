//! Attached to what a container does anyway: it was there before the session, and stays behind it.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Browser, Kind, Relay, Start, both, cluster, eventually, session, within};
use fake_cluster::{Behaviour, FakeCluster, Rights};
use serde_json::json;

on_every_cluster!(
    whoever_attaches_talks_to_the_main_process,
    who_leaves_ends_nothing_and_types_nothing,
    a_terminal_is_asked_to_draw_again,
);

/// Kubernetes' own path; there is no short form. `main` has a terminal and `side` has none.
fn attach(container: &str) -> String {
    let flags = match container {
        "main" => "stdin=true&stdout=true&tty=true",
        _ => "stdin=true&stdout=true&stderr=true",
    };
    format!("/api/v1/namespaces/demo/pods/shell/attach?container={container}&{flags}")
}

async fn pid(cluster: &FakeCluster, number: usize) -> u32 {
    let seen = session(cluster, number).await;
    within("a process", seen.until(|facts| facts.pid)).await
}

fn is_alive(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

async fn whoever_attaches_talks_to_the_main_process(kind: Kind) {
    let (cluster, relay) = both(kind).await;
    for (number, container) in ["main", "side"].into_iter().enumerate() {
        let mut browser = relay.v1(&attach(container)).await;
        let ready = browser.message("ready").await;
        assert_eq!(ready["container"], container);
        assert_eq!(ready["tty"], container == "main");
        let end = if container == "main" { "\r" } else { "\n" };
        browser.input(&format!("hello{end}")).await;
        browser.until_output("main: hello").await;
        if container == "side" {
            browser.input("stderr trouble\n").await;
            browser.until("stderr", |it| it.stderr == b"main: trouble\n").await;
        }
        // There is no exit code: the cluster says `Success` whatever it was.
        browser.input(&format!("exit 3{end}")).await;
        browser.assert_exit("exit", None, 1000, container).await;
        let line = relay.until_logged("session end", number + 1).await;
        assert!(line.contains("kind=exit exit_code=-"), "{line}");
        assert!(line.contains("process=ended") && line.contains("hangup=none"), "{line}");
    }
    assert_eq!(cluster.sessions().len(), 2);
}

/// Output since the attachment, to all who are there; the seed dialect as well.
#[tokio::test]
async fn two_who_attach_see_the_same() {
    let (cluster, relay) = both(Kind::V5).await;
    let mut one = relay.v1(&attach("main")).await;
    one.input("first\r").await;
    one.until_output("main: first").await;
    let mut two = relay.seed(&attach("main")).await;
    assert_eq!(pid(&cluster, 0).await, pid(&cluster, 1).await);
    two.input("second\r").await;
    one.until_output("main: second").await;
    two.until_output("main: second").await;
    assert!(!two.text().contains("first"), "{}", two.text());
    one.input("exit\r").await;
    one.assert_exit("exit", None, 1000, "one").await;
    assert_eq!(two.ended().await.code, 1000);
}

async fn who_leaves_ends_nothing_and_types_nothing(kind: Kind) {
    let (cluster, relay) = both(kind).await;
    let mut number = 0;
    for container in ["main", "side"] {
        let mut first = None;
        for how in ["close", "abort", "close"] {
            let mut browser = relay.v1(&attach(container)).await;
            let end = if container == "main" { "\r" } else { "\n" };
            browser.input(&format!("hello{end}")).await;
            browser.until_output("main: hello").await;
            let main = pid(&cluster, number).await;
            assert_eq!(*first.get_or_insert(main), main, "{container}: it is the same");
            if how == "close" {
                browser.leave().await;
            } else {
                browser.abort();
            }
            let seen = session(&cluster, number).await;
            within("the end", seen.until(|facts| facts.closed.then_some(()))).await;
            number += 1;
            let line = relay.until_logged("session end", number).await;
            assert!(line.contains("hangup=none"), "{line}");
            assert!(line.contains("process=unknown"), "{line}");
            let facts = seen.facts();
            assert_eq!(facts.channel(0), format!("hello{end}").as_bytes(), "nothing is typed");
            assert!(!facts.frames.iter().any(|frame| frame.channel() == Some(255)), "{how}");
            assert!(is_alive(main), "{container} {how}");
        }
    }
    assert_eq!(cluster.sessions().len(), number, "no second step");
}

/// A program draws anew only when the size is another, so kubectl says one that is a little off
/// first, and so does the relay.
async fn a_terminal_is_asked_to_draw_again(kind: Kind) {
    let (cluster, relay) = both(kind).await;
    for number in 0..2 {
        let mut browser = relay.v1(&(attach("main") + "&cols=100&rows=30")).await;
        browser.input("hello\r").await;
        browser.until_output("main: hello").await;
        let seen = session(&cluster, number).await;
        let right = |facts: &fake_cluster::Facts| facts.sizes.last() == Some(&(100, 30));
        within("the size", seen.until(|facts| right(facts).then_some(()))).await;
        let sizes = seen.facts().sizes;
        assert!(sizes.len() >= 2 && sizes[sizes.len() - 2] != (100, 30), "{sizes:?}");
        browser.leave().await;
    }
}

/// Relayed until the limits, the operators or the relay itself end it; never hung up.
#[tokio::test]
async fn a_session_that_is_ended_leaves_the_main_process_alone() {
    let cluster = cluster(Behaviour::default()).await;
    let strict = Start::flags(&["--idle-timeout", "2s"]).before(&cluster).await;
    open(&strict).await.assert_exit("idle", None, 4408, "idle").await;
    let flags = ["--drain-delay", "0s", "--drain-timeout", "8s"];
    let mut relay = Start::flags(&flags).before(&cluster).await;
    let mut last = open(&relay).await;
    let (code, ()) =
        tokio::join!(relay.terminate(), last.assert_exit("drain", None, 1012, "stopped"));
    assert_eq!(code, Some(0));
    for number in 0..2 {
        let seen = session(&cluster, number).await;
        within("the end", seen.until(|facts| facts.closed.then_some(()))).await;
        assert_eq!(seen.facts().channel(0), b"hello\r");
    }
    assert!(is_alive(pid(&cluster, 1).await));
    assert_eq!(pid(&cluster, 0).await, pid(&cluster, 1).await);
}

async fn open(relay: &Relay) -> Browser {
    let mut browser = relay.v1(&attach("main")).await;
    browser.input("hello\r").await;
    browser.until_output("main: hello").await;
    browser
}

/// The cluster dies under it: that is told, and not an end of the process.
#[tokio::test]
async fn a_cluster_that_is_lost_is_no_end_of_the_process() {
    let (cluster, relay) = both(Kind::V5).await;
    let mut browser = open(&relay).await;
    cluster.cut();
    browser.assert_exit("cluster_lost", None, 4502, "cut").await;
    let main = pid(&cluster, 0).await;
    eventually("the end is logged", || relay.logged("session end") == 1).await;
    assert!(is_alive(main));
}

/// It needs rights of its own, and the terminal is what the container has.
#[tokio::test]
async fn what_cannot_be_attached_to_is_said() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::passthrough().before(&cluster).await;
    let attached = async |user: &str, target: &str| {
        let bearer = format!("Bearer {}", cluster.token(user));
        let offers = [("sec-websocket-protocol", "podwire.v1"), ("authorization", &bearer)];
        relay.browser(target, &offers).await
    };
    let mut browser = attached("execer", &attach("main")).await;
    browser.assert_exit("forbidden", None, 4403, "exec is not attach").await;
    cluster.set_rights("execer", Rights::of(&[("*", "pods/attach")]));
    let mut browser = attached("execer", &attach("main")).await;
    browser.input("exit\r").await;
    browser.assert_exit("exit", None, 1000, "attach is not exec").await;
    // A terminal where there is none, and none where there is one.
    for (right, wrong) in [("container=main", "container=side"), ("tty=true", "tty=false")] {
        let mut browser = attached("execer", &attach("main").replace(right, wrong)).await;
        let (exit, close) = browser.exit().await;
        assert_eq!(exit["exitCode"], json!(null), "{exit}");
        assert_ne!(close.code, 1000, "{wrong}: {exit}");
    }
    // What would be run says nothing about what runs.
    let before = cluster.sessions().len();
    let mut browser = attached("execer", &(attach("main") + "&command=rm")).await;
    browser.input("hello\r").await;
    browser.until_output("main: hello").await;
    let query = session(&cluster, before).await.request().query().to_owned();
    assert!(!query.contains("command"), "{query}");
}
