//! Proxies on the way to the cluster that do not do their part, and what is said to those that do.
//!
//! The ids are those of the project's list of bad inputs. Real proxies carry real sessions in
//! `external/tests/proxies.rs`; these are played.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Relay, Start, cluster, contains, folder, pipes, within};
use fake_cluster::{Behaviour, FakeCluster};
use podwire::{Clusters, Connector, Ending, Identity, Kind, OpenLimits, Own, Target, Via};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

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

/// A proxy that leads to this place whatever it is asked for, as if it alone could look names up.
/// What it is asked comes over the channel.
async fn honest(place: SocketAddr) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (hears, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(extend(tcp, place, hears.clone()));
        }
    });
    (address, heard)
}

async fn extend(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    place: SocketAddr,
    hears: mpsc::UnboundedSender<String>,
) {
    let mut head = Vec::new();
    while !contains(&head, b"\r\n\r\n") {
        if !io.read_buf(&mut head).await.is_ok_and(|count| count > 0) {
            return;
        }
    }
    let _ = hears.send(String::from_utf8(head).unwrap());
    let mut cluster = TcpStream::connect(place).await.unwrap();
    io.write_all(b"HTTP/1.0 200 Connection established\r\nContent-Length: 9\r\n\r\n")
        .await
        .unwrap();
    // Either side may end it as it likes.
    let _ = copy_bidirectional(&mut io, &mut cluster).await;
}

/// A name that the cluster's certificate has and that nobody here can look up.
const NAME: &str = "kubernetes.default.svc";

#[tokio::test]
async fn the_environment_names_a_proxy_and_who_needs_none() {
    let cluster = cluster(Behaviour::default()).await;
    let (proxy, mut heard) = honest(cluster.addr()).await;
    let place = format!("{NAME}:{}", cluster.addr().port());
    let kubeconfig = cluster.kubeconfig().replace(&cluster.addr().to_string(), &place);
    let relay = async |environment: &[(&'static str, String)]| {
        let (kubeconfig, environment) = (Some(kubeconfig.clone()), environment.to_vec());
        Relay::with(&cluster, Start { kubeconfig, environment, ..Start::default() }).await
    };
    let https_proxy = ("HTTPS_PROXY", format!("http://{LOGIN}@{proxy}"));

    let through = relay(&[https_proxy.clone(), ("NO_PROXY", "example.org".to_owned())]).await;
    let mut page = through.v1(&pipes("echo hello; exit 3")).await;
    page.assert_exit("exit", Some(3), 1000, "through a proxy").await;
    assert_eq!(page.text(), "hello\n");
    let asked = heard.recv().await.unwrap();
    assert!(asked.starts_with(&format!("CONNECT {place} HTTP/1.1\r\n")), "{asked}");
    let log = through.log();
    assert!(!log.contains(PASSWORD) && !log.contains(LOGIN), "{log}");

    let direct = relay(&[https_proxy, ("no_proxy", "10.0.0.0/8,.svc".to_owned())]).await;
    while heard.try_recv().is_ok() {}
    let mut page = direct.v1(&pipes("true")).await;
    page.assert_exit("cluster_unreachable", None, 4502, "S17 without a proxy").await;
    let message = page.messages[0]["message"].as_str().unwrap();
    assert!(message.contains(NAME) && !message.contains("proxy"), "{message}");
    assert!(heard.try_recv().is_err(), "a proxy was asked that should not be");
}

/// A proxy that is reached by TLS has a certificate of this machine's authorities, not of the
/// cluster's, and asks for ours in vain; the cluster behind it is shown it.
#[tokio::test]
async fn a_certificate_is_shown_to_the_cluster_and_not_to_a_proxy() {
    let cluster = cluster(Behaviour::default()).await;
    let (proxy, certificate, mut shown) = tls_proxy(cluster.addr()).await;
    let file = folder().join("authorities.pem");
    std::fs::write(&file, certificate).unwrap();
    let identity = cluster.client_identity();
    let user = serde_json::json!({
        "client-certificate-data": STANDARD.encode(&identity.certificate_pem),
        "client-key-data": STANDARD.encode(&identity.key_pem),
    });
    let mut kubeconfig: serde_json::Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
    for named in kubeconfig["users"].as_array_mut().unwrap() {
        named["user"] = user.clone();
    }
    for named in kubeconfig["clusters"].as_array_mut().unwrap() {
        named["cluster"]["proxy-url"] = format!("https://localhost:{}", proxy.port()).into();
    }
    let kubeconfig = Some(kubeconfig.to_string());
    let trusting = vec![("SSL_CERT_FILE", file.to_str().unwrap().to_owned())];
    let start = Start { kubeconfig: kubeconfig.clone(), environment: trusting, ..Start::default() };
    let relay = Relay::with(&cluster, start).await;
    let mut page = relay.v1(&pipes("echo hello")).await;
    page.assert_exit("exit", Some(0), 1000, "through a proxy with TLS").await;
    assert!(!shown.recv().await.unwrap(), "a certificate was shown to the proxy");

    // Without that authority, nothing is said to the proxy.
    let relay = Relay::with(&cluster, Start { kubeconfig, ..Start::default() }).await;
    let mut page = relay.v1(&pipes("true")).await;
    page.assert_exit("cluster_unreachable", None, 4502, "S12 a proxy's").await;
    let message = page.messages[0]["message"].as_str().unwrap();
    assert!(message.starts_with("cannot reach the proxy at localhost:"), "{message}");
    assert!(message.contains("tls: the certificate is by an unknown authority"), "{message}");
}

/// Its address, its certificate, and whether it was shown one, for each connection.
async fn tls_proxy(place: SocketAddr) -> (SocketAddr, String, mpsc::UnboundedReceiver<bool>) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::generate_simple_self_signed(names).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.allow_unauthenticated().build().unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sees, seen) = mpsc::unbounded_channel();
    let (hears, _) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            // A peer that does not trust us ends the handshake.
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            let _ = sees.send(tls.get_ref().1.peer_certificates().is_some());
            tokio::spawn(extend(tls, place, hears.clone()));
        }
    });
    (address, own.cert.pem(), seen)
}
