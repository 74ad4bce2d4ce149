//! Sessions that are opened, used for one key, and closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;
use serde_json::json;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;

use super::session::Session;
use super::target::Target;
use super::{Options, gate, microseconds, seconds};
use crate::wire::{at, now};

/// Ctrl-D.
const END_OF_INPUT: u8 = 0x04;

/// What a worker saw: how long each open took, and how many closes were not answered.
struct Seen {
    opens: Vec<u64>,
    /// When the last one was open.
    opened: u64,
    unanswered: u64,
}

pub(super) async fn run(options: &Options, lines: &mut Receiver<String>) -> Result<(), String> {
    gate(options, lines).await?;
    let left = Arc::new(AtomicU64::new(options.count));
    let start = now();
    let mut workers = JoinSet::new();
    for _ in 0..options.workers {
        workers.spawn(worker(options.target.clone(), Arc::clone(&left)));
    }
    let mut histogram = Histogram::<u64>::new(3).map_err(at("histogram"))?;
    let (mut opened, mut unanswered) = (start, 0);
    while let Some(seen) = workers.join_next().await {
        let seen = seen.map_err(|error| error.to_string())??;
        opened = opened.max(seen.opened);
        unanswered += seen.unanswered;
        for open in seen.opens {
            histogram.record(open).map_err(at("histogram"))?;
        }
    }
    let result = json!({
        "count": histogram.len(), "seconds": seconds(opened - start),
        "p50": microseconds(histogram.value_at_quantile(0.5)),
        "p99": microseconds(histogram.value_at_quantile(0.99)),
        "unanswered": unanswered,
    });
    println!("{result}");
    Ok(())
}

/// Ends the program as a user does, and then the session: what a relay does about a program that
/// goes on is no part of opening one.
async fn end(mut session: Session) -> Result<bool, String> {
    session.input(&[END_OF_INPUT])?;
    session.until("end", |inbox| inbox.closed.is_some()).await?;
    session.close().await
}

async fn worker(target: Target, left: Arc<AtomicU64>) -> Result<Seen, String> {
    let mut seen = Seen { opens: Vec::new(), opened: 0, unanswered: 0 };
    // Nobody who opens the next one waits until the last one's close was answered.
    let mut closing = JoinSet::new();
    let one_less = |left: u64| left.checked_sub(1);
    while left.fetch_update(Relaxed, Relaxed, one_less).is_ok() {
        let start = now();
        let mut session = Session::open(&target, "echo").await?;
        session.until_ready().await?;
        session.input(b"k")?;
        session.until("echo", |inbox| inbox.output >= 1).await?;
        seen.opened = now();
        seen.opens.push(seen.opened - start);
        closing.spawn(end(session));
    }
    while let Some(closed) = closing.join_next().await {
        seen.unanswered += u64::from(!closed.map_err(|error| error.to_string())??);
    }
    Ok(seen)
}
