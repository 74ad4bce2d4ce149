//! Where browsers connect and which addresses they use: TLS, a Unix socket, a base path, the
//! addresses of front ends that exist already.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use common::{Answer, Browser, Start, cluster, folder, pipes, session, short, within};
use fake_cluster::{Behaviour, Options};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

#[tokio::test]
async fn browsers_may_be_spoken_to_in_tls() {
    let cluster = cluster(Behaviour::default()).await;
    let folder = folder();
    let (_, certified) = common::tls();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let flags = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let relay = Start::flags(&flags).before(&cluster).await;
    assert!(relay.url.starts_with("https://127.0.0.1:"), "{}", relay.url);

    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let connect = async || {
        let tcp = TcpStream::connect(relay.addr()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Box::new(within("a handshake", connector.connect(name, tcp)).await.unwrap())
    };
    let v1 = ("sec-websocket-protocol", "podwire.v1");
    let script = "head -c 3000000 | sha256sum";
    let mut page =
        Browser::open(connect().await, relay.request(&pipes(script), &[v1])).await.unwrap();
    let input = common::Random(6).bytes(3_000_000);
    for piece in input.chunks(1_000_000) {
        page.bytes(piece).await;
    }
    page.assert_exit("exit", Some(0), 1000, "over TLS").await;
    assert_eq!(page.text(), format!("{}  -\n", common::sha256(&input)));
    // The same host without TLS is another origin.
    let http = relay.url.trim_end_matches('/').replace("https:", "http:");
    let foreign = relay.request(&pipes("true"), &[("origin", &http)]);
    let refused = Browser::open(connect().await, foreign).await.err().unwrap();
    assert!(refused.to_string().contains("403"), "{refused}");
    // Who speaks no TLS gets nothing, and harms nobody.
    assert!(relay.http("GET / HTTP/1.1\r\n\r\n").await.is_none_or(|it| it.status == 400));
    let mut page =
        Browser::open(connect().await, relay.request(&pipes("exit 3"), &[v1])).await.unwrap();
    page.assert_exit("exit", Some(3), 1000, "over TLS").await;
}

#[tokio::test]
async fn a_unix_socket_is_for_its_owner_only() {
    let cluster = cluster(Behaviour::default()).await;
    let path = folder().join("relay.sock");
    let listen = format!("unix:{}", path.display());
    let start = Start { listen: listen.clone(), ..Start::default() };
    // The second one replaces the socket that the first one left behind.
    for _ in 0..2 {
        let mut relay = start.clone().before(&cluster).await;
        assert_eq!(relay.url, listen);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut unix = UnixStream::connect(&path).await.unwrap();
        let request = common::upgrade(&pipes("true"), "").replace("Host: localhost", "Host: evil");
        unix.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within("a refusal", unix.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "it counts as loopback: {answer}");

        let unix = UnixStream::connect(&path).await.unwrap();
        let uri = format!("ws://localhost{}", short(&["sh", "-c", "exit 3"], "&proto=podwire.v1"));
        let (socket, response) =
            within("an upgrade", tokio_tungstenite::client_async(uri, unix)).await.unwrap();
        let mut page = Browser::new(socket, response, true);
        page.assert_exit("exit", Some(3), 1000, "over a Unix socket").await;

        // While it runs, nobody takes its place.
        let kubeconfig = path.with_extension("kubeconfig");
        std::fs::write(&kubeconfig, cluster.kubeconfig()).unwrap();
        let second = std::process::Command::new(env!("CARGO_BIN_EXE_podwire"))
            .args(["--listen", &listen, "--kubeconfig", kubeconfig.to_str().unwrap()])
            .output()
            .unwrap();
        assert_eq!(second.status.code(), Some(1));
        let said = String::from_utf8(second.stderr).unwrap();
        assert!(said.contains(&format!("cannot listen on {listen}: address in use")), "{said}");
        assert!(UnixStream::connect(&path).await.is_ok(), "the first one still answers");
        assert_eq!(relay.terminate().await, Some(0));
        assert!(path.exists(), "it is left behind");
    }
}

#[tokio::test]
async fn everything_is_served_under_the_base_path() {
    let cluster = cluster(Behaviour::default()).await;
    let flags = ["--base-path", "/a/terminal", "--route", "/x/{namespace}/{pod}"];
    let relay = Start::flags(&flags).before(&cluster).await;
    assert!(relay.url.ends_with("/a/terminal/"), "{}", relay.url);
    let base = "/a/terminal";
    let pod = "/api/v1/namespaces/demo/pods/shell/exec?container=main&command=true&stdout=1";
    let targets = [short(&["true"], ""), pod.to_owned(), format!("/clusters/demo{pod}")];
    for target in targets.into_iter().chain(["/x/demo/shell".to_owned()]) {
        assert_eq!(relay.ask(&format!("{base}{target}"), "").await.status, 101, "{target}");
        for wrong in [target.clone(), format!("{base}{base}{target}"), format!("{base}/{target}")] {
            relay.ask(&wrong, "").await.assert_refusal(404, "not_found", &wrong);
        }
    }
    let get = async |path: &str| -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        relay.http(request).await.unwrap()
    };
    assert_eq!(get("/").await.status, 404);
    assert_eq!(get("/a/terminalx/").await.status, 404);
    if cfg!(feature = "ui") {
        let page = get("/a/terminal/?pod=x").await;
        assert_eq!(page.status, 200);
        assert!(page.header("content-type").unwrap().starts_with("text/html"));
        assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"));
        let moved = get("/a/terminal?pod=x").await;
        assert_eq!((moved.status, moved.header("location")), (308, Some("terminal/?pod=x")));
    }
}

