//! A browser that is not one of ours: its WebSocket is tungstenite's.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Relay, within};

/// The mask of frames that are made by hand.
pub const MASK: Option<[u8; 4]> = Some([0x11, 0x22, 0x33, 0x44]);

/// How the relay closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    pub code: u16,
    pub reason: String,
}

/// A browser's WebSocket and everything that came over it.
pub struct Browser<S = TcpStream> {
    pub socket: WebSocketStream<S>,
    pub response: Response,
    /// Output of the terminal, or stdout.
    pub output: Vec<u8>,
    pub stderr: Vec<u8>,
    /// The messages of `podwire.v1` but for stderr.
    pub messages: Vec<Value>,
    /// Whether text frames are messages, or output as in the seed dialect.
    is_v1: bool,
    /// How many frames brought output.
    pub frames: usize,
    /// Set once the relay has closed.
    pub close: Option<Close>,
}

impl Relay {
    /// A page that speaks `podwire.v1`, of the relay's own origin.
    pub async fn v1(&self, target: &str) -> Browser {
        self.browser(target, &[("sec-websocket-protocol", "podwire.v1")]).await
    }

    /// A page that speaks the seed dialect, of the relay's own origin.
    pub async fn seed(&self, target: &str) -> Browser {
        self.browser(target, &[]).await
    }

