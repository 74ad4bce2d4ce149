//! Endings that need more than a row says: a browser that takes nothing, a mistake of our own, and
//! what happens while the cluster is still being asked.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use fake_cluster::{Behaviour, FakeCluster, Gate, Script, Step};
use podwire::config::{Command, parse};
use podwire::listener::Listener;
use podwire::proto::message::Dialect;
use podwire::server::serve;
use podwire::sources::Sources;
use podwire::{Clusters, Own};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::common::{Start, cluster, operate, pipes, session, terminal, within};
use crate::page::{Ended, Page, Telling};
use crate::readers::Told;
use crate::row::{ADMIN, assert_counted, counts, line};

/// What is told of an ending of this kind.
fn telling(kind: &str, is_open: bool) -> Telling<'_> {
    let (_, _, close_code, retry) = line(kind);
    let close_code = close_code.unwrap();
    Telling {
        is_open,
        output: "",
        notice: None,
        kind,
        exit_code: None,
        close_code,
        retry,
        says: "",
    }
}

const FLOOD: &str = "head -c 64000000 /dev/zero | tr '\\0' x";

/// Two pages read nothing until they are given up and then everything, so that they hear why; a
/// third one never reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_takes_nothing_hears_of_it_if_it_ever_reads() {
    let cluster = cluster(Behaviour::default()).await;
    let flags = ["--slow-browser", "1s", "--hangup-grace", "1s"];
    let relay = Start::flags(&flags).and(&ADMIN[..2]).before(&cluster).await;
    let pages = [(0, Dialect::V1), (1, Dialect::Seed)].map(async |(number, dialect)| {
        let page = Page::open(&relay, dialect, &pipes(FLOOD), "").await;
        let Ok(page) = page else { panic!("no session {number}") };
        page
    });
    let mut opened = Vec::new();
    for page in pages {
        opened.push(page.await);
    }
    let never = Page::open(&relay, Dialect::V1, &pipes(FLOOD), "").await;
    for (number, page) in opened.into_iter().enumerate() {
        // The process is told first: it is the one sign that is not in the page's own socket.
        let seen = session(&cluster, number).await;
        let hung_up = seen.until(|facts| {
            facts.frames.iter().any(|frame| frame.payload[..] == [255, 0]).then_some(())
        });
        within("the process is hung up", hung_up).await;
        let dialect = page.dialect;
        let ended = page.ended("slow_browser").await;
        let count: usize = ended.0.iter().map(told_bytes).sum();
        let output = "x".repeat(count);
        let telling = Telling { output: &output, ..telling("slow_browser", true) };
        telling.assert_told(dialect, &ended, "slow_browser");
        assert!(count > 0 && count < 64_000_000, "{count}");
    }
    assert_counted(&relay, "podwire_sessions_ended_total", "slow_browser", 3, "all").await;
    relay.until_logged("session end", 3).await;
    assert_eq!(relay.logged("kind=slow_browser exit_code=- close_code=4408 "), 3);
    drop(never);
}

/// How much of what was told is output of that flood.
fn told_bytes(told: &Told) -> usize {
    match told {
        Told::Output(_, bytes) => bytes.len(),
        Told::Text(text) => text.bytes().take_while(|byte| *byte == b'x').count(),
        _ => 0,
    }
}

/// The server runs inside the test, where a session can be made to break.
async fn broken(cluster: &FakeCluster) -> (SocketAddr, SocketAddr) {
    let flags = ["podwire", "--auth=own", "--session-rate=1000"];
    let Command::Serve(config) = parse(flags.map(OsString::from), |_| None).unwrap() else {
        panic!("nothing to serve");
    };
    let mut config = *config;
    config.hook = Some(|_| panic!("the test's own mistake"));
    let text = cluster.kubeconfig();
    let clusters = Clusters::parse(text.as_bytes(), Path::new("."), None, &[], Own::Included);
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (browsers, operators) = (tcp.local_addr().unwrap(), admin.local_addr().unwrap());
    let (tcp, admin) = (Listener::Tcp(tcp), Listener::Tcp(admin));
    let never = std::future::pending();
    let sources = watch::channel(Sources { clusters: clusters.unwrap(), tls: None }).1;
    tokio::spawn(serve(tcp, Some(admin), config, sources, never));
    (browsers, operators)
}

