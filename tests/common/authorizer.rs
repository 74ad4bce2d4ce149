//! A pretend authorizer, whom a relay with `--auth hook` asks: it notes what it is asked, and
//! answers what it was told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::{FakeCluster, Relay, Start, within};

/// What it was asked: the request line, and the headers in their order.
#[derive(Clone, Debug)]
pub struct Question {
    pub line: String,
    pub headers: Vec<(String, String)>,
}

impl Question {
    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a header that stands there once.
    pub fn one(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name}: {self:?}");
        all[0]
    }
}

/// What it does when it is asked.
#[derive(Clone)]
enum Reply {
    /// Writes these bytes and closes.
    Bytes(Vec<u8>),
    /// Writes these bytes and waits.
    Hang(Vec<u8>),
}

/// A running authorizer; dropping it closes its port.
pub struct Authorizer {
    pub address: SocketAddr,
    scheme: &'static str,
    reply: Arc<Mutex<Reply>>,
    questions: watch::Receiver<Vec<Question>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Authorizer {
    /// One that says no to everybody.
    pub async fn start() -> Self {
        Self::serve(None).await
    }

    /// The same over TLS.
    pub async fn start_tls(tls: TlsAcceptor) -> Self {
        Self::serve(Some(tls)).await
    }

    async fn serve(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reply = Arc::new(Mutex::new(Reply::Bytes(response("403 No", ""))));
        let (sender, questions) = watch::channel(Vec::new());
        let (sender, replies) = (Arc::new(sender), Arc::clone(&reply));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let accepting = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (sender, replies) = (Arc::clone(&sender), Arc::clone(&replies));
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => talk(tcp, &sender, &replies).await,
                        // Whoever does not trust it says so by leaving.
                        Some(tls) => {
                            if let Ok(io) = tls.accept(tcp).await {
                                talk(io, &sender, &replies).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, scheme, reply, questions, accepting }
    }

    /// Where it is asked.
    pub fn url(&self) -> String {
        format!("{}://{}/may?by=podwire", self.scheme, self.address)
    }

    /// Says yes, with this.
    #[allow(clippy::needless_pass_by_value)] // Callers make it on the spot.
    pub fn allow(&self, answer: Value) {
        self.reply(yes(&answer.to_string()));
    }

    /// Answers with a status and no more.
    pub fn refuse(&self, status: u16) {
        self.reply(response(&format!("{status} No"), ""));
    }

    /// Answers with these bytes.
    pub fn reply(&self, bytes: Vec<u8>) {
        *self.reply.lock().unwrap() = Reply::Bytes(bytes);
    }

    /// Says no more than these bytes.
    pub fn hang(&self, bytes: &[u8]) {
        *self.reply.lock().unwrap() = Reply::Hang(bytes.to_vec());
    }

    /// Everything it was asked.
    pub fn questions(&self) -> Vec<Question> {
        self.questions.borrow().clone()
    }

    /// Waits until it was asked so often, and gives the last question.
    pub async fn asked(&self, count: usize) -> Question {
        let mut questions = self.questions.clone();
        let enough = questions.wait_for(|all| all.len() >= count);
        within("the authorizer is asked", enough).await.unwrap().last().unwrap().clone()
    }

    /// A relay that asks it.
    pub async fn before(&self, cluster: &FakeCluster, flags: &[&str]) -> Relay {
        let url = self.url();
        let start = Start { auth: "hook", ..Start::flags(&["--authorize-url", &url]) };
        start.and(flags).before(cluster).await
    }
}

impl Drop for Authorizer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A response that is a yes, if what is in it makes sense.
pub fn yes(json: &str) -> Vec<u8> {
    response("200 Yes\r\nContent-Type: application/json; charset=utf-8", json)
}

/// An HTTP response with this behind the version, and further header lines, before its body.
pub fn response(head: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

async fn talk(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    sender: &watch::Sender<Vec<Question>>,
    reply: &Mutex<Reply>,
) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if io.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    sender.send_modify(|all| all.push(Question { line, headers }));
    let reply = reply.lock().unwrap().clone();
    let (Reply::Bytes(bytes) | Reply::Hang(bytes)) = &reply;
    // The relay may have enough before it has read all of it.
    let _ = io.write_all(bytes).await;
    let _ = io.flush().await;
    match reply {
        Reply::Bytes(_) => drop(io.shutdown().await),
        // Until the relay gives up.
        Reply::Hang(_) => drop(io.read_u8().await),
    }
}