/// U12 and the front ends of others: all five parts, in any order, with the shell's short names.
#[tokio::test]
async fn addresses_of_other_front_ends_are_understood() {
    let cluster = cluster(Behaviour::default()).await;
    let long = "/kubemgr/api/v1/ws/{cluster}/{namespace}/{pod}/{container}/{shell}/ssh";
    let flags = ["--route", long, "--route", "/t/{pod}.x/{namespace}"];
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_podwire")).args(flags).output();
    assert_eq!(refused.unwrap().status.code(), Some(2), "a name is a whole part");
    let flags = ["--route", &format!("{long},/t/{{pod}}/in/{{namespace}}")];
    let relay = Start::flags(&flags).before(&cluster).await;
    let at = |rest: &str| format!("/kubemgr/api/v1/ws/{rest}/ssh");
    let rows = [
        (at("demo/demo/shell/main/b"), "exec bash"),
        (at("demo/demo/shell/main/bash"), "exec bash"),
        (at("demo/demo/shell/main/s"), "exec sh"),
        (at("demo/demo/shell/main/sh"), "exec sh"),
        (at("demo/demo/shell/main/auto"), "command -v"),
        (at("d%65mo/demo/shell/main/auto"), "command -v"),
        // Its parameters are its own, and are not ours.
        (at("demo/demo/shell/main/b") + "?token=x&pod=y&pod=z&command=id&tty=maybe", "exec bash"),
        (at("demo/demo/shell/main/b") + "?cols=100&rows=30", "exec bash"),
        ("/t/shell/in/demo".to_owned(), "command -v"),
        // A form sends its empty fields, too.
        ("/exec?namespace=demo&pod=shell&container=main&command=".to_owned(), "command -v"),
        ("/exec?namespace=demo&pod=shell&command=&command=&shell=sh".to_owned(), "exec sh"),
    ];
    for (target, words) in &rows {
        let mut page = relay.seed(target).await;
        page.input("stty size; exit 3\r").await;
        assert_eq!(page.ended().await.code, 1000, "{target}");
        if target.contains("cols=100") {
            assert!(page.text().contains("30 100"), "{}", page.text());
        }
        let number = cluster.sessions().len() - 1;
        let seen = session(&cluster, number).await;
        let query = percent_encoding::percent_decode_str(seen.request().query());
        let query = query.decode_utf8().unwrap();
        assert!(query.contains(words) && query.contains("tty=true"), "{target}: {query}");
        assert!(!query.contains("id&") && !query.contains("stderr"), "{target}: {query}");
    }
    let count = cluster.connections();
    for (target, status) in [
        (at("demo/demo/shell/main/zsh"), 400),
        (at("demo/demo/shell/main/"), 400),
        (at("nope/demo/shell/main/b"), 404),
        (at("demo/Demo/shell/main/b"), 400),
        (at("demo/demo/..%2Fshell/main/b"), 400),
        (at("demo/demo/shell/main/b/x"), 404),
        (at("demo/demo/shell/b"), 404),
        ("/t//in/demo".to_owned(), 400),
        ("/t/shell/on/demo".to_owned(), 404),
    ] {
        let answer = relay.ask(&target, "").await;
        assert_eq!(answer.status, status, "{target}: {answer:?}");
    }
    assert_eq!(cluster.connections(), count, "what is refused reaches no cluster");
}

/// A cluster on loopback may speak without TLS, as the benches' does.
#[tokio::test]
async fn a_cluster_on_loopback_needs_no_tls() {
    let cluster = fake_cluster::FakeCluster::start(Options { tls: false, ..Options::default() });
    let cluster = within("a cluster", cluster).await.unwrap();
    let relay = common::Relay::start(&cluster).await;
    relay.v1(&pipes("exit 3")).await.assert_exit("exit", Some(3), 1000, "without TLS").await;
}
