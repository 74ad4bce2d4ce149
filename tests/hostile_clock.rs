//! Peers that take their time: each step has a deadline, and passing it has a clear ending.
//!
//! Here the server runs inside the test, because its clock is stopped once the peer is silent: it
//! jumps from one timer to the next as soon as nothing else happens. Keepalive, idle sessions and the
//! longest session are in `session_timers.rs` and `keepalive.rs`.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Answer, Browser, MASK, pipes, session, upgrade, within};
use fake_cluster::wire::{channel, opcode, raw};
use fake_cluster::{Behaviour, FakeCluster, Script, Step, Until, Upgrade, misbehaviour};
use podwire::config::{Command, Config, parse};
use podwire::listener::Listener;
use podwire::server::serve;
use podwire::sources::Sources;
use podwire::{Clusters, Own};
use rustls::ServerConfig;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, pause, resume, sleep};

fn config(flags: &[&str]) -> Config {
    let fixed = ["podwire", "--auth", "own", "--listen", "127.0.0.1:0"];
    let arguments = fixed.iter().chain(flags).map(OsString::from);
    match parse(arguments, |_| None) {
        Ok(Command::Serve(config)) => *config,
        other => panic!("{other:?}"),
    }
}

/// Starts the server in this test's own runtime.
async fn start(cluster: &FakeCluster, tls: Option<Arc<ServerConfig>>) -> SocketAddr {
    start_with(&cluster.kubeconfig(), tls).await
}

async fn start_with(text: &str, tls: Option<Arc<ServerConfig>>) -> SocketAddr {
    let clusters = Clusters::parse(text.as_bytes(), Path::new("."), None, &[], Own::Included);
    // A clock that jumps is faster than any pong.
    let config = config(&["--dead-after", "1h"]);
    let listener = Listener::bind(&config.listen).await.unwrap();
    let Listener::Tcp(tcp) = &listener else { panic!("{listener:?}") };
    let address = tcp.local_addr().unwrap();
    let sources = watch::channel(Sources { clusters: clusters.unwrap(), tls }).1;
    tokio::spawn(serve(listener, None, config, sources, std::future::pending()));
    address
}

async fn scripted(script: Script) -> (FakeCluster, SocketAddr) {
    let cluster = common::scripted(script).await;
    let address = start(&cluster, None).await;
    (cluster, address)
}

fn seconds(range: Range<u64>) -> Range<Duration> {
    Duration::from_secs(range.start)..Duration::from_secs(range.end)
}

/// Waits for the end of a connection with the clock stopped, and gives what came before it.
async fn end_within(range: Range<u64>, tcp: &mut TcpStream, what: &str) -> Vec<u8> {
    let began = Instant::now();
    let mut came = Vec::new();
    // A reset is an end, too.
    let _ = tcp.read_to_end(&mut came).await;
    let took = began.elapsed();
    assert!(seconds(range).contains(&took), "{what}: {took:?}");
    came
}

/// H9: silence from the first moment, and after an answer.
#[tokio::test]
async fn a_caller_that_says_nothing_is_sent_away() {
    let (_cluster, address) = scripted(Script::default()).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    pause();
    end_within(9..12, &mut silent, "nothing").await;
    resume();

    let mut again = TcpStream::connect(address).await.unwrap();
    again.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let first = within("a page", again.read_u8()).await.unwrap();
    assert_eq!(first, b'H');
    pause();
    let rest = end_within(9..12, &mut again, "nothing after a page").await;
    assert!(!rest.is_empty());
}

/// H8: a byte a second would take a minute, and half a head takes for ever.
#[tokio::test]
async fn a_head_that_comes_slowly_is_cut_off() {
    let (cluster, address) = scripted(Script::default()).await;
    let request = upgrade(&pipes("true"), "");
    let mut slow = TcpStream::connect(address).await.unwrap();
    pause();
    let began = Instant::now();
    for byte in request.as_bytes().chunks(1) {
        if slow.write_all(byte).await.is_err() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    let took = began.elapsed();
    assert!(seconds(9..15).contains(&took), "{took:?}");
    resume();

    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(&request.as_bytes()[..50]).await.unwrap();
    pause();
    end_within(9..12, &mut half, "half a head").await;
    assert_eq!(cluster.connections(), 0);
}

/// H9 with TLS: nothing, and half a handshake.
#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_cut_off() {
    let cluster = common::scripted(Script::default()).await;
    let (acceptor, _) = common::tls();
    let address = start(&cluster, Some(Arc::clone(acceptor.config()))).await;
    for hello in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(hello).await.unwrap();
        pause();
        end_within(9..12, &mut tcp, "half a handshake").await;
        resume();
    }
}

/// Asks, waits until the cluster has done its part, stops the clock and waits for the answer.
async fn answer_within(
    range: Range<u64>,
    address: SocketAddr,
    headers: &str,
    silent: impl Future<Output = ()>,
) -> (Answer, Vec<u8>, TcpStream) {
    let request = upgrade(&pipes("true"), headers);
    let asked = tokio::spawn(async move {
        common::exchange(address, request.as_bytes()).await.expect("an answer")
    });
    within("the cluster is silent", silent).await;
    pause();
    let began = Instant::now();
    let (answer, rest, tcp) = asked.await.unwrap();
    let took = began.elapsed();
    resume();
    assert!(seconds(range.clone()).contains(&took), "{took:?} not in {range:?}: {answer:?}");
    (answer, rest, tcp)
}

