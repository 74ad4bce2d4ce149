//! What operators see in numbers: Prometheus' text format 0.0.4.
//!
//! Everything is there from the start with 0, so that a rate is right from the first event on.
//! No pod and no user stands in a label. What this must never know: sockets, requests, sessions.

use std::fmt::{self, Display, Write as _};
use std::ops::Add;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::proto::ending::Kind;
use crate::proto::message::Dialect;
use crate::relay::Meter;

/// What one or more meters say.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Totals {
    pub(crate) input_bytes: u64,
    pub(crate) output_bytes: u64,
    pub(crate) browser_frames: u64,
    pub(crate) cluster_frames: u64,
    #[serde(skip)]
    pub(crate) ignored: u64,
    #[serde(skip)]
    pub(crate) browser_paused_us: u64,
    #[serde(skip)]
    pub(crate) cluster_paused_us: u64,
}

impl From<&Meter> for Totals {
    /// What the meter says now.
    fn from(meter: &Meter) -> Self {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Self {
            input_bytes: now(&meter.input_bytes),
            output_bytes: now(&meter.output_bytes),
            browser_frames: now(&meter.browser_frames),
            cluster_frames: now(&meter.cluster_frames),
            ignored: now(&meter.ignored),
            browser_paused_us: now(&meter.browser_paused_us),
            cluster_paused_us: now(&meter.cluster_paused_us),
        }
    }
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input_bytes: self.input_bytes + other.input_bytes,
            output_bytes: self.output_bytes + other.output_bytes,
            browser_frames: self.browser_frames + other.browser_frames,
            cluster_frames: self.cluster_frames + other.cluster_frames,
            ignored: self.ignored + other.ignored,
            browser_paused_us: self.browser_paused_us + other.browser_paused_us,
            cluster_paused_us: self.cluster_paused_us + other.cluster_paused_us,
        }
    }
}

/// What was done to end a process whose browser had left, or whose session was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HungUp {
    /// Nothing: it had ended by itself, or the cluster was gone.
    None,
    /// Keys or the end of its input.
    Keys,
    /// These, and then a signal to what was left of the session.
    Signal,
    /// These, and the signal could not be sent.
    Failed,
}

impl HungUp {
    /// Every result, those of the second step included.
    const NAMES: [&str; 4] = ["none", "keys", "signal", "failed"];

    /// As it stands in the log and in the label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Keys => "keys",
            Self::Signal => "signal",
            Self::Failed => "failed",
        }
    }
}

/// Why a request got no session although it has no [`Kind`] of its own.
const METHOD: &str = "method";
const NOT_UPGRADE: &str = "not_upgrade";

/// Seconds; sessions last from a command's moment to a working day.
const DURATIONS: &[f64] = &[1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14400.0];
/// Seconds; a cluster next door answers in milliseconds, and none may take longer than 30 s.
const CONNECTS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// How many panics there were in this process. One place for all, because a panic is the
/// process's and belongs to no relay.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Whether what was last read again could be read. Like the panics it is known outside of a relay.
static RELOADED: AtomicBool = AtomicBool::new(true);

/// Notes whether the files could be read again.
pub(crate) fn note_reload(could: bool) {
    RELOADED.store(could, Ordering::Relaxed);
}

/// Counts a panic. The program's panic hook calls it.
pub(crate) fn note_panic() {
    PANICS.fetch_add(1, Ordering::Relaxed);
}

