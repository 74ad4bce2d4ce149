//! A mistake in one session is that session's end and nobody else's.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use common::{Browser, Close, cluster, operate, pipes, session, within};
use fake_cluster::{Behaviour, FakeCluster};
use podwire::config::{Command, parse};
use podwire::listener::Listener;
use podwire::server::serve;
use podwire::sources::Sources;
use podwire::{Clusters, Own, Target};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// How many sessions are there beside the one that breaks.
const OTHERS: usize = 20;

const BROKEN: &str = "/exec?namespace=demo&pod=shell&container=side&command=sleep&command=1000";

/// The relay in this process, where it can be made to break.
struct Inside {
    browsers: SocketAddr,
    operators: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Inside {
    async fn start(cluster: &FakeCluster, hook: fn(&Target)) -> Self {
        let flags = ["podwire", "--auth=own", "--drain-delay=1s", "--session-rate=1000"];
        let Command::Serve(config) = parse(flags.map(OsString::from), |_| None).unwrap() else {
            panic!("nothing to serve");
        };
        let mut config = *config;
        config.hook = Some(hook);
        let text = cluster.kubeconfig();
        let clusters = Clusters::parse(text.as_bytes(), Path::new("."), None, &[], Own::Included);
        let bind = async || {
            let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            (tcp.local_addr().unwrap(), Listener::Tcp(tcp))
        };
        let ((browsers, listener), (operators, admin)) = (bind().await, bind().await);
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let sources = Sources { clusters: clusters.unwrap(), tls: None };
        let served = serve(listener, Some(admin), config, watch::channel(sources).1, stopped);
        Self { browsers, operators, stop, served: tokio::spawn(served) }
    }

    async fn v1(&self, target: &str) -> Browser {
        let mut request = format!("ws://{}{target}", self.browsers).into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", "podwire.v1".parse().unwrap());
        headers.insert("origin", format!("http://{}", self.browsers).parse().unwrap());
        let tcp = TcpStream::connect(self.browsers).await.unwrap();
        Browser::open(tcp, request).await.unwrap()
    }

    async fn metrics(&self) -> String {
        let answer = operate(self.operators, "GET", "/metrics", "").await;
        String::from_utf8(answer.body).unwrap()
    }
}

/// What is meant to break is in a container of its own.
fn break_beside(target: &Target) {
    assert_ne!(target.container.as_deref(), Some("side"), "the test's own mistake");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_one_session_ends_that_one_and_no_other() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Inside::start(&cluster, break_beside).await;
    let mut others = Vec::new();
    for number in 0..OTHERS {
        let mut page = relay.v1(&pipes("cat")).await;
        page.input(&format!("before {number}\n")).await;
        page.until_output(&format!("before {number}\n")).await;
        others.push(page);
    }
    for round in 0..3 {
        let mut page = relay.v1(BROKEN).await;
        let (exit, close) = page.exit().await;
        assert_eq!((exit["kind"].as_str(), close.code), (Some("internal"), 1011), "{exit}");
        assert_eq!(exit["retry"], true);
        assert!(!exit.to_string().contains("own mistake"), "{exit}");
        let seen = session(&cluster, OTHERS + round).await;
        let facts = seen.until(|facts| facts.closed.then(|| facts.clone()));
        let keys = within("the process is hung up", facts).await.channel(0);
        assert_eq!(keys.first(), Some(&3), "{keys:?}");
    }
    for (number, page) in others.iter_mut().enumerate() {
        page.input(&format!("after {number}\n")).await;
        page.until_output(&format!("after {number}\n")).await;
    }
    let mut often = tokio::time::interval(std::time::Duration::from_millis(10));
    let counted = async {
        while !relay.metrics().await.contains("podwire_sessions_ended_total{kind=\"internal\"} 3\n")
        {
            often.tick().await;
        }
    };
    within("they are counted", counted).await;
    let metrics = relay.metrics().await;
    assert!(metrics.contains(&format!("podwire_sessions_active {OTHERS}\n")), "{metrics}");
    // The others are ended as ever, by the drain.
    relay.stop.send(()).unwrap();
    for page in &mut others {
        let close = page.ended().await;
        assert_eq!(close, Close { code: 1012, reason: close.reason.clone() });
    }
    drop(others);
    within("the relay ends", relay.served).await.unwrap();
}
