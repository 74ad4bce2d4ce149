//! A page that is read frame by frame, by somebody who forgives nothing: what was told, in the
//! order in which it was told, and the end of the connection behind it.

use std::time::Duration;

use fake_cluster::wire::{opcode, raw};
use podwire::proto::message::Dialect;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::{Answer, MASK, Relay, contains, exchange, within};
use crate::readers::{BrowserReader, Told};

/// As much as is read at once.
const READ_MAX: usize = 64 * 1024;

/// Who takes nothing for so long waits for something.
const NOT_TAKEN: Duration = Duration::from_secs(1);

/// A browser's end of a session. It closes only when the relay has.
pub struct Page {
    tcp: TcpStream,
    pub dialect: Dialect,
    reader: BrowserReader,
    /// Whether it answers pings, as browsers do while they are there.
    pub answers: bool,
    /// What came with the answer of a handshake, and is not looked at yet.
    early: Vec<u8>,
}

/// Everything that a page was told, but for pings, pongs and complaints about its messages.
pub struct Ended(pub Vec<Told>);

/// What was told, without the bulk of it.
pub fn short(told: &[Told]) -> String {
    let cut = |text: &[u8]| {
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(200)..]).into_owned();
        format!("{} bytes … {tail:?}", text.len())
    };
    let line = |told: &Told| match told {
        Told::Output(channel, bytes) => format!("output {channel}: {}", cut(bytes)),
        Told::Text(text) => format!("text: {}", cut(text.as_bytes())),
        other => format!("{other:?}"),
    };
    told.iter().map(line).collect::<Vec<_>>().join("; ")
}

impl Page {
    /// Asks for a WebSocket as a page of the relay's own does. Gives the answer if it is not one.
    pub async fn open(
        relay: &Relay,
        dialect: Dialect,
        target: &str,
        headers: &str,
    ) -> Result<Self, Answer> {
        let origin = relay.url.trim_end_matches('/');
        Self::open_at(relay.addr(), origin, dialect, target, headers).await
    }

    pub async fn open_at(
        addr: std::net::SocketAddr,
        origin: &str,
        dialect: Dialect,
        target: &str,
        headers: &str,
    ) -> Result<Self, Answer> {
        let protocol = match dialect {
            Dialect::Seed => "",
            Dialect::V1 => "Sec-WebSocket-Protocol: podwire.v1\r\n",
            other => panic!("{other:?} is not looked at here"),
        };
        let lines = format!("Origin: {origin}\r\n{protocol}{headers}");
        let request = crate::common::upgrade(target, &lines)
            .replace("Host: localhost", &format!("Host: {addr}"));
        let (answer, early, tcp) =
            exchange(addr, request.as_bytes()).await.expect("an answer to an upgrade");
        if answer.status != 101 {
            return Err(answer);
        }
        let reader = BrowserReader::new(dialect);
        Ok(Self { tcp, dialect, reader, answers: true, early })
    }

    /// Bytes that are not necessarily a frame. A connection that is gone takes nothing.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = within("bytes are sent", self.tcp.write_all(bytes)).await;
    }

    /// Sends until nothing is taken any more, and says how much was.
    pub async fn push(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match timeout(NOT_TAKEN, self.tcp.write(&bytes[sent..])).await {
                Ok(written) => sent += written.unwrap(),
                Err(_) => break,
            }
        }
        sent
    }

    pub async fn say(&mut self, message: &str) {
        self.raw(&raw(0x80 | opcode::TEXT, MASK, message.as_bytes())).await;
    }

    /// Takes what comes next. False at the end of the connection.
    async fn next(&mut self) -> bool {
        let mut bytes = std::mem::take(&mut self.early);
        bytes.reserve(READ_MAX);
        // A reset is an end, too.
        if bytes.is_empty() && !matches!(self.tcp.read_buf(&mut bytes).await, Ok(1..)) {
            return false;
        }
        let before = self.reader.told.len();
        self.reader.feed(&bytes);
        let pings = self.reader.told[before..].iter().filter(|told| **told == Told::Ping).count();
        if self.answers && pings > 0 {
            self.raw(&raw(0x80 | opcode::PONG, MASK, b"").repeat(pings)).await;
        }
        true
    }

    pub async fn until_output(&mut self, words: &str) {
        while !contains(&self.reader.output(), words.as_bytes()) {
            let more = within(words, self.next()).await;
            assert!(more, "ended before {words:?}: {}", short(&self.reader.told));
        }
    }

    /// The session's id.
    pub fn session(&self) -> String {
        let ready = self.reader.told.iter().find_map(|told| match told {
            Told::Json(it) if it["type"] == "ready" => it["session"].as_str(),
            _ => None,
        });
        ready.expect("a ready message").to_owned()
    }

    /// Reads for so long and asserts that the session is not ended meanwhile.
    pub async fn lives_for(&mut self, time: Duration, what: &str) {
        let reading = async {
            while self.next().await {
                let is_exit = |told: &Told| matches!(told, Told::Json(it) if it["type"] == "exit");
                let told = &self.reader.told;
                assert!(
                    !told.iter().any(is_exit) && !self.reader.is_closed(),
                    "{what}: {}",
                    short(told)
                );
            }
        };
        assert!(timeout(time, reading).await.is_err(), "{what}: {}", short(&self.reader.told));
    }

    /// Reads to the end of the connection, answers the close on the way, and asserts that there
    /// was exactly one: the reader lets nothing stand behind it.
    pub async fn ended(mut self, what: &str) -> Ended {
        let mut answered = false;
        loop {
            if self.reader.is_closed() && !answered {
                answered = true;
                self.raw(&raw(0x80 | opcode::CLOSE, MASK, &1000_u16.to_be_bytes())).await;
            }
            if !within(&format!("{what}: the connection ends"), self.next()).await {
                break;
            }
        }
        assert!(answered, "{what}: no close: {}", short(&self.reader.told));
        let mut told = Vec::new();
        for next in self.reader.told {
            let is_error = |json: &Value| json["type"] == "error";
            if !matches!(&next, Told::Json(json) if is_error(json))
                && !matches!(next, Told::Ping | Told::Pong(_))
            {
                crate::readers::tell(&mut told, next);
            }
        }
        Ended(told)
    }

    /// Closes as a page does that is left.
    pub async fn leave(mut self) {
        self.raw(&raw(0x80 | opcode::CLOSE, MASK, &1001_u16.to_be_bytes())).await;
        while within("the close is answered", self.next()).await {}
        assert!(self.reader.is_closed(), "{}", short(&self.reader.told));
    }

    /// Goes away as a machine does that loses its network.
    pub fn abort(self) {
        self.tcp.set_zero_linger().unwrap();
    }
}

