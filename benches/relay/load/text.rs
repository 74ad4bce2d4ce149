//! Text that arrives in pieces that are no characters.

use serde_json::json;
use tokio::sync::mpsc::Receiver;

use super::session::{Kept, Session};
use super::target::Dialect;
use super::{Options, gate};
use crate::wire::text::text;

pub(super) async fn run(options: &Options, lines: &mut Receiver<String>) -> Result<(), String> {
    gate(options, lines).await?;
    let mut session = Session::open_keeping(&options.target, "text").await?;
    session.until_ready().await?;
    let wanted = text();
    let len = wanted.len() as u64;
    while !session.ended && session.inbox.closed.is_none() {
        let turn = tokio::time::timeout(super::STALL, session.turn()).await;
        if turn.map_err(|_| "no end of the text")?.is_err() {
            break;
        }
    }
    let kept = session.inbox.kept.take().unwrap_or_default();
    // The seed dialect may say a last line behind the text.
    let whole = match options.target.dialect {
        Dialect::Seed => kept.bytes.starts_with(wanted.as_bytes()),
        _ => kept.bytes == wanted.as_bytes(),
    };
    let _ = session.close().await?;
    let (damaged, messages) = (damaged(&kept, wanted.as_bytes()), kept.messages.len());
    let bytes = kept.bytes.len();
    println!(
        "{}",
        json!({
            "whole": whole && damaged == 0, "damaged": damaged, "messages": messages,
            "bytes": bytes, "expected": len,
        })
    );
    Ok(())
}

/// The messages that have a replacement character, claim to be text and are none, or have other
/// bytes than those that belong where they begin.
fn damaged(kept: &Kept, wanted: &[u8]) -> usize {
    let replaced = "\u{fffd}".as_bytes();
    let mut damaged = 0;
    let mut moved = false;
    for (n, (start, is_text)) in kept.messages.iter().enumerate() {
        let end = kept.messages.get(n + 1).map_or(kept.bytes.len(), |(next, _)| *next);
        let bytes = &kept.bytes[*start..end];
        let is_replaced = bytes.windows(replaced.len()).any(|window| window == replaced);
        // Behind the first replacement nothing stands where it belongs: only replacements count.
        moved |= is_replaced;
        let common = end.min(wanted.len()).max(*start) - start;
        let is_wrong = !moved && wanted.get(*start..start + common) != bytes.get(..common);
        let is_broken = *is_text && std::str::from_utf8(bytes).is_err();
        damaged += usize::from(is_replaced || is_wrong || is_broken);
    }
    damaged
}
