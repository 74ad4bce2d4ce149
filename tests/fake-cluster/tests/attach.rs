//! Attaching to a container's main process, which all who attach share.
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

use ask::{PIPES, TTY, V1, V4, V5, close_code, cluster, is_alive, pong, says, status, stream};
use ask::{typed, until};
use fake_cluster::{Behaviour, FakeCluster, Rights};
use peer::{Peer, soon};

const SUCCESS: &str = "{\"metadata\":{},\"status\":\"Success\"}";

async fn attach(cluster: &FakeCluster, container: &str, flags: &str) -> Peer {
    attach_over(cluster, container, flags, V5).await
}

async fn attach_over(cluster: &FakeCluster, container: &str, flags: &str, protocol: &str) -> Peer {
    let what = format!("attach?container={container}&{flags}");
    let (mut peer, line) = stream(cluster, "admin", &what, protocol).await;
    assert_eq!(line, "HTTP/1.1 101 Switching Protocols");
    peer.until("the first frame", |peer| !peer.frames.is_empty()).await;
    peer
}

async fn pid(cluster: &FakeCluster, number: usize) -> u32 {
    let session = soon("the session", cluster.session(number)).await;
    soon("the process", session.until(|facts| facts.pid)).await
}

/// Until the session's end has been noticed.
async fn gone(cluster: &FakeCluster, number: usize) {
    let session = soon("the session", cluster.session(number)).await;
    soon("the end", session.until(|facts| facts.closed.then_some(()))).await;
}

#[tokio::test]
async fn everybody_who_attaches_shares_one_process() {
    let cluster = cluster(Behaviour::default()).await;
    let mut one = attach(&cluster, "main", TTY).await;
    typed(&mut one, "first\r").await;
    says(&mut one, "main: first\r\n").await;
    let mut two = attach(&cluster, "main", TTY).await;
    let (first, second) = (pid(&cluster, 0).await, pid(&cluster, 1).await);
    assert_eq!(first, second);
    typed(&mut two, "second\r").await;
    for peer in [&mut one, &mut two] {
        says(peer, "main: second\r\n").await;
    }
    // What was said before is not said again.
    assert_eq!(two.channel(1), b"second\r\nmain: second\r\n");
    typed(&mut one, "exit 3\r").await;
    for mut peer in [one, two] {
        peer.until_end().await;
        assert_eq!(status(&peer), SUCCESS);
        assert_eq!(close_code(&peer), Some(1000));
    }
    let facts = cluster.session(1).await.facts();
    assert_eq!(facts.exit_code, Some(3));
    // The kubelet starts it again.
    let mut third = attach(&cluster, "main", TTY).await;
    typed(&mut third, "again\r").await;
    says(&mut third, "main: again\r\n").await;
    assert_ne!(pid(&cluster, 2).await, first);
}

#[tokio::test]
async fn who_leaves_does_not_take_the_process_along() {
    let cluster = cluster(Behaviour::default()).await;
    for (number, leave) in ["close", "abort", "interrupt"].into_iter().enumerate() {
        let mut peer = attach(&cluster, "main", TTY).await;
        typed(&mut peer, "here\r").await;
        says(&mut peer, "main: here\r\n").await;
        match leave {
            "close" => {
                peer.frame(8, true, true, &1000_u16.to_be_bytes()).await;
                peer.until_end().await;
                assert_eq!(status(&peer), "");
            }
            "abort" => peer.abort(),
            // A container's first process is not to be interrupted.
            _ => {
                typed(&mut peer, "\u{3}").await;
                typed(&mut peer, "still\r").await;
                says(&mut peer, "main: still\r\n").await;
                drop(peer);
            }
        }
        gone(&cluster, number).await;
        assert!(is_alive(pid(&cluster, 0).await));
    }
    let mut peer = attach(&cluster, "main", TTY).await;
    typed(&mut peer, "back\r").await;
    says(&mut peer, "main: back\r\n").await;
    assert_eq!(pid(&cluster, 0).await, pid(&cluster, 3).await);
    // The end of its input is, as on any terminal, its own affair.
    typed(&mut peer, "\u{4}").await;
    peer.until_end().await;
    assert_eq!(status(&peer), SUCCESS);
}

#[tokio::test]
async fn the_end_of_the_cluster_is_the_end_of_the_main_process() {
    let cluster = cluster(Behaviour::default()).await;
    let peer = attach(&cluster, "main", TTY).await;
    let main = pid(&cluster, 0).await;
    drop((peer, cluster));
    until("the process's end", || !is_alive(main)).await;
}

