//! Peers that take nothing: memory stays flat, the other direction is not held up, and nothing is
//! lost when they take again.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use common::{Browser, Kind, MASK, Random, Relay, both, pipes, session, sha256, terminal, within};
use fake_cluster::wire::{opcode, raw};
use fake_cluster::{Behaviour, FakeCluster};
use futures_util::{SinkExt, StreamExt};
use ring::digest::{Context, SHA256};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

on_every_cluster!(
    an_interrupt_passes_a_stalled_reader,
    output_passes_input_that_nobody_reads,
    both_directions_may_be_stuck_at_once,
);

/// More than all sockets on the way can hold.
const LINES: u32 = 8_000_000;

/// What a session may need beyond what the relay had before, in KiB: two outboxes of 256 KiB, the
/// buffers of the thread, TLS, and what an allocator keeps.
const GROWTH_MAX: u64 = 4 * 1024;

/// A process tells a test something beside its terminal: it connects here and writes a line.
struct Bell(TcpListener);

impl Bell {
    async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// What to redirect a line to in bash.
    fn path(&self) -> String {
        format!("/dev/tcp/127.0.0.1/{}", self.0.local_addr().unwrap().port())
    }

    async fn rung(&self) -> String {
        within("the process says something", async {
            let (tcp, _) = self.0.accept().await.unwrap();
            let mut line = String::new();
            BufReader::new(tcp).read_line(&mut line).await.unwrap();
            line.trim_end().to_owned()
        })
        .await
    }
}

/// Whether a process sleeps and does not only wait for its turn.
fn sleeps(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().trim_start().starts_with('S')
}

/// How many bytes a process has written, by the kernel's count.
fn written(pid: &str) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.unwrap().parse().unwrap()
}

/// Waits until a process writes nothing more though it has more to say, and gives how much it has
/// written.
async fn blocked(pid: &str) -> u64 {
    let mut last = 0;
    let mut since = Instant::now();
    common::eventually("the process blocks", || {
        let now = written(pid);
        if now == 0 || now != last || !sleeps(pid) {
            last = now;
            since = Instant::now();
        }
        since.elapsed() > Duration::from_millis(500)
    })
    .await;
    last
}

/// A relay that has had its first session: its buffers exist.
async fn warm(cluster: &FakeCluster) -> (Relay, u64) {
    let relay = Relay::start(cluster).await;
    let mut browser = relay.v1(&pipes("head -c 1000000 /dev/zero")).await;
    browser.assert_exit("exit", Some(0), 1000, "a first session").await;
    let memory = relay.memory("VmRSS");
    (relay, memory)
}

fn assert_flat(relay: &Relay, before: u64, what: &str) {
    let most = relay.memory("VmHWM");
    println!("{what}: {before} KiB before, {most} KiB at most");
    assert!(most < before + GROWTH_MAX, "{what}: {before} KiB before, {most} KiB at most");
}

async fn an_interrupt_passes_a_stalled_reader(kind: Kind) {
    let cluster = common::cluster(kind.behaviour()).await;
    let (relay, before) = warm(&cluster).await;
    let bell = Bell::new().await;
    let path = bell.path();
    // A terminal throws output away when it is interrupted, unless it is told not to. An echo of
    // the key would be output, too.
    let script = format!(
        "stty noflsh -opost -echo; trap 'echo interrupted > {path}' INT; seq 1 {LINES} & \
         echo $! > {path}; while wait $!; code=$?; [ $code -gt 128 ]; do :; done; exit $code"
    );
    let mut browser = relay.v1(&terminal(&script)).await;
    let pid = bell.rung().await;
    let so_far = blocked(&pid).await;
    let whole: String = (1..=LINES).fold(String::new(), |mut text, n| {
        use std::fmt::Write;
        let _ = writeln!(text, "{n}");
        text
    });
    assert!(so_far < whole.len() as u64 / 2, "{so_far} bytes written");
    assert_flat(&relay, before, "a stalled reader");

    let sent = Instant::now();
    browser.input("\u{3}").await;
    let seen = session(&cluster, 1).await;
    within("the interrupt at the cluster", seen.until_stdin(b"\x03")).await;
    let arrived = sent.elapsed();
    assert_eq!(bell.rung().await, "interrupted");
    println!("{kind:?}: interrupt at the cluster after {arrived:?}, handled {:?}", sent.elapsed());
    assert_eq!(written(&pid), so_far, "the reader still reads nothing");

    browser.assert_exit("exit", Some(0), 1000, "after the stall").await;
    assert_eq!(browser.output.len(), whole.len());
    assert_eq!(sha256(&browser.output), sha256(whole.as_bytes()));
    assert_flat(&relay, before, "after the stall");
}

