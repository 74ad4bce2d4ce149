//! What no replay can show: recordings whose point is a moment, made exact with a pipe that the
//! test opens.
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

use ask::{Door, FRAME, PIPES, TTY, cluster, exec, is_alive, pong, says, status, stdin};
use fake_cluster::{Behaviour, Mode};
use peer::{Peer, soon};

/// Recording `ping_while_stdin_blocked`: one loop reads, and a blocked write of stdin blocks it.
#[tokio::test]
async fn a_blocked_stdin_withholds_the_pong() {
    let room = 64 * 1024;
    let behaviour = Behaviour { stdin_buffer_bytes: Some(room), ..Behaviour::default() };
    let cluster = cluster(behaviour).await;
    let door = Door::new("blocked");
    let mut peer = exec(&cluster, &format!("echo go; {}; wc -c", door.wait()), PIPES).await;
    says(&mut peer, "go\n").await;
    stdin(&mut peer, 16).await;
    peer.frame(9, true, true, b"p").await;
    peer.frame(2, true, true, &[255, 0]).await;
    let session = soon("the session", cluster.session(0)).await;
    let full = session.until(|facts| (facts.stdin_bytes > room as u64).then_some(()));
    soon("a full queue", full).await;
    // The pipe's 64 KiB, the queue and the frame in hand are all that was ever taken.
    assert!(session.facts().stdin_bytes <= (64 * 1024 + room + 2 * FRAME) as u64);
    assert!(!session.facts().has(9));
    door.open().await;
    peer.until_end().await;
    assert!(peer.frames.iter().any(|frame| frame.opcode == 10));
    assert_eq!(peer.channel(1), format!("go\n{}\n", 16 * FRAME).as_bytes());
}

/// Recording `ping_while_stdin_blocked.apiserver-mode`: there is room for more than 8 MiB.
#[tokio::test]
async fn an_api_server_answers_pings_while_stdin_is_blocked() {
    let cluster = cluster(Behaviour::api_server_mode()).await;
    let door = Door::new("unblocked");
    let mut peer = exec(&cluster, &format!("{}; wc -c", door.wait()), PIPES).await;
    stdin(&mut peer, 256).await;
    pong(&mut peer).await;
    peer.frame(2, true, true, &[255, 0]).await;
    door.open().await;
    peer.until_end().await;
    assert_eq!(peer.channel(1), b"8388608\n");
}

/// Recordings `unread_stdin_64KiB_*` and `unread_stdin_256KiB_*`.
#[tokio::test]
async fn much_unread_stdin_leaves_a_session_without_status() {
    for (flags, raw) in [(PIPES, ""), (TTY, "stty raw -echo; ")] {
        for (frames, ends) in [(2, true), (8, false)] {
            let cluster = cluster(Behaviour::default()).await;
            let door = Door::new("unread");
            let script = format!("{raw}echo go; {}; echo woke; exit 7", door.wait());
            let mut peer = exec(&cluster, &script, flags).await;
            says(&mut peer, "go\n").await;
            stdin(&mut peer, frames).await;
            pong(&mut peer).await;
            door.open().await;
            says(&mut peer, "woke\n").await;
            let session = soon("the session", cluster.session(0)).await;
            soon("the exit", session.until(|facts| facts.exit_code)).await;
            if ends {
                peer.until_end().await;
                assert!(status(&peer).contains("exit code 7"));
            } else {
                pong(&mut peer).await;
                assert_eq!(status(&peer), "");
            }
        }
    }
}

/// Recording `background_child_keeps_stdout`.
#[tokio::test]
async fn a_child_that_holds_stdout_holds_the_status() {
    let cluster = cluster(Behaviour::default()).await;
    let door = Door::new("child");
    let mut peer = exec(&cluster, &format!("({}) & echo parent", door.wait()), PIPES).await;
    says(&mut peer, "parent\n").await;
    let session = soon("the session", cluster.session(0)).await;
    let pid = session.facts().pid.unwrap();
    let dead = async {
        while is_alive(pid) {
            tokio::task::yield_now().await;
        }
    };
    soon("the parent's end", dead).await;
    pong(&mut peer).await;
    assert_eq!(status(&peer), "");
    door.open().await;
    peer.until_end().await;
    assert!(status(&peer).contains("Success"));
}

