//! The table, for people, and everything behind it, for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::contenders::{Contender, Cores, Kind};
use crate::goals::{Column, Goal, LINES, Line, Pick, Show, pick};
use crate::plot::{Bar, bars};
use crate::rows::{EXPERIMENTS, Figures, Used};
use crate::run::{Cell, Results};
use crate::settings::Settings;

/// A core is full from here on: the rest is what a scheduler and a clock are wrong by.
const FULL: f64 = 0.95;
/// A reason stands in a cell of a table.
const REASON_MAX: usize = 80;

/// What several runs of one contender came to.
struct Summary {
    name: String,
    kind: Kind,
    /// By row and figure.
    figures: Figures,
}

/// Prints the table, and writes it and what is behind it where it was asked for.
pub(crate) fn write(results: &Results, settings: &Settings, cores: Cores) -> Result<(), String> {
    let report = Report::new(results, cores);
    let table = report.table();
    let shares = report.shares();
    let notes = report.notes();
    println!("\n{table}\n{shares}\n{notes}");
    println!("{:.0} s in all", results.seconds);
    let Some(folder) = &settings.out else { return Ok(()) };
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut images = String::new();
    for (name, title, bars_of) in report.plots() {
        put(&name, &bars(&title, &bars_of))?;
        let _ = writeln!(images, "![{title}]({name})\n");
    }
    let facts = facts(results);
    let words = settings.words.join(" ");
    let page = format!(
        "# The relay and its peers\n\nWritten by `cargo bench --bench relay -- {words}`; what is \
         measured how stands in [benches/README.md](../README.md).\n\n{facts}\n{images}{table}\n\
         {shares}\n{notes}"
    );
    put("README.md", &page)?;
    put("results.json", &format!("{:#}\n", report.json()))?;
    println!("written to {}", shown(folder));
    Ok(())
}

fn shown(folder: &Path) -> String {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.strip_prefix(package).unwrap_or(folder).display().to_string()
}

fn facts(results: &Results) -> String {
    let mut text = "| | |\n|---|---|\n".to_owned();
    for (name, value) in &results.facts.0 {
        let _ = writeln!(text, "| {name} | {} |", plain(value));
    }
    text
}

/// Text that may stand in a cell.
fn plain(text: &str) -> String {
    text.replace('|', "/").replace('\n', " ")
}

struct Report<'a> {
    results: &'a Results,
    cores: Cores,
    summaries: Vec<Summary>,
}

impl<'a> Report<'a> {
    fn new(results: &'a Results, cores: Cores) -> Self {
        let summarize = |(index, contender): (usize, &Contender)| {
            let mut figures = Figures::new();
            for line in LINES {
                let cells = results.cells.iter().filter(|cell| cell.is(line.row, index));
                let measured = cells.filter_map(|cell| cell.outcome.as_ref().ok());
                let values =
                    measured.filter_map(|measured| measured.figures.get(line.figure).copied());
                if let Some(value) = pick(line.pick, values.collect()) {
                    figures.insert(key(line), value);
                }
            }
            Summary { name: contender.name.clone(), kind: contender.kind.clone(), figures }
        };
        let summaries = results.contenders.iter().enumerate().map(summarize).collect();
        Self { results, cores, summaries }
    }

    /// The build that goals are about: the first of ours.
    fn ours(&self) -> Option<usize> {
        self.summaries.iter().position(|summary| matches!(summary.kind, Kind::Podwire(_)))
    }

