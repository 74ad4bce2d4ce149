//! Who is dead and who is only busy, in the whole program, with times that a test can wait for.
//! What takes hours is in `keepalive_clock.rs`.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use common::{Browser, Kind, Relay, Start, cluster, pipes, session, sha256, terminal, within};
use fake_cluster::wire::opcode;
use fake_cluster::{Behaviour, Cable, Facts, FakeCluster, Speed};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

on_every_cluster!(
    a_browser_that_falls_silent_is_lost_and_hung_up,
    a_cluster_that_falls_silent_is_lost_and_told,
    a_process_that_reads_nothing_is_not_dead,
    a_browser_that_reads_nothing_is_slow_and_not_dead,
);

const SHORT: [&str; 6] = ["--ping", "1s", "--cluster-ping", "1s", "--dead-after", "3s"];

/// A peer that was heard a ping before it fell silent is given up so much later.
const DEAD_AFTER: Duration = Duration::from_secs(3);

async fn start(kind: Kind, flags: &[&str]) -> (FakeCluster, Relay) {
    let cluster = cluster(kind.behaviour()).await;
    let relay = Start::flags(&SHORT).and(flags).before(&cluster).await;
    (cluster, relay)
}

/// The seconds that a session lasted, from the line at its end.
fn duration(line: &str) -> f64 {
    let field = line.split_whitespace().find_map(|field| field.strip_prefix("duration="));
    field.unwrap().parse().unwrap()
}

/// Lets this much time pass while another session is served.
async fn pass(relay: &Relay, time: Duration) {
    let script = format!("sleep {}", time.as_secs());
    relay.v1(&pipes(&script)).await.assert_exit("exit", Some(0), 1000, "another session").await;
}

async fn a_browser_that_falls_silent_is_lost_and_hung_up(kind: Kind) {
    let (cluster, relay) = start(kind, &[]).await;
    let cable = Cable::lay(relay.addr(), Speed::default()).await.unwrap();
    let request = relay
        .request(&terminal("echo up; sleep 1000"), &[("sec-websocket-protocol", "podwire.v1")]);
    let tcp = TcpStream::connect(cable.addr()).await.unwrap();
    let mut browser = Browser::open(tcp, request).await.unwrap();
    browser.until_output("up").await;
    // It is there for longer than a dead one would be, although nothing is said.
    let mut answered = 0;
    let begun = Instant::now();
    while begun.elapsed() < 2 * DEAD_AFTER {
        assert!(within("a ping", browser.next()).await, "{:?}", browser.close);
        answered += 1;
    }
    assert!(answered > 3, "{answered} pings");
    cable.go_silent();
    let silent = Instant::now();
    let line = relay.until_logged("session end", 1).await;
    let took = silent.elapsed();
    assert!(line.contains("kind=browser_lost") && line.contains("process=ended"), "{line}");
    assert!(took > DEAD_AFTER / 2 && took < 4 * DEAD_AFTER, "{took:?}");
    let seen = session(&cluster, 0).await;
    let code = within("the process ends", seen.until(|facts| facts.exit_code)).await;
    assert_eq!(code, 130);
}

async fn a_cluster_that_falls_silent_is_lost_and_told(kind: Kind) {
    let cluster = cluster(kind.behaviour()).await;
    let cable = Cable::lay(cluster.addr(), Speed::default()).await.unwrap();
    let here = cluster.addr().to_string();
    let there = cluster.kubeconfig().replace(&here, &cable.addr().to_string());
    let start = Start { kubeconfig: Some(there), ..Start::flags(&SHORT) };
    let relay = start.before(&cluster).await;
    let mut page = relay.v1(&terminal("echo up; sleep 1000")).await;
    let mut seed = relay.seed(&pipes("echo up; sleep 1000")).await;
    page.until_output("up").await;
    seed.until_output("up").await;
    let seen = session(&cluster, 0).await;
    let falls_silent = async {
        // One ping after the other is answered, for longer than a dead cluster would live.
        let pings = |facts: &Facts| {
            facts.frames.iter().filter(|frame| frame.opcode == opcode::PING).count()
        };
        within("pings", seen.until(|facts| (pings(facts) > 6).then_some(()))).await;
        cable.go_silent();
        Instant::now()
    };
    // Who is not read does not answer the relay's pings.
    let told = async {
        page.assert_exit("cluster_lost", None, 4502, "a silent cluster").await;
        Instant::now()
    };
    let (silent, told, close) = tokio::join!(falls_silent, told, seed.ended());
    let took = told - silent;
    assert!(took > DEAD_AFTER / 2 && took < 3 * DEAD_AFTER, "{took:?}");
    assert_eq!(close.code, 4502);
    let line = relay.until_logged("session end", 2).await;
    assert!(line.contains("kind=cluster_lost") && line.contains("process=unknown"), "{line}");
}

