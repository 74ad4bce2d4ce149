//! Input at full speed.

use serde_json::json;
use tokio::sync::mpsc::Receiver;

use super::session::Session;
use super::{Options, gate, seconds};
use crate::wire::now;

/// What the process says when it has read all.
const DONE: u64 = b"done\n".len() as u64;

pub(super) async fn run(options: &Options, lines: &mut Receiver<String>) -> Result<(), String> {
    let Options { bytes, message, rounds, .. } = *options;
    let program = format!("sink {bytes}");
    let mut session = Session::open(&options.target, &program).await?;
    session.until_ready().await?;
    let size = u64::try_from(message.max(1)).unwrap_or(u64::MAX);
    let (whole, rest) = (bytes / size, bytes % size);
    let (message, last) = (made(options, size), made(options, rest));
    gate(options, lines).await?;
    let start = now();
    for round in 1..=rounds {
        for _ in 0..whole {
            session.push(&message)?;
            session.flush().await?;
        }
        if rest > 0 {
            session.push(&last)?;
            session.flush().await?;
        }
        // More than one word would be of bytes that were not sent.
        session.until("done", |inbox| inbox.output >= round * DONE).await?;
        if session.inbox.output != round * DONE {
            return Err("the process read more than was sent".into());
        }
    }
    let elapsed = session.inbox.last.saturating_sub(start);
    let _ = session.close().await?;
    println!("{}", json!({"bytes": bytes * rounds, "seconds": seconds(elapsed)}));
    Ok(())
}

/// A message of so many characters, made once.
fn made(options: &Options, size: u64) -> Vec<u8> {
    let text: Vec<u8> = (b' '..=b'~').cycle().take(usize::try_from(size).unwrap_or(0)).collect();
    let mut message = Vec::new();
    options.target.dialect.input(&mut message, &text);
    message
}
