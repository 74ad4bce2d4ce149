//! A0: no address gives anything to a caller without a credential. The addresses come from the
//! router's own table, so that a new one cannot be forgotten.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::ffi::OsString;
use std::net::SocketAddr;

use common::{Relay, Start, cluster, upgrade, within};
use fake_cluster::Behaviour;
use podwire::config::{Command, parse};
use podwire::server::addresses;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const ROUTE: &str = "/old/{cluster}/{namespace}/{pod}/{container}/{shell}/ssh";
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
/// What a caller without a credential may hear.
const NOTHING: [u16; 5] = [401, 403, 404, 405, 426];

/// The table of a relay with these flags, with something that exists for each name.
fn paths(flags: &[&str]) -> Vec<String> {
    let arguments = ["podwire"].iter().chain(flags).map(OsString::from);
    let Ok(Command::Serve(config)) = parse(arguments, |_| None) else { panic!("{flags:?}") };
    let known = [
        ("{cluster}", "pretend"),
        ("{namespace}", "demo"),
        ("{pod}", "shell"),
        ("{container}", "main"),
        ("{shell}", "bash"),
    ];
    let fill = |pattern: String| {
        known.iter().fold(pattern, |path, (name, value)| path.replace(name, value))
    };
    addresses(&config).into_iter().map(|pattern| format!("/{}", fill(pattern))).collect()
}

/// The status of the answer to these bytes; the answer to HEAD has the length of a body without one.
async fn status(addr: SocketAddr, request: &str) -> Option<u16> {
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut line = String::new();
    let _ = within("an answer", BufReader::new(tcp).read_line(&mut line)).await;
    line.split(' ').nth(1)?.parse().ok()
}

/// Every method on every address, as a plain request, as an upgrade, and with what each form needs.
async fn assert_nothing(relay: &Relay, paths: &[String], headers: &str) {
    let query = "?namespace=demo&pod=shell&container=main&command=id&stdin=true&stdout=true";
    for path in paths {
        for method in METHODS {
            let odd = ["?proto=nonsense", "?proto=raw&proto=seed", "?x=%ff", "?namespace=.."];
            let odd = odd.map(|query| format!("{path}{query}"));
            for target in [path.clone(), format!("{path}{query}")].into_iter().chain(odd) {
                let open = upgrade(&target, headers);
                let plain = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
                for request in [open, plain] {
                    let request = request.replacen("GET", method, 1);
                    let status = status(relay.addr(), &request).await;
                    let is_nothing = status.is_some_and(|it| NOTHING.contains(&it));
                    // CONNECT wants an authority and no path, which is no request at all.
                    let is_no_request = method == "CONNECT" && status == Some(400);
                    assert!(is_nothing || is_no_request, "{request}: {status:?}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_address_has_anything_for_a_caller_without_a_credential() {
    let cluster = cluster(Behaviour::default()).await;
    let rows: [(&str, &[&str]); 3] = [
        ("passthrough", &[]),
        ("passthrough,ticket", &["--token-cookie=token", "--token-query=token"]),
        (
            "headers,ticket",
            &[
                "--headers-preset=remote-user",
                "--trusted-proxy=10.0.0.1",
                "--insecure-allow-anonymous",
            ],
        ),
    ];
    for (auth, flags) in rows {
        let flags: Vec<&str> = flags.iter().copied().chain(["--route", ROUTE]).collect();
        let relay = Start { auth, ..Start::flags(&flags) }.before(&cluster).await;
        let auth = format!("--auth={auth}");
        let all: Vec<&str> = flags.iter().copied().chain([auth.as_str()]).collect();
        let mut paths = paths(&all);
        assert!(paths.len() >= 7, "{paths:?}");
        paths.push("/nothing".to_owned());
        assert_nothing(&relay, &paths, "").await;
        assert_nothing(&relay, &paths, "Remote-User: admin\r\nCookie: token=\r\n").await;
        assert_nothing(&relay, &paths, "Origin: https://evil\r\n").await;
        assert_nothing(&relay, &paths, "Sec-WebSocket-Protocol: chat\r\n").await;
    }
    assert_eq!(cluster.connections(), 0, "nobody asked the cluster");
}

/// Off loopback, and so without knowing who connects, the port for operators has only health and
/// metrics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_without_a_token_see_health_and_metrics_only() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--admin-listen=0.0.0.0:0"]).before(&cluster).await;
    let port = relay.admin().await.port();
    let admin = SocketAddr::from(([127, 0, 0, 1], port));
    for method in METHODS.into_iter().filter(|method| *method != "CONNECT") {
        for path in ["/", "/sessions", "/sessions/", "/sessions/1", "/debug", "/exec"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let status = status(admin, &request).await;
            assert!(status.is_some_and(|it| NOTHING.contains(&it)), "{request}: {status:?}");
        }
        for path in ["/livez", "/healthz", "/readyz", "/metrics"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let expected = if ["GET", "HEAD"].contains(&method) { 200 } else { 405 };
            assert_eq!(status(admin, &request).await, Some(expected), "{request}");
        }
    }
}