/// Behind input that nobody reads no ping is answered (recorded), and yet the session is healthy.
async fn a_process_that_reads_nothing_is_not_dead(kind: Kind) {
    let (_cluster, relay) = start(kind, &[]).await;
    let wait = 4 * DEAD_AFTER.as_secs();
    let run = async |tty: bool, mebibytes: usize| {
        let what = format!("{kind:?}, terminal {tty}, {mebibytes} MiB");
        let count = mebibytes * 1024 * 1024;
        let script = format!("echo up; sleep {wait}; head -c {count} | sha256sum");
        let target =
            if tty { terminal(&format!("stty raw -echo; {script}")) } else { pipes(&script) };
        let mut browser = relay.v1(&target).await;
        browser.until_output("up").await;
        // Nothing that a terminal would take for anything else.
        let input = vec![b'x'; count];
        let (mut sink, mut stream) = browser.socket.split();
        let paste = async {
            for piece in input.chunks(1024 * 1024) {
                sink.send(Message::binary(piece.to_vec())).await.unwrap();
            }
            // Kept, as to drop it would be to leave.
            sink
        };
        let read = async {
            let (mut text, mut exit) = (Vec::new(), String::new());
            while let Some(Ok(message)) = stream.next().await {
                match message {
                    Message::Binary(bytes) => text.extend_from_slice(&bytes),
                    Message::Text(message) => exit = message.to_string(),
                    _ => {}
                }
            }
            (String::from_utf8(text).unwrap(), exit)
        };
        let (_sink, (text, exit)) = within(&what, async { tokio::join!(paste, read) }).await;
        assert!(exit.contains(r#""exitCode":0"#), "{what}: {exit}");
        assert!(text.contains(&sha256(&input)), "{what}: {text}");
    };
    tokio::join!(run(false, 2), run(false, 8), run(true, 2), run(true, 8));
}

/// It answers no ping either, because it does not read them: its own limit is what ends it.
async fn a_browser_that_reads_nothing_is_slow_and_not_dead(kind: Kind) {
    let (cluster, relay) = start(kind, &["--slow-browser", "8s"]).await;
    let begun = Instant::now();
    let browser = relay.v1(&terminal("exec yes")).await;
    let line = relay.until_logged("kind=slow_browser", 1).await;
    println!("{line}");
    assert!(begun.elapsed() > Duration::from_secs(8), "{line}");
    assert!(duration(&line) > 8.0, "{line}");
    let seen = session(&cluster, 0).await;
    within("the process ends", seen.until(|facts| facts.exit_code)).await;
    drop(browser);
    // One that goes on in time gets everything.
    let count = 32 * 1024 * 1024;
    let mut browser = relay.v1(&pipes(&format!("head -c {count} /dev/zero"))).await;
    pass(&relay, 2 * DEAD_AFTER).await;
    browser.assert_exit("exit", Some(0), 1000, "a pause").await;
    assert_eq!(browser.output.len(), count);
    assert_eq!(relay.logged("kind=browser_lost"), 0);
}

/// The size that is said again is data that crosses to the kubelet, and nothing else does.
#[tokio::test]
async fn a_terminal_lives_where_somebody_cuts_idle_connections() {
    let kubelet =
        Behaviour { kubelet_idle_timeout: Some(Duration::from_secs(4)), ..Behaviour::default() };
    let server = Behaviour { data_timeout: Duration::from_secs(4), ..Behaviour::default() };
    for (behaviour, what) in [(kubelet, "kubelet"), (server, "server")] {
        let cluster = cluster(behaviour).await;
        let relay = Start::flags(&["--size-keepalive", "1s"]).before(&cluster).await;
        let mut browser = relay.v1(&terminal("echo up; cat")).await;
        browser.until_output("up").await;
        // Without a terminal there is no size, and this is what is cut.
        let mut other = relay.v1(&pipes("echo up; cat")).await;
        other.assert_exit("cluster_lost", None, 4502, what).await;
        browser.input("still\r").await;
        browser.until_output("still").await;
        let sizes = session(&cluster, 0).await.facts().sizes;
        assert!(sizes.len() > 3 && sizes.iter().all(|it| *it == (80, 24)), "{what}: {sizes:?}");
    }
}

/// What a page was told, notices and the ending.
fn kinds(browser: &Browser) -> Vec<&str> {
    browser.messages.iter().filter_map(|it| it["kind"].as_str()).collect()
}

/// A key is worth more than output, and than what a page sends by itself.
#[tokio::test]
async fn an_idle_session_is_warned_and_ended() {
    let (cluster, relay) = start(Kind::V5, &["--idle-timeout", "4s"]).await;
    let talker = terminal("while :; do echo tick; sleep 0.2; done");
    let seed = async {
        let mut seed = relay.seed(&talker).await;
        assert_eq!(seed.ended().await.code, 4408);
        let text = seed.text();
        let lines = text.matches("\r\n[podwire: ").count();
        assert_eq!(lines, 2, "a warning and the end: {text:?}");
    };
    let page = async {
        let mut page = relay.v1(&talker).await;
        let begun = Instant::now();
        // Everything that comes is acknowledged at once, and that is no typing.
        while page.close.is_none() && within("an end", page.next()).await {
            let ack = format!(r#"{{"type":"ack","bytes":{}}}"#, page.output.len());
            // The last one may be too late.
            let _ = page.socket.send(ack.into()).await;
        }
        let took = begun.elapsed();
        assert!(took > Duration::from_secs(3) && took < Duration::from_secs(8), "{took:?}");
        page.assert_exit("idle", None, 4408, "idle").await;
        assert_eq!(kinds(&page), ["idle_warning", "idle"]);
    };
    let typist = async {
        let mut typist = relay.v1(&talker).await;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(9) {
            typist.input("x").await;
            let so_far = typist.output.len();
            typist.until("a tick", |it| it.output.len() > so_far).await;
        }
        let typed = Instant::now();
        typist.assert_exit("idle", None, 4408, "stopped typing").await;
        assert!(typed.elapsed() > Duration::from_secs(3), "{:?}", typed.elapsed());
        assert_eq!(kinds(&typist), ["idle_warning", "idle"]);
    };
    tokio::join!(seed, page, typist);
    for number in 0..3 {
        let seen = session(&cluster, number).await;
        within("the process ends", seen.until(|facts| facts.exit_code)).await;
    }
}

#[tokio::test]
async fn the_longest_session_is_warned_and_ended() {
    let (cluster, relay) = start(Kind::V5, &["--max-session", "4s"]).await;
    let mut browser = relay.v1(&terminal("cat")).await;
    let begun = Instant::now();
    while browser.close.is_none() {
        // The last one may be too late.
        let _ = browser.socket.send(Message::binary(&b"x"[..])).await;
        assert!(within("an end", browser.next()).await);
    }
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(8), "{took:?}");
    browser.assert_exit("max_session", None, 4408, "long").await;
    assert_eq!(kinds(&browser), ["max_session_warning", "max_session"]);
    let seen = session(&cluster, 0).await;
    within("the process ends", seen.until(|facts| facts.exit_code)).await;
}
