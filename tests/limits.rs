//! How many sessions there may be, and that one cannot harm another.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Browser, Relay, Start, cluster, folder, pipes, session, short, terminal, within};
use fake_cluster::wire::{self, opcode};
use fake_cluster::{Behaviour, Gate, Script, Step, Upgrade};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ADMIN: &[&str] = &["--admin-listen", "127.0.0.1:0"];
const REJECTED: &str = "podwire_rejected_total{reason=\"limit\"}";

async fn echoes(page: &mut Browser, text: &str) {
    page.input(&format!("{text}\n")).await;
    page.until_output(text).await;
}

/// Asserts that there is room for no more, for callers and for pages.
async fn assert_full(relay: &Relay, target: &str, headers: &[(&'static str, &str)], words: &str) {
    let lines = headers
        .iter()
        .fold(String::new(), |lines, (name, value)| lines + &format!("{name}: {value}\r\n"));
    let answer = relay.ask(target, &lines).await;
    answer.assert_refusal(503, "limit", words);
    assert!(answer.header("retry-after").is_some_and(|it| it.parse::<u32>().is_ok()), "{answer:?}");
    assert!(answer.json()["message"].as_str().unwrap().contains(words), "{answer:?}");
    let v1 = ("sec-websocket-protocol", "podwire.v1");
    let mut page = relay.browser(target, &[&[v1], headers].concat()).await;
    let (exit, close) = page.exit().await;
    assert_eq!((exit["kind"].as_str(), close.code), (Some("limit"), 4429), "{exit}");
    assert_eq!(exit["retry"], true);
    assert!(exit["message"].as_str().unwrap().contains(words), "{exit}");
}

#[tokio::test]
async fn a_session_too_many_is_refused_and_the_others_are_unharmed() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--max-sessions", "3"]).and(ADMIN).before(&cluster).await;
    let mut pages = Vec::new();
    for number in 0..3 {
        pages.push(relay.v1(&pipes("cat")).await);
        echoes(&mut pages[number], "first").await;
    }
    let connections = cluster.connections();
    for _ in 0..10 {
        assert_full(&relay, &pipes("cat"), &[], "3 sessions at a time").await;
    }
    assert_eq!(cluster.connections(), connections, "nobody was dialled for them");
    relay.until_metric(REJECTED, 20.0).await;
    relay.until_logged("session refused", 20).await;
    for page in &mut pages {
        echoes(page, "still").await;
    }
    pages.remove(1).leave().await;
    relay.until_logged("session end", 1).await;
    pages.push(relay.v1(&pipes("cat")).await);
    for page in &mut pages {
        echoes(page, "again").await;
    }
    assert_full(&relay, &pipes("cat"), &[], "3 sessions at a time").await;
}

/// Whoever is being connected to a cluster that does not answer counts, too.
#[tokio::test]
async fn a_session_counts_from_before_its_cluster_is_dialled() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--max-sessions", "1"]).before(&cluster).await;
    let gate = Gate::new();
    cluster.script_next(Script::new([Step::Wait(gate.clone()), Step::Honest]));
    let target = pipes("cat");
    let waiting = relay.v1(&target);
    let others = async {
        session(&cluster, 0).await;
        assert_full(&relay, &pipes("cat"), &[], "1 sessions at a time").await;
        gate.open();
    };
    let (mut page, ()) = tokio::join!(waiting, others);
    echoes(&mut page, "opened").await;
}

