//! Memory: of sessions that idle, after a burst, behind a reader that stalls, and after many.
#![allow(clippy::cast_precision_loss)] // Figures for people.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::contenders::{Bed, Contender, Lab};
use crate::measure::{Memory, queued, socket_memory};
use crate::process::{Process, until};
use crate::rows::{LOAD_MAX, Measured, interrupts, number, parse, run};

/// The slope is taken between these.
const FEW: [u64; 3] = [20, 200, 200];
const MANY: [u64; 3] = [60, 1000, 1000];
/// The slope of `--full` goes on to here.
const LOTS: [u64; 3] = [120, 5000, 5000];

/// Readers that stall.
const STALLED: [u64; 3] = [2, 20, 20];
/// The slope of those is taken between these: for each of them the kernel keeps the cluster's send
/// buffer of 4 MB, and TCP has a third of `tcp_mem` for all, 1.5 GB on the machine of the table.
/// Behind that it is another machine.
const STALLED_FEW: [u64; 3] = [2, 40, 40];
const STALLED_MANY: [u64; 3] = [6, 240, 240];
/// Until the cluster has lost the last session of those that were closed: to hang up takes a relay
/// seconds.
const GONE_MAX: Duration = Duration::from_secs(30);
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

fn grown(from: Memory, to: Memory) -> f64 {
    to.anonymous as f64 - from.anonymous as f64
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

fn of(lab: &Lab, [smoke, short, full]: [u64; 3]) -> u64 {
    lab.settings.scale.of(smoke, short, full)
}

/// No session, then few, then many, then each with a burst of 1 MiB behind it.
pub(crate) fn sessions(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    let bed = Bed::new(lab, contender)?;
    let all = relay(&bed)?;
    let look = || Memory::settled(&all);
    let (few_sessions, many_sessions) = (of(lab, FEW), of(lab, MANY));
    let mut holder = Holder(bed.load("hold", &[])?);
    let base = look();
    holder.open(&bed, few_sessions)?;
    let few = look();
    holder.open(&bed, many_sessions)?;
    let many = look();
    holder.ask("burst")?;
    let burst = look();
    let idle = grown(few, many) / (many_sessions - few_sessions) as f64;
    // What the first sessions cost is in the base, not in the slope.
    let zero = few.anonymous as f64 - idle * few_sessions as f64;
    let after = (burst.anonymous as f64 - zero) / many_sessions as f64;
    Ok(Measured::of(
        [
            ("idle", idle),
            ("burst", after),
            ("base", megabytes(base.resident)),
            ("base_proportional", megabytes(base.proportional)),
            ("base_anonymous", megabytes(base.anonymous)),
            ("thousand", megabytes(many.resident)),
            ("thousand_proportional", megabytes(many.proportional)),
            ("thousand_anonymous", megabytes(many.anonymous)),
        ],
        None,
    ))
}

/// The slopes on to thousands of sessions, each on a fresh relay: idle, after a burst of 1 MiB each,
/// and under a flood that nobody reads.
pub(crate) fn slopes(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    let idle = slope(lab, contender, of(lab, MANY), of(lab, LOTS), |bed, holder, sessions| {
        holder.open(bed, sessions)
    })?;
    let burst = slope(lab, contender, of(lab, MANY), of(lab, LOTS), |bed, holder, sessions| {
        holder.open(bed, sessions)?;
        holder.ask("burst").map(drop)
    })?;
    let (few, many) = (of(lab, STALLED_FEW), of(lab, STALLED_MANY));
    let mut stalled = 0;
    let stalled = slope(lab, contender, few, many, |_, holder, sessions| {
        let more = sessions - stalled;
        stalled = sessions;
        holder.ask(&format!("stall {more}")).map(drop)
    })?;
    Ok(Measured::of([("idle", idle), ("burst", burst), ("stalled", stalled)], None))
}

/// KiB of anonymous memory for each session between few of them and many.
fn slope(
    lab: &Lab,
    contender: &Contender,
    few: u64,
    many: u64,
    mut grow: impl FnMut(&Bed, &mut Holder, u64) -> Result<(), String>,
) -> Result<f64, String> {
    let bed = Bed::new(lab, contender)?;
    let all = relay(&bed)?;
    let mut holder = Holder(bed.load("hold", &[])?);
    grow(&bed, &mut holder, few)?;
    let before = Memory::settled(&all);
    grow(&bed, &mut holder, many)?;
    Ok(grown(before, Memory::settled(&all)) / (many - few) as f64)
}

/// Sessions under a flood whose readers stall, then read on: before, during, after.
pub(crate) fn stalled(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    stall(&Bed::new(lab, contender)?, lab.settings.scale.of(1, 4, 4))
}

/// The same for half a minute, and then interrupts through the relay that has it behind it.
pub(crate) fn long_stall(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    let bed = Bed::new(lab, contender)?;
    relay(&bed)?;
    let mut measured = stall(&bed, lab.settings.scale.of(1, 30, 30))?;
    // Whoever hangs up properly needs some seconds for it, and is busy meanwhile.
    let begun = Instant::now();
    until("the end of all sessions", GONE_MAX, || match bed.cluster.stats() {
        Ok(stats) if stats["sessions"].as_u64() > Some(0) => None,
        stats => Some(stats.map(drop)),
    })?;
    measured.figures.insert("gone".to_owned(), begun.elapsed().as_secs_f64());
    let interrupts = interrupts(&bed)?;
    measured.figures.extend(interrupts.figures);
    measured.used = interrupts.used;
    Ok(measured)
}

/// Readers that stall for so many seconds.
fn stall(bed: &Bed, seconds: u64) -> Result<Measured, String> {
    let all = bed.processes().unwrap_or_default();
    let readers = of(bed.lab, STALLED);
    let mut holder = Holder(bed.load("hold", &[])?);
    let before = Memory::settled(&all);
    let kernel_before = socket_memory();
    holder.ask(&format!("stall {readers}"))?;
    let begun = Instant::now();
    let mut during = before;
    while begun.elapsed() < Duration::from_secs(seconds) {
        thread::sleep(Duration::from_millis(100));
        let now = Memory::of(&all);
        // The most that was seen: a program may collect its garbage.
        if now.anonymous > during.anonymous {
            during = now;
        }
        // Whoever grows without a bound has done so by then.
        if during.anonymous > before.anonymous + GROWTH_MAX {
            break;
        }
    }
    let kernel = socket_memory().saturating_sub(kernel_before);
    let ports: Vec<u16> =
        [bed.port, Some(bed.cluster.address.port())].into_iter().flatten().collect();
    let in_queues = queued(&ports);
    holder.ask(bed.lab.settings.scale.of("read 1", "read 3", "read 3"))?;
    holder.ask("close")?;
    let after = Memory::settled(&all);
    let each = |kib: u64| kib as f64 / readers as f64;
    let mut measured = Measured::of([("kernel", each(kernel)), ("queued", each(in_queues))], None);
    if !all.is_empty() {
        let grown = during.anonymous.saturating_sub(before.anonymous);
        for (name, value) in [
            ("each", each(grown)),
            ("before", megabytes(before.anonymous)),
            ("during", megabytes(during.anonymous)),
            ("after", megabytes(after.anonymous)),
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
    let scale = lab.settings.scale;
    run(&bed, "open", &["--workers", "8", "--count", scale.of("100", "2000", "2000")])?;
    let before = Memory::settled(&all);
    let count = scale.of("300", "100000", "100000");
    let (said, used) = run(&bed, "open", &["--workers", "8", "--count", count])?;
    let after = Memory::settled(&all);
    let grown = (after.resident as f64 - before.resident as f64) * 1024.0 / 1e6;
    Ok(Measured::of([("grown", grown), ("count", number(&said, "count")?)], Some(used)))
}
