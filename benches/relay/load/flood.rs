//! Output at full speed.

use serde_json::json;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;

use super::session::{Inbox, Session};
use super::target::Dialect;
use super::{Options, gate};

/// The most that the seed dialect may add: its last line of terminal text.
const LAST_LINE: u64 = 4096;

pub(super) async fn run(options: &Options, lines: &mut Receiver<String>) -> Result<(), String> {
    let Options { frame, bytes, records, .. } = options;
    let program = format!("flood {frame} {bytes} {records} wait");
    let mut sessions = Vec::new();
    for _ in 0..options.sessions {
        let mut session = Session::open(&options.target, &program).await?;
        session.until_ready().await?;
        sessions.push(session);
    }
    gate(options, lines).await?;
    let mut readers = JoinSet::new();
    let (bytes, dialect) = (*bytes, options.target.dialect);
    for session in sessions {
        readers.spawn(one(session, bytes, dialect));
    }
    let (mut messages, mut output, mut first, mut last) = (0, 0, u64::MAX, 0);
    while let Some(inbox) = readers.join_next().await {
        let inbox = inbox.map_err(|error| error.to_string())??;
        messages += inbox.messages;
        output += bytes;
        first = first.min(inbox.first.unwrap_or(u64::MAX));
        last = last.max(inbox.last);
    }
    let seconds = super::seconds(last.saturating_sub(first));
    println!("{}", json!({"bytes": output, "messages": messages, "seconds": seconds}));
    Ok(())
}

/// Starts a flood and reads it to its end, which must be there and good.
async fn one(mut session: Session, bytes: u64, dialect: Dialect) -> Result<Inbox, String> {
    session.input(b"g")?;
    session.until("all output", |inbox| inbox.output >= bytes).await?;
    let (messages, last) = (session.inbox.messages, session.inbox.last);
    if dialect == Dialect::Seed {
        // Some relays close without a close frame, some say a last word: the output is there.
        while !session.ended && session.inbox.closed.is_none() {
            let turn = tokio::time::timeout(super::STALL, session.turn()).await;
            if turn.map_err(|_| "no end after the output")?.is_err() {
                break;
            }
        }
    } else {
        session.until("close", |inbox| inbox.closed.is_some()).await?;
        if !session.inbox.succeeded {
            return Err("the process did not end well".into());
        }
    }
    let more = session.inbox.output - bytes;
    if more > if dialect == Dialect::Seed { LAST_LINE } else { 0 } {
        return Err(format!("{more} bytes too many"));
    }
    let mut inbox = std::mem::take(&mut session.inbox);
    (inbox.messages, inbox.last) = (messages, last);
    session.inbox.closed = inbox.closed;
    let _ = session.close().await?;
    Ok(inbox)
}
