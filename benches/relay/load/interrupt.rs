//! An interrupt through a flood that is read slowly.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout};

use super::session::Session;
use super::{Options, gate};
use crate::wire::{PATIENCE, at, now};

/// How fast a page swallows output (xterm.js), if nothing else is said.
const RATE: u64 = 5_000_000;

/// A reader that is always behind looks this often.
const TICK: Duration = Duration::from_millis(5);

/// Between two interrupts.
const EVERY: Duration = Duration::from_millis(20);

/// How long the caller may look at what waits, once the figures are out.
const LOOK: Duration = Duration::from_secs(5);

pub(super) async fn run(options: &Options, lines: &mut Receiver<String>) -> Result<(), String> {
    // Sessions before this one had output, too.
    let before = out(options.control).await?;
    let mut session = Session::open(&options.target, "interrupt").await?;
    session.until_ready().await?;
    gate(options, lines).await?;
    let rate = if options.rate == 0 { RATE } else { options.rate };
    let reader = Reader { rate, begun: Instant::now() };
    // Until every buffer on the way is full; and in the end until the last one is through: some
    // relays take a quarter of a second.
    let around = Duration::try_from_secs_f64(options.seconds).map_err(at("--seconds"))?;
    reader.read_for(&mut session, around).await?;
    for _ in 0..options.tries {
        session.input(format!("{:016x}", now()).as_bytes())?;
        reader.read_for(&mut session, EVERY).await?;
    }
    reader.read_for(&mut session, around).await?;

    let read = session.inbox.output;
    let mut result = json!({"tries": options.tries, "read": read});
    if let (Some(before), Some(out)) = (before, out(options.control).await?) {
        result["waiting"] = json!(out.saturating_sub(before + read));
    }
    println!("{result}");
    // Nothing is read any more, so that what waits can be looked at, until stdin has a word.
    let _ = timeout(LOOK, lines.recv()).await;
    let _ = session.close().await?;
    Ok(())
}

/// Reads no faster than it may.
struct Reader {
    rate: u64,
    begun: Instant,
}

impl Reader {
    async fn read_for(&self, session: &mut Session, duration: Duration) -> Result<(), String> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let elapsed = u64::try_from(self.begun.elapsed().as_micros()).map_err(at("time"))?;
            let may = elapsed.saturating_mul(self.rate) / 1_000_000;
            let room = may.saturating_sub(session.inbox.output);
            let room = usize::try_from(room).map_err(at("rate"))?;
            // What is queued is sent even if nothing may be read, and neither is waited for.
            poll_fn(|cx| {
                let sent = session.poll_send(cx)?;
                let moved = if room > 0 { session.poll_turn(cx, room)? } else { sent };
                Poll::Ready(Ok::<_, String>(moved.is_ready()))
            })
            .await?;
            if session.ended {
                return Err("the session ended".into());
            }
            // Behind the look, not before it: what was just queued is sent at once.
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }
}

/// How much output the cluster has got rid of, if it can be asked.
async fn out(control: Option<SocketAddr>) -> Result<Option<u64>, String> {
    let Some(address) = control else { return Ok(None) };
    let stats = timeout(PATIENCE, stats(address)).await.map_err(|_| "no figures")??;
    stats["out"].as_u64().map(Some).ok_or("figures without out".into())
}

/// The cluster's figures.
async fn stats(address: SocketAddr) -> Result<Value, String> {
    let mut stream = BufReader::new(TcpStream::connect(address).await.map_err(at("control"))?);
    stream.write_all(b"stats\n").await.map_err(at("control"))?;
    let mut line = String::new();
    stream.read_line(&mut line).await.map_err(at("control"))?;
    serde_json::from_str(&line).map_err(at("control"))
}
