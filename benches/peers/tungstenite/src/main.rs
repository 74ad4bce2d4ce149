//! A terminal relay on tokio-tungstenite alone: it dials the exec socket itself, and passes each
//! message on as it comes.
//!
//! Everything is at its default: buffers of 128 KiB for each socket, tokio's runtime of many
//! threads, and `send`, which flushes every message.

use std::env;
use std::sync::Arc;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};
use url::Url;
use url::form_urlencoded;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Browser = WebSocketStream<TcpStream>;
type Exec = WebSocketStream<TlsStream<TcpStream>>;

/// What the page says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    Input { input: String },
    Resize { rows: u16, cols: u16 },
}

/// What the API server says in the end.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    status: String,
    details: Details,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    reason: String,
    message: String,
}

struct Cluster {
    url: Url,
    authorization: HeaderValue,
    tls: TlsConnector,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(env::var("BENCH_CA")?)? {
        roots.add(certificate?)?;
    }
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let cluster = Arc::new(Cluster {
        url: Url::parse(&env::var("BENCH_CLUSTER")?)?,
        authorization: HeaderValue::from_str(&format!("Bearer {}", env::var("BENCH_TOKEN")?))?,
        tls: TlsConnector::from(Arc::new(tls)),
    });
    let listener = TcpListener::bind(env::var("BENCH_LISTEN")?).await?;
    loop {
        let (tcp, _) = listener.accept().await?;
        let cluster = cluster.clone();
        tokio::spawn(async move {
            if let Err(error) = shell(&cluster, tcp).await {
                eprintln!("{error}");
            }
        });
    }
}

async fn shell(cluster: &Cluster, tcp: TcpStream) -> Result<(), Failure> {
    tcp.set_nodelay(true)?;
    let mut query = String::new();
    #[allow(clippy::result_large_err)] // The library wants it so.
    let see = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        query = request.uri().query().unwrap_or_default().to_owned();
        Ok(response)
    };
    let browser = accept_hdr_async(tcp, see).await?;
    let exec = dial(cluster, &query).await?;
    let (mut to_browser, mut from_browser) = browser.split();
    let (to_exec, from_exec) = exec.split();
    tokio::select! {
        status = output(from_exec, &mut to_browser) => {
            let reason = outcome(&status?);
            let close = CloseFrame { code: CloseCode::Normal, reason: reason.into() };
            to_browser.send(Message::Close(Some(close))).await?;
            // Until it has answered, or what it still sends would reset the connection.
            while let Some(Ok(_)) = from_browser.next().await {}
            Ok(())
        }
        done = input(&mut from_browser, to_exec) => done,
    }
}

async fn dial(cluster: &Cluster, query: &str) -> Result<Exec, Failure> {
    let (mut namespace, mut pod) = (String::new(), String::new());
    let mut url = cluster.url.clone();
    let _ = url.set_scheme("wss");
    url.set_query(Some("stdin=true&stdout=true&tty=true"));
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "namespace" => namespace = value.into_owned(),
            "pod" => pod = value.into_owned(),
            "container" | "command" => drop(url.query_pairs_mut().append_pair(&name, &value)),
            _ => {}
        }
    }
    url.set_path(&format!("/api/v1/namespaces/{namespace}/pods/{pod}/exec"));
    let host = url.host_str().ok_or("no host")?;
    let tcp = TcpStream::connect((host, url.port_or_known_default().unwrap_or(443))).await?;
    tcp.set_nodelay(true)?;
    let tls = cluster.tls.connect(ServerName::try_from(host.to_owned())?, tcp).await?;
    let mut request = url.as_str().into_client_request()?;
    let headers = request.headers_mut();
    headers.insert("Authorization", cluster.authorization.clone());
    headers.insert("Sec-WebSocket-Protocol", HeaderValue::from_static("v5.channel.k8s.io"));
    let (exec, _) = client_async(request, tls).await?;
    Ok(exec)
}

/// Ends with what the API server said of the process.
async fn output(
    mut exec: SplitStream<Exec>,
    browser: &mut SplitSink<Browser, Message>,
) -> Result<Status, Failure> {
    while let Some(message) = exec.next().await {
        let Message::Binary(bytes) = message? else { continue };
        match bytes.first() {
            Some(1 | 2) if bytes.len() > 1 => {
                browser.send(Message::Binary(bytes.slice(1..))).await?
            }
            Some(3) => return Ok(serde_json::from_slice(&bytes[1..])?),
            _ => {}
        }
    }
    Ok(Status::default())
}

/// Ends when the browser has left.
async fn input(
    browser: &mut SplitStream<Browser>,
    mut exec: SplitSink<Exec, Message>,
) -> Result<(), Failure> {
    while let Some(Ok(message)) = browser.next().await {
        let Message::Text(text) = message else { continue };
        let bytes = match serde_json::from_str(&text)? {
            Said::Input { input } => [b"\0", input.as_bytes()].concat(),
            Said::Resize { rows, cols } => {
                format!("\x04{{\"Width\":{cols},\"Height\":{rows}}}").into_bytes()
            }
        };
        exec.send(Message::Binary(Bytes::from(bytes))).await?;
    }
    exec.close().await?;
    Ok(())
}

fn outcome(status: &Status) -> String {
    if status.status == "Success" {
        return "exit 0".to_owned();
    }
    match status.details.causes.iter().find(|cause| cause.reason == "ExitCode") {
        Some(cause) => format!("exit {}", cause.message),
        None => "failed".to_owned(),
    }
}