#[tokio::test]
async fn a_container_without_a_terminal_has_two_outputs() {
    let cluster = cluster(Behaviour::default()).await;
    let mut both = attach(&cluster, "side", PIPES).await;
    let mut quiet = attach(&cluster, "side", "stderr=true").await;
    typed(&mut both, "one\nstderr two\n").await;
    says(&mut both, "main: one\n").await;
    for peer in [&mut both, &mut quiet] {
        peer.until("stderr", |peer| peer.channel(2) == b"main: two\n").await;
    }
    assert_eq!((both.channel(1), quiet.channel(1)), (b"main: one\n".to_vec(), Vec::new()));
    typed(&mut both, "exit\n").await;
    for mut peer in [both, quiet] {
        peer.until_end().await;
        assert_eq!(status(&peer), SUCCESS);
    }
}

/// The end of one's own input ends the attachment, as `stdinOnce` is false.
#[tokio::test]
async fn a_half_close_ends_ones_own_attachment_only() {
    let cluster = cluster(Behaviour::default()).await;
    for (container, flags) in [("main", TTY), ("side", PIPES)] {
        let mut leaving = attach(&cluster, container, flags).await;
        let mut staying = attach(&cluster, container, flags).await;
        leaving.frame(2, true, true, &[255, 0]).await;
        leaving.until_end().await;
        assert_eq!(status(&leaving), SUCCESS);
        assert_eq!(close_code(&leaving), Some(1000));
        typed(&mut staying, "on\n").await;
        says(&mut staying, "main: on").await;
    }
}

#[tokio::test]
async fn the_request_must_know_whether_there_is_a_terminal() {
    for behaviour in [Behaviour::default(), Behaviour::api_server_mode()] {
        let cluster = cluster(behaviour).await;
        for (container, flags) in [("main", PIPES), ("side", TTY)] {
            let mut peer = attach(&cluster, container, flags).await;
            peer.until_end().await;
            let status: serde_json::Value = serde_json::from_str(&status(&peer)).unwrap();
            assert_eq!(status["reason"], "InternalError");
            assert_eq!(status["code"], 500);
            assert_eq!(close_code(&peer), Some(1000));
        }
    }
}

#[tokio::test]
async fn older_subprotocols_end_as_they_do_after_an_exec() {
    let cluster = cluster(Behaviour::default()).await;
    for (protocol, wanted) in [(V4, SUCCESS), (V1, "")] {
        let mut peer = attach_over(&cluster, "main", TTY, protocol).await;
        typed(&mut peer, "exit 3\r").await;
        peer.until_end().await;
        assert_eq!(status(&peer), wanted);
        assert_eq!(close_code(&peer), Some(1000));
    }
}

#[tokio::test]
async fn attaching_needs_rights_of_its_own() {
    let cluster = cluster(Behaviour::default()).await;
    let what = format!("attach?container=main&{TTY}");
    let (_, line) = stream(&cluster, "execer", &what, V5).await;
    assert_eq!(line, "HTTP/1.1 403 Forbidden");
    cluster.set_rights("execer", Rights::of(&[("get", "pods/attach")]));
    let (_, line) = stream(&cluster, "execer", &what, V5).await;
    assert_eq!(line, "HTTP/1.1 403 Forbidden");
    cluster.set_rights("execer", Rights::attach());
    let (_, line) = stream(&cluster, "execer", &what, V5).await;
    assert_eq!(line, "HTTP/1.1 101 Switching Protocols");
    let (_, line) = stream(&cluster, "execer", &what.replace("attach", "exec"), V5).await;
    assert_eq!(line, "HTTP/1.1 403 Forbidden");
}

#[tokio::test]
async fn sizes_reach_the_terminal_of_the_main_process() {
    let cluster = cluster(Behaviour::default()).await;
    let mut peer = attach(&cluster, "main", TTY).await;
    peer.frame(2, true, true, b"\x04{\"Width\":91,\"Height\":31}").await;
    let session = soon("the session", cluster.session(0)).await;
    let sized = session.until(|facts| (facts.sizes == [(91, 31)]).then_some(()));
    soon("the size", sized).await;
    pong(&mut peer).await;
    // A second peer's size is the same terminal's.
    let mut other = attach(&cluster, "main", TTY).await;
    other.frame(2, true, true, b"\x04{\"Width\":92,\"Height\":32}").await;
    let session = soon("the session", cluster.session(1)).await;
    let sized = session.until(|facts| (facts.sizes == [(92, 32)]).then_some(()));
    soon("the size", sized).await;
}
