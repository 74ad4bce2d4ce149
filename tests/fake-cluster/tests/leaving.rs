//! What becomes of a session and its process when nothing moves, and when the peer leaves.
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

use std::time::Duration;

use ask::{PIPES, TTY, V4, V5, close_code, cluster, command, exec, is_alive, pong, says, status};
use ask::{typed, until};
use fake_cluster::{Behaviour, FakeCluster, Mode, Session};
use peer::{Peer, soon};

/// Short enough to wait for, long enough for a busy machine to send something in between.
const LIMIT: Duration = Duration::from_secs(1);
const OFTEN: Duration = Duration::from_millis(100);

async fn session(cluster: &FakeCluster, number: usize) -> Session {
    soon("the session", cluster.session(number)).await
}

async fn pid(cluster: &FakeCluster, number: usize) -> u32 {
    soon("the process", session(cluster, number).await.until(|facts| facts.pid)).await
}

/// How many bytes a process has written so far.
fn written(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|count| count.parse().ok()).unwrap_or_default()
}

/// Sends this frame again and again for so long. Its peer must be there all the time.
async fn keep(peer: &mut Peer, opcode: u8, payload: &[u8], time: Duration) {
    let mut ticks = tokio::time::interval(OFTEN);
    for _ in 0..time.as_millis() / OFTEN.as_millis() {
        ticks.tick().await;
        peer.frame(opcode, true, true, payload).await;
    }
    pong(peer).await;
}

/// As [`keep`], until the connection ends, which it must within a few times the limit.
async fn keep_in_vain(peer: &mut Peer, opcode: u8, payload: &[u8]) {
    let mut ticks = tokio::time::interval(OFTEN);
    let ended = async {
        while !peer.ended {
            ticks.tick().await;
            // It may have ended just now.
            let _ = peer.try_frame(opcode, payload).await;
            let _ = tokio::time::timeout(Duration::from_millis(1), peer.until_end()).await;
        }
    };
    soon("the end", ended).await;
}

#[tokio::test]
async fn a_connection_without_data_is_dropped_without_a_close() {
    let cluster = cluster(Behaviour { data_timeout: LIMIT, ..Behaviour::default() }).await;
    let mut peer = exec(&cluster, "echo go; sleep 4715", PIPES).await;
    says(&mut peer, "go\n").await;
    // Pings are answered to the last and do not help.
    keep_in_vain(&mut peer, 9, b"p").await;
    assert!(peer.frames.iter().any(|frame| frame.opcode == 10));
    assert_eq!((close_code(&peer), status(&peer)), (None, String::new()));
    assert!(is_alive(pid(&cluster, 0).await));
}

#[tokio::test]
async fn an_empty_frame_or_output_is_data_enough() {
    let cluster = cluster(Behaviour { data_timeout: LIMIT, ..Behaviour::default() }).await;
    let mut peer = exec(&cluster, "echo go; sleep 4716", TTY).await;
    says(&mut peer, "go").await;
    keep(&mut peer, 2, b"", 2 * LIMIT).await;
    let script = "while :; do echo tick; sleep 0.1; done";
    let mut talking = exec(&cluster, script, PIPES).await;
    says(&mut talking, &"tick\n".repeat(20)).await;
    pong(&mut talking).await;
}

#[tokio::test]
async fn a_way_to_the_kubelet_that_nothing_crosses_is_lost() {
    let (api_server, kubelet) = tokio::join!(lost(Mode::ApiServer), lost(Mode::Kubelet));
    assert!(status(&api_server).contains("Success"));
    assert_eq!(close_code(&api_server), Some(1000));
    assert_eq!((close_code(&kubelet), status(&kubelet)), (None, String::new()));
}

