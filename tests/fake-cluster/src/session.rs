//! One exec or attachment after its 101: a read loop that does everything in turn, as the
//! kubelet's does, and beside it the process with its output.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::io::ReadHalf;
use tokio::sync::{mpsc, oneshot};

use crate::attach::Main;
use crate::behaviour::{Behaviour, Mode, V5};
use crate::cluster::Cluster;
use crate::link::{Hold, Link};
use crate::output::{self, Ears};
use crate::process::{Container, Plan};
use crate::resize::{Fed, Resizes, Taker};
use crate::seen::Session;
use crate::socket::Socket;
use crate::status::{self, Outcome};
use crate::stdin::{self, Inlet};
use crate::wire::{FrameReader, Head, PAYLOAD_MAX_BYTES, frame, opcode};

/// Channels 0 to 4; a half-close of any other is an error.
const CHANNELS: u8 = 5;
const STATUS: u8 = 3;

/// A session about to start.
pub(crate) struct Start {
    pub(crate) plan: Plan,
    pub(crate) work: Result<Work, String>,
    pub(crate) protocol: String,
    pub(crate) behaviour: Behaviour,
    pub(crate) session: Session,
}

/// Whose streams they are.
pub(crate) enum Work {
    /// A process to be started in this container.
    Exec(Container),
    /// A container's main process.
    Attach(Arc<Main>),
}

/// Why the session ended before its process did.
enum End {
    /// The peer sent Close or went away, or broke a rule; the answer is Close 1000.
    Over,
    /// A frame without mask: Close 1002 comes before that 1000.
    Unmasked,
    /// A frame above the limit, of which nothing was read.
    TooLarge,
    /// No data frame for too long: the deadline fails the server's own Close as well.
    Silent,
    /// The connection behind the API server is gone.
    LegGone,
}

/// Runs the session until its connection is over. The process may go on.
pub(crate) async fn run(cluster: &Arc<Cluster>, start: Start, socket: Socket, early: BytesMut) {
    let Start { plan, work, protocol, behaviour, session } = start;
    let (read, write) = tokio::io::split(socket);
    let link = Arc::new(Link::new(write, protocol.contains("base64"), &behaviour));
    let _hold = Hold(Arc::clone(&link));
    let first = if plan.stdout {
        1
    } else if plan.stderr {
        2
    } else {
        STATUS
    };
    link.data(first, &[]).await;

    let (inlet, outlet) = stdin::queue(behaviour.stdin_room());
    let (seat, left) = oneshot::channel();
    let (inlet, seat) = match &work {
        Ok(Work::Attach(main)) => (main.join(&plan, &link), Some(seat)),
        _ => (inlet, None),
    };
    let (sizes, taken) = mpsc::unbounded_channel();
    let taker = match (plan.tty, protocol == V5) {
        (true, _) => Taker::Terminal(sizes),
        (false, true) => Taker::Nobody,
        (false, false) => Taker::Runtime,
    };
    let muted = Arc::new(AtomicBool::new(false));
    let mut reader = ReadLoop {
        frames: FrameReader::new(read, early),
        link: Arc::clone(&link),
        inlet: plan.stdin.then_some(inlet),
        seat,
        resizes: Resizes::new(taker),
        tty: plan.tty,
        half_closes: protocol == V5,
        base64: protocol.contains("base64"),
        muted: Arc::clone(&muted),
        session: session.clone(),
    };

    let alive = Arc::clone(cluster.alive());
    let ears = Ears { link: Arc::clone(&link), muted, session, alive };
    let argv: Vec<String> =
        plan.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mode = behaviour.mode;
    let process = cluster.spawn(async move {
        match work {
            Ok(Work::Exec(container)) => {
                start_time(&behaviour).await;
                let hangs = behaviour.unread_stdin_hangs;
                output::run(plan, container, outlet, taken, ears, hangs).await
            }
            Ok(Work::Attach(main)) => main.attend(left, taken, &ears).await,
            Err(text) => Outcome::Internal(text),
        }
    });
    let finish = async {
        let Ok(Some(outcome)) = process.await else { return };
        if let Some(text) = status_text(&protocol, &outcome, &argv) {
            link.data(STATUS, text.as_bytes()).await;
        }
        link.close(1000).await;
    };
    let end = tokio::select! {
        end = reader.run() => end,
        () = link.leg.over() => End::LegGone,
        () = finish => return,
    };
    reader.end(end, mode).await;
}

/// Waits until the runtime gets round to the exec.
async fn start_time(behaviour: &Behaviour) {
    if !behaviour.start_delay.is_zero() {
        tokio::time::sleep(behaviour.start_delay).await;
    }
    if let Some(gate) = &behaviour.start_gate {
        gate.passed().await;
    }
}

fn status_text(protocol: &str, outcome: &Outcome, argv: &[String]) -> Option<String> {
    match protocol {
        V5 => Some(status::translated(outcome)),
        "v4.channel.k8s.io" | "v4.base64.channel.k8s.io" => Some(status::runtime(outcome, argv)),
        _ => status::plain(outcome, argv),
    }
}

