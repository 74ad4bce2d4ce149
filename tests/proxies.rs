//! Proxies on the way to the cluster that do not do their part, and what is said to those that do.
//!
//! The ids are those of the project's list of bad inputs. Real proxies carry real sessions in
//! `external/tests/proxies.rs`; these are played.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use common::{cluster, within};
use fake_cluster::{Behaviour, FakeCluster};
use podwire::{Clusters, Connector, Ending, Identity, Kind, OpenLimits, Own, Target, Via};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A login with everything in it that a URL cannot have as it is.
const LOGIN: &str = "some%40one:p%40ss%3Aw%2Frd%25";
const PASSWORD: &str = "p@ss:w/rd%";

/// A cluster that is asked through this proxy.
fn connector(cluster: &FakeCluster, proxy: &str) -> Connector {
    let text = cluster.kubeconfig();
    let clusters =
        Clusters::parse(text.as_bytes(), Path::new("."), None, &[], Own::Included).unwrap();
    clusters.default().clone().via(Via::parse(proxy).unwrap())
}

async fn refused(connector: &Connector) -> Ending {
    let target = Target::new("demo", "shell");
    match within("an ending", connector.open(&target, &Identity::Own)).await {
        Err(ending) => ending,
        Ok(_) => panic!("a session"),
    }
}

/// What a proxy does at the end of its part.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Close,
    Hang,
}

/// A proxy for one connection: after each thing that it hears it says the next of these. What it
/// heard comes over the channel.
async fn played(
    replies: Vec<Vec<u8>>,
    then: Then,
) -> (SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (hears, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 64 * 1024];
        for reply in replies {
            let count = tcp.read(&mut buffer).await.unwrap_or(0);
            let _ = hears.send(buffer[..count].to_vec());
            // Whoever has heard enough may have left.
            let _ = tcp.write_all(&reply).await;
        }
        if then == Then::Hang {
            while tcp.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        }
    });
    (address, heard)
}

/// The scheme and perhaps a login; what the proxy says; the words that are expected.
type Row<'a> = (&'a str, &'a str, &'a [&'a [u8]], &'a str);