/// The counters of a relay.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: Family,
    ended: Family,
    rejected: Family,
    hangups: Family,
    durations: Histogram,
    connects: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let kinds = || Kind::ALL.map(|kind| kind.facts().name);
        Self {
            started: Family::new(Dialect::ALL.map(Dialect::name)),
            ended: Family::new(kinds()),
            rejected: Family::new(kinds().into_iter().chain([METHOD, NOT_UPGRADE])),
            hangups: Family::new(HungUp::NAMES),
            durations: Histogram::new(DURATIONS),
            connects: Histogram::new(CONNECTS),
        }
    }

    /// A session was opened, after so long a time.
    pub(crate) fn started(&self, dialect: &str, after: Duration) {
        self.started.count(dialect);
        self.connects.observe(after);
    }

    /// A session that was opened is over.
    pub(crate) fn ended(&self, kind: Kind, hangup: HungUp, after: Duration) {
        self.ended.count(kind.facts().name);
        self.hung_up(hangup);
        self.durations.observe(after);
    }

    /// What was done about the process of a session that is over, or that nobody wanted any more
    /// when it was there.
    pub(crate) fn hung_up(&self, hangup: HungUp) {
        self.hangups.count(hangup.name());
    }

    /// A request got no session. The status tells apart what has no kind of its own.
    pub(crate) fn rejected(&self, kind: Kind, status: Option<u16>) {
        self.rejected.count(match status {
            Some(405) => METHOD,
            Some(426) => NOT_UPGRADE,
            _ => kind.facts().name,
        });
    }

    /// Everything, as it is scraped. `active` sessions have moved part of `totals`.
    pub(crate) fn render(&self, active: usize, totals: Totals, draining: bool) -> String {
        let mut page = Page::default();
        page.info();
        let text = "Sessions that are opening or open.";
        page.one("sessions_active", "gauge", text, active);
        let text = "Sessions whose process was started.";
        page.family("sessions_started_total", text, "dialect", &self.started);
        let text = "Sessions of those that are over.";
        page.family("sessions_ended_total", text, "kind", &self.ended);
        let text = "Requests that got no session, told by an HTTP status or inside a WebSocket.";
        page.family("rejected_total", text, "reason", &self.rejected);
        let text = "How long sessions lasted.";
        page.histogram("session_duration_seconds", text, &self.durations);
        let text = "From a request to the cluster's 101.";
        page.histogram("connect_seconds", text, &self.connects);
        let directions = |input, output| [("input", input), ("output", output)];
        let bytes = directions(totals.input_bytes, totals.output_bytes);
        let text = "Bytes typed, and bytes of output told.";
        page.several("relay_bytes_total", "counter", text, "direction", bytes);
        let frames = directions(totals.browser_frames, totals.cluster_frames);
        let text = "Messages of browsers, and frames of clusters.";
        page.several("relay_frames_total", "counter", text, "direction", frames);
        let text = "Messages of either side that mean nothing here.";
        page.one("ignored_total", "counter", text, totals.ignored);
        let paused = [
            ("browser", Seconds(totals.browser_paused_us)),
            ("cluster", Seconds(totals.cluster_paused_us)),
        ];
        let text = "How long a leg was not read because the other one took nothing.";
        page.several("paused_seconds_total", "counter", text, "leg", paused);
        let text = "Processes of ended sessions, by what was done to end them.";
        page.family("hangups_total", text, "result", &self.hangups);
        let text = "Panics, each of which is a bug.";
        page.one("panics_total", "counter", text, PANICS.load(Ordering::Relaxed));
        let text = "Whether the relay is being stopped.";
        page.one("draining", "gauge", text, u8::from(draining));
        let text = "Whether the files could be read when the relay was last told to (SIGHUP).";
        let reloaded = RELOADED.load(Ordering::Relaxed);
        page.one("config_reload_success", "gauge", text, u8::from(reloaded));
        page.process();
        page.0
    }
}

/// A counter for each value of a label, all of which are known from the start.
#[derive(Debug)]
struct Family(Vec<(&'static str, AtomicU64)>);

impl Family {
    fn new(values: impl IntoIterator<Item = &'static str>) -> Self {
        Self(values.into_iter().map(|value| (value, AtomicU64::new(0))).collect())
    }

    fn count(&self, value: &str) {
        if let Some((_, count)) = self.0.iter().find(|(known, _)| *known == value) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How often something took at most so many seconds.
#[derive(Debug)]
struct Histogram {
    /// One count for each bound, and one for what is above them all.
    buckets: Vec<(f64, AtomicU64)>,
    sum_us: AtomicU64,
}

impl Histogram {
    fn new(bounds: &[f64]) -> Self {
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        let buckets = bounds.map(|bound| (bound, AtomicU64::new(0))).collect();
        Self { buckets, sum_us: AtomicU64::new(0) }
    }

    fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some((_, count)) = self.buckets.iter().find(|(bound, _)| seconds <= *bound) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Microseconds, shown as seconds.
#[derive(Clone, Copy)]
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A scrape's text while it is being written. Writing to a string has no way to fail.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        let name = format!("podwire_{name}");
        self.head(&name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn several<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, V)>,
    ) {
        let name = format!("podwire_{name}");
        self.head(&name, kind, help);
        for (value, count) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{value}\"}} {count}");
        }
    }

    fn family(&mut self, name: &str, help: &str, label: &str, family: &Family) {
        let values = family.0.iter().map(|(value, count)| (*value, count.load(Ordering::Relaxed)));
        self.several(name, "counter", help, label, values);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        let name = format!("podwire_{name}");
        self.head(&name, "histogram", help);
        let mut sum = 0;
        for (bound, count) in &histogram.buckets {
            sum += count.load(Ordering::Relaxed);
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{bound}\"}} {sum}");
        }
        let seconds = Seconds(histogram.sum_us.load(Ordering::Relaxed));
        let _ = writeln!(self.0, "{name}_sum {seconds}\n{name}_count {sum}");
    }

    fn info(&mut self) {
        let name = "podwire_build_info";
        self.head(name, "gauge", "What is running.");
        let (version, revision) = (env!("CARGO_PKG_VERSION"), option_env!("PODWIRE_COMMIT"));
        let revision = revision.unwrap_or("unknown");
        let features = if cfg!(feature = "ui") { "ui" } else { "none" };
        let _ = writeln!(
            self.0,
            "{name}{{version=\"{version}\",revision=\"{revision}\",features=\"{features}\"}} 1"
        );
    }

    /// What Prometheus' own libraries tell of a process, under their names; left out where there
    /// is no `/proc`.
    fn process(&mut self) {
        let mut gauge = |name: &str, kind: &str, help: &str, value: Option<f64>| {
            if let Some(value) = value {
                self.head(name, kind, help);
                let _ = writeln!(self.0, "{name} {value}");
            }
        };
        let text = "Resident memory.";
        gauge("process_resident_memory_bytes", "gauge", text, proc::resident_memory());
        gauge("process_open_fds", "gauge", "Open file descriptors.", proc::open_fds());
        let times = proc::times();
        let text = "When the process was started, in seconds since 1970.";
        gauge("process_start_time_seconds", "gauge", text, times.map(|(start, _)| start));
        let text = "Processor time, of user and system.";
        gauge("process_cpu_seconds_total", "counter", text, times.map(|(_, cpu)| cpu));
    }
}