/// S9, S10, S11.
#[tokio::test]
async fn a_cluster_that_says_nothing_is_given_up() {
    let named = |name: &str| misbehaviour::named(name).unwrap();
    let rows = [
        ("S11 silence", named("silence"), 29..32, 504, "cluster_timeout"),
        ("S9 slow head", named("slow-head"), 27..32, 504, "cluster_timeout"),
        ("S10 stuck body", named("stuck-body"), 4..7, 502, "cluster_unreachable"),
    ];
    for (id, script, range, status, kind) in rows {
        let (cluster, address) = scripted(script).await;
        let asked = async { drop(session(&cluster, 0).await) };
        let (answer, _, _) = answer_within(range, address, "", asked).await;
        answer.assert_refusal(status, kind, id);
    }
    // S11: connected, and no handshake.
    let before_tls = Some(Script::new([Step::Hang]));
    let cluster = common::cluster(Behaviour { before_tls, ..Behaviour::default() }).await;
    let address = start(&cluster, None).await;
    let (answer, _, _) = answer_within(9..12, address, "", cluster.until_connections(1)).await;
    answer.assert_refusal(504, "cluster_timeout", "S11 no handshake");
}

/// S11: a server whose queue is full, and which drops what asks for a connection.
#[tokio::test]
async fn a_cluster_that_drops_every_syn_is_given_up() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let full = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    let brief = Duration::from_millis(200);
    while let Ok(tcp) = tokio::time::timeout(brief, TcpStream::connect(full)).await {
        queued.push(tcp.unwrap());
    }
    let cluster = common::cluster(Behaviour::default()).await;
    let kubeconfig = cluster.kubeconfig().replace(&cluster.addr().to_string(), &full.to_string());
    let address = start_with(&kubeconfig, None).await;
    // As the kernel writes it: the port in hexadecimal, and 02 for a SYN that was sent.
    let entry = format!(":{:04X} 02 ", full.port());
    let asked = common::eventually("a SYN", || {
        std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&entry)
    });
    let (answer, _, _) = answer_within(9..12, address, "", asked).await;
    answer.assert_refusal(504, "cluster_timeout", "S11 SYN dropped");
}

/// The same to a page, which is told inside a WebSocket.
#[tokio::test]
async fn a_page_hears_of_a_cluster_that_says_nothing() {
    let (cluster, address) = scripted(misbehaviour::named("silence").unwrap()).await;
    let asked = async { drop(session(&cluster, 0).await) };
    let origin = "Origin: http://localhost\r\n";
    let (answer, rest, tcp) = answer_within(29..32, address, origin, asked).await;
    assert_eq!(answer.status, 101);
    let mut page = Browser::continued(tcp, rest).await;
    assert_eq!(page.ended().await.code, 4504);
    assert_eq!(page.text(), "\r\n[podwire: the cluster did not answer in time]\r\n");
}

/// A session with a cluster that takes everything and says this.
async fn open(output: Vec<u8>) -> (FakeCluster, Browser) {
    let (cluster, address) = scripted(Script::new([
        Step::Upgrade(Upgrade::honest()),
        Step::Send(output.into()),
        Step::Read(Until::Gone),
    ]))
    .await;
    let exchange = common::exchange(address, upgrade(&pipes("true"), "").as_bytes()).await;
    let (answer, rest, tcp) = exchange.expect("an answer");
    assert_eq!(answer.status, 101);
    (cluster, Browser::continued(tcp, rest).await)
}

/// F8: a text message that is begun and never finished, with a fragment now and then.
#[tokio::test]
async fn a_message_that_is_never_finished_ends_the_session() {
    let (cluster, mut browser) = open(channel(1, b"up")).await;
    browser.until_output("up").await;
    browser.raw(&raw(opcode::TEXT, MASK, b"{")).await.unwrap();
    pause();
    let began = Instant::now();
    while browser.close.is_none() {
        tokio::select! {
            more = browser.next() => assert!(more, "{}", browser.text()),
            () = sleep(Duration::from_secs(10)) => {
                browser.raw(&raw(opcode::CONTINUATION, MASK, b" ")).await.unwrap();
            }
        }
    }
    assert!(seconds(29..42).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(browser.close.unwrap().code, 4400);
    let seen = session(&cluster, 0).await;
    within("a hang-up", seen.until(|facts| facts.has(opcode::CLOSE).then_some(()))).await;
}

/// A paste over a slow line is slow as well, and is no attack: 100 KiB at 8 KiB a second.
#[tokio::test]
async fn a_message_that_goes_on_is_waited_for() {
    let (cluster, mut browser) = open(channel(1, b"up")).await;
    browser.until_output("up").await;
    let text = format!(r#"{{"type":"input","input":"{}"}}"#, "x".repeat(800 * 1024));
    let frame = raw(0x80 | opcode::TEXT, MASK, text.as_bytes());
    pause();
    for piece in frame.chunks(8 * 1024) {
        browser.raw(piece).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    resume();
    let seen = session(&cluster, 0).await;
    let whole = seen.until(|facts| (facts.stdin_bytes == 800 * 1024).then_some(()));
    within("the whole paste", whole).await;
}

/// A browser that takes nothing of a long output for five minutes.
#[tokio::test]
async fn a_browser_that_takes_nothing_is_given_up() {
    let (cluster, mut browser) = open(channel(1, &vec![b'x'; 32 * 1024]).repeat(2048)).await;
    let seen = session(&cluster, 0).await;
    pause();
    let began = Instant::now();
    seen.until(|facts| facts.closed.then_some(())).await;
    let took = began.elapsed();
    resume();
    assert!(seconds(299..310).contains(&took), "{took:?}");
    assert!(seen.facts().frames.iter().any(|frame| frame.payload[..] == [255, 0]));
    // What the sockets held is still there, in order; the connection behind it is cut.
    while within("the end", browser.next()).await {}
    assert!(browser.output.len() < 32 << 20, "{}", browser.output.len());
    assert!(browser.output.iter().all(|byte| *byte == b'x'));
}