/// B2, P18: a paste into a process that ignores its input.
async fn output_passes_input_that_nobody_reads(kind: Kind) {
    let behaviour = Behaviour { stdin_buffer_bytes: Some(64 * 1024), ..kind.behaviour() };
    let cluster = common::cluster(behaviour).await;
    let (relay, before) = warm(&cluster).await;
    let bell = Bell::new().await;
    // It goes on when it gets a line from the test.
    let port = bell.0.local_addr().unwrap().port();
    let count = 32 * 1024 * 1024;
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; echo $$ >&3; while read -t 0.02 -u 3 x; \
         [ -z \"$x\" ]; do echo tick; done; head -c {count} | sha256sum"
    );
    let browser = relay.v1(&pipes(&script)).await;
    let (mut door, _) = within("the process", bell.0.accept()).await.unwrap();
    let (mut sink, mut stream) = browser.socket.split();
    let input = Random(4).bytes(count);
    let paste = async {
        for piece in input.chunks(1024 * 1024) {
            sink.send(Message::binary(piece.to_vec())).await.unwrap();
        }
        sink
    };
    let mut paste = std::pin::pin!(paste);
    let mut ticks = 0;
    // The paste gets stuck; ticks come all the same. The last ones come while it is.
    let mut stuck = Instant::now();
    let mut sent = 0;
    let seen = session(&cluster, 1).await;
    while stuck.elapsed() < Duration::from_millis(500) {
        tokio::select! {
            _ = &mut paste => panic!("{count} bytes were taken by nobody"),
            message = within("a tick", stream.next()) => {
                let data = message.unwrap().unwrap().into_data();
                ticks += data.windows(4).filter(|word| word == b"tick").count();
            }
        }
        let now = seen.facts().stdin_bytes;
        if now != sent {
            (sent, stuck) = (now, Instant::now());
        }
    }
    assert!(ticks > 5, "{ticks}");
    assert_flat(&relay, before, "a paste that nobody reads");
    tokio::io::AsyncWriteExt::write_all(&mut door, b"go\n").await.unwrap();
    let rest = async {
        let mut text = Vec::new();
        let mut messages = Vec::new();
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) => text.extend_from_slice(&bytes),
                Message::Text(message) => messages.push(message),
                _ => {}
            }
        }
        assert!(messages.last().unwrap().contains(r#""exitCode":0"#), "{messages:?}");
        String::from_utf8(text).unwrap()
    };
    let (_, text) = within("the rest", async { tokio::join!(paste, rest) }).await;
    assert!(text.ends_with(&format!("{}  -\n", sha256(&input))), "{text}");
    assert_flat(&relay, before, "after the paste");
}

