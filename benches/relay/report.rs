//! The table, for people, and everything behind it, for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::contenders::{Contender, Cores, Kind};
use crate::goals::{Column, Goal, LINES, Line, Show, pick};
use crate::plot::{Bar, bars};
use crate::rows::{EXPERIMENTS, Figures};
use crate::run::{Cell, Results};
use crate::settings::Settings;

/// What several runs of one contender came to.
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// By row and figure.
    pub(crate) figures: Figures,
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
    let took = results.seconds / 60.0;
    let page = format!(
        "# The relay and its peers\n\nWritten by `cargo bench --bench relay -- {words}`; {took:.0} \
         minutes; what is measured how stands in [benches/README.md](../README.md).\n\n{facts}\n{images}{table}\n\
         {shares}\n{notes}"
    );
    put("README.md", &page)?;
    put("results.json", &format!("{:#}\n", report.json()))?;
    println!("written to {}", shown(folder));
    Ok(())
}

/// Whether every row that was asked for gave its figures, for those who ask whether the bench works.
pub(crate) fn complete(results: &Results, cores: Cores) -> Result<(), String> {
    let report = Report::new(results, cores);
    let mut missing = Vec::new();
    for cell in &results.cells {
        let name = &results.contenders[cell.contender].name;
        match &cell.outcome {
            Ok(measured) if measured.figures.values().all(|value| value.is_finite()) => {}
            Ok(_) => missing.push(format!("{name} in {}: no number", cell.rows[0])),
            Err(why) => missing.push(format!("{name} in {}: {why}", cell.rows[0])),
        }
    }
    for (contender, why) in results.contenders.iter().zip(&results.missing) {
        missing.extend(why.iter().map(|why| format!("{}: {why}", contender.name)));
    }
    // Of ours every line has to be there whose row ran, but those of what takes minutes to build.
    let figures = report.ours().map(|ours| &report.summaries[ours].figures);
    for line in LINES.iter().filter(|line| report.has_run(line.row)) {
        let is_there = figures.is_some_and(|figures| figures.contains_key(&key(line)));
        if !is_there && line.row != "size" {
            missing.push(format!("{}: no figure", key(line)));
        }
    }
    if !missing.is_empty() {
        return Err(missing.join("; "));
    }
    println!("every row gave its figures, in {:.0} s", results.seconds);
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
pub(crate) fn plain(text: &str) -> String {
    text.replace('|', "/").replace('\n', " ")
}

/// Everything that was measured, and what it came to.
pub(crate) struct Report<'a> {
    pub(crate) results: &'a Results,
    pub(crate) cores: Cores,
    pub(crate) summaries: Vec<Summary>,
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
    pub(crate) fn ours(&self) -> Option<usize> {
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

    fn has_run(&self, row: &str) -> bool {
        self.results.cells.iter().any(|cell| cell.rows.contains(&row))
    }

    fn is_measured(&self, line: &Line) -> bool {
        let mut cells = self.results.cells.iter().filter(|cell| cell.rows.contains(&line.row));
        cells.any(|cell| match &cell.outcome {
            Ok(measured) => {
                measured.figures.contains_key(line.figure)
                    || measured.reasons.contains_key(line.figure)
            }
            Err(_) => line.must != Goal::None,
        })
    }

    /// The table of what limits each figure.
    fn shares(&self) -> String {
        let mut text =
            "Shares of a core during each load, in per cent: relay, generator, cluster".to_owned();
        let is_shared = self.cores.cluster == self.cores.generator;
        let whose = if is_shared {
            " (the last two share one core), and in brackets how busy that core was"
        } else {
            ", and in brackets how busy the busier core of the last two was"
        };
        let _ = write!(text, "{whose}\n\n| |");
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
                let whole = shares.others.map_or("–".to_owned(), per_cent);
                let _ = write!(text, " {relay} · {generator} · {cluster} ({whole}){mark} |");
            }
            text.push('\n');
        }
        text
    }

    /// What has to be known beside the tables.
    fn notes(&self) -> String {
        let mut text = "† at a rate: the core of the generator and the cluster was full, so it \
                        says little of the relay. † at a verdict: it was full for ours or for what \
                        ours is held against, and CPU-seconds alone decide: ours have to be at \
                        most those of the other, divided by the same factor, and to keep to their \
                        own line's bound.\n"
            .to_owned();
        if self.results.cells.iter().any(|cell| cell.outcome.is_err()) {
            text.push_str("\n(2 of 3): so many of the runs gave a figure.\n");
        }
        let disturbed = self.disturbed();
        if !disturbed.is_empty() {
            let _ = writeln!(
                text,
                "\nThe machine had other work on that core during {}: these figures are not for \
                 publication.",
                disturbed.join(", ")
            );
        }
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
                            "core": used.others.map(|share| share * used.wall),
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

impl Cell {
    pub(crate) fn is(&self, row: &str, contender: usize) -> bool {
        self.contender == contender && self.rows.contains(&row)
    }
}

pub(crate) fn key(line: &Line) -> String {
    format!("{}.{}", line.row, line.figure)
}

pub(crate) fn show(line: &Line, value: f64) -> String {
    match line.show {
        Show::Digits(digits) => format!("{value:.digits$}"),
        Show::YesNo if value >= 1.0 => "yes".to_owned(),
        Show::YesNo => "**no**".to_owned(),
    }
}

fn per_cent(share: f64) -> String {
    format!("{:.0}", share * 100.0)
}
