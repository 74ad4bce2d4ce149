//! The loads, one for each row or group of rows of the table: what is asked of the generator, and
//! what is read beside it.
#![allow(clippy::cast_precision_loss)] // Figures for people.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cold::STATIC;
use crate::contenders::{Bed, Contender, Kind, Lab};
use crate::goals::TUNED;
use crate::measure::{Cpu, idle};
use crate::process::Process;
use crate::{cold, memory};

/// For one load. The slowest of all peers needs half of it for the longest one.
pub(crate) const LOAD_MAX: Duration = Duration::from_mins(10);
/// To connect, for those loads that connect before they begin.
const READY_MAX: Duration = Duration::from_secs(30);

/// What small frames carry. With the channel they are a byte longer.
const SMALL: u64 = 100;

pub(crate) type Figures = BTreeMap<String, f64>;

/// Seconds of a core, and the seconds that passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) relay: Option<f64>,
    pub(crate) cluster: f64,
    pub(crate) generator: f64,
    pub(crate) wall: f64,
    /// How busy the core of generator and cluster was, or the busier of both.
    pub(crate) others: Option<f64>,
}

/// What one load of one contender came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) figures: Figures,
    pub(crate) used: Option<Used>,
    /// Why a figure is not there, by its name.
    pub(crate) reasons: BTreeMap<String, String>,
}

impl Measured {
    pub(crate) fn of<const N: usize>(figures: [(&str, f64); N], used: Option<Used>) -> Self {
        let figures = figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { figures, used, reasons: BTreeMap::new() }
    }

    fn with(mut self, name: &str, value: Option<f64>) -> Self {
        self.figures.extend(value.map(|value| (name.to_owned(), value)));
        self
    }
}

/// One load.
pub(crate) struct Experiment {
    /// The rows of the table that come of it.
    pub(crate) rows: &'static [&'static str],
    /// Interleaved runs of the short mode.
    pub(crate) runs: usize,
    /// Whether it says anything of a connection without a relay.
    pub(crate) is_direct_too: bool,
    pub(crate) measure: fn(&Lab, &Contender) -> Result<Measured, String>,
}

const fn experiment(
    rows: &'static [&'static str],
    runs: usize,
    is_direct_too: bool,
    measure: fn(&Lab, &Contender) -> Result<Measured, String>,
) -> Experiment {
    Experiment { rows, runs, is_direct_too, measure }
}

/// Every load, in the order of the table.
pub(crate) const EXPERIMENTS: &[Experiment] = &[
    experiment(&["bulk32"], 3, true, |lab, contender| bulk(lab, contender, "32769")),
    experiment(&["bulk4"], 3, true, |lab, contender| bulk(lab, contender, "4097")),
    experiment(&["recorded"], 3, true, |lab, contender| bulk(lab, contender, "0")),
    experiment(&["small-packed"], 3, true, |lab, contender| small(lab, contender, "packed")),
    experiment(&["small-single"], 3, true, |lab, contender| small(lab, contender, "single")),
    experiment(&["keys"], 1, true, keys),
    experiment(&["idle", "burst", "base"], 1, false, memory::sessions),
    experiment(&["slopes"], 1, false, memory::slopes),
    experiment(&["stalled"], 1, true, memory::stalled),
    experiment(&["stall30"], 1, false, memory::long_stall),
    experiment(&["interrupt"], 1, true, interrupt),
    experiment(&["opens"], 3, true, opens),
    experiment(&["paste8m"], 3, true, |lab, contender| {
        let rounds = lab.settings.scale.of(1, 10, 20);
        paste(lab, contender, 8 << 20, 32 << 10, rounds)
    }),
    experiment(&["paste100k"], 3, true, |lab, contender| {
        let rounds = lab.settings.scale.of(5, 100, 200);
        paste(lab, contender, 100 << 10, 100 << 10, rounds)
    }),
    experiment(&["coldstart"], 1, false, cold::start),
    experiment(&["size"], 1, false, cold::size),
    experiment(&["text"], 1, true, text),
    experiment(&["cycles"], 1, false, memory::cycles),
];

/// The rows that only `--full` or their names bring.
pub(crate) const LONG: [&str; 3] = ["slopes", "stall30", "cycles"];

/// A fresh relay and its heap are shown so much of a load first, which is not counted: the first
/// bytes of a process are not what a rate is about.
const WARM_UP: u64 = 50;

/// A look at all three parts of a run.
struct Look {
    relay: Option<Cpu>,
    cluster: Cpu,
    generator: Cpu,
    /// What the cores of cluster and generator had nothing to do for.
    idle: [Option<f64>; 2],
    at: Instant,
}

