//! What no replay can show: recordings whose point is a moment, made exact with a pipe that the
//! test opens, and the switches of the library.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on should stop; the peer is shared with the replays"
)]

#[path = "replay/peer.rs"]
mod peer;

use std::path::PathBuf;

use fake_cluster::{
    Behaviour, FakeCluster, Gate, Mode, Options, Rights, Script, Step, misbehaviour,
};
use peer::{Peer, soon};

const FRAME: usize = 32 * 1024;

async fn cluster(behaviour: Behaviour) -> FakeCluster {
    FakeCluster::start(Options { behaviour, ..Options::default() }).await.unwrap()
}

/// A named pipe that a command waits at until the test opens it.
struct Door(PathBuf);

impl Door {
    fn new(name: &str) -> Door {
        let path = std::env::temp_dir().join(format!("fake-cluster-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        Door(path)
    }

    fn wait(&self) -> String {
        format!("read door < {}", self.0.display())
    }

    /// Opens it. The command is at the door already or comes to it.
    async fn open(&self) {
        let path = self.0.clone();
        let write = tokio::task::spawn_blocking(move || std::fs::write(path, "\n"));
        soon("the door", write).await.unwrap().unwrap();
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat()
}

async fn request(cluster: &FakeCluster, head: &str) -> Peer {
    let mut peer = Peer::connect(cluster).await;
    let token = cluster.token("admin");
    peer.send(format!("{head}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes())
        .await;
    peer
}

/// Asks for `sh -c SCRIPT` and reads the response head.
async fn exec(cluster: &FakeCluster, script: &str, flags: &str) -> Peer {
    let words = format!("command=sh&command=-c&command={}&", encode(script));
    let (peer, status) = exec_words(cluster, &words, flags).await;
    assert_eq!(status, "HTTP/1.1 101 Switching Protocols");
    peer
}

async fn exec_words(cluster: &FakeCluster, words: &str, flags: &str) -> (Peer, String) {
    let head = format!(
        "GET /api/v1/namespaces/demo/pods/shell/exec?{words}container=main&{flags} HTTP/1.1\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: v5.channel.k8s.io"
    );
    let mut peer = request(cluster, &head).await;
    let (status, _) = soon("the response", peer.head()).await;
    (peer, status)
}

const PIPES: &str = "stdin=true&stdout=true&stderr=true";
const TTY: &str = "stdin=true&stdout=true&tty=true";

async fn stdin(peer: &mut Peer, frames: usize) {
    let payload: Vec<u8> = std::iter::once(0).chain(std::iter::repeat_n(b'y', FRAME)).collect();
    for _ in 0..frames {
        peer.frame(2, true, true, &payload).await;
    }
}

async fn says(peer: &mut Peer, text: &str) {
    let came = |peer: &Peer| String::from_utf8_lossy(&peer.channel(1)).contains(text);
    peer.until(text, came).await;
}

async fn pong(peer: &mut Peer) {
    peer.frame(9, true, true, b"p").await;
    let pongs = peer.frames.iter().filter(|frame| frame.opcode == 10).count();
    let came = |p: &Peer| p.frames.iter().filter(|frame| frame.opcode == 10).count() > pongs;
    peer.until("a pong", came).await;
}

fn status(peer: &Peer) -> String {
    String::from_utf8(peer.channel(3)).unwrap()
}

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

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
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

#[tokio::test]
async fn the_end_of_the_cluster_is_the_end_of_every_process() {
    let cluster = cluster(Behaviour::default()).await;
    let script = "setsid sleep 4711 & nohup sleep 4712 > /dev/null 2>&1 & echo =$!=; sleep 4713";
    let mut peer = exec(&cluster, script, TTY).await;
    says(&mut peer, "=\r\n").await;
    let printed = String::from_utf8(peer.channel(1)).unwrap();
    let child: u32 = printed.split('=').nth(1).unwrap().parse().unwrap();
    let shell = cluster.session(0).await.facts().pid.unwrap();
    assert!(is_alive(child) && is_alive(shell));
    drop(peer);
    drop(cluster);
    let gone = async {
        while is_alive(child) || is_alive(shell) {
            tokio::task::yield_now().await;
        }
    };
    soon("the processes' end", gone).await;
}

#[tokio::test]
async fn a_flood_has_its_length_and_its_bytes() {
    let cluster = cluster(Behaviour::default()).await;
    let words = "command=podwire-test-flood&command=100000&";
    let (mut peer, _) = exec_words(&cluster, words, "stdout=true").await;
    peer.until_end().await;
    let frame: Vec<u8> = (0..=250).cycle().take(FRAME).collect();
    let wanted: Vec<u8> = frame.iter().copied().cycle().take(100_000).collect();
    assert!(peer.channel(1) == wanted);
    assert!(status(&peer).contains("Success"));
}

#[tokio::test]
async fn a_script_waits_for_the_test_and_comes_only_once() {
    let cluster = cluster(Behaviour::default()).await;
    let gate = Gate::new();
    let refusal = misbehaviour::named("503").unwrap().0;
    let steps = std::iter::once(Step::Wait(gate.clone())).chain(refusal);
    cluster.script_next(Script::new(steps));
    gate.open();
    let (_, status) = exec_words(&cluster, "command=true&", PIPES).await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    exec(&cluster, "true", PIPES).await.until_end().await;
}

/// The names that answer at all, and with what.
#[tokio::test]
async fn misbehaviours_do_what_their_names_say() {
    let table = [
        ("status-then-reset", "101", "hello\r\n", Some(3)),
        ("split-status", "101", "hello\r\n", Some(3)),
        ("no-status", "101", "hello\r\n", None),
        ("unknown-channels", "101", "hello\r\n", Some(0)),
        ("early-frames", "101", "hello\r\n", Some(3)),
        ("split-utf8", "101", "a\u{e4}\u{20ac}\u{1f600}z", Some(0)),
        ("100-continue", "100", "", None),
        ("redirect", "302", "", None),
        ("403-empty", "403", "", None),
        ("502-html", "502", "", None),
    ];
    for (name, code, output, exit) in table {
        let cluster = cluster(Behaviour::scripted(misbehaviour::named(name).unwrap())).await;
        let (mut peer, line) = exec_words(&cluster, "command=true&", PIPES).await;
        assert!(line.starts_with(&format!("HTTP/1.1 {code} ")), "{name}: {line}");
        if code != "101" {
            continue;
        }
        peer.until_end().await;
        assert_eq!(String::from_utf8(peer.channel(1)).unwrap(), output, "{name}");
        let said = match exit {
            Some(0) => "Success",
            Some(_) => "exit code 3",
            None => "",
        };
        assert!(
            status(&peer).contains(said) && status(&peer).is_empty() == exit.is_none(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn access_reviews_follow_the_rights() {
    let cluster = cluster(Behaviour::default()).await;
    let ask = async |user: &str| {
        let mut peer = Peer::connect(&cluster).await;
        let body = r#"{"spec":{"resourceAttributes":{"namespace":"demo","verb":"create","resource":"pods","subresource":"exec"}}}"#;
        let head = format!(
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews HTTP/1.1\r\nHost: x\r\n\
             Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            cluster.token(user),
            body.len()
        );
        peer.send(head.as_bytes()).await;
        let (line, headers) = soon("the response", peer.head()).await;
        assert_eq!(line, "HTTP/1.1 201 Created");
        let length = headers.iter().find(|(name, _)| name == "Content-Length").unwrap();
        let body = peer.body(length.1.parse().unwrap()).await;
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["status"]["allowed"] == true
    };
    assert!(ask("execer").await);
    assert!(!ask("nobody").await);
    cluster.set_rights("execer", Rights::none());
    assert!(!ask("execer").await);
}

#[tokio::test]
async fn an_impersonated_user_has_his_own_rights() {
    let cluster = cluster(Behaviour::default()).await;
    let path = "GET /api/v1/namespaces/demo/pods/shell HTTP/1.1";
    let mut peer = request(&cluster, &format!("{path}\r\nImpersonate-User: alice")).await;
    assert!(peer.head().await.0.contains("403"));
    cluster.set_rights("group:dev", Rights::all());
    let groups = "Impersonate-User: alice\r\nImpersonate-Group: ops\r\nImpersonate-Group: dev";
    let mut peer = request(&cluster, &format!("{path}\r\n{groups}")).await;
    assert!(peer.head().await.0.contains("200"));
}

#[tokio::test]
async fn an_old_cluster_speaks_only_what_it_knows() {
    let cluster = cluster(Behaviour::only(&["v4.channel.k8s.io"])).await;
    let (mut peer, line) = exec_words(&cluster, "command=true&", PIPES).await;
    assert_eq!(line, "HTTP/1.1 403 Forbidden");
    peer.until_end().await;
    assert_eq!(cluster.sessions()[0].facts().answered, Some(403));
}

/// Recording `first_bytes_before_101`: what comes with the request is lost behind an API server
/// that copies bytes.
#[tokio::test]
async fn early_input_is_lost_in_kubelet_mode() {
    assert_eq!(Behaviour::default().mode, Mode::Kubelet);
    let cluster = cluster(Behaviour::default()).await;
    let mut peer = Peer::connect(&cluster).await;
    let token = cluster.token("admin");
    let mut bytes = format!(
        "GET /api/v1/namespaces/demo/pods/shell/exec?command=cat&container=main&{PIPES} HTTP/1.1\r\n\
         Host: x\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
    )
    .into_bytes();
    // "early" on channel 0, with a key of zeros.
    bytes.extend_from_slice(b"\x82\x86\0\0\0\0\0early");
    peer.send(&bytes).await;
    peer.head().await;
    peer.frame(2, true, true, b"\0late").await;
    peer.frame(2, true, true, &[255, 0]).await;
    peer.until_end().await;
    assert_eq!(peer.channel(1), b"late");
}
