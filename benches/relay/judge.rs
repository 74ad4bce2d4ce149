//! One cell of the table: its figure, its marks, and whether ours keeps to a goal.

use std::fmt::Write as _;

use crate::goals::{Column, Goal, LINES, Line, Pick, Show, pick};
use crate::report::{Report, key, plain, show};
use crate::rows::{EXPERIMENTS, Used};

/// A core is full from here on: the rest is what a scheduler and a clock are wrong by.
const FULL: f64 = 0.95;
/// Interrupts and switching take less than this of a core that is not full of processes; who finds
/// more was not alone.
const OTHER_WORK: f64 = 0.2;
/// A reason stands in a cell of a table.
const REASON_MAX: usize = 80;

/// Shares of a core.
pub(crate) struct Shares {
    pub(crate) relay: Option<f64>,
    pub(crate) cluster: f64,
    pub(crate) generator: f64,
    /// Of the core of the last two, or of the busier one, whoever it worked for.
    pub(crate) others: Option<f64>,
}

impl Report<'_> {
    /// The figure of a contender, or why there is none.
    pub(crate) fn cell(&self, line: &Line, contender: usize) -> String {
        let cells = || self.results.cells.iter().filter(|cell| cell.is(line.row, contender));
        if let Some(value) = self.summaries[contender].figures.get(&key(line)) {
            let mut text = show(line, *value);
            if line.is_rate && self.is_full(line.row, contender) {
                text.push_str(" †");
            }
            let (asked, gave) = (cells().count(), cells().filter(|cell| cell.outcome.is_ok()));
            let gave = gave.count();
            if gave < asked {
                let _ = write!(text, " ({gave} of {asked})");
            }
            return text;
        }
        let reason = |outcome: &'_ Result<crate::rows::Measured, String>| match outcome {
            Ok(measured) => measured.reasons.get(line.figure).cloned(),
            Err(why) => Some(format!("failed: {why}")),
        };
        match cells().find_map(|cell| reason(&cell.outcome)) {
            Some(why) => plain(&why).chars().take(REASON_MAX).collect(),
            None => "–".to_owned(),
        }
    }

    /// A goal's bound and whether ours keeps to it.
    pub(crate) fn judge(&self, line: &Line, goal: Goal, columns: &[Column]) -> (String, String) {
        let key = key(line);
        let (mut text, bound) = goal.bound(&key, columns);
        if let Some(bound) = bound.filter(|_| !goal.is_plain()) {
            let _ = write!(text, " = {}", show(line, bound));
        }
        if line.show == Show::YesNo {
            "yes".clone_into(&mut text);
        }
        let value = self.ours().and_then(|ours| self.summaries[ours].figures.get(&key));
        let verdict = match (value, bound) {
            (Some(_), Some(_)) if self.is_limited(line, goal) => {
                match self.by_cpu(line, goal, columns) {
                    Some(holds) => format!("{} †", word(holds)),
                    None => "†".to_owned(),
                }
            }
            (Some(value), Some(bound)) => word(goal.holds(*value, bound)).to_owned(),
            _ if goal == Goal::None => String::new(),
            _ => "–".to_owned(),
        };
        (text, verdict)
    }

    /// Whether a rate says nothing, because generator and cluster had no more to give: to ours, or
    /// to what it is held against.
    fn is_limited(&self, line: &Line, goal: Goal) -> bool {
        let reference = goal
            .reference()
            .and_then(|(_, name)| self.summaries.iter().position(|summary| summary.name == name));
        let mut of = [self.ours(), reference].into_iter().flatten();
        line.is_rate && of.any(|contender| self.is_full(line.row, contender))
    }

    /// The verdict of CPU-seconds where a rate has none: less than the other's by the factor that the
    /// rate would have to be more, and within the bound of the line that is about them. None if there
    /// is neither.
    fn by_cpu(&self, line: &Line, goal: Goal, columns: &[Column]) -> Option<bool> {
        let cpu = LINES.iter().find(|cpu| cpu.row == line.row && cpu.figure == "cpu")?;
        let ours = self.summaries[self.ours()?].figures.get(&key(cpu))?;
        let (times, name) = goal.reference()?;
        let other = columns.iter().find(|column| column.name == name);
        let other = other.and_then(|column| column.figures.get(&key(cpu)));
        let is_going = goal == line.going && goal != line.must;
        let own = if is_going { cpu.going } else { cpu.must };
        let bounds = [
            other.map(|other| *ours <= other / times),
            own.bound(&key(cpu), columns).1.map(|bound| own.holds(*ours, bound)),
        ];
        bounds.into_iter().flatten().reduce(|one, other| one && other)
    }

    /// What everybody used of a core during the load of a row; the median of each.
    pub(crate) fn used(&self, row: &str, contender: usize) -> Option<Shares> {
        let cells = self.results.cells.iter().filter(|cell| cell.is(row, contender));
        let all: Vec<Used> = cells.filter_map(|cell| cell.outcome.as_ref().ok()?.used).collect();
        let share =
            |of: fn(&Used) -> Option<f64>| pick(Pick::Median, all.iter().filter_map(of).collect());
        Some(Shares {
            relay: share(|used| Some(used.relay? / used.wall)),
            cluster: share(|used| Some(used.cluster / used.wall))?,
            generator: share(|used| Some(used.generator / used.wall))?,
            others: share(|used| used.others),
        })
    }

    /// Where somebody else used the core of the generator and the cluster: row and contender.
    pub(crate) fn disturbed(&self) -> Vec<String> {
        let mut found = Vec::new();
        for row in EXPERIMENTS.iter().map(|experiment| experiment.rows[0]) {
            for (index, summary) in self.summaries.iter().enumerate() {
                let Some(shares) = self.used(row, index) else { continue };
                if shares.others.unwrap_or_default() > self.theirs(&shares) + OTHER_WORK {
                    found.push(format!("{row} of {}", summary.name));
                }
            }
        }
        found
    }

    /// What generator and cluster used of their core, or of the busier one.
    fn theirs(&self, shares: &Shares) -> f64 {
        if self.cores.cluster == self.cores.generator {
            shares.cluster + shares.generator
        } else {
            shares.cluster.max(shares.generator)
        }
    }

    /// Whether a core was full that is not the relay's: whether generator and cluster, and what the
    /// kernel did for them, left it next to no time. What somebody else did there is no excuse.
    pub(crate) fn is_full(&self, row: &str, contender: usize) -> bool {
        let Some(shares) = self.used(row, contender) else { return false };
        let theirs = self.theirs(&shares);
        let is_alone = |others: &f64| *others <= theirs + OTHER_WORK;
        theirs.max(shares.others.filter(is_alone).unwrap_or_default()) >= FULL
    }
}

fn word(holds: bool) -> &'static str {
    if holds { "yes" } else { "**no**" }
}