/// B3: the process does not read while its output is not taken, and the browser does not read
/// while its input is not taken. Whoever begins, everything moves on.
async fn both_directions_may_be_stuck_at_once(kind: Kind) {
    let behaviour = Behaviour { stdin_buffer_bytes: Some(64 * 1024), ..kind.behaviour() };
    let cluster = common::cluster(behaviour).await;
    let (relay, before) = warm(&cluster).await;
    let count = 48 * 1024 * 1024;
    let browser = relay.v1(&pipes(&format!("head -c {count}"))).await;
    let input = Random(5).bytes(count);
    let (mut sink, mut stream) = browser.socket.split();
    let seen = session(&cluster, 1).await;
    let mut send = std::pin::pin!(async {
        for piece in input.chunks(100_000) {
            sink.send(Message::binary(piece.to_vec())).await.unwrap();
        }
    });
    // `head` writes back what it reads, to a browser that only sends.
    let mut stuck = (0, Instant::now());
    let still = async {
        common::eventually("everything is stuck", || {
            let now = seen.facts().stdin_bytes;
            if now == 0 || now != stuck.0 {
                stuck = (now, Instant::now());
            }
            stuck.1.elapsed() > Duration::from_millis(500)
        })
        .await;
    };
    tokio::select! {
        () = &mut send => panic!("{count} bytes were taken by nobody"),
        () = still => {}
    }
    assert_flat(&relay, before, "both directions stuck");
    let take = async {
        let (mut hash, mut length) = (Context::new(&SHA256), 0);
        while let Some(Ok(message)) = stream.next().await {
            if let Message::Binary(bytes) = message {
                hash.update(&bytes);
                length += bytes.len();
            }
        }
        (hash.finish().as_ref().to_vec(), length)
    };
    let ((), (hash, length)) = within("all of it", async { tokio::join!(send, take) }).await;
    assert_eq!(length, count);
    assert_eq!(hash, ring::digest::digest(&SHA256, &input).as_ref());
    assert_flat(&relay, before, "after both were stuck");
}

/// F14: pings without end from a browser that reads nothing, and an interrupt behind them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_without_end_cost_nothing() {
    let cluster = common::cluster(Behaviour::default()).await;
    let (relay, before) = warm(&cluster).await;
    let mut browser = relay.v1(&terminal("echo up; cat")).await;
    browser.until_output("up").await;
    let ping = raw(0x80 | opcode::PING, MASK, &[b'p'; 125]);
    let flood = ping.repeat(500);
    let tcp: &mut TcpStream = browser.socket.get_mut();
    // The relay may stop to read when its answers are not taken; that is where the flood ends.
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 {
        let write = tokio::io::AsyncWriteExt::write_all(tcp, &flood);
        match tokio::time::timeout(Duration::from_secs(1), write).await {
            Ok(result) => result.unwrap(),
            Err(_) => break,
        }
        sent += flood.len();
    }
    println!("{sent} bytes of pings were taken");
    assert_flat(&relay, before, "pings without end");
    // Others are served meanwhile.
    relay.v1(&pipes("exit 3")).await.assert_exit("exit", Some(3), 1000, "another").await;
    browser.abort();
    relay.until_logged("kind=browser_lost", 1).await;
}

/// A page that acknowledges is sent no more than the window beyond what it has consumed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_acknowledges_is_not_flooded() {
    let (_cluster, relay) = both(Kind::V5).await;
    let count = 8 * 1024 * 1024;
    let mut browser: Browser = relay.v1(&pipes(&format!("head -c {count} /dev/zero"))).await;
    browser.say(r#"{"type":"ack","bytes":0}"#).await;
    let (window, piece) = (512 * 1024, 128 * 1024);
    let mut acked = 0;
    let mut most = 0;
    while browser.output.len() < count {
        // All that is sent without a further acknowledgement, and a pong behind it.
        browser.say(r#"{"type":"ping","id":1}"#).await;
        let pongs = browser.messages.len() + 1;
        browser.until("a pong", |it| it.messages.len() >= pongs).await;
        most = most.max(browser.output.len() - acked);
        acked = browser.output.len();
        browser.say(&format!(r#"{{"type":"ack","bytes":{acked}}}"#)).await;
    }
    assert!(most <= window + piece, "{most}");
    browser.assert_exit("exit", Some(0), 1000, "acknowledged").await;
    assert_eq!(browser.output.len(), count);
}
