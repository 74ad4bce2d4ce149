//! Keystrokes at fixed times, whether the echo of the last has come or not.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hdrhistogram::Histogram;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use serde_json::json;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::session::Session;
use super::{Options, gate};
use crate::wire::line::READ;
use crate::wire::{PATIENCE, at, now};

/// Keys before this are typed but not counted: the first of each session finds cold caches.
const WARM_UP: u64 = 500_000_000;

/// From the word to the first key, so that all sessions know the time before it.
const START: u64 = 100_000_000;

const SECOND: u64 = 1_000_000_000;

/// What one session does when.
#[derive(Clone, Copy)]
struct Plan {
    /// The first key, the time between two, and the end.
    first: u64,
    every: u64,
    end: u64,
    /// Keys that are due before this are not counted.
    counted: u64,
}

/// What one session saw: latencies of the counted keys in nanoseconds.
struct Seen {
    sent: u64,
    latencies: Vec<u64>,
}

pub(super) async fn run(options: &Options, lines: &mut Receiver<String>) -> Result<(), String> {
    let mut sessions = Vec::new();
    for _ in 0..options.sessions {
        let mut session = Session::open(&options.target, "echo").await?;
        session.until_ready().await?;
        session.input(b"k")?;
        session.until("echo", |inbox| inbox.output >= 1).await?;
        sessions.push(session);
    }
    gate(options, lines).await?;
    let every = SECOND / options.rate.max(1);
    let apart = every / sessions.len().max(1) as u64;
    let duration =
        std::time::Duration::try_from_secs_f64(options.seconds).map_err(at("--seconds"))?;
    let start = now() + START;
    let end = start + u64::try_from(duration.as_nanos()).map_err(at("--seconds"))?;
    let mut typists = JoinSet::new();
    for (n, session) in sessions.into_iter().enumerate() {
        let first = start + apart * n as u64;
        let plan = Plan { first, every, end, counted: start + WARM_UP };
        typists.spawn(async move {
            let limit = std::time::Duration::from_nanos(end.saturating_sub(now())) + PATIENCE;
            timeout(limit, one(session, plan)).await.map_err(|_| "echoes are missing")?
        });
    }
    let mut histogram = Histogram::<u64>::new(3).map_err(at("histogram"))?;
    let mut sent = 0;
    let mut open = Vec::new();
    while let Some(done) = typists.join_next().await {
        let (seen, session) = done.map_err(|error| error.to_string())??;
        open.push(session);
        sent += seen.sent;
        for latency in seen.latencies {
            histogram.record(latency).map_err(at("histogram"))?;
        }
    }
    let at = |quantile| super::microseconds(histogram.value_at_quantile(quantile));
    let result = json!({
        "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999),
        "max": super::microseconds(histogram.max()), "sent": sent, "received": histogram.len(),
    });
    // To end the sessions is no part of the load.
    println!("{result}");
    for session in open {
        let _ = session.close().await?;
    }
    Ok(())
}

/// Types to the end and waits for the last echo.
async fn one(mut session: Session, plan: Plan) -> Result<(Seen, Session), String> {
    let mut timer = Timer::new(plan.first, plan.every)?;
    let mut due = plan.first;
    let mut waiting = VecDeque::new();
    let mut seen = Seen { sent: 0, latencies: Vec::new() };
    let mut echoed = session.inbox.output;
    while due < plan.end || !waiting.is_empty() {
        let keys = poll_fn(|cx| {
            // Behind the end the timer is not looked at: its times would be awaited in vain.
            let timer = if due < plan.end { timer.poll(cx)? } else { Poll::Pending };
            let keys = if let Poll::Ready(keys) = timer { keys } else { 0 };
            let turn = session.poll_turn(cx, READ)?;
            if keys > 0 || turn.is_ready() { Poll::Ready(Ok(keys)) } else { Poll::Pending }
        });
        let keys: u64 = keys.await.map_err(|error: String| error)?;
        for _ in 0..keys {
            // What is late is typed late, and its latency counts from when it was due.
            waiting.push_back(due);
            seen.sent += u64::from(due >= plan.counted);
            due += plan.every;
            session.input(b"k")?;
        }
        let came = session.inbox.output - echoed;
        echoed += came;
        for _ in 0..came {
            let due = waiting.pop_front().ok_or("an echo of nothing")?;
            if due >= plan.counted {
                seen.latencies.push(session.inbox.last.saturating_sub(due));
            }
        }
        if session.ended {
            return Err("the session ended".into());
        }
        if keys > 0 {
            session.flush().await?;
        }
    }
    Ok((seen, session))
}

/// A timer of the kernel: tokio's own are a millisecond coarse. It is read as a pipe is, for its
/// descriptor gives the number of times it went off, and would block until there is one.
struct Timer(pipe::Receiver);

impl Timer {
    fn new(first: u64, every: u64) -> Result<Self, String> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(at("timer"))?;
        let spec = Itimerspec { it_interval: timespec(every), it_value: timespec(first) };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &spec).map_err(at("timer"))?;
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(timer).map_err(at("timer"))?))
    }

    /// How often it went off since the last look.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<u64, String>> {
        let mut times = [0; 8];
        let mut buffer = ReadBuf::new(&mut times);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer)).map_err(at("timer"))?;
        Poll::Ready(Ok(u64::from_ne_bytes(times)))
    }
}

fn timespec(nanoseconds: u64) -> Timespec {
    let part = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Timespec { tv_sec: part(nanoseconds / SECOND), tv_nsec: part(nanoseconds % SECOND) }
}