impl Look {
    fn now(bed: &Bed, generator: &Process) -> Self {
        let relay = bed.processes().map(|all| Cpu::of(&all));
        let cluster = Cpu::of(&[bed.cluster.id()]);
        let generator = Cpu::of(&[generator.id()]);
        let idle = [bed.lab.cores.cluster, bed.lab.cores.generator].map(idle);
        Self { relay, cluster, generator, idle, at: Instant::now() }
    }

    fn until_now(self, bed: &Bed, generator: &Process) -> Used {
        let wall = self.at.elapsed().as_secs_f64();
        let now = Self::now(bed, generator);
        // A relay may have started a process for each session.
        let relay = self.relay.zip(now.relay).map(|(before, now)| now.since(&before));
        let cluster = now.cluster.since(&self.cluster);
        let generator = now.generator.since(&self.generator);
        let idle = self.idle.into_iter().zip(now.idle);
        let idle = idle.filter_map(|(before, now)| Some(now? - before?));
        let others = idle.min_by(f64::total_cmp).map(|idle| (1.0 - idle / wall).max(0.0));
        Used { relay, cluster, generator, wall, others }
    }
}

/// Runs a scenario: the generator's answer, and what everybody used while it ran.
pub(crate) fn run(bed: &Bed, scenario: &str, arguments: &[&str]) -> Result<(Value, Used), String> {
    let arguments = [arguments, &["--gate"]].concat();
    let mut generator = bed.load(scenario, &arguments)?;
    generator.line(READY_MAX)?;
    let look = Look::now(bed, &generator);
    generator.say("go")?;
    let line = generator.line(LOAD_MAX)?;
    let used = look.until_now(bed, &generator);
    Ok((parse(&line)?, used))
}

pub(crate) fn parse(line: &str) -> Result<Value, String> {
    serde_json::from_str(line).map_err(|_| format!("the generator said: {line}"))
}

/// A number that the generator or the cluster has to have said.
pub(crate) fn number(value: &Value, name: &str) -> Result<f64, String> {
    value[name].as_f64().ok_or_else(|| format!("no {name} in {value}"))
}

fn flood(
    lab: &Lab,
    contender: &Contender,
    frame: &str,
    bytes: u64,
    records: &str,
) -> Result<(Value, Used), String> {
    let bed = Bed::new(lab, contender)?;
    let load = |bytes: u64| {
        let bytes = bytes.to_string();
        run(&bed, "flood", &["--frame", frame, "--bytes", &bytes, "--records", records])
    };
    load(bytes / WARM_UP)?;
    load(bytes)
}

fn bulk(lab: &Lab, contender: &Contender, frame: &str) -> Result<Measured, String> {
    let wanted = lab.settings.scale.of(20_000_000, 500_000_000, 1_000_000_000);
    let (said, used) = flood(lab, contender, frame, wanted, "packed")?;
    let bytes = number(&said, "bytes")?;
    let rate = bytes / 1e6 / number(&said, "seconds")?;
    let cpu = used.relay.map(|seconds| seconds / (bytes / 1e9));
    Ok(Measured::of([("rate", rate)], Some(used)).with("cpu", cpu))
}

fn small(lab: &Lab, contender: &Contender, records: &str) -> Result<Measured, String> {
    let scale = lab.settings.scale;
    let wanted = match records {
        "packed" => scale.of(50_000, 2_000_000, 2_000_000),
        _ => scale.of(20_000, 500_000, 700_000),
    };
    let (said, used) = flood(lab, contender, "101", wanted * SMALL, records)?;
    let frames = number(&said, "bytes")? / SMALL as f64;
    let rate = frames / 1e6 / number(&said, "seconds")?;
    let merged = number(&said, "messages")? / frames * 1000.0;
    let cpu = used.relay.map(|seconds| seconds / (frames / 1e6));
    Ok(Measured::of([("rate", rate), ("messages", merged)], Some(used)).with("cpu", cpu))
}

fn keys(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    let bed = Bed::new(lab, contender)?;
    let (sessions, rate) = (100.0, 10.0);
    let seconds = lab.settings.scale.of(1.0, 5.0, 6.0);
    let words = [sessions, rate, seconds].map(|word| word.to_string());
    let arguments = ["--sessions", &words[0], "--rate", &words[1], "--seconds", &words[2]];
    let (said, used) = run(&bed, "keys", &arguments)?;
    let figure = |name: &str| number(&said, name);
    if figure("received")? < figure("sent")? {
        return Err(format!("{} keys came back of {}", said["received"], said["sent"]));
    }
    let cpu = used.relay.map(|used| used * 1e6 / (sessions * rate * seconds));
    let figures = [("p50", figure("p50")?), ("p99", figure("p99")?), ("max", figure("max")?)];
    Ok(Measured::of(figures, Some(used)).with("cpu", cpu))
}

