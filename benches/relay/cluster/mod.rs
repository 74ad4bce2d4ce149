//! The synthetic cluster: an API server's exec WebSocket whose processes are loops.
//!
//! It is made to be no limit: frames and requests are known in advance, a session owns next to
//! nothing, and each turn of a session is one read, one write and a walk over a buffer.
//!
//! The words of the exec's command are the program:
//!
//! - `flood FRAME BYTES packed|single|gathered [wait]`: so much output in frames of so many bytes
//!   (0: the recordings' lengths), then success; `wait` begins at the first byte of input.
//! - `echo`, `sink BYTES`, `burst BYTES`, `interrupt`, `text`: as `program.rs` says.
//!
//! Ctrl-D on a terminal, or the end of input without one, ends each of them, as it ends a shell.

mod control;
mod exec;
mod feed;
mod pki;
mod program;

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use self::exec::Exec;
use self::feed::Cycle;
use crate::wire::http::{Head, decode, read_head};
use crate::wire::line::Line;
use crate::wire::{PATIENCE, V5, at, runtime, stdin_lines};

/// The other name that the exec WebSocket knows.
const V4: &str = "v4.channel.k8s.io";

/// How many connections may wait to be accepted: thousands are opened as fast as they go.
const BACKLOG: u32 = 4096;

/// The longest body of a request: access reviews are short.
const BODY_MAX: usize = 64 * 1024;

/// How many errors are printed; the rest is counted. Whoever starts the cluster may not read what
/// it prints, and a pipe that is full would stop it.
const ERRORS: u64 = 5;

/// What all sessions have in common.
#[derive(Default)]
struct Shared {
    open: AtomicU64,
    opened: AtomicU64,
    out: AtomicU64,
    input: AtomicU64,
    errors: AtomicU64,
    interrupts: Mutex<Vec<u64>>,
    /// Frames are made once for all sessions that want the same, by their length.
    cycles: Mutex<HashMap<usize, Arc<Cycle>>>,
}

impl Shared {
    fn wrote(&self, bytes: u64) {
        self.out.fetch_add(bytes, Relaxed);
    }

    fn read(&self, bytes: usize) {
        self.input.fetch_add(bytes as u64, Relaxed);
    }

    fn note_interrupt(&self, nanoseconds: u64) {
        self.interrupts.lock().unwrap_or_else(PoisonError::into_inner).push(nanoseconds);
    }

    fn cycle(&self, frame: usize) -> Arc<Cycle> {
        let mut cycles = self.cycles.lock().unwrap_or_else(PoisonError::into_inner);
        let cycle = cycles.entry(frame).or_insert_with(|| Arc::new(Cycle::new(frame)));
        Arc::clone(cycle)
    }
}

