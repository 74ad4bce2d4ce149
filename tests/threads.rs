//! `--threads`: sessions in several threads, and one relay all the same.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{Browser, Relay, Start, cluster, eventually, folder, pipes, short, terminal};
use fake_cluster::{Behaviour, FakeCluster};
use tokio::net::{TcpSocket, UnixStream};

const ADMIN: &[&str] = &["--admin-listen", "127.0.0.1:0"];
const FOUR: &[&str] = &["--threads", "4"];
const QUICK: &[&str] = &["--drain-delay", "1s", "--drain-timeout", "8s"];
const SESSIONS: usize = 40;

/// The threads that serve, by their names, and how often each has waited so far.
fn threads(relay: &Relay) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", relay.pid())).unwrap();
    let status = |path: PathBuf| {
        let status = fs::read_to_string(path.join("status")).ok()?;
        let field = |name: &str| Some(status.split_once(name)?.1.lines().next()?.trim().to_owned());
        Some((field("Name:")?, field("\nvoluntary_ctxt_switches:")?.parse().unwrap()))
    };
    tasks.filter_map(|task| status(task.unwrap().path())).collect()
}

async fn page(relay: &Relay, target: &str) -> Browser {
    let mut page = relay.v1(target).await;
    page.until_output("up").await;
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_spread_over_the_threads_and_one_drain_ends_them_all() {
    let cluster = cluster(Behaviour::default()).await;
    let mut relay = Start::flags(FOUR).and(ADMIN).and(QUICK).before(&cluster).await;
    eventually("four threads", || threads(&relay).len() >= 4).await;
    let before = threads(&relay);
    let names: Vec<&str> = before.keys().map(String::as_str).collect();
    assert_eq!(names, ["podwire", "podwire-1", "podwire-2", "podwire-3"]);
    let mut pages = Vec::new();
    for number in 0..SESSIONS {
        let ignores = "trap '' INT; echo up; while :; do sleep 1000; done";
        let target = if number % 4 == 0 { terminal(ignores) } else { pipes("echo up; cat") };
        pages.push(page(&relay, &target).await);
    }
    relay.until_metric("podwire_sessions_active", 40.0).await;
    // A session alone has several; a thread that has none does not wake up.
    let worked = |(name, waits): &(String, u64)| *waits >= before.get(name).unwrap_or(&0) + 5;
    let further = threads(&relay).into_iter().filter(|(name, _)| name.starts_with("podwire-"));
    assert!(further.filter(worked).count() >= 2, "{before:?} {:?}", threads(&relay));

    let began = Instant::now();
    relay.signal().await;
    let told = pages.into_iter().map(|mut page| {
        tokio::spawn(async move {
            let (exit, close) = page.exit().await;
            assert_eq!((exit["kind"].as_str(), close.code), (Some("drain"), 1012), "{exit}");
        })
    });
    let told = futures_util::future::join_all(told.collect::<Vec<_>>());
    let (code, told) = tokio::join!(relay.ended(), told);
    assert!(told.into_iter().all(|page| page.is_ok()));
    assert_eq!(code, Some(0));
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    relay.until_logged("session end", SESSIONS).await;
    assert_eq!(relay.logged("kind=drain"), SESSIONS);
    for words in ["draining", "drained"] {
        assert_eq!(relay.logged(&format!(" {words} ")), 1, "{words}: {}", relay.log());
    }
}

/// Whoever is not over in time is cut off, and is accounted for like all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_is_cut_off_in_every_thread() {
    let cluster = cluster(Behaviour::default()).await;
    let quick = ["--drain-delay", "0s", "--drain-timeout", "1s", "--hangup-grace", "1m"];
    let mut relay = Start::flags(FOUR).and(&quick).before(&cluster).await;
    let mut pages = Vec::new();
    for _ in 0..12 {
        let ignores = "trap '' INT; echo up; while :; do sleep 1000; done";
        pages.push(page(&relay, &terminal(ignores)).await);
    }
    assert_eq!(relay.terminate().await, Some(0));
    relay.until_logged("session end", pages.len()).await;
    assert_eq!(relay.logged("not over in time"), 1, "{}", relay.log());
    assert_eq!(relay.logged("ended before the session was over"), pages.len());
    drop(pages);
}

