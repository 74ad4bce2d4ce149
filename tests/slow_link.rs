//! The last lines of a long output arrive over a slow line, and the exit code behind them: where
//! others cut the tail off and say 0 (kubernetes#124571).

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{Browser, Kind, Relay, Start, both, cluster, short};
use fake_cluster::{Behaviour, Cable, FakeCluster, Speed};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// 2 Mbit/s.
const SPEED: u64 = 2_000_000;

/// Three times what the longest output takes at that speed.
const PATIENCE: Duration = Duration::from_mins(4);

/// A page at the end of this line.
async fn page(relay: &Relay, line: SocketAddr, target: &str) -> Browser {
    let request = relay.request(target, &[("sec-websocket-protocol", "podwire.v1")]);
    Browser::open(TcpStream::connect(line).await.unwrap(), request).await.unwrap()
}

/// What `seq` says. A terminal ends lines with CR and LF.
fn lines(count: u32, tty: bool) -> Vec<u8> {
    let end = if tty { "\r\n" } else { "\n" };
    (1..=count).flat_map(|number| format!("{number}{end}").into_bytes()).collect()
}

/// Reads to the end: every byte is there, and an exit code that the cluster said.
async fn arrives(mut browser: Browser, wanted: Vec<u8>, what: &str) -> Duration {
    let begun = Instant::now();
    let ended = async { while browser.next().await {} };
    timeout(PATIENCE, ended).await.expect("the whole output");
    let took = begun.elapsed();
    let tail = String::from_utf8_lossy(&browser.output[browser.output.len() - 20..]).into_owned();
    assert_eq!(browser.output.len(), wanted.len(), "{what}: it ends with {tail:?}");
    assert!(browser.output == wanted, "{what}: something in between is not as it was");
    browser.assert_exit("exit", Some(0), 1000, what).await;
    println!("{what}: {} bytes in {took:?}", wanted.len());
    took
}

/// Asserts that the line was as slow as it is meant to be.
fn assert_slow(bytes: usize, took: Duration) {
    let least = Duration::from_secs(bytes as u64 * 8 / SPEED);
    assert!(took > least / 2, "{bytes} bytes in {took:?}, over a line of {SPEED} bit/s");
}

/// Five of five, each with a line of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_two_million_lines_arrives_over_a_slow_line() {
    let (_cluster, relay) = both(Kind::V5).await;
    let count = 2_000_000;
    let mut cables = Vec::new();
    let mut sessions = JoinSet::new();
    for number in 0..5 {
        // Three in a terminal and two without.
        let tty = number < 3;
        let cable = Cable::lay(relay.addr(), Speed::both(SPEED)).await.unwrap();
        let rest = if tty { "" } else { "&tty=false" };
        let target = short(&["seq", "1", &count.to_string()], rest);
        let browser = page(&relay, cable.addr(), &target).await;
        cables.push(cable);
        let wanted = lines(count, tty);
        sessions.spawn(async move {
            let what = format!("number {number}, terminal {tty}");
            let length = wanted.len();
            assert_slow(length, arrives(browser, wanted, &what).await);
        });
    }
    while let Some(session) = sessions.join_next().await {
        session.expect("every one of the five");
    }
}

/// A relay that reaches its cluster over a slow line.
async fn far_cluster() -> (FakeCluster, Cable, Relay) {
    let cluster = cluster(Behaviour::default()).await;
    let cable = Cable::lay(cluster.addr(), Speed::both(SPEED)).await.unwrap();
    let here = cluster.addr().to_string();
    let there = cluster.kubeconfig().replace(&here, &cable.addr().to_string());
    let start = Start { kubeconfig: Some(there), ..Start::default() };
    let relay = start.before(&cluster).await;
    (cluster, cable, relay)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_line_arrives_from_a_cluster_behind_a_slow_line() {
    let (_cluster, _cable, relay) = far_cluster().await;
    let count = 200_000;
    let words = ["seq", "1", &count.to_string()];
    let terminal = relay.v1(&short(&words, "")).await;
    let pipes = relay.v1(&short(&words, "&tty=false")).await;
    let (slow, fast) = tokio::join!(
        arrives(terminal, lines(count, true), "a terminal behind a slow line"),
        arrives(pipes, lines(count, false), "pipes behind a slow line"),
    );
    assert_slow(lines(count, true).len(), slow.max(fast));
}