fn interrupt(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    interrupts(&Bed::new(lab, contender)?)
}

/// Messages through a flood, and when the cluster had them.
pub(crate) fn interrupts(bed: &Bed) -> Result<Measured, String> {
    bed.cluster.reset()?;
    let tries = bed.lab.settings.scale.of(10, 200, 200);
    // What waits has to be looked at while there is still somebody to wait for.
    let control = bed.cluster.control().to_string();
    let count = tries.to_string();
    let around = bed.lab.settings.scale.of("0.5", "2", "2");
    let arguments = ["--tries", &count, "--rate", "5000000", "--seconds", around];
    let (said, used) = run(bed, "interrupt", &[&arguments[..], &["--control", &control]].concat())?;
    let waiting = number(&said, "waiting")? / 1e6;
    let stats = bed.cluster.stats()?;
    let times = stats["interrupts_ns"].as_array().into_iter().flatten();
    let mut times: Vec<f64> = times.filter_map(Value::as_f64).map(|ns| ns / 1e6).collect();
    times.sort_by(f64::total_cmp);
    if times.len() < tries {
        return Err(format!("{} of {tries} interrupts came through", times.len()));
    }
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1)).copied();
    let (Some(p50), Some(p99), Some(max)) = (at(50), at(99), times.last().copied()) else {
        return Err("no interrupt came through".to_owned());
    };
    let figures = [("p50", p50), ("p99", p99), ("max", max), ("waiting", waiting)];
    let came = times.len() as f64;
    Ok(Measured::of(figures, Some(used)).with("came", Some(came)))
}

fn opens(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    let bed = Bed::new(lab, contender)?;
    let count = lab.settings.scale.of("100", "2000", "5000");
    run(&bed, "open", &["--workers", "8", "--count", "100"])?;
    let (said, used) = run(&bed, "open", &["--workers", "8", "--count", count])?;
    let opened = number(&said, "count")?;
    let rate = opened / number(&said, "seconds")?;
    let cpu = used.relay.map(|seconds| seconds * 1e3 / opened);
    Ok(Measured::of([("rate", rate)], Some(used)).with("cpu", cpu))
}

fn paste(
    lab: &Lab,
    contender: &Contender,
    bytes: u64,
    message: u64,
    rounds: u64,
) -> Result<Measured, String> {
    let bed = Bed::new(lab, contender)?;
    let load = |rounds: u64| {
        let words = [bytes, message, rounds].map(|word| word.to_string());
        run(&bed, "paste", &["--bytes", &words[0], "--message", &words[1], "--rounds", &words[2]])
    };
    load(rounds.div_ceil(WARM_UP))?;
    let (said, used) = load(rounds)?;
    let pasted = number(&said, "bytes")?;
    let rate = pasted / 1e6 / number(&said, "seconds")?;
    let cpu = used.relay.map(|seconds| seconds / (pasted / 1e9));
    Ok(Measured::of([("rate", rate)], Some(used)).with("cpu", cpu))
}

fn text(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    let bed = Bed::new(lab, contender)?;
    let (said, _) = run(&bed, "text", &[])?;
    let Some(is_whole) = said["whole"].as_bool() else { return Err(format!("no answer: {said}")) };
    let damaged = number(&said, "damaged")?;
    Ok(Measured::of([("whole", f64::from(u8::from(is_whole))), ("damaged", damaged)], None))
}

/// Whether a row makes sense for a contender.
pub(crate) fn applies(experiment: &Experiment, contender: &Contender, is_of_all: bool) -> bool {
    let row = experiment.rows[0];
    match &contender.kind {
        Kind::Direct => experiment.is_direct_too,
        Kind::Given(given) => {
            row != "coldstart" && (experiment.is_direct_too || given.pid.is_some())
        }
        // The long rows of slow ones take minutes each; they can be asked for by name. The stall
        // has one peer to be read against.
        Kind::Peer if is_of_all && LONG.contains(&row) => {
            row == "stall30" && contender.name == TUNED
        }
        // One C library or the other makes no difference there.
        Kind::Podwire(_) if is_of_all && contender.name == STATIC => !LONG.contains(&row),
        Kind::Peer | Kind::Podwire(_) => true,
    }
}