/// Counts a session while it lives.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Relaxed);
        shared.opened.fetch_add(1, Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// The role `cluster`: `--listen ADDRESS --dir DIR`.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut dir = None;
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(at("cluster"))? {
        use lexopt::ValueExt as _;
        match argument {
            lexopt::Arg::Long("listen") => {
                let value = parser.value().map_err(at("--listen"))?;
                listen = value.parse().map_err(at("--listen"))?;
            }
            lexopt::Arg::Long("dir") => {
                dir = Some(PathBuf::from(parser.value().map_err(at("--dir"))?));
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    let dir = dir.ok_or("--dir is missing")?;
    runtime()?.block_on(serve(listen, dir))
}

async fn serve(listen: SocketAddr, dir: PathBuf) -> Result<(), String> {
    fs::create_dir_all(&dir).map_err(at("--dir"))?;
    let (config, ca_pem) = pki::make(&dir, listen.ip())?;
    let config = Arc::new(config);
    let listener = bind(listen)?;
    // Who asks for figures runs beside it.
    let control = bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr().map_err(at("address"))?;
    let control_port = control.local_addr().map_err(at("address"))?.port();
    pki::kubeconfig(&dir, &ca_pem, address)?;
    let shared = Arc::new(Shared::default());
    tokio::spawn(control::serve(control, Arc::clone(&shared)));
    println!("ready {} {control_port}", address.port());

    let mut stdin = stdin_lines();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.map_err(at("accept"))?.0,
            line = stdin.recv() => match line {
                Some(_) => continue,
                None => return Ok(()),
            },
        };
        let (config, shared) = (Arc::clone(&config), Arc::clone(&shared));
        tokio::spawn(async move {
            if let Err(error) = connection(stream, config, &shared).await
                && shared.errors.fetch_add(1, Relaxed) < ERRORS
            {
                eprintln!("cluster: {error}");
            }
        });
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(at("socket"))?;
    socket.set_reuseaddr(true).map_err(at("socket"))?;
    socket.bind(address).map_err(at("bind"))?;
    socket.listen(BACKLOG).map_err(at("listen"))
}

/// Answers the requests of a connection; an exec is the last of them.
async fn connection(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    shared: &Arc<Shared>,
) -> Result<(), String> {
    stream.set_nodelay(true).map_err(at("TCP_NODELAY"))?;
    let mut line = timeout(PATIENCE, Line::accept(stream, config))
        .await
        .map_err(|_| "a TLS handshake that takes too long")??;
    let mut behind = Vec::new();
    loop {
        let Some(head) = read_head(&mut line, behind).await? else { return Ok(()) };
        let target = head.first_line().nth(1).unwrap_or("").to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        if head.header("authorization") != Some(&format!("Bearer {}", pki::TOKEN)) {
            let body = json!({"kind": "Status", "status": "Failure", "reason": "Unauthorized"});
            return answer(&mut line, "401 Unauthorized", &body).await;
        }
        if path.ends_with("/exec") {
            return exec(line, head, query, shared).await;
        }
        behind = body(&mut line, &head).await?;
        answer(&mut line, "200 OK", &document(path)).await?;
    }
}

/// Reads a request's body and says what was behind it.
async fn body(line: &mut Line, head: &Head) -> Result<Vec<u8>, String> {
    let len = head.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    if len > BODY_MAX {
        return Err("a request's body is too long".into());
    }
    let mut read = head.behind.clone();
    while read.len() < len {
        if !line.read_into(&mut read).await? {
            return Err("an end inside a body".into());
        }
    }
    Ok(read.split_off(len))
}

async fn answer(line: &mut Line, status: &str, body: &Value) -> Result<(), String> {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n");
    line.write(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await
}

/// What clients ask for before or beside an exec.
fn document(path: &str) -> Value {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or("");
    if path == "/version" {
        return json!({"major": "1", "minor": "36", "gitVersion": "v1.36.2"});
    }
    if parts.next() == Some("pods") {
        let namespace = parts.next().unwrap_or("");
        return json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"containers": [{"name": "main", "image": "bench"}]},
            "status": {"phase": "Running"},
        });
    }
    // An access review, whoever asks: the relay looks again every minute.
    json!({
        "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {}, "status": {"allowed": true},
    })
}

async fn exec(mut line: Line, head: Head, query: &str, shared: &Arc<Shared>) -> Result<(), String> {
    let offered = head.header("sec-websocket-protocol").unwrap_or("");
    let chosen = [V5, V4].into_iter().find(|name| offered.split(',').any(|o| o.trim() == *name));
    let (Some(key), Some(chosen)) = (head.header("sec-websocket-key"), chosen) else {
        let body = json!({"kind": "Status", "status": "Failure", "reason": "BadRequest"});
        return answer(&mut line, "400 Bad Request", &body).await;
    };
    let mut words = Vec::new();
    let mut tty = false;
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "command" => words.push(decode(value)),
            "tty" => tty = matches!(value, "true" | "1"),
            _ => {}
        }
    }
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {chosen}\r\n\r\n"
    );
    line.write(upgrade.as_bytes()).await?;
    let _counted = Counted::new(shared);
    Exec::new(line, shared, &words, tty)?.run(head.behind).await
}

/// The figures as the control port tells them.
fn figures(shared: &Shared) -> Value {
    let interrupts = shared.interrupts.lock().unwrap_or_else(PoisonError::into_inner);
    json!({
        "sessions": shared.open.load(Relaxed),
        "opened": shared.opened.load(Relaxed),
        "out": shared.out.load(Relaxed),
        "in": shared.input.load(Relaxed),
        "errors": shared.errors.load(Relaxed),
        "interrupts_ns": *interrupts,
    })
}

/// Forgets the figures; sessions that are open stay counted.
fn reset(shared: &Shared) {
    for counter in [&shared.opened, &shared.out, &shared.input, &shared.errors] {
        counter.store(0, Relaxed);
    }
    shared.interrupts.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
