//! A terminal relay on kube-rs and axum, put together from the examples of both: kube's
//! `pod_shell_crossterm` with axum's `websockets` where the terminal was.
//!
//! Everything is at its default: kube's pipes of 1 KiB, tungstenite's buffers of 128 KiB, tokio's
//! runtime of many threads.

use std::env;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use futures::channel::mpsc::Sender;
use futures::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Client;
use kube::api::{Api, AttachParams, AttachedProcess, TerminalSize};
use serde::Deserialize;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::io::ReaderStream;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What the page says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    Input { input: String },
    Resize { rows: u16, cols: u16 },
}

#[derive(Default)]
struct Wanted {
    namespace: String,
    pod: String,
    container: String,
    command: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let client = Client::try_default().await?;
    let app = Router::new().route("/ws", get(upgrade)).with_state(client);
    let listener = TcpListener::bind(env::var("BENCH_LISTEN")?).await?;
    let listener = listener.tap_io(|tcp| {
        let _ = tcp.set_nodelay(true);
    });
    axum::serve(listener, app).await?;
    Ok(())
}

async fn upgrade(
    State(client): State<Client>,
    Query(pairs): Query<Vec<(String, String)>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let mut wanted = Wanted::default();
    for (name, value) in pairs {
        match name.as_str() {
            "namespace" => wanted.namespace = value,
            "pod" => wanted.pod = value,
            "container" => wanted.container = value,
            "command" => wanted.command.push(value),
            _ => {}
        }
    }
    upgrade.on_upgrade(|socket| async {
        if let Err(error) = shell(client, wanted, socket).await {
            eprintln!("{error}");
        }
    })
}

async fn shell(client: Client, wanted: Wanted, mut socket: WebSocket) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(client, &wanted.namespace);
    let parameters = AttachParams::interactive_tty().container(&wanted.container);
    let mut attached = pods.exec(&wanted.pod, wanted.command, &parameters).await?;
    let reason = match relay(&mut socket, &mut attached).await? {
        Some(status) => outcome(&status),
        None => return Ok(()), // The browser left, and with `attached` the process.
    };
    let close = CloseFrame { code: close_code::NORMAL, reason: reason.into() };
    socket.send(Message::Close(Some(close))).await?;
    // Until it has answered, or what it still sends would reset the connection.
    while let Some(Ok(_)) = socket.recv().await {}
    Ok(())
}

/// Until either side ends; says how the process did, if it was the process.
async fn relay(
    socket: &mut WebSocket,
    attached: &mut AttachedProcess,
) -> Result<Option<Status>, Failure> {
    let mut output = ReaderStream::new(attached.stdout().ok_or("no stdout")?);
    let mut input = attached.stdin().ok_or("no stdin")?;
    let mut sizes = attached.terminal_size().ok_or("no terminal")?;
    let status = attached.take_status().ok_or("no status")?;
    loop {
        tokio::select! {
            chunk = output.next() => match chunk {
                Some(chunk) => socket.send(Message::Binary(chunk?)).await?,
                None => return Ok(Some(status.await.unwrap_or_default())),
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => said(&text, &mut input, &mut sizes).await?,
                Some(Ok(_)) => {} // A close is answered by reading on.
                Some(Err(_)) | None => return Ok(None),
            },
        }
    }
}

async fn said(
    text: &str,
    input: &mut (impl AsyncWrite + Unpin),
    sizes: &mut Sender<TerminalSize>,
) -> Result<(), Failure> {
    match serde_json::from_str(text)? {
        Said::Input { input: typed } => input.write_all(typed.as_bytes()).await?,
        Said::Resize { rows, cols } => {
            sizes.send(TerminalSize { width: cols, height: rows }).await?;
        }
    }
    Ok(())
}

fn outcome(status: &Status) -> String {
    if status.status.as_deref() == Some("Success") {
        return "exit 0".to_owned();
    }
    let mut causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let code = causes.find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    match code.and_then(|cause| cause.message.as_deref()) {
        Some(code) => format!("exit {code}"),
        None => "failed".to_owned(),
    }
}