    fn columns(&self) -> Vec<Column<'_>> {
        let mut columns = Vec::new();
        for Summary { name, kind, figures } in &self.summaries {
            columns.push(Column { name, is_peer: matches!(kind, Kind::Peer), figures });
        }
        columns
    }

    /// The table of the goals.
    fn table(&self) -> String {
        let mut text = "| |".to_owned();
        for (summary, missing) in self.summaries.iter().zip(&self.results.missing) {
            let mark = if missing.is_some() { " (not there)" } else { "" };
            let _ = write!(text, " {}{mark} |", summary.name);
        }
        text.push_str(" must | holds | going to | holds |\n|---|");
        text.push_str(&"---|".repeat(self.summaries.len() + 4));
        text.push('\n');
        let columns = self.columns();
        for line in LINES.iter().filter(|line| self.is_measured(line)) {
            let _ = write!(text, "| {} |", line.label);
            for index in 0..self.summaries.len() {
                let _ = write!(text, " {} |", self.cell(line, index));
            }
            for goal in [line.must, line.going] {
                let (bound, verdict) = self.judge(line, goal, &columns);
                let _ = write!(text, " {bound} | {verdict} |");
            }
            text.push('\n');
        }
        text
    }

    fn is_measured(&self, line: &Line) -> bool {
        let mut cells = self.results.cells.iter().filter(|cell| cell.rows.contains(&line.row));
        cells.any(|cell| match &cell.outcome {
            Ok(measured) => measured.figures.contains_key(line.figure),
            Err(_) => line.must != Goal::None,
        })
    }

    fn cell(&self, line: &Line, contender: usize) -> String {
        if let Some(value) = self.summaries[contender].figures.get(&key(line)) {
            let mark = if line.is_rate && self.is_full(line.row, contender) { " †" } else { "" };
            return format!("{}{mark}", show(line, *value));
        }
        let mut cells = self.results.cells.iter().filter(|cell| cell.is(line.row, contender));
        match cells.find_map(|cell| cell.outcome.as_ref().err()) {
            Some(why) => {
                let why: String = plain(why).chars().take(REASON_MAX).collect();
                format!("failed: {why}")
            }
            None => "–".to_owned(),
        }
    }

    /// A goal's bound and whether ours keeps to it.
    fn judge(&self, line: &Line, goal: Goal, columns: &[Column]) -> (String, &'static str) {
        let key = key(line);
        let (mut text, bound) = goal.bound(&key, columns);
        if let Some(bound) = bound.filter(|_| !goal.is_plain()) {
            let _ = write!(text, " = {}", show(line, bound));
        }
        if line.show == Show::YesNo {
            "yes".clone_into(&mut text);
        }
        let ours = self.ours();
        let value = ours.and_then(|ours| self.summaries[ours].figures.get(&key));
        let verdict = match (value, bound) {
            (Some(value), Some(bound)) if goal.holds(*value, bound) => "yes",
            (Some(_), Some(_))
                if line.is_rate && ours.is_some_and(|ours| self.is_full(line.row, ours)) =>
            {
                "†"
            }
            (Some(_), Some(_)) => "**no**",
            _ if goal == Goal::None => "",
            _ => "–",
        };
        (text, verdict)
    }

    /// What everybody used of a core during the load of a row; the median of each.
    fn used(&self, row: &str, contender: usize) -> Option<Shares> {
        let cells = self.results.cells.iter().filter(|cell| cell.is(row, contender));
        let all: Vec<Used> = cells.filter_map(|cell| cell.outcome.as_ref().ok()?.used).collect();
        let share = |of: fn(&Used) -> Option<f64>| {
            let shares = all.iter().filter_map(|used| Some(of(used)? / used.wall));
            pick(Pick::Median, shares.collect())
        };
        let relay = share(|used| used.relay);
        let cluster = share(|used| Some(used.cluster))?;
        let generator = share(|used| Some(used.generator))?;
        Some(Shares { relay, cluster, generator })
    }

    /// Whether a core was full that is not the relay's.
    fn is_full(&self, row: &str, contender: usize) -> bool {
        let Some(shares) = self.used(row, contender) else { return false };
        if self.cores.cluster == self.cores.generator {
            shares.cluster + shares.generator >= FULL
        } else {
            shares.cluster >= FULL || shares.generator >= FULL
        }
    }

    /// The table of what limits each figure.
    fn shares(&self) -> String {
        let mut text =
            "Shares of a core during each load, in per cent: relay, generator, cluster".to_owned();
        let is_shared = self.cores.cluster == self.cores.generator;
        let where_ = if is_shared { " (the last two share one core)" } else { "" };
        let _ = write!(text, "{where_}\n\n| |");
        for summary in &self.summaries {
            let _ = write!(text, " {} |", summary.name);
        }
        let _ = writeln!(text, "\n|---|{}", "---|".repeat(self.summaries.len()));
        for experiment in EXPERIMENTS {
            let row = experiment.rows[0];
            let all: Vec<_> =
                (0..self.summaries.len()).map(|index| self.used(row, index)).collect();
            if all.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(text, "| {row} |");
            for (index, shares) in all.iter().enumerate() {
                let Some(shares) = shares else {
                    text.push_str(" – |");
                    continue;
                };
                let relay = shares.relay.map_or("–".to_owned(), per_cent);
                let mark = if self.is_full(row, index) { " †" } else { "" };
                let (generator, cluster) = (per_cent(shares.generator), per_cent(shares.cluster));
                let _ = write!(text, " {relay} · {generator} · {cluster}{mark} |");
            }
            text.push('\n');
        }
        text
    }

    /// What has to be known beside the tables.
    fn notes(&self) -> String {
        let mut text = "† The core of the generator and the cluster was full: a rate says nothing \
                        of the relay then, and is judged by its CPU-seconds.\n"
            .to_owned();
        for (contender, why) in self.results.contenders.iter().zip(&self.results.missing) {
            if let Some(why) = why {
                let _ = writeln!(text, "\n{}: not there: {}", contender.name, plain(why));
            }
        }
        for cell in &self.results.cells {
            if let Err(why) = &cell.outcome {
                let (name, run) = (&self.results.contenders[cell.contender].name, cell.run + 1);
                let _ = writeln!(text, "\n{name} failed in {} (run {run}): {why}", cell.rows[0]);
            }
        }
        text
    }

    fn plots(&self) -> Vec<(String, String, Vec<Bar>)> {
        let plot = |name: &str, title: &str, lines: &[(&str, &str)]| {
            let mut bars = Vec::new();
            for summary in &self.summaries {
                for (key, word) in lines {
                    let Some(value) = summary.figures.get(*key) else { continue };
                    let name = format!("{}{word}", summary.name);
                    let is_ours = matches!(summary.kind, Kind::Podwire(_));
                    let digits = if *value < 10.0 { 2 } else { 0 };
                    bars.push(Bar { name, value: *value, digits, is_ours });
                }
            }
            (format!("{name}.svg"), title.to_owned(), bars)
        };
        let plots = [
            plot("cpu", "CPU-seconds per GB, 32 KiB frames", &[("bulk32.cpu", "")]),
            plot("cpu-4k", "CPU-seconds per GB, 4 KiB frames", &[("bulk4.cpu", "")]),
            plot("memory", "Memory per idle session, KiB", &[("idle.idle", "")]),
            plot("keys", "Keystroke round trip, µs", &[("keys.p50", " p50"), ("keys.p99", " p99")]),
        ];
        plots.into_iter().filter(|(_, _, bars)| !bars.is_empty()).collect()
    }

    /// Everything, run by run.
    fn json(&self) -> Value {
        let name = |index: usize| &self.results.contenders[index].name;
        let cells = self.results.cells.iter().map(|cell| {
            let mut value = json!({
                "row": cell.rows[0],
                "contender": name(cell.contender),
                "run": cell.run + 1,
            });
            match &cell.outcome {
                Ok(measured) => {
                    value["figures"] = json!(measured.figures);
                    if let Some(used) = measured.used {
                        value["seconds"] = json!({
                            "wall": used.wall,
                            "relay": used.relay,
                            "generator": used.generator,
                            "cluster": used.cluster,
                        });
                    }
                }
                Err(why) => value["failed"] = json!(why),
            }
            value
        });
        let facts = self.results.facts.0.iter();
        let facts: Map<_, _> = facts.map(|(name, value)| (name.clone(), json!(value))).collect();
        let summaries = self.summaries.iter();
        let medians: Map<_, _> =
            summaries.map(|summary| (summary.name.clone(), json!(summary.figures))).collect();
        json!({
            "facts": facts,
            "seconds": self.results.seconds,
            "medians": medians,
            "runs": cells.collect::<Vec<_>>(),
        })
    }
}

/// Shares of a core.
struct Shares {
    relay: Option<f64>,
    cluster: f64,
    generator: f64,
}

impl Cell {
    fn is(&self, row: &str, contender: usize) -> bool {
        self.contender == contender && self.rows.contains(&row)
    }
}

fn key(line: &Line) -> String {
    format!("{}.{}", line.row, line.figure)
}

fn show(line: &Line, value: f64) -> String {
    match line.show {
        Show::Digits(digits) => format!("{value:.digits$}"),
        Show::YesNo if value >= 1.0 => "yes".to_owned(),
        Show::YesNo => "**no**".to_owned(),
    }
}

fn per_cent(share: f64) -> String {
    format!("{:.0}", share * 100.0)
}