/// A mistake costs the session that met it, and its user is told that it was ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_of_our_own_is_told_as_one() {
    let cluster = cluster(Behaviour::default()).await;
    let (browsers, operators) = broken(&cluster).await;
    let origin = format!("http://{browsers}");
    for dialect in [Dialect::V1, Dialect::Seed] {
        let page = Page::open_at(browsers, &origin, dialect, &terminal("sleep 1000"), "").await;
        let Ok(page) = page else { panic!("{dialect:?}") };
        let ended = page.ended("internal").await;
        let telling = Telling { says: "the relay made a mistake", ..telling("internal", true) };
        telling.assert_told(dialect, &ended, "internal");
        let Ended(told) = ended;
        assert!(!format!("{told:?}").contains("mistake of"), "a panic's words are nobody's");
    }
    let mut often = tokio::time::interval(std::time::Duration::from_millis(10));
    let counted = async {
        loop {
            let metrics = operate(operators, "GET", "/metrics", "").await.body;
            let counts =
                counts(&String::from_utf8(metrics).unwrap(), "podwire_sessions_ended_total");
            if counts == [("internal".to_owned(), 2)] {
                return;
            }
            often.tick().await;
        }
    };
    within("they are counted", counted).await;
}

/// Before the cluster has answered a session can be ended, too: pages are told inside a WebSocket
/// and others by a status, and what the cluster starts all the same is hung up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_a_session_ends_one_that_is_being_opened() {
    for kind in ["revoked", "drain"] {
        let cluster = cluster(Behaviour::default()).await;
        let flags = ["--drain-delay", "1s", "--drain-timeout", "10s"];
        let mut relay = Start::flags(&flags).and(ADMIN).before(&cluster).await;
        let gate = Gate::new();
        let script = Script::new([Step::Wait(gate.clone()), Step::Honest]);
        cluster.set_behaviour(Behaviour::scripted(script));
        let target = terminal("echo up; sleep 1000");
        let deed = async {
            for number in 0..3 {
                session(&cluster, number).await;
            }
            match kind {
                "drain" => relay.signal().await,
                _ => {
                    for session in relay.sessions().await {
                        assert_eq!(session["state"], "opening", "{session}");
                        let path = format!("/sessions/{}", session["id"].as_str().unwrap());
                        assert_eq!(relay.operate("DELETE", &path).await.status, 202);
                    }
                }
            }
            assert_counted(&relay, "podwire_rejected_total", kind, 3, kind).await;
            gate.open();
        };
        let (v1, seed, answer, ()) = tokio::join!(
            Page::open(&relay, Dialect::V1, &target, ""),
            Page::open(&relay, Dialect::Seed, &target, ""),
            relay.ask(&target, ""),
            deed
        );
        for page in [v1, seed] {
            let Ok(page) = page else { panic!("{kind}") };
            let dialect = page.dialect;
            telling(kind, false).assert_told(dialect, &page.ended(kind).await, kind);
        }
        let (_, status, _, _) = line(kind);
        answer.assert_refusal(status.unwrap(), kind, kind);
        assert_eq!(answer.header("retry-after").is_some(), kind == "drain");
        for number in 0..3 {
            let seen = session(&cluster, number).await;
            let ended = seen.until(|facts| facts.exit_code.filter(|_| facts.closed));
            within("the process is hung up", ended).await;
        }
        if kind == "drain" {
            assert_eq!(relay.ended().await, Some(0));
        }
        assert_eq!(relay.logged("session refused"), 3, "{kind}: {}", relay.log());
        assert_eq!(relay.logged("session end"), 0, "{kind}: nothing was begun");
    }
}