#[tokio::test]
async fn a_user_has_a_limit_and_others_have_theirs() {
    let cluster = cluster(Behaviour::default()).await;
    let flags = ["--max-sessions-per-user", "1"];
    let relay = Start::passthrough().and(&flags).and(ADMIN).before(&cluster).await;
    let [admin, execer] = ["admin", "execer"].map(|user| format!("Bearer {}", cluster.token(user)));
    let v1 = ("sec-websocket-protocol", "podwire.v1");
    let mut first = relay.browser(&pipes("cat"), &[v1, ("authorization", &admin)]).await;
    echoes(&mut first, "first").await;
    let connections = cluster.connections();
    let headers = [("authorization", &*admin)];
    assert_full(&relay, &pipes("cat"), &headers, "1 sessions for one user").await;
    // In whatever way the token comes, it is the same one.
    let lower = admin.replace("Bearer", "bearer");
    let headers = [("authorization", &*lower)];
    assert_full(&relay, &pipes("cat"), &headers, "1 sessions for one user").await;
    assert_eq!(cluster.connections(), connections, "nobody was dialled for them");
    let mut other = relay.browser(&pipes("cat"), &[v1, ("authorization", &execer)]).await;
    echoes(&mut other, "other").await;
    echoes(&mut first, "still").await;
    let sessions = relay.sessions().await;
    assert_ne!(sessions[0]["user"], sessions[1]["user"], "{sessions:?}");
    first.leave().await;
    relay.until_logged("session end", 1).await;
    let mut second = relay.browser(&pipes("cat"), &[v1, ("authorization", &admin)]).await;
    echoes(&mut second, "second").await;
    let line = relay.until_logged("session refused", 1).await;
    assert!(line.contains("user=token:") && line.contains("kind=limit"), "{line}");
    for token in [admin, execer] {
        assert!(!relay.log().contains(token.trim_start_matches("Bearer ")));
    }
}

/// Under `own` nobody can be told from another.
#[tokio::test]
async fn without_users_only_the_total_counts() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--max-sessions-per-user", "1"]).before(&cluster).await;
    let mut pages = [relay.v1(&pipes("cat")).await, relay.v1(&pipes("cat")).await];
    for page in &mut pages {
        echoes(page, "both").await;
    }
    relay.until_logged("user=- ", 2).await;
}

#[tokio::test]
async fn too_many_in_a_second_are_refused_and_a_moment_later_not() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--session-rate", "1"]).and(ADMIN).before(&cluster).await;
    let target = pipes("true");
    let asks = (0..30).map(|_| relay.ask(&target, ""));
    let answers = futures_util::future::join_all(asks).await;
    let count = |status| answers.iter().filter(|it| it.status == status).count();
    let (opened, refused) = (count(101), count(503));
    assert!(opened >= 1 && refused >= 15 && opened + refused == 30, "{opened} {refused}");
    for answer in answers.iter().filter(|it| it.status == 503) {
        answer.assert_refusal(503, "limit", "the rate");
        let message = answer.json()["message"].to_string();
        assert!(message.contains("1 sessions a second"), "{message}");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(cluster.sessions().len(), opened, "nobody was dialled for the others");
    let mut often = tokio::time::interval(std::time::Duration::from_millis(50));
    let event = async {
        while relay.ask(&target, "").await.status != 101 {
            often.tick().await;
        }
    };
    within("a session later", event).await;
}

