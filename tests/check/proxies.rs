//! A proxy on the way, as `podwire check` tells of it.

use std::net::SocketAddr;

use fake_cluster::Behaviour;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::cluster;
use crate::said::{POD, check, set_server};

/// A proxy that answers every request like this and closes; or says nothing at all.
async fn proxy(answer: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(answer) = answer else {
                silent.push(stream);
                continue;
            };
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_leads_nowhere_is_told_by_its_answer() {
    let cluster = cluster(Behaviour::default()).await;
    let login = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
    let denied = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    for (answer, user, words) in [
        (Some(login), "", ["wants a login (407)", "write USER:PASSWORD@ before the host"]),
        (Some(login), "me:s3cr3t@", ["does not accept the login", "percent-encoded"]),
        (Some(denied), "", ["answered 403 Forbidden when asked for", "many allow only 443"]),
        (Some("SSH-2.0-x\r\n"), "", ["does not speak HTTP/1.1", "the wrong scheme"]),
        (None, "", ["did not answer in time", "--connect-timeout"]),
    ] {
        let address = proxy(answer).await;
        let mut file: Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
        set_server(&mut file, "proxy-url", &format!("http://{user}{address}"));
        let said = check(&file.to_string(), &["--connect-timeout=1s"], &[]).await;
        assert_eq!((said.code, said.state("proxy")), (Some(1), "FAILED"), "{said:?}");
        assert_eq!((said.state("TCP"), said.state("TLS")), ("ok", "skipped"), "{said:?}");
        for expected in words {
            assert!(said.words().contains(expected), "{expected}: {said:?}");
        }
        said.assert_harmless(&["s3cr3t".to_owned()]);
    }
    assert!(cluster.requests().is_empty(), "nobody got through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_proxy_is_told_with_where_it_is_set() {
    let cluster = cluster(Behaviour::default()).await;
    let dead = "http://127.0.0.1:1";
    let mut file: Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
    // Servers on this machine are never asked for by a proxy of the environment.
    set_server(&mut file, "server", "https://203.0.113.1:6443");
    let said = check(&file.to_string(), &[], &[("HTTPS_PROXY", dead)]).await;
    assert_eq!((said.code, said.state("TCP")), (Some(1), "FAILED"), "{said:?}");
    assert!(said.words().contains("unset HTTPS_PROXY, or name"), "{said:?}");
    assert!(!said.words().contains("proxy-url"), "{said:?}");
    set_server(&mut file, "proxy-url", dead);
    let said = check(&file.to_string(), &[], &[("HTTPS_PROXY", "http://127.0.0.1:2")]).await;
    assert!(said.words().contains("take the proxy-url out"), "{said:?}");
    assert!(!said.words().contains("HTTPS_PROXY"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_works_is_a_step_of_its_own() {
    let cluster = cluster(Behaviour::default()).await;
    let (to, listener) = (cluster.addr(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                let mut cluster = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut cluster).await
            });
        }
    });
    let mut file: Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
    set_server(&mut file, "proxy-url", &format!("http://{address}"));
    let said = check(&file.to_string(), &POD, &[]).await;
    assert_eq!((said.code, said.state("proxy")), (Some(0), "ok"), "{said:?}");
    let words = format!("{address} connects to {to}");
    assert!(said.line("proxy").contains(&words), "{said:?}");
}