/// Recording `resize_wedge_output_flows`.
#[tokio::test]
async fn output_and_status_flow_past_a_wedge() {
    let cluster = cluster(Behaviour::default()).await;
    let door = Door::new("wedge");
    let mut peer =
        exec(&cluster, &format!("echo one; {}; echo two; exit 4", door.wait()), TTY).await;
    says(&mut peer, "one").await;
    peer.frame(2, true, true, b"\x04{bad").await;
    peer.frame(2, true, true, b"\x04{\"Width\":80,\"Height\":24}").await;
    let session = soon("the session", cluster.session(0)).await;
    soon("the wedge", session.until(|facts| facts.wedged.then_some(()))).await;
    peer.frame(9, true, true, b"p").await;
    door.open().await;
    peer.until_end().await;
    assert_eq!(peer.channel(1), b"one\r\ntwo\r\n");
    assert!(status(&peer).contains("exit code 4"));
    assert!(!peer.frames.iter().any(|frame| frame.opcode == 10));
}

/// Recording `stdin_frame_32MiB`: refused by its head, without waiting for the rest.
#[tokio::test]
async fn a_frame_above_the_limit_ends_the_session() {
    let cluster = cluster(Behaviour::default()).await;
    let mut peer = exec(&cluster, "cat", PIPES).await;
    let length = (32 * 1024 * 1024 + 1_u64).to_be_bytes();
    peer.send(&[&[0x82, 0xff], length.as_slice(), &[1, 2, 3, 4], &[0; 1000]].concat()).await;
    peer.until_end().await;
    assert_eq!(peer.frames.last().unwrap().payload, 1000_u16.to_be_bytes());
    assert_eq!(status(&peer), "");
}

/// Recordings `first_bytes_before_101`: what comes with the request is lost behind an API server
/// that copies bytes, and not where the API server reads it itself.
#[tokio::test]
async fn early_input_is_lost_in_kubelet_mode_only() {
    assert_eq!(Behaviour::default().mode, Mode::Kubelet);
    let modes = [(Behaviour::default(), "late"), (Behaviour::api_server_mode(), "earlylate")];
    for (behaviour, wanted) in modes {
        let cluster = cluster(behaviour).await;
        let mut peer = Peer::connect(&cluster).await;
        let token = cluster.token("admin");
        let head = format!(
            "GET /api/v1/namespaces/demo/pods/shell/exec?command=cat&container=main&{PIPES} \
             HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
        );
        // "early" on channel 0, with a key of zeros.
        peer.send(&[head.as_bytes(), b"\x82\x86\0\0\0\0\0early"].concat()).await;
        peer.head().await;
        peer.frame(2, true, true, b"\0late").await;
        peer.frame(2, true, true, &[255, 0]).await;
        peer.until_end().await;
        assert_eq!(String::from_utf8(peer.channel(1)).unwrap(), wanted);
    }
}

/// Recording `client_close_stdin_tty`: no end of file reaches a terminal, and neither does what
/// is typed afterwards; the runtime forwards no output either.
#[tokio::test]
async fn a_terminal_whose_stdin_was_closed_hears_and_says_nothing_more() {
    let cluster = cluster(Behaviour::default()).await;
    let (door, heard) = (Door::new("deaf"), Door::new("heard"));
    let listen = format!("cat | wc -c > {}", heard.0.display());
    let script = format!("stty -icanon min 0 time 0; echo go; {}; echo no; {listen}", door.wait());
    let mut peer = exec(&cluster, &script, TTY).await;
    says(&mut peer, "go\r\n").await;
    peer.frame(2, true, true, &[255, 0]).await;
    peer.frame(2, true, true, b"\0typed").await;
    pong(&mut peer).await;
    door.open().await;
    let path = heard.0.clone();
    let count = tokio::task::spawn_blocking(move || std::fs::read_to_string(path));
    assert_eq!(soon("the count", count).await.unwrap().unwrap().trim(), "0");
    peer.until_end().await;
    assert_eq!(peer.channel(1), b"go\r\n");
    assert!(status(&peer).contains("Success"));
}