/// What a session may end by, one after the other, where there is room for one.
#[tokio::test]
async fn there_is_room_again_after_every_kind_of_ending() {
    let cluster = cluster(Behaviour::default()).await;
    let flags = ["--max-sessions", "1", "--hangup-grace", "1s", "--max-message", "1KiB"];
    let relay = Start::flags(&flags).and(ADMIN).before(&cluster).await;
    let hanging = terminal("trap '' INT HUP; echo up; while :; do sleep 1000; done");
    for (number, how) in
        ["exit", "code", "close", "abort", "stubborn", "frame", "big", "cut", "silent", "operator"]
            .into_iter()
            .enumerate()
    {
        if how == "silent" {
            let upgraded = Step::Upgrade(Upgrade::honest());
            let words = wire::frame(opcode::BINARY, b"\x01up");
            cluster.script_next(Script::new([upgraded, Step::Send(words.into()), Step::Close]));
        }
        let target = match how {
            "exit" => pipes("echo up"),
            "code" => pipes("echo up; exit 7"),
            "stubborn" => hanging.clone(),
            _ => pipes("echo up; cat"),
        };
        let mut page = relay.v1(&target).await;
        page.until_output("up").await;
        match how {
            "exit" | "code" | "silent" => drop(page.ended().await),
            "close" | "stubborn" => page.leave().await,
            "abort" => page.abort(),
            "frame" => {
                page.raw(&[0xff; 14]).await.unwrap();
                page.ended().await;
            }
            "big" => {
                page.raw(&wire::raw(0x80 | opcode::BINARY, common::MASK, &[0; 4096]))
                    .await
                    .unwrap();
                page.ended().await;
            }
            "cut" => {
                cluster.cut();
                page.ended().await;
            }
            _ => {
                let id = page.messages[0]["session"].as_str().unwrap().to_owned();
                relay.operate("DELETE", &format!("/sessions/{id}")).await;
                page.ended().await;
            }
        }
        relay.until_logged("session end", number + 1).await;
        assert!(relay.sessions().await.is_empty(), "{how}");
    }
    // And after those that were never begun.
    for target in ["/exec?namespace=demo&pod=nope", "/exec?namespace=demo&pod=shell&cluster=nope"] {
        for _ in 0..2 {
            assert_eq!(relay.ask(target, "").await.status, 404);
            assert_eq!(relay.v1(target).await.ended().await.code, 4404);
        }
    }
    relay.v1(&short(&["true"], "")).await.ended().await;
    relay.until_logged("session end", 11).await;
    assert_eq!(relay.logged("session start"), 11);
    relay.until_metric("podwire_sessions_active", 0.0).await;
}

/// Slow heads, long ones and those of many fields, and TLS that is never spoken.
#[tokio::test]
async fn a_head_has_the_limits_that_were_set() {
    let cluster = cluster(Behaviour::default()).await;
    let (_, certified) = common::tls();
    let folder = folder();
    let [cert, key] = ["cert", "key"].map(|name| folder.join(name).display().to_string());
    std::fs::write(&cert, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let flags = ["--head-timeout", "1s", "--max-head", "8KiB", "--max-fields", "10"];
    let relay = Start::flags(&flags).and(ADMIN).before(&cluster).await;
    let secure = Start::flags(&flags).and(&["--tls-cert", &cert, "--tls-key", &key]);
    let secure = secure.before(&cluster).await;
    let before = [relay.descriptors(), secure.descriptors()];
    // A hundred that never finish, at both doors and at the operators'.
    let mut slow = Vec::new();
    for addr in [relay.addr(), relay.admin().await, secure.addr()] {
        for _ in 0..100 {
            let mut tcp = TcpStream::connect(addr).await.unwrap();
            tcp.write_all(b"GET / HTTP/1.1\r\nHost: local").await.unwrap();
            slow.push(tcp);
        }
    }
    // Meanwhile others are served.
    relay.v1(&pipes("exit 3")).await.assert_exit("exit", Some(3), 1000, "beside slow heads").await;
    for tcp in &mut slow {
        // Some are told why, and all are closed, those that speak no TLS with a reset.
        let _ = within("it is closed", tcp.read_to_end(&mut Vec::new())).await;
    }
    for (relay, before) in [&relay, &secure].into_iter().zip(before) {
        relay.until_descriptors(before).await;
    }
    let fields = |count: usize| "X: y\r\n".repeat(count);
    assert_eq!(relay.ask(&pipes("true"), &fields(5)).await.status, 101);
    assert_eq!(relay.ask(&pipes("true"), &fields(6)).await.status, 431);
    let long = |length: usize| format!("X: {}\r\n", "y".repeat(length));
    assert_eq!(relay.ask(&pipes("true"), &long(7000)).await.status, 101);
    assert_eq!(relay.ask(&pipes("true"), &long(8192)).await.status, 431);
}