#[tokio::test]
async fn a_proxy_that_does_not_do_its_part_is_named() {
    let cluster = cluster(Behaviour::default()).await;
    let long = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    let (http, login) = ("http://", format!("http://{LOGIN}@"));
    let (socks, socks_login) = ("socks5://", format!("socks5h://{LOGIN}@"));
    let reply = |code: u8| [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
    let rows: &[Row] = &[
        (
            "S15 407",
            http,
            &[b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno\n"],
            "wants a login (407): put USER:PASSWORD@",
        ),
        (
            "S15 407 with a login",
            &login,
            &[b"HTTP/1.1 407 Nope\r\nProxy-Authenticate: Basic\r\n\r\n"],
            "does not accept the login in its URL (407)",
        ),
        ("S15 502", http, &[b"HTTP/1.1 502 Bad Gateway\r\n\r\n"], "answered 502 Bad Gateway"),
        ("S15 403", &login, &[b"HTTP/1.0 403 Filtered\r\n\r\n<html>"], "answered 403 Forbidden"),
        ("S15 302", http, &[b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"], "answered 302 Found"),
        ("S15 garbage", http, &[b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], "does not speak HTTP/1.1"),
        ("S15 long head", http, &[&long], "does not speak HTTP/1.1"),
        ("S15 nothing", http, &[b""], "ended the connection without an answer"),
        ("S15 half a head", http, &[b"HTTP/1.1 200 O"], "ended the connection without an answer"),
        ("S15 too much", http, &[b"HTTP/1.1 200 OK\r\n\r\n220 mail"], "says more than its answer"),
        ("S15 closes", http, &[b"HTTP/1.1 200 OK\r\n\r\n"], "tls: "),
        ("S15 no TLS", http, &[b"HTTP/1.1 200 OK\r\n\r\n", b"200 OK"], "does not speak TLS"),
        ("S15 no TLS itself", "https://", &[b"HTTP/1.1 400 Bad Request\r\n\r\n"], "not speak TLS"),
        ("S15 no TLS, closes", "https://", &[b""], "tls: the connection ended in the handshake"),
        ("S15 socks 407", socks, &[&[5, 0xff]], "wants a login: put USER:PASSWORD@"),
        ("S15 socks login", &socks_login, &[&[5, 0xff]], "wants another kind of login"),
        ("S15 socks wrong", &socks_login, &[&[5, 2], &[1, 1]], "does not accept the login"),
        ("S15 socks unasked", socks, &[&[5, 2]], "does not speak SOCKS 5"),
        ("S15 socks 1", socks, &[&[5, 0], &reply(1)], "it does not say why"),
        ("S15 socks 2", socks, &[&[5, 0], &reply(2)], "its rules do not allow it"),
        ("S15 socks 4", &socks_login, &[&[5, 2], &[1, 0], &reply(4)], "no such host"),
        ("S15 socks 5", socks, &[&[5, 0], &reply(5)], "connection refused"),
        ("S15 socks 5, short", socks, &[&[5, 0], &[5, 5, 0, 1]], "connection refused"),
        ("S15 socks 200", socks, &[&[5, 0], &reply(200)], "it does not say why"),
        ("S15 socks odd", socks, &[&[5, 0], &[5, 0, 0, 9, 1, 2]], "does not speak SOCKS 5"),
        ("S15 socks half", socks, &[&[5, 0], &[5, 0, 0, 3, 9, b'x']], "ended the connection"),
        ("S15 socks closes", socks, &[&[5, 0], b""], "ended the connection"),
        ("S15 socks garbage", socks, &[b"HTTP/1.1 400 Bad Request\r\n\r\n"], "not speak SOCKS 5"),
        ("S15 socks 4 only", socks, &[&[0, 91]], "does not speak SOCKS 5"),
    ];
    for (id, scheme, replies, words) in rows {
        let replies = replies.iter().map(|it| it.to_vec()).collect();
        let (address, _heard) = played(replies, Then::Close).await;
        let connector = connector(&cluster, &format!("{scheme}{address}"));
        let ending = refused(&connector).await;
        assert_eq!(ending.kind, Kind::ClusterUnreachable, "{id}: {ending:?}");
        let proxy = format!("the proxy at {address}");
        assert!(ending.message.contains(&proxy), "{id}: {ending:?}");
        assert!(ending.message.contains(words), "{id}: {ending:?}");
        let all = format!("{ending:?} {ending} {connector:?}");
        assert!(!all.contains(PASSWORD) && !all.contains("p%40ss"), "{id}: {all}");
        assert!(ending.message.len() < 300, "{id}: {ending:?}");
    }
    assert_eq!(cluster.connections(), 0);
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let cluster = cluster(Behaviour::default()).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rows = [
        ("S15 gone", format!("http://{gone}"), "refused"),
        ("S17 a proxy's name", "socks5://proxy.invalid".to_owned(), "proxy.invalid"),
    ];
    for (id, url, words) in rows {
        let ending = refused(&connector(&cluster, &url)).await;
        assert_eq!(ending.kind, Kind::ClusterUnreachable, "{id}: {ending:?}");
        let begins = ending.message.starts_with("cannot reach the proxy at ");
        assert!(begins && ending.message.contains(words), "{id}: {ending:?}");
    }
}

/// A proxy that hangs costs as much time as a cluster that hangs, at whichever step.
#[tokio::test]
async fn a_proxy_that_hangs_is_given_up() {
    let cluster = cluster(Behaviour::default()).await;
    let limit = Duration::from_millis(300);
    let rows: &[Row] = &[
        ("S15 hangs", "http://", &[b""], "did not answer in time"),
        ("S15 hangs in its head", "http://", &[b"HTTP/1.1 200"], "did not answer in time"),
        ("S15 hangs after its head", "http://", &[b"HTTP/1.1 200 OK\r\n\r\n"], "in time (through"),
        ("S15 hangs before TLS", "https://", &[b""], "did not accept a connection in time"),
        ("S15 hangs, socks", "socks5://", &[b""], "did not answer in time"),
        ("S15 hangs, socks reply", "socks5://", &[&[5, 0], b""], "did not answer in time"),
    ];
    for (id, scheme, replies, words) in rows {
        let replies = replies.iter().map(|it| it.to_vec()).collect();
        let (address, _heard) = played(replies, Then::Hang).await;
        let mut limits = OpenLimits::default();
        limits.connect = limit;
        let connector = connector(&cluster, &format!("{scheme}{address}")).with_limits(limits);
        let began = std::time::Instant::now();
        let ending = refused(&connector).await;
        let took = began.elapsed();
        assert!(took >= limit && took < limit * 20, "{id}: {took:?}");
        assert_eq!(ending.kind, Kind::ClusterTimeout, "{id}: {ending:?}");
        assert!(ending.message.contains(&format!("the proxy at {address}")), "{id}: {ending:?}");
        assert!(ending.message.contains(words), "{id}: {ending:?}");
    }
}

/// Exactly this is said to a proxy, and nothing of what is meant for the cluster.
#[tokio::test]
async fn a_proxy_hears_where_to_and_its_login() {
    let cluster = cluster(Behaviour::default()).await;
    let place = cluster.addr();
    let (address, mut heard) = played(vec![b"HTTP/1.1 502 No\r\n\r\n".to_vec()], Then::Close).await;
    refused(&connector(&cluster, &format!("http://{LOGIN}@{address}/"))).await;
    let request = String::from_utf8(heard.recv().await.unwrap()).unwrap();
    let expected = format!(
        "CONNECT {place} HTTP/1.1\r\nhost: {place}\r\nuser-agent: podwire/{}\r\n\
         proxy-authorization: Basic c29tZUBvbmU6cEBzczp3L3JkJQ==\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(request, expected);

    let replies = [&[5, 2][..], &[1, 0], &[5, 2, 0, 1]].map(<[u8]>::to_vec).to_vec();
    let (address, mut heard) = played(replies, Then::Close).await;
    refused(&connector(&cluster, &format!("socks5://{LOGIN}@{address}"))).await;
    assert_eq!(heard.recv().await.unwrap(), [5, 2, 0, 2]);
    let login = [&[1, 8], &b"some@one"[..], &[10], PASSWORD.as_bytes()].concat();
    assert_eq!(heard.recv().await.unwrap(), login);
    let [high, low] = place.port().to_be_bytes();
    assert_eq!(heard.recv().await.unwrap(), [5, 1, 0, 1, 127, 0, 0, 1, high, low]);
}