/// What a page is to be told: what a session said, and then its ending.
#[derive(Clone, Debug)]
pub struct Telling<'a> {
    /// Whether there was a session.
    pub is_open: bool,
    pub output: &'a str,
    pub notice: Option<&'a str>,
    pub kind: &'a str,
    pub exit_code: Option<u8>,
    pub close_code: u16,
    pub retry: bool,
    /// Words of the last sentence.
    pub says: &'a str,
}

impl Telling<'_> {
    /// Asserts that this was told, in this order, and nothing else.
    pub fn assert_told(&self, dialect: Dialect, Ended(told): &Ended, what: &str) {
        let [before @ .., Told::Close(code, reason)] = &told[..] else {
            panic!("{what}: {}", short(told));
        };
        let message = match dialect {
            Dialect::V1 => self.assert_v1(before, what),
            Dialect::Seed => self.assert_seed(before, what),
            other => panic!("{other:?} is not looked at here"),
        };
        assert_eq!(*code, self.close_code, "{what}: {message}");
        assert!(message.contains(self.says) && !message.is_empty(), "{what}: {message}");
        assert!(!message.contains(char::is_control), "{what}: {message:?}");
        // A close has room for 123 bytes of the sentence.
        assert!(message.starts_with(reason.as_str()), "{what}: {reason:?} of {message:?}");
        let whole = reason.len() == message.len();
        assert!(whole && reason.len() <= 123 || reason.len() > 119, "{what}: {reason:?}");
    }

    fn assert_v1(&self, told: &[Told], what: &str) -> String {
        let mut told = told.iter();
        let mut json = |name: &str| match told.next() {
            Some(Told::Json(json)) if json["type"] == name => json.clone(),
            other => panic!("{what}: {other:?} in place of {name}"),
        };
        if self.is_open {
            json("ready");
        }
        if !self.output.is_empty() {
            match told.next() {
                Some(Told::Output(1, bytes)) => {
                    assert_eq!(String::from_utf8_lossy(bytes), self.output, "{what}");
                }
                other => panic!("{what}: {other:?} in place of output"),
            }
        }
        let mut json = |name: &str| match told.next() {
            Some(Told::Json(json)) if json["type"] == name => json.clone(),
            other => panic!("{what}: {other:?} in place of {name}"),
        };
        if let Some(kind) = self.notice {
            let notice = json("notice");
            assert_eq!(notice["kind"], kind, "{what}");
            assert!(notice["message"].as_str().is_some_and(|it| !it.is_empty()), "{what}");
        }
        let exit = json("exit");
        let message = exit["message"].as_str().unwrap_or_default().to_owned();
        let wanted: Value = json!({
            "type": "exit", "kind": self.kind, "exitCode": self.exit_code, "message": message,
            "retry": self.retry,
        });
        assert_eq!(exit, wanted, "{what}");
        assert_eq!(told.next(), None, "{what}: nothing stands between the exit and the close");
        message
    }

    fn assert_seed(&self, told: &[Told], what: &str) -> String {
        let [Told::Text(text)] = told else { panic!("{what}: {}", short(told)) };
        let Some(rest) = text.strip_prefix(self.output) else { panic!("{what}: {}", short(told)) };
        let lines = rest.strip_prefix("\r\n[podwire: ").and_then(|it| it.strip_suffix("]\r\n"));
        let lines: Vec<&str> = lines
            .unwrap_or_else(|| panic!("{what}: {rest:?}"))
            .split("]\r\n\r\n[podwire: ")
            .collect();
        assert_eq!(lines.len(), 1 + usize::from(self.notice.is_some()), "{what}: {lines:?}");
        (*lines.last().unwrap()).to_owned()
    }
}
