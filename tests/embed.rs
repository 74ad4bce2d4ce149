//! The crate as others use it: the example gateway, run.
// A test that meets something impossible should stop loudly.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[allow(dead_code)] // Its `main` is not called here.
#[path = "../examples/embed.rs"]
mod embed;

use std::path::Path;
use std::sync::Arc;

use fake_cluster::{FakeCluster, Options};
use futures_util::{SinkExt, StreamExt};
use podwire::proto::session::Process;
use podwire::{Clusters, Kind, Outcome, Own};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

struct Running {
    /// Its processes end with it.
    cluster: FakeCluster,
    gateway: Arc<embed::Gateway>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    address: String,
}

async fn start() -> Running {
    let cluster = FakeCluster::start(Options::default()).await.unwrap();
    let kubeconfig = cluster.kubeconfig();
    let folder = Path::new(".");
    let clusters =
        Clusters::parse(kubeconfig.as_bytes(), folder, None, &[], Own::Included).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (outcome, outcomes) = mpsc::unbounded_channel();
    let gateway = embed::Gateway { clusters, throw_out: Notify::new(), outcomes: outcome };
    let gateway = Arc::new(gateway);
    tokio::spawn(embed::serve(listener, Arc::clone(&gateway)));
    Running { cluster, gateway, outcomes, address }
}

async fn connect(address: &str, user: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = format!("ws://{address}/terminal").into_client_request()?;
    request.headers_mut().insert("x-user", user.parse().unwrap());
    request.headers_mut().insert("sec-websocket-protocol", "podwire.v1".parse().unwrap());
    let stream = TcpStream::connect(address).await?;
    Ok(client_async(request, stream).await?.0)
}

#[tokio::test]
async fn a_gateway_stops_a_session_and_reads_its_outcome() {
    let mut running = start().await;
    let mut browser = connect(&running.address, "ada").await.unwrap();
    browser.send(Message::text(r#"{"type":"input","input":"echo a$((6*7))b\r"}"#)).await.unwrap();
    let mut output = Vec::new();
    while !output.windows(4).any(|four| four == b"a42b") {
        if let Message::Binary(bytes) = browser.next().await.unwrap().unwrap() {
            output.extend_from_slice(&bytes);
        }
    }
    running.gateway.throw_out.notify_one();
    let (mut last_text, mut close) = (None, None);
    while let Some(Ok(message)) = browser.next().await {
        match message {
            Message::Text(text) => last_text = Some(text),
            Message::Close(frame) => close = frame,
            _ => {}
        }
    }
    assert!(last_text.unwrap().contains(r#""type":"exit","kind":"revoked","exitCode":null"#));
    assert_eq!(close.unwrap().code, CloseCode::from(4403));
    let outcome = running.outcomes.recv().await.unwrap();
    assert_eq!(outcome.ending.kind, Kind::Revoked);
    assert_eq!(outcome.ending.message, "you were thrown out");
    // The shell was hung up, and told how it ended.
    assert!(matches!(outcome.process, Process::Ended(Some(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_gateway_keeps_its_own_rules_before_the_relay() {
    let running = start().await;
    let Err(Error::Http(response)) = connect(&running.address, "eve").await else {
        panic!("eve got in");
    };
    assert_eq!(response.status(), 403);
    assert_eq!(running.cluster.connections(), 0);
}
