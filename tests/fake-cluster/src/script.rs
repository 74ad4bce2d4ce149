//! Misbehaviour as data: a list of steps that is played in place of an honest answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use crate::exec::accept;
use crate::http::Request;
use crate::seen::Session;
use crate::socket::Socket;
use crate::wire::{FrameReader, PAYLOAD_MAX_BYTES, opcode};

/// One thing a misbehaving cluster does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends these bytes as they are, in one write.
    Send(Bytes),
    /// Sends them one by one, each in a write (and a TLS record) of its own, with this pause.
    SendSlowly(Bytes, Duration),
    /// Sends them again and again until the peer is gone.
    Repeat(Bytes),
    /// Answers 101, right or wrong.
    Upgrade(Upgrade),
    /// Reads frames until the condition holds. A peer that leaves ends the script.
    Read(Until),
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Ends the connection: TLS's goodbye and FIN.
    Close,
    /// Ends it with FIN and without TLS's goodbye.
    Eof,
    /// Ends it with a TCP reset.
    Reset,
    /// Does nothing and reads nothing, for ever.
    Hang,
    /// Goes on as an honest cluster, with the request that started the script.
    Honest,
}

/// When a [`Step::Read`] is done.
#[derive(Clone, Debug)]
pub enum Until {
    /// So many frames came in this step.
    Frames(usize),
    /// A frame with this opcode came.
    Opcode(u8),
    /// Channel 0 has brought these bytes, over all frames of the session.
    Stdin(Bytes),
    /// The peer has sent Close or ended its side.
    Gone,
}

/// A 101 of any correctness.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// The accept key; the right one if `None`.
    pub accept: Option<String>,
    /// Headers after `Upgrade` and `Connection`, `{accept}` standing for the key.
    pub headers: Vec<(String, String)>,
    /// Bytes in the same write as the head, so in the same TLS record.
    pub with: Bytes,
}

impl Upgrade {
    /// An honest 101 for v5.
    pub fn honest() -> Upgrade {
        Upgrade::with_protocol("v5.channel.k8s.io")
    }

    /// An honest 101 but for its subprotocol.
    pub fn with_protocol(protocol: &str) -> Upgrade {
        let mut upgrade = Upgrade::without_protocol();
        upgrade.headers.push(("Sec-WebSocket-Protocol".to_owned(), protocol.to_owned()));
        upgrade
    }

    /// An honest 101 but for the missing subprotocol.
    pub fn without_protocol() -> Upgrade {
        let headers = vec![("Sec-WebSocket-Accept".to_owned(), "{accept}".to_owned())];
        Upgrade { accept: None, headers, with: Bytes::new() }
    }

    fn bytes(&self, request: &Request) -> Vec<u8> {
        let key = request.header("sec-websocket-key").unwrap_or_default();
        let accept = self.accept.clone().unwrap_or_else(|| accept(key));
        let mut head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\n"
            .to_owned();
        for (name, value) in &self.headers {
            head.extend([name, ": ", &value.replace("{accept}", &accept), "\r\n"]);
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.with].concat()
    }
}

/// A door that a test opens when it likes, for all scripts that wait at it.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Gate {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) async fn passed(&self) {
        // The sender lives in the gate, so this can only end by the gate's opening.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// Steps in order. A script that runs out of steps ends with [`Step::Close`].
#[derive(Clone, Debug, Default)]
pub struct Script(pub Vec<Step>);

impl Script {
    /// These steps.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Script {
        Script(steps.into_iter().collect())
    }

    /// Sends these bytes in place of a response and closes.
    pub fn answer(bytes: impl Into<Bytes>) -> Script {
        Script::new([Step::Send(bytes.into()), Step::Close])
    }

    /// Answers an honest 101 for v5, then sends these bytes and closes.
    pub fn after_upgrade(bytes: impl Into<Bytes>) -> Script {
        let upgrade = Step::Upgrade(Upgrade::honest());
        Script::new([upgrade, Step::Send(bytes.into()), Step::Close])
    }

    /// Plays it. Gives the connection back only for [`Step::Honest`].
    pub(crate) async fn play(
        &self,
        socket: Socket,
        early: BytesMut,
        on: Option<(&Request, &Session)>,
    ) -> Option<(Socket, BytesMut)> {
        let mut frames = FrameReader::new(socket, early);
        for step in &self.0 {
            match step {
                Step::Send(bytes) => send(frames.io(), bytes).await?,
                Step::SendSlowly(bytes, pause) => {
                    for byte in bytes.chunks(1) {
                        send(frames.io(), byte).await?;
                        tokio::time::sleep(*pause).await;
                    }
                }
                Step::Repeat(bytes) => loop {
                    send(frames.io(), bytes).await?;
                },
                Step::Upgrade(upgrade) => {
                    let (request, session) = on?;
                    session.note(|facts| facts.answered = Some(101));
                    send(frames.io(), &upgrade.bytes(request)).await?;
                }
                Step::Read(until) => read(&mut frames, until, on.map(|(_, s)| s)).await?,
                Step::Wait(gate) => gate.passed().await,
                Step::Close => break,
                Step::Eof => {
                    frames.into_parts().0.end_of_stream();
                    return None;
                }
                Step::Reset => {
                    frames.into_parts().0.reset();
                    return None;
                }
                Step::Hang => std::future::pending().await,
                Step::Honest => return Some(frames.into_parts()),
            }
        }
        // Gone or not, it is over.
        let _ = frames.io().shutdown().await;
        None
    }
}

async fn send(socket: &mut Socket, bytes: &[u8]) -> Option<()> {
    socket.write_all(bytes).await.ok()?;
    socket.flush().await.ok()
}

async fn read(
    frames: &mut FrameReader<Socket>,
    until: &Until,
    session: Option<&Session>,
) -> Option<()> {
    let mut count = 0;
    loop {
        let done = match until {
            Until::Frames(wanted) => count >= *wanted,
            Until::Stdin(wanted) => session.is_some_and(|session| {
                let seen = session.facts().channel(0);
                wanted.is_empty() || seen.windows(wanted.len()).any(|part| part == &wanted[..])
            }),
            Until::Opcode(_) | Until::Gone => false,
        };
        if done {
            return Some(());
        }
        let next = async {
            let head = frames.head().await.ok()?;
            let fits = head.length <= PAYLOAD_MAX_BYTES;
            Some((head, if fits { frames.payload(&head).await.ok()? } else { Bytes::new() }))
        };
        let Some((head, payload)) = next.await else {
            return matches!(until, Until::Gone).then_some(());
        };
        if let Some(session) = session {
            session.frame(&head, &payload);
        }
        count += 1;
        let wanted = match until {
            Until::Opcode(wanted) => Some(*wanted),
            Until::Gone => Some(opcode::CLOSE),
            Until::Frames(_) | Until::Stdin(_) => None,
        };
        if wanted == Some(head.opcode) {
            return Some(());
        }
    }
}