/// The one loop that reads. Whatever blocks it, blocks everything the peer sends.
struct ReadLoop {
    frames: FrameReader<ReadHalf<Socket>>,
    link: Arc<Link>,
    inlet: Option<Inlet>,
    /// Held by who is attached; letting go of it is leaving.
    seat: Option<oneshot::Sender<()>>,
    resizes: Resizes,
    tty: bool,
    half_closes: bool,
    base64: bool,
    muted: Arc<AtomicBool>,
    session: Session,
}

impl ReadLoop {
    async fn run(&mut self) -> End {
        loop {
            let (head, payload) = tokio::select! {
                // First, so that a frame that is there sets no timer.
                biased;
                frame = next(&mut self.frames, &self.session) => match frame {
                    Ok(frame) => frame,
                    Err(end) => return end,
                },
                () = self.link.data.over() => return End::Silent,
            };
            match head.opcode {
                opcode::CLOSE => return End::Over,
                opcode::PING => {
                    let echo = &payload[..payload.len().min(125)];
                    self.link.send(&frame(opcode::PONG, echo)).await;
                }
                opcode::PONG => {}
                // Text, binary, a continuation and what has no meaning are all data: recordings
                // `client_text_frame`, `client_fragmented_message`.
                _ if self.message(payload).await => self.link.data.moves(),
                _ => return End::Over,
            }
        }
    }

    /// What is still said to a peer whose process has not ended.
    async fn end(&mut self, end: End, mode: Mode) {
        self.inlet = None;
        self.seat = None;
        match end {
            End::Over | End::TooLarge => self.link.close(1000).await,
            End::Unmasked => {
                self.link.send(&frame(opcode::CLOSE, &1002_u16.to_be_bytes())).await;
                self.link.close(1000).await;
            }
            // Only v5 has half-closes, and only there somebody is left to speak.
            End::LegGone if mode == Mode::ApiServer && self.half_closes => {
                self.link.data(STATUS, status::success().as_bytes()).await;
                self.link.close(1000).await;
            }
            End::Silent | End::LegGone => self.link.end().await,
        }
        if let (End::TooLarge, Mode::Kubelet) = (end, mode) {
            // The API server in between takes what is still coming, so the Close gets through
            // (recording `stdin_frame_32MiB`); without one the kernel resets
            // (`…apiserver-mode`).
            self.frames.drain().await;
        }
    }

    /// One frame as one message with its own channel byte. False if it ends the session.
    async fn message(&mut self, mut payload: Bytes) -> bool {
        use bytes::Buf as _;
        if payload.is_empty() {
            return true;
        }
        let mut channel = payload.get_u8();
        if self.base64 {
            use base64::Engine as _;
            channel = channel.wrapping_sub(b'0');
            let decoded = base64::engine::general_purpose::STANDARD.decode(&payload);
            let Ok(decoded) = decoded else { return true };
            payload = decoded.into();
        }
        match channel {
            0 => {
                if let Some(inlet) = self.inlet.as_ref().filter(|_| !payload.is_empty()) {
                    self.link.leg.moves();
                    inlet.put(payload).await;
                }
            }
            4 => {
                if self.tty {
                    self.link.leg.moves();
                }
                if self.resizes.feed(&payload) == Fed::Wedged {
                    self.session.note(|facts| facts.wedged = true);
                    std::future::pending::<()>().await;
                }
            }
            255 if self.half_closes => return self.half_close(&payload),
            // Written to a channel that only the server writes to, or to none: recordings
            // `client_data_on_channel1`, `client_channel9`.
            _ => {}
        }
        true
    }

    /// `FF n`: recordings `nontty_stdin_halfclose`, `client_close_stdin_tty`,
    /// `client_close_signal_*`.
    fn half_close(&mut self, payload: &[u8]) -> bool {
        match payload {
            [0] => {
                // A terminal gets no end of file. The runtime stops forwarding its output with
                // the end of its input, and whatever is typed from now on is lost.
                if self.tty && self.inlet.is_some() {
                    self.muted.store(true, Ordering::Relaxed);
                }
                if self.inlet.take().is_some() {
                    self.link.leg.moves();
                    // Who was attached is so no more (containerd's `ContainerIO.Attach`).
                    self.seat = None;
                }
            }
            [4] => self.resizes.close(),
            [channel] if *channel < CHANNELS => {}
            _ => return false,
        }
        true
    }
}

/// The next frame of the peer, noted, or why there is none.
async fn next(
    frames: &mut FrameReader<ReadHalf<Socket>>,
    session: &Session,
) -> Result<(Head, Bytes), End> {
    let head = frames.head().await.map_err(|_| End::Over)?;
    let refused = if head.mask.is_none() {
        Some(End::Unmasked)
    } else if head.opcode < opcode::CLOSE && head.length > PAYLOAD_MAX_BYTES {
        Some(End::TooLarge)
    } else {
        None
    };
    if let Some(end) = refused {
        session.frame(&head, &Bytes::new());
        return Err(end);
    }
    let payload = frames.payload(&head).await.map_err(|_| End::Over)?;
    session.frame(&head, &payload);
    Ok((head, payload))
}