#[tokio::test]
async fn limits_are_those_of_all_threads_together() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(FOUR).and(&["--max-sessions", "5"]).before(&cluster).await;
    let mut pages = Vec::new();
    for _ in 0..5 {
        pages.push(page(&relay, &pipes("echo up; cat")).await);
    }
    for _ in 0..20 {
        let answer = relay.ask(&pipes("cat"), "").await;
        answer.assert_refusal(503, "limit", "5 sessions at a time");
    }
    pages.pop().unwrap().leave().await;
    relay.until_logged("session end", 1).await;
    page(&relay, &pipes("echo up; cat")).await;
}

#[tokio::test]
async fn the_rate_is_that_of_all_threads_together() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(FOUR).and(&["--session-rate", "1"]).before(&cluster).await;
    let began = Instant::now();
    let mut opened = 0;
    for _ in 0..SESSIONS {
        let answer = relay.ask(&pipes("true"), "").await;
        opened += u64::from(answer.status == 101);
    }
    // One at once, and one for each second that it took.
    assert!((1..=2 + began.elapsed().as_secs()).contains(&opened), "{opened}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_again_counts_in_every_thread() {
    let (first, second) =
        (cluster(Behaviour::default()).await, cluster(Behaviour::default()).await);
    let relay = Start::flags(FOUR).before(&first).await;
    for _ in 0..12 {
        relay.v1(&pipes("exit 3")).await.assert_exit("exit", Some(3), 1000, "before").await;
    }
    fs::write(relay.folder().join("kubeconfig"), second.kubeconfig()).unwrap();
    relay.reload().await;
    relay.until_logged(" configuration read again ", 1).await;
    for _ in 0..12 {
        relay.v1(&pipes("exit 4")).await.assert_exit("exit", Some(4), 1000, "after").await;
    }
    assert_eq!((first.sessions().len(), second.sessions().len()), (12, 12));
}

fn another(cluster: &FakeCluster, listen: SocketAddr, threads: &str) -> Output {
    let kubeconfig = folder().join("kubeconfig");
    fs::write(&kubeconfig, cluster.kubeconfig()).unwrap();
    // Without an end, were it not refused.
    Command::new("timeout")
        .args(["20", env!("CARGO_BIN_EXE_podwire")])
        .args(["--listen", &listen.to_string(), "--threads", threads, "--admin-listen=off"])
        .args(["--kubeconfig", kubeconfig.to_str().unwrap()])
        .env_clear()
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_has_one_relay_however_many_threads_it_has() {
    let cluster = cluster(Behaviour::default()).await;
    for (first, second) in [("1", "1"), ("1", "4"), ("4", "1"), ("4", "4")] {
        let relay = Start::flags(&["--threads", first]).before(&cluster).await;
        let output = another(&cluster, relay.addr(), second);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{first} and {second}: {said}");
        assert!(said.contains(&format!("cannot listen on {}: ", relay.addr())), "{said}");
        assert!(output.stdout.is_empty(), "it is not ready");
        page(&relay, &pipes("echo up; cat")).await;
    }
}

#[tokio::test]
async fn without_the_flag_there_is_one_thread_and_nobody_shares_its_port() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Relay::start(&cluster).await;
    page(&relay, &pipes("echo up; cat")).await;
    assert!(!threads(&relay).contains_key("podwire-1"), "{:?}", threads(&relay));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    assert!(socket.bind(relay.addr()).is_err());
}

#[tokio::test]
async fn threads_share_a_unix_socket() {
    let cluster = cluster(Behaviour::default()).await;
    let path = folder().join("relay.sock");
    let listen = format!("unix:{}", path.display());
    let mut relay = Start { listen, ..Start::flags(FOUR) }.and(QUICK).before(&cluster).await;
    let mut pages = Vec::new();
    for _ in 0..SESSIONS {
        let unix = UnixStream::connect(&path).await.unwrap();
        let target = short(&["sh", "-c", "echo up; cat"], "&tty=false&proto=podwire.v1");
        let uri = format!("ws://localhost{target}");
        let (socket, response) = tokio_tungstenite::client_async(uri, unix).await.unwrap();
        let mut page = Browser::new(socket, response, true);
        page.until_output("up").await;
        pages.push(page);
    }
    drop(pages);
    relay.until_logged("session end", SESSIONS).await;
    assert_eq!(relay.terminate().await, Some(0));
}
