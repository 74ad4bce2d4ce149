//! Requests for an exec, and doors at which a command waits for the test.

use std::path::PathBuf;

use fake_cluster::{Behaviour, FakeCluster, Options};

use crate::peer::{Peer, soon};

pub const FRAME: usize = 32 * 1024;

pub async fn cluster(behaviour: Behaviour) -> FakeCluster {
    FakeCluster::start(Options { behaviour, ..Options::default() }).await.unwrap()
}

/// A named pipe that a command waits at until the test opens it.
pub struct Door(pub PathBuf);

impl Door {
    pub fn new(name: &str) -> Door {
        let path = std::env::temp_dir().join(format!("fake-cluster-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        Door(path)
    }

    pub fn wait(&self) -> String {
        format!("read door < {}", self.0.display())
    }

    /// Opens it. The command is at the door already or comes to it.
    pub async fn open(&self) {
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

pub async fn request(cluster: &FakeCluster, head: &str) -> Peer {
    let mut peer = Peer::connect(cluster).await;
    let token = cluster.token("admin");
    peer.send(format!("{head}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes())
        .await;
    peer
}

/// Asks for `sh -c SCRIPT` and reads the response head.
pub async fn exec(cluster: &FakeCluster, script: &str, flags: &str) -> Peer {
    let words = format!("command=sh&command=-c&command={}&", encode(script));
    let (peer, status) = exec_words(cluster, &words, flags).await;
    assert_eq!(status, "HTTP/1.1 101 Switching Protocols");
    peer
}

pub async fn exec_words(cluster: &FakeCluster, words: &str, flags: &str) -> (Peer, String) {
    stream(cluster, "admin", &format!("exec?{words}container=main&{flags}"), V5).await
}

/// Asks for a command in `main` over any subprotocol. It must be a 101.
pub async fn command(cluster: &FakeCluster, words: &[&str], flags: &str, protocol: &str) -> Peer {
    let words: Vec<String> = words.iter().map(|word| format!("command={}", encode(word))).collect();
    let what = format!("exec?{}&container=main&{flags}", words.join("&"));
    let (peer, status) = stream(cluster, "admin", &what, protocol).await;
    assert_eq!(status, "HTTP/1.1 101 Switching Protocols");
    peer
}

/// Asks for a stream of pod `shell` and reads the response head.
pub async fn stream(
    cluster: &FakeCluster,
    user: &str,
    what: &str,
    protocol: &str,
) -> (Peer, String) {
    let mut peer = Peer::connect(cluster).await;
    let token = cluster.token(user);
    let head = format!(
        "GET /api/v1/namespaces/demo/pods/shell/{what} HTTP/1.1\r\nHost: x\r\n\
         Authorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    peer.send(head.as_bytes()).await;
    let (status, _) = soon("the response", peer.head()).await;
    (peer, status)
}

pub const V5: &str = "v5.channel.k8s.io";
pub const V4: &str = "v4.channel.k8s.io";
pub const V1: &str = "channel.k8s.io";

pub const PIPES: &str = "stdin=true&stdout=true&stderr=true";
pub const TTY: &str = "stdin=true&stdout=true&tty=true";

pub async fn stdin(peer: &mut Peer, frames: usize) {
    let payload: Vec<u8> = std::iter::once(0).chain(std::iter::repeat_n(b'y', FRAME)).collect();
    for _ in 0..frames {
        peer.frame(2, true, true, &payload).await;
    }
}

/// Types on channel 0.
pub async fn typed(peer: &mut Peer, text: &str) {
    peer.frame(2, true, true, format!("\0{text}").as_bytes()).await;
}

pub async fn says(peer: &mut Peer, text: &str) {
    let came = |peer: &Peer| String::from_utf8_lossy(&peer.channel(1)).contains(text);
    peer.until(text, came).await;
}

pub async fn pong(peer: &mut Peer) {
    peer.frame(9, true, true, b"p").await;
    let pongs = peer.frames.iter().filter(|frame| frame.opcode == 10).count();
    let came = |p: &Peer| p.frames.iter().filter(|frame| frame.opcode == 10).count() > pongs;
    peer.until("a pong", came).await;
}

pub fn status(peer: &Peer) -> String {
    String::from_utf8(peer.channel(3)).unwrap()
}

pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Waits until this holds, for what nobody tells of.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let polled = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    soon(what, polled).await;
}

/// The code of the Close frame, if there was one.
pub fn close_code(peer: &Peer) -> Option<u16> {
    let close = peer.frames.iter().find(|frame| frame.opcode == 8)?;
    Some(u16::from_be_bytes(*close.payload.first_chunk()?))
}
