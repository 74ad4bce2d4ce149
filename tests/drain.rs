//! The end of the relay itself: not ready, still accepting, told, hung up, gone.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use common::{
    Answer, Browser, PATIENCE, Relay, Start, cluster, exchange, operate, pipes, session, terminal,
    upgrade, within,
};
use fake_cluster::{Behaviour, Gate, Script, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ADMIN: &[&str] = &["--admin-listen", "127.0.0.1:0"];
/// A quarter of the timeout is what users have to read why, so here a second.
const QUICK: &[&str] = &["--drain-delay", "1s", "--drain-timeout", "4s"];
const SESSIONS: usize = 100;

/// Asserts what a page sees of a drain, until its connection ends.
async fn assert_drained(page: &mut Browser) {
    let (exit, close) = page.exit().await;
    assert_eq!((exit["kind"].as_str(), close.code), (Some("drain"), 1012), "{exit}");
    assert_eq!(exit["retry"], true);
    let notices: Vec<_> = page.messages.iter().filter(|it| it["type"] == "notice").collect();
    let [notice] = &*notices else { panic!("{:?}", page.messages) };
    assert_eq!(notice["kind"], "drain");
    assert!(notice["message"].as_str().is_some_and(|it| !it.is_empty()), "{notice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_pages_are_told_and_closed_and_the_exit_code_is_0() {
    let cluster = cluster(Behaviour::default()).await;
    let mut relay = Start::flags(ADMIN).before(&cluster).await;
    let mut pages = Vec::new();
    for number in 0..SESSIONS {
        // Terminals, pipes, what prints all the time, and what ignores the interrupt.
        let target = match number % 4 {
            0 => terminal("echo up; sleep 1000"),
            1 => pipes("echo up; cat"),
            2 => pipes("echo up; while echo x; do sleep 0.1; done"),
            _ => terminal("trap '' INT; echo up; while :; do sleep 1000; done"),
        };
        let mut page = relay.v1(&target).await;
        page.until_output("up").await;
        pages.push(page);
    }
    relay.until_metric("podwire_sessions_active", 100.0).await;
    let began = Instant::now();
    relay.signal().await;
    let pages = pages.into_iter().map(|mut page| {
        tokio::spawn(async move {
            assert_drained(&mut page).await;
        })
    });
    let told = futures_util::future::join_all(pages.collect::<Vec<_>>());
    let (code, told) = tokio::join!(relay.ended(), told);
    assert!(told.into_iter().all(|page| page.is_ok()));
    assert_eq!(code, Some(0));
    // Accepting for 3 s, read for 5 s, hung up for 5 s; never more than 3 s and 22 s.
    let took = began.elapsed();
    assert!((Duration::from_secs(8)..Duration::from_secs(25)).contains(&took), "{took:?}");
    relay.until_logged("session end", SESSIONS).await;
    assert_eq!(relay.logged("kind=drain"), SESSIONS);
    assert_eq!(relay.logged("not over in time"), 0);
    for number in 0..SESSIONS {
        // A pipe has an end of input in place of the interrupt.
        let facts = session(&cluster, number).await.facts();
        let asked = facts.channel(0).first() == Some(&3) || !facts.channel(255).is_empty();
        assert!(asked, "{number}: {facts:?}");
    }
}

#[tokio::test]
async fn it_is_not_ready_at_once_and_accepts_for_a_while() {
    let cluster = cluster(Behaviour::default()).await;
    let mut relay = Start::flags(QUICK).and(ADMIN).before(&cluster).await;
    let admin = relay.admin().await;
    let ask = async |path| operate(admin, "GET", path, "").await;
    assert_eq!(ask("/readyz").await.status, 200);
    let mut before = relay.v1(&pipes("cat")).await;
    relay.signal().await;
    relay.until_logged("draining", 1).await;
    for path in ["/readyz", "/readyz?verbose"] {
        let answer = ask(path).await;
        assert_eq!((answer.status, &*answer.body), (503, &b"draining\n"[..]));
    }
    assert_eq!(ask("/livez").await.status, 200, "it is at work");
    relay.until_metric("podwire_draining", 1.0).await;
    // Whoever was sent here a moment ago is not sent away.
    let mut during = relay.v1(&pipes("echo up; cat")).await;
    during.until_output("up").await;
    let addr = relay.addr();
    let (code, ()) = tokio::join!(relay.ended(), async {
        tokio::join!(assert_drained(&mut before), assert_drained(&mut during));
    });
    assert_eq!(code, Some(0));
    assert!(TcpStream::connect(addr).await.is_err());
}

/// Connections that are kept for a next request, and such as never sent one, hold nobody up.
#[tokio::test]
async fn nobody_waits_for_connections_without_a_request() {
    let cluster = cluster(Behaviour::default()).await;
    let flags = ["--drain-delay", "1s", "--drain-timeout", "22s"];
    let mut relay = Start::flags(&flags).before(&cluster).await;
    let mut silent = TcpStream::connect(relay.addr()).await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (answer, _, mut kept) = exchange(relay.addr(), request.as_bytes()).await.unwrap();
    let is_kept = answer.header("connection") != Some("close");
    assert_eq!(
        (answer.status, is_kept),
        if cfg!(feature = "ui") { (200, true) } else { (404, false) }
    );
    let began = Instant::now();
    relay.signal().await;
    for tcp in [&mut silent, &mut kept] {
        within("it is closed", tcp.read_to_end(&mut Vec::new())).await.unwrap();
    }
    assert_eq!(relay.ended().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// A request on a connection that was there before comes too late for a session.
#[tokio::test]
async fn after_the_delay_there_are_no_new_sessions() {
    let cluster = cluster(Behaviour::default()).await;
    let mut relay = Start::flags(QUICK).before(&cluster).await;
    // Its page is held up by a browser that reads on, so the relay is there for a while.
    let mut page = relay.v1(&terminal("trap '' INT; echo up; while :; do sleep 1000; done")).await;
    page.until_output("up").await;
    // Half a head keeps a connection open; the rest of it comes when sessions are being ended.
    let mut late = TcpStream::connect(relay.addr()).await.unwrap();
    let request = upgrade(&pipes("true"), "");
    let (first, rest) = request.split_at(20);
    late.write_all(first.as_bytes()).await.unwrap();
    relay.signal().await;
    page.message("notice").await;
    let sessions = cluster.sessions().len();
    late.write_all(rest.as_bytes()).await.unwrap();
    let mut text = String::new();
    within("a refusal", late.read_to_string(&mut text)).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("\"drain\""), "{text}");
    assert!(text.contains("retry-after: "), "{text}");
    assert_eq!(cluster.sessions().len(), sessions, "no cluster was dialled for it");
    assert_drained(&mut page).await;
    drop(page);
    assert_eq!(relay.ended().await, Some(0));
}

/// The cluster has not answered yet: callers and pages are told at once, and what the cluster
/// starts then is hung up.
#[tokio::test]
async fn a_session_that_is_being_opened_is_told_at_once() {
    let cluster = cluster(Behaviour::default()).await;
    let flags = ["--drain-delay", "1s", "--drain-timeout", "22s"];
    let mut relay = Start::flags(&flags).before(&cluster).await;
    let gate = Gate::new();
    let mut waiting = Vec::new();
    for (number, is_page) in [false, true].into_iter().enumerate() {
        cluster.script_next(Script::new([Step::Wait(gate.clone()), Step::Honest]));
        let addr = relay.addr();
        let origin = if is_page { format!("Origin: http://{addr}\r\n") } else { String::new() };
        let request = upgrade(&terminal("echo up; sleep 1000"), &origin)
            .replace("Host: localhost", &format!("Host: {addr}"));
        waiting.push(tokio::spawn(async move { exchange(addr, request.as_bytes()).await }));
        session(&cluster, number).await;
    }
    relay.signal().await;
    let mut answers: Vec<(Answer, Vec<u8>, TcpStream)> = Vec::new();
    for waiting in waiting {
        answers.push(waiting.await.unwrap().unwrap());
    }
    let (answer, rest, tcp) = answers.pop().unwrap();
    assert_eq!(answer.status, 101);
    let mut page = Browser::continued(tcp, rest).await;
    assert_eq!(page.ended().await.code, 1012);
    answers.pop().unwrap().0.assert_refusal(503, "drain", "while it is opened");
    relay.until_logged("session refused", 2).await;
    gate.open();
    for number in 0..2 {
        let seen = session(&cluster, number).await;
        let keys = seen.until(|facts| facts.closed.then(|| facts.channel(0)));
        let keys = within("it is hung up", keys).await;
        assert_eq!(keys.first(), Some(&3), "{keys:?}");
    }
    assert_eq!(relay.ended().await, Some(0));
}

/// Somebody is in a hurry.
#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let cluster = cluster(Behaviour::default()).await;
    let mut relay = Start::default().before(&cluster).await;
    let mut page = relay.v1(&terminal("echo up; sleep 1000")).await;
    page.until_output("up").await;
    let began = Instant::now();
    relay.signal().await;
    relay.until_logged("draining", 1).await;
    relay.signal().await;
    assert_eq!(relay.ended().await, Some(1));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

/// A browser that takes nothing, in front of a process that never stops printing.
#[tokio::test]
async fn a_browser_that_takes_nothing_is_not_waited_for() {
    let cluster = cluster(Behaviour::default()).await;
    let mut relay = Start::flags(QUICK).before(&cluster).await;
    let mut page = relay.v1(&pipes("yes")).await;
    page.until("some output", |it| !it.output.is_empty()).await;
    let seen = session(&cluster, 0).await;
    let began = Instant::now();
    relay.signal().await;
    assert_eq!(relay.ended().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(6).max(PATIENCE / 4), "{:?}", began.elapsed());
    within("the cluster's end", seen.until(|facts| facts.closed.then_some(()))).await;
}

/// Without a session there is nothing to wait for but the delay.
#[tokio::test]
async fn an_idle_relay_ends_after_the_delay() {
    let cluster = cluster(Behaviour::default()).await;
    let mut relay: Relay = Start::flags(QUICK).before(&cluster).await;
    let began = Instant::now();
    assert_eq!(relay.terminate().await, Some(0));
    assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&began.elapsed()));
}
