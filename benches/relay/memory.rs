//! Memory: of sessions that idle, after a burst, behind a reader that stalls, and after many.
#![allow(clippy::cast_precision_loss)] // Figures for people.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::contenders::{Bed, Contender, Kind, Lab};
use crate::measure::{Memory, queued, socket_memory};
use crate::process::{Process, until};
use crate::rows::{LOAD_MAX, Measured, number, parse, run};

/// The slope is taken between these.
const FEW: u64 = 200;
const MANY: u64 = 1000;
/// The slope of `--full` goes on to here.
const LOTS: u64 = 5000;

/// Readers that stall.
const STALLED: u64 = 20;
/// A relay that grows past this for them, in KiB, is not waited for: it would take the machine.
const GROWTH_MAX: u64 = 3 << 20;

/// A generator that holds sessions and does as it is told.
struct Holder(Process);

impl Holder {
    fn ask(&mut self, words: &str) -> Result<Value, String> {
        self.0.say(words)?;
        parse(&self.0.line(LOAD_MAX)?)
    }

    /// Grows to so many sessions, and waits until the cluster has them, too: some dialects have no
    /// word for it.
    fn open(&mut self, bed: &Bed, sessions: u64) -> Result<(), String> {
        self.ask(&format!("open {sessions}"))?;
        until("all sessions", LOAD_MAX, || match bed.cluster.stats() {
            Ok(stats) if stats["sessions"].as_u64() < Some(sessions) => None,
            stats => Some(stats.map(drop)),
        })
    }
}

fn relay(bed: &Bed) -> Result<Vec<u32>, String> {
    bed.processes().ok_or_else(|| "no process to look at; give --pid".to_owned())
}

/// No session, then few, then many, then each with a burst of 1 MiB behind it.
pub(crate) fn sessions(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    let bed = Bed::new(lab, contender)?;
    let all = relay(&bed)?;
    let look = || Memory::settled(&all);
    let mut holder = Holder(bed.load("hold", &[])?);
    let base = look();
    holder.open(&bed, FEW)?;
    let few = look();
    holder.open(&bed, MANY)?;
    let many = look();
    holder.ask("burst")?;
    let burst = look();
    let grown = |from: Memory, to: Memory| to.anonymous as f64 - from.anonymous as f64;
    let idle = grown(few, many) / (MANY - FEW) as f64;
    // What the first sessions cost is in the base, not in the slope.
    let zero = few.anonymous as f64 - idle * FEW as f64;
    let after = (burst.anonymous as f64 - zero) / MANY as f64;
    let megabytes = |kib: u64| kib as f64 * 1024.0 / 1e6;
    let mut measured = Measured::of(
        [
            ("idle", idle),
            ("burst", after),
            ("base", megabytes(base.resident)),
            ("base_anonymous", megabytes(base.anonymous)),
            ("thousand", megabytes(many.resident)),
            ("thousand_anonymous", megabytes(many.anonymous)),
        ],
        None,
    );
    if lab.settings.is_full {
        // Fresh sessions on a fresh relay: what a burst left would be used again.
        drop(holder);
        drop(bed);
        let bed = Bed::new(lab, contender)?;
        let all = relay(&bed)?;
        let mut holder = Holder(bed.load("hold", &[])?);
        holder.open(&bed, MANY)?;
        let many = Memory::settled(&all);
        holder.open(&bed, LOTS)?;
        let slope = grown(many, Memory::settled(&all)) / (LOTS - MANY) as f64;
        measured.figures.insert("idle_lots".to_owned(), slope);
    }
    Ok(measured)
}

/// Sessions under a flood whose readers stall, then read on: before, during, after.
pub(crate) fn stalled(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    let bed = Bed::new(lab, contender)?;
    let all = bed.processes().unwrap_or_default();
    // Whoever grows without a bound has done so by then.
    let is_long = lab.settings.is_full && matches!(contender.kind, Kind::Podwire(_));
    let stall = Duration::from_secs(if is_long { 30 } else { 4 });
    let mut holder = Holder(bed.load("hold", &[])?);
    let before = Memory::settled(&all);
    let kernel_before = socket_memory();
    holder.ask(&format!("stall {STALLED}"))?;
    let begun = Instant::now();
    let mut during = before;
    while begun.elapsed() < stall {
        thread::sleep(Duration::from_millis(100));
        let now = Memory::of(&all);
        // The most that was seen: a program may collect its garbage.
        if now.anonymous > during.anonymous {
            during = now;
        }
        if during.anonymous > before.anonymous + GROWTH_MAX {
            break;
        }
    }
    let kernel = socket_memory().saturating_sub(kernel_before);
    let ports: Vec<u16> = [bed.port, Some(bed.cluster.port)].into_iter().flatten().collect();
    let in_queues = queued(&ports);
    holder.ask("read 3")?;
    holder.ask("close")?;
    let after = Memory::settled(&all);
    let each = |kib: u64| kib as f64 / STALLED as f64;
    let mut measured = Measured::of([("kernel", each(kernel)), ("queued", each(in_queues))], None);
    if !all.is_empty() {
        let megabytes = |memory: Memory| memory.anonymous as f64 * 1024.0 / 1e6;
        let grown = during.anonymous.saturating_sub(before.anonymous);
        for (name, value) in [
            ("each", each(grown)),
            ("before", megabytes(before)),
            ("during", megabytes(during)),
            ("after", megabytes(after)),
        ] {
            measured.figures.insert(name.to_owned(), value);
        }
    }
    Ok(measured)
}

/// What is left of very many sessions that came and went.
pub(crate) fn cycles(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    let bed = Bed::new(lab, contender)?;
    let all = relay(&bed)?;
    run(&bed, "open", &["--workers", "8", "--count", "2000"])?;
    let before = Memory::settled(&all);
    let (said, used) = run(&bed, "open", &["--workers", "8", "--count", "100000"])?;
    let after = Memory::settled(&all);
    let grown = (after.resident as f64 - before.resident as f64) * 1024.0 / 1e6;
    Ok(Measured::of([("grown", grown), ("count", number(&said, "count")?)], Some(used)))
}