async fn lost(mode: Mode) -> Peer {
    let kubelet_idle_timeout = Some(LIMIT);
    let behaviour = Behaviour { mode, kubelet_idle_timeout, ..Behaviour::default() };
    let cluster = cluster(behaviour).await;
    let mut peer = exec(&cluster, "echo go; sleep 4717", TTY).await;
    says(&mut peer, "go").await;
    // A size gets there, an empty frame and a ping do not.
    keep(&mut peer, 2, b"\x04{\"Width\":80,\"Height\":24}", 2 * LIMIT).await;
    keep_in_vain(&mut peer, 2, b"").await;
    assert!(is_alive(pid(&cluster, 0).await));
    peer
}

#[tokio::test]
async fn input_and_output_cross_the_way_to_the_kubelet() {
    let kubelet_idle_timeout = Some(LIMIT);
    let behaviour = Behaviour { kubelet_idle_timeout, ..Behaviour::api_server_mode() };
    let cluster = cluster(behaviour).await;
    let mut peer = exec(&cluster, "cat > /dev/null", PIPES).await;
    keep(&mut peer, 2, b"\0x", 2 * LIMIT).await;
    let mut peer = exec(&cluster, "while :; do echo tick; sleep 0.1; done", PIPES).await;
    says(&mut peer, &"tick\n".repeat(20)).await;
    pong(&mut peer).await;
}

/// Recordings `client_close_*` and `client_abort_*`, in every mode and on v4: with or without a
/// terminal, by Close or abort, whatever it does, a process lives on and what it writes is taken.
#[tokio::test]
async fn processes_outlive_their_sessions() {
    let writer = "while :; do echo tick; sleep 0.02; done";
    let modes = [(Behaviour::default(), V5), (Behaviour::default(), V4)];
    let modes = modes.into_iter().chain([(Behaviour::api_server_mode(), V5)]);
    for (behaviour, protocol) in modes {
        let cluster = cluster(behaviour).await;
        let mut left = Vec::new();
        for (flags, script) in
            [(PIPES, writer), (TTY, writer), (PIPES, "echo tick; sleep 4718"), (TTY, "bash")]
        {
            for abort in [false, true] {
                let mut peer = command(&cluster, &["sh", "-c", script], flags, protocol).await;
                if script == "bash" {
                    // Recording `client_close_tty_shell_with_child`.
                    typed(&mut peer, "sleep 4719 & echo ti''ck\r").await;
                }
                says(&mut peer, "tick").await;
                if abort {
                    peer.abort();
                } else {
                    peer.frame(8, true, true, &1000_u16.to_be_bytes()).await;
                    peer.until_end().await;
                    assert_eq!(close_code(&peer), Some(1000));
                    drop(peer);
                }
                let number = left.len();
                let session = session(&cluster, number).await;
                soon("the end", session.until(|facts| facts.closed.then_some(()))).await;
                left.push((pid(&cluster, number).await, script));
            }
        }
        // All have left; now the writers write on, and then everybody is still there.
        let writers = left.iter().filter(|(_, script)| *script == writer);
        let before: Vec<(u32, u64)> = writers.map(|(pid, _)| (*pid, written(*pid))).collect();
        for (pid, before) in before {
            until("more output", || written(pid) > before + 100).await;
        }
        for (number, (pid, script)) in left.iter().enumerate() {
            assert!(is_alive(*pid), "{script} in {number}");
            assert_eq!(session(&cluster, number).await.facts().exit_code, None);
        }
    }
}

/// Recording `client_close_nontty_cat`: what reads its input to the end gets that end.
#[tokio::test]
async fn the_end_of_the_session_is_the_end_of_a_pipes_input() {
    for protocol in [V5, V4] {
        let cluster = cluster(Behaviour::default()).await;
        let mut peer = command(&cluster, &["cat"], PIPES, protocol).await;
        typed(&mut peer, "hello").await;
        says(&mut peer, "hello").await;
        peer.abort();
        let session = session(&cluster, 0).await;
        assert_eq!(soon("the exit", session.until(|facts| facts.exit_code)).await, 0);
    }
}
