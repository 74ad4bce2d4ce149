//! A caller that writes its requests by hand.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Relay, within};

/// A key as browsers send it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// An HTTP response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as the JSON that every refusal has.
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error}: {self:?}"),
        }
    }

    /// The kind of ending that a refusal names.
    pub fn kind(&self) -> String {
        self.json()["details"]["causes"][0]["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Asserts that this is a refusal in the shape of `metav1.Status`.
    pub fn assert_refusal(&self, status: u16, kind: &str, what: &str) {
        assert_eq!(self.status, status, "{what}: {self:?}");
        let json = self.json();
        assert_eq!(json["kind"], "Status", "{what}");
        assert_eq!(json["apiVersion"], "v1", "{what}");
        assert_eq!(json["status"], "Failure", "{what}");
        assert_eq!(json["code"], status, "{what}");
        assert!(json["message"].as_str().is_some_and(|it| !it.is_empty()), "{what}: {json}");
        assert_eq!(self.kind(), kind, "{what}: {json}");
    }
}

/// The head of an upgrade request. Further header lines each end with CRLF.
pub fn upgrade(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
         {headers}\r\n"
    )
}

impl Relay {
    /// Sends these bytes on a connection of their own and reads the answer: to the end of its
    /// body, or of its head if it is a 101.
    pub async fn http(&self, request: impl AsRef<[u8]>) -> Option<Answer> {
        exchange(self.addr(), request.as_ref()).await.map(|(answer, _, _)| answer)
    }

    /// Asks for a WebSocket as a caller that is no browser.
    pub async fn ask(&self, target: &str, headers: &str) -> Answer {
        self.http(upgrade(target, headers)).await.expect("an answer")
    }
}

/// Sends bytes and reads an answer. Gives what came behind a 101, and the connection. Nothing if
/// the connection ends without an answer.
pub async fn exchange(addr: SocketAddr, request: &[u8]) -> Option<(Answer, Vec<u8>, TcpStream)> {
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    // The relay may refuse, and close, before it has read all of a request that is too long.
    let _ = tcp.write_all(request).await;
    let mut bytes = Vec::new();
    within("an answer", async {
        loop {
            if let Some((answer, rest)) = parse(&bytes) {
                return Some((answer, rest, tcp));
            }
            match tcp.read_buf(&mut bytes).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    })
    .await
}

fn parse(bytes: &[u8]) -> Option<(Answer, Vec<u8>)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: Vec::new() };
    let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    let rest = &bytes[end..];
    answer.body = rest.get(..length)?.to_vec();
    Some((answer, rest[length..].to_vec()))
}
