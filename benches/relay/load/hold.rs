//! Many sessions that are held: idle, after a burst, or not reading.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::session::Session;
use super::target::Target;
use super::{Options, gate, number};
use crate::wire::PATIENCE;

/// How many sessions are opened, burst or closed at a time.
const AT_A_TIME: usize = 8;

/// How many sessions say goodbye at a time: that may be slow, and is no load.
const GOODBYES: usize = 64;

/// What a session sends for a `b`.
const BURST: u64 = 1024 * 1024;

/// The flood in front of a session that does not read: more than anybody reads.
const FLOOD: u64 = 4_000_000_000;

/// What a held session is asked to do; it answers with the bytes it read.
enum Ask {
    Burst(oneshot::Sender<Result<u64, String>>),
    Read(Duration, oneshot::Sender<Result<u64, String>>),
}

/// A held session's ear; dropping it closes the session.
type Ear = mpsc::Sender<Ask>;

struct Held {
    target: Target,
    idle: Vec<Ear>,
    stalled: Vec<Ear>,
    tasks: JoinSet<Result<(), String>>,
    goodbyes: Arc<Semaphore>,
}

pub(super) async fn run(options: &Options, lines: &mut Receiver<String>) -> Result<(), String> {
    gate(options, lines).await?;
    let mut held = Held {
        target: options.target.clone(),
        idle: Vec::new(),
        stalled: Vec::new(),
        tasks: JoinSet::new(),
        goodbyes: Arc::new(Semaphore::new(GOODBYES)),
    };
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            // A session that ends by itself is a failure of whoever holds it with us.
            Some(ended) = held.tasks.join_next() => {
                ended.map_err(|error| error.to_string())??;
                return Err("a session ended".into());
            }
        };
        let Some(line) = line else { return held.close().await };
        let answer = match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
            ("open", n) => {
                held.open(number("open", n)?).await?;
                json!({"open": held.idle.len()})
            }
            ("stall", n) => {
                held.stall(number("stall", n)?).await?;
                json!({"open": held.idle.len() + held.stalled.len()})
            }
            ("burst", _) => json!({"bytes": held.burst().await?}),
            ("read", seconds) => {
                let seconds = Duration::try_from_secs_f64(number("read", seconds)?);
                json!({"bytes": held.read(seconds.map_err(|e| e.to_string())?).await?})
            }
            ("close", _) => {
                held.close().await?;
                json!({"open": 0})
            }
            _ => return Err(format!("{line}: open, burst, stall, read or close")),
        };
        println!("{answer}");
    }
}

impl Held {
    /// Grows to `n` sessions of the burst program.
    async fn open(&mut self, n: usize) -> Result<(), String> {
        let program = format!("burst {BURST}");
        while self.idle.len() < n {
            let count = AT_A_TIME.min(n - self.idle.len());
            for mut session in self.together(count, &program).await? {
                timeout(PATIENCE, session.until_ready()).await.map_err(|_| "not ready")??;
                let ear = self.hold(|asks, goodbyes| idle(session, asks, goodbyes));
                self.idle.push(ear);
            }
        }
        Ok(())
    }

    /// Opens sessions that do not read anything of a flood.
    async fn stall(&mut self, n: usize) -> Result<(), String> {
        let program = format!("flood 32769 {FLOOD} packed");
        let wanted = self.stalled.len() + n;
        while self.stalled.len() < wanted {
            let count = AT_A_TIME.min(wanted - self.stalled.len());
            for session in self.together(count, &program).await? {
                let ear = self.hold(|asks, _| stalled(session, asks));
                self.stalled.push(ear);
            }
        }
        Ok(())
    }

    async fn together(&self, n: usize, program: &str) -> Result<Vec<Session>, String> {
        let mut opening = JoinSet::new();
        for _ in 0..n {
            let (target, program) = (self.target.clone(), program.to_owned());
            opening.spawn(async move { Session::open(&target, &program).await });
        }
        let opened = opening.join_all().await;
        opened.into_iter().collect()
    }