/// What Linux tells of this process.
mod proc {
    use std::fs::{read_dir, read_to_string};

    /// Ticks per second in `/proc`; it has been this on every architecture for twenty years,
    /// whatever the kernel counts in (`USER_HZ`, proc(5)).
    const TICKS: f64 = 100.0;

    pub(super) fn resident_memory() -> Option<f64> {
        let status = read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok().map(|kib: f64| kib * 1024.0)
    }

    pub(super) fn open_fds() -> Option<f64> {
        let count = u32::try_from(read_dir("/proc/self/fd").ok()?.count()).ok()?;
        // Reading the folder needs one, too.
        Some(f64::from(count.saturating_sub(1)))
    }

    /// When the process was started, and the processor time that it has used.
    pub(super) fn times() -> Option<(f64, f64)> {
        let stat = read_to_string("/proc/self/stat").ok()?;
        // The name in brackets is the second field, and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let booted = read_to_string("/proc/stat").ok()?;
        let booted = booted.lines().find_map(|line| line.strip_prefix("btime "))?;
        let booted: f64 = booted.trim().parse().ok()?;
        Some((booted + ticks(22)? / TICKS, (ticks(14)? + ticks(15)?) / TICKS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(metrics: &Metrics) -> String {
        metrics.render(2, Totals { cluster_paused_us: 1_500_000, ..Totals::default() }, false)
    }

    #[test]
    fn everything_is_there_from_the_start() {
        let page = page(&Metrics::new());
        for kind in Kind::ALL {
            let name = kind.facts().name;
            assert!(page.contains(&format!("podwire_sessions_ended_total{{kind=\"{name}\"}} 0\n")));
            assert!(page.contains(&format!("podwire_rejected_total{{reason=\"{name}\"}} 0\n")));
        }
        for line in [
            "podwire_rejected_total{reason=\"not_upgrade\"} 0",
            "podwire_rejected_total{reason=\"method\"} 0",
            "podwire_sessions_active 2",
            "podwire_sessions_started_total{dialect=\"seed\"} 0",
            "podwire_hangups_total{result=\"failed\"} 0",
            "podwire_paused_seconds_total{leg=\"cluster\"} 1.500000",
            "podwire_session_duration_seconds_bucket{le=\"14400\"} 0",
            "podwire_connect_seconds_bucket{le=\"0.005\"} 0",
            "podwire_connect_seconds_bucket{le=\"+Inf\"} 0",
            "podwire_draining 0",
        ] {
            assert!(page.lines().any(|it| it == line), "{line} in {page}");
        }
    }

    #[test]
    fn buckets_add_up() {
        let metrics = Metrics::new();
        for seconds in [0, 1, 2, 60, 100_000] {
            metrics.ended(Kind::Exit, HungUp::None, Duration::from_secs(seconds));
        }
        let page = page(&metrics);
        for line in [
            "podwire_session_duration_seconds_bucket{le=\"1\"} 2",
            "podwire_session_duration_seconds_bucket{le=\"10\"} 3",
            "podwire_session_duration_seconds_bucket{le=\"60\"} 4",
            "podwire_session_duration_seconds_bucket{le=\"14400\"} 4",
            "podwire_session_duration_seconds_bucket{le=\"+Inf\"} 5",
            "podwire_session_duration_seconds_sum 100063.000000",
            "podwire_session_duration_seconds_count 5",
            "podwire_sessions_ended_total{kind=\"exit\"} 5",
            "podwire_hangups_total{result=\"none\"} 5",
        ] {
            assert!(page.lines().any(|it| it == line), "{line} in {page}");
        }
    }

    /// Each name is announced once, before its values, as the format demands.
    #[test]
    fn each_metric_is_announced_once() {
        let page = page(&Metrics::new());
        let types: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let mut names: Vec<&str> = types.iter().filter_map(|it| it.split(' ').next()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let is_of = |it: &str| {
                name.strip_prefix(it)
                    .is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
            };
            assert!(names.iter().any(|it| is_of(it)), "{line}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_is_told_of_as_it_is() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let (start, cpu) = proc::times().unwrap();
        assert!((0.0..3600.0).contains(&(now.as_secs_f64() - start)), "{start}");
        assert!((0.0..3600.0).contains(&cpu));
        assert!(proc::resident_memory().unwrap() > 1e5);
        assert!(proc::open_fds().unwrap() >= 3.0);
    }
}