    pub async fn browser(&self, target: &str, headers: &[(&'static str, &str)]) -> Browser {
        let tcp = TcpStream::connect(self.addr()).await.unwrap();
        let request = self.request(target, headers);
        Browser::open(tcp, request).await.unwrap()
    }

    pub fn request(&self, target: &str, headers: &[(&'static str, &str)]) -> Request {
        let authority = self.url.split('/').nth(2).unwrap();
        let scheme = if self.url.starts_with("https:") { "wss" } else { "ws" };
        let mut request = format!("{scheme}://{authority}{target}").into_client_request().unwrap();
        let origin = self.url.trim_end_matches('/').parse().unwrap();
        request.headers_mut().insert("origin", origin);
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        request
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Browser<S> {
    /// Opens a WebSocket on a connection. The origin is taken out if it is empty.
    pub async fn open(io: S, mut request: Request) -> Result<Self, Error> {
        if request.headers()["origin"].is_empty() {
            request.headers_mut().remove("origin");
        }
        let is_v1 = request.headers().get("sec-websocket-protocol").is_some_and(|names| {
            names.to_str().unwrap().split(',').any(|name| name.trim() == "podwire.v1")
        });
        let (socket, response) = within("an upgrade", client_async(request, io)).await?;
        Ok(Self::new(socket, response, is_v1))
    }

    pub fn new(socket: WebSocketStream<S>, response: Response, is_v1: bool) -> Self {
        Self {
            socket,
            response,
            output: Vec::new(),
            stderr: Vec::new(),
            messages: Vec::new(),
            is_v1,
            frames: 0,
            close: None,
        }
    }

    pub async fn say(&mut self, message: &str) {
        within("a message is sent", self.socket.send(message.into())).await.unwrap();
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        let message = Message::Binary(bytes.to_vec().into());
        within("bytes are sent", self.socket.send(message)).await.unwrap();
    }

    /// Types, in the one way that all dialects with JSON have.
    pub async fn input(&mut self, text: &str) {
        self.say(&serde_json::json!({"type": "input", "input": text}).to_string()).await;
    }

    /// Sends bytes that are not necessarily a frame.
    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let io = self.socket.get_mut();
        io.write_all(bytes).await?;
        io.flush().await
    }

    /// Takes the next frame. False at the end of the connection.
    pub async fn next(&mut self) -> bool {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) if self.is_v1 => {
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == "stderr" {
                    let data = STANDARD.decode(message["data"].as_str().unwrap()).unwrap();
                    self.stderr.extend(data);
                } else {
                    self.messages.push(message);
                }
            }
            Some(Ok(Message::Text(text))) => {
                self.frames += 1;
                self.output.extend_from_slice(text.as_bytes());
            }
            Some(Ok(Message::Binary(bytes))) => {
                self.frames += 1;
                self.output.extend_from_slice(&bytes);
            }
            Some(Ok(Message::Close(frame))) => {
                let frame = frame.expect("a close with a code");
                let reason = frame.reason.to_string();
                self.close = Some(Close { code: frame.code.into(), reason });
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return false,
        }
        true
    }

    /// Takes frames until something is there.
    pub async fn until(&mut self, what: &str, mut look: impl FnMut(&Self) -> bool) {
        while !look(self) {
            let more = within(what, self.next()).await;
            assert!(more, "ended before {what}: {:?} {:?}", self.close, self.text());
        }
    }

    /// Takes frames until the output contains this.
    pub async fn until_output(&mut self, words: &str) {
        let mut seen = 0;
        self.until(&format!("{words:?} in the output"), |it| {
            let from = seen;
            seen = it.output.len().saturating_sub(words.len());
            contains(&it.output[from..], words.as_bytes())
        })
        .await;
    }

    /// Waits for the next message of this type.
    pub async fn message(&mut self, kind: &str) -> Value {
        let before = self.messages.len();
        self.until(kind, |it| it.messages[before..].iter().any(|it| it["type"] == kind)).await;
        self.messages.last().unwrap().clone()
    }

    /// Takes frames until the relay has closed. After a violation it reads on for a while, because
    /// it cannot tell any more what is a frame, so the end of the connection comes later.
    pub async fn closed(&mut self) -> Close {
        self.until("a close", |it| it.close.is_some()).await;
        self.close.clone().unwrap()
    }

    /// Takes frames until the relay has closed and ended the connection.
    pub async fn ended(&mut self) -> Close {
        while within("the relay closes", self.next()).await {}
        self.close.clone().unwrap_or_else(|| panic!("no close frame: {:?}", self.text()))
    }

    /// The ending as `podwire.v1` tells it: the last message, and the close that follows.
    pub async fn exit(&mut self) -> (Value, Close) {
        let close = self.ended().await;
        let exit = self.messages.last().cloned().unwrap_or_default();
        assert_eq!(exit["type"], "exit", "{:?} {close:?}", self.messages);
        let exits = self.messages.iter().filter(|it| it["type"] == "exit").count();
        assert_eq!(exits, 1, "exactly one ending: {:?}", self.messages);
        assert!(close.reason.len() <= 123);
        (exit, close)
    }

    /// Asserts the ending of a `podwire.v1` session. `code` is the exit code.
    pub async fn assert_exit(&mut self, kind: &str, code: Option<u8>, close_code: u16, what: &str) {
        let (exit, close) = self.exit().await;
        assert_eq!(exit["kind"], kind, "{what}: {exit} {close:?}");
        assert_eq!(exit["exitCode"], serde_json::json!(code), "{what}: {exit}");
        assert_eq!(close.code, close_code, "{what}: {exit} {close:?}");
        assert!(exit["message"].as_str().is_some_and(|it| !it.is_empty()), "{what}: {exit}");
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// Closes as a page does that is left, and waits for the relay's answer.
    pub async fn leave(mut self) {
        within("a close is sent", self.socket.close(None)).await.unwrap();
        while within("the close is answered", self.next()).await {}
    }
}

impl Browser {
    /// Goes on behind a handshake that was made by hand, and the bytes that came with its answer.
    pub async fn continued(tcp: TcpStream, rest: Vec<u8>) -> Self {
        let socket = WebSocketStream::from_partially_read(tcp, rest, Role::Client, None).await;
        Self::new(socket, Response::new(None), false)
    }

    /// Goes away as a machine does that loses its network: with a reset and no close.
    pub fn abort(self) {
        self.socket.get_ref().set_zero_linger().unwrap();
    }
}

pub fn contains(hay: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || hay.windows(needle.len()).any(|window| window == needle)
}