    fn hold<F>(&mut self, task: impl FnOnce(Receiver<Ask>, Arc<Semaphore>) -> F) -> Ear
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let (ear, asks) = mpsc::channel(1);
        self.tasks.spawn(task(asks, Arc::clone(&self.goodbyes)));
        ear
    }

    /// Each held session bursts once.
    async fn burst(&mut self) -> Result<u64, String> {
        let mut total = 0;
        for ears in self.idle.chunks(AT_A_TIME) {
            total += ask(ears, Ask::Burst).await?;
        }
        Ok(total)
    }

    /// The stalled sessions read for a while, and then no more.
    async fn read(&mut self, duration: Duration) -> Result<u64, String> {
        ask(&self.stalled, |answer| Ask::Read(duration, answer)).await
    }

    async fn close(&mut self) -> Result<(), String> {
        self.idle.clear();
        self.stalled.clear();
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(())
    }
}

/// Asks sessions at once and adds up their answers.
async fn ask(
    ears: &[Ear],
    what: impl Fn(oneshot::Sender<Result<u64, String>>) -> Ask,
) -> Result<u64, String> {
    let mut answers = Vec::new();
    for ear in ears {
        let (answer, receiver) = oneshot::channel();
        ear.send(what(answer)).await.map_err(|_| "a session has ended")?;
        answers.push(receiver);
    }
    let mut total = 0;
    for answer in answers {
        total += answer.await.map_err(|_| "a session has ended")??;
    }
    Ok(total)
}

/// Holds a session of the burst program, and answers its pings.
async fn idle(
    mut session: Session,
    mut asks: Receiver<Ask>,
    goodbyes: Arc<Semaphore>,
) -> Result<(), String> {
    loop {
        let asked = tokio::select! {
            asked = asks.recv() => asked,
            turn = session.turn() => {
                turn?;
                if session.ended || session.inbox.closed.is_some() {
                    return Err(format!("a session was closed ({:?})", session.inbox.closed));
                }
                continue;
            }
        };
        match asked {
            Some(Ask::Burst(answer)) => {
                let _ = answer.send(burst(&mut session).await);
            }
            Some(Ask::Read(_, answer)) => {
                let _ = answer.send(Ok(0));
            }
            None => return goodbye(session, &goodbyes).await,
        }
    }
}

async fn burst(session: &mut Session) -> Result<u64, String> {
    let wanted = session.inbox.output + BURST;
    session.input(b"b")?;
    session.until("burst", |inbox| inbox.output >= wanted).await?;
    if session.inbox.output == wanted { Ok(BURST) } else { Err("a burst is too long".into()) }
}

/// Holds a session without reading. In the end it is dropped, as a page that hangs is killed: its
/// close would be behind all that it did not read.
async fn stalled(mut session: Session, mut asks: Receiver<Ask>) -> Result<(), String> {
    while let Some(asked) = asks.recv().await {
        match asked {
            Ask::Read(duration, answer) => {
                let _ = answer.send(read(&mut session, duration).await);
            }
            Ask::Burst(answer) => {
                let _ = answer.send(Ok(0));
            }
        }
    }
    Ok(())
}

async fn read(session: &mut Session, duration: Duration) -> Result<u64, String> {
    let (before, end) = (session.inbox.output, Instant::now() + duration);
    // A deadline alone is not looked at while there is always something to read.
    while Instant::now() < end {
        let Ok(turn) = tokio::time::timeout_at(end, session.turn()).await else { break };
        turn?;
        if session.ended {
            return Err("a stalled session has ended".into());
        }
        // A flood is always readable: the other sessions must come up, too.
        tokio::task::yield_now().await;
    }
    Ok(session.inbox.output - before)
}

async fn goodbye(session: Session, goodbyes: &Semaphore) -> Result<(), String> {
    let _permit = goodbyes.acquire().await.map_err(|error| error.to_string())?;
    // A relay that does not answer the close of an idle session is slow, but not of concern here.
    let _ = session.close().await?;
    Ok(())
}
