//! The lines of the table, and what each of them has to hold.

use crate::rows::Figures;

/// What a figure is held against. Names are those of columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// Information.
    None,
    AtMost(f64),
    AtLeast(f64),
    AtMostTimes(f64, &'static str),
    AtLeastTimes(f64, &'static str),
    AtMostPlus(f64, &'static str),
    /// What is added to the direct connection, against what a peer adds.
    AddedTimes(f64, &'static str),
    /// Against the lowest of all peers.
    LowestTimes(f64),
}

/// How a value stands in the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Show {
    Digits(usize),
    YesNo,
}

/// Which of several runs stands for all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pick {
    Median,
    /// For tails, which on a shared machine are the machine's.
    Lowest,
    /// For what must never be more.
    Highest,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// The word of `--only`, and of the experiment.
    pub(crate) row: &'static str,
    pub(crate) figure: &'static str,
    pub(crate) label: &'static str,
    pub(crate) show: Show,
    pub(crate) pick: Pick,
    pub(crate) must: Goal,
    pub(crate) going: Goal,
    /// A rate says nothing of the relay while another core is full.
    pub(crate) is_rate: bool,
}

const fn line(
    row: &'static str,
    figure: &'static str,
    label: &'static str,
    digits: usize,
    must: Goal,
    going: Goal,
) -> Line {
    let (show, pick) = (Show::Digits(digits), Pick::Median);
    Line { row, figure, label, show, pick, must, going, is_rate: false }
}

const fn info(row: &'static str, figure: &'static str, label: &'static str, digits: usize) -> Line {
    line(row, figure, label, digits, Goal::None, Goal::None)
}

impl Line {
    const fn rate(mut self) -> Self {
        self.is_rate = true;
        self
    }

    const fn highest(mut self) -> Self {
        self.pick = Pick::Highest;
        self
    }

    const fn lowest(mut self) -> Self {
        self.pick = Pick::Lowest;
        self
    }
}

use Goal::{AddedTimes, AtLeast, AtLeastTimes, AtMost, AtMostPlus, AtMostTimes, LowestTimes};

pub(crate) const TUNED: &str = "nginx-tuned";

/// Every line, in the order of the table.
pub(crate) const LINES: &[Line] = &[
    line(
        "bulk32",
        "cpu",
        "32 KiB frames, CPU-s per GB",
        2,
        AtMostTimes(0.85, TUNED),
        AtMostTimes(0.65, TUNED),
    ),
    line(
        "bulk32",
        "rate",
        "32 KiB frames, MB/s",
        0,
        AtLeastTimes(1.2, TUNED),
        AtLeastTimes(1.4, TUNED),
    )
    .rate(),
    line(
        "bulk4",
        "cpu",
        "4 KiB frames, CPU-s per GB",
        2,
        AtMostTimes(1.0, TUNED),
        AtMostTimes(0.7, TUNED),
    ),
    info("bulk4", "rate", "4 KiB frames, MB/s", 0).rate(),
    info("recorded", "cpu", "frame sizes as recorded, CPU-s per GB", 2),
    info("recorded", "rate", "frame sizes as recorded, MB/s", 0).rate(),
    line(
        "small-packed",
        "cpu",
        "100 B frames packed in records, CPU-s per million",
        3,
        AtMostTimes(1.1, TUNED),
        AtMostTimes(0.7, TUNED),
    ),
    line(
        "small-single",
        "cpu",
        "100 B frames, one record each, CPU-s per million",
        2,
        AtMostTimes(0.9, "nginx"),
        AtMostTimes(0.8, TUNED),
    ),
    line(
        "small-packed",
        "messages",
        "browser messages per 1000 small frames, packed",
        0,
        AtMost(30.0),
        AtMost(5.0),
    ),
    info("small-single", "messages", "the same, one record each", 0),
    line(
        "keys",
        "p50",
        "keystroke round trip p50, µs",
        0,
        AddedTimes(0.9, "nginx"),
        AddedTimes(0.7, "nginx"),
    ),
    line(
        "keys",
        "p99",
        "keystroke p99, µs, lowest of the runs",
        0,
        LowestTimes(1.0),
        LowestTimes(0.8),
    )
    .lowest(),
    line(
        "keys",
        "cpu",
        "CPU per keystroke, µs",
        0,
        AtMostTimes(0.75, "nginx"),
        AtMostTimes(0.6, "nginx"),
    ),
    line(
        "idle",
        "idle",
        "memory per idle session, KiB (anonymous, 200 → 1000)",
        1,
        AtMost(14.0),
        AtMost(8.0),
    ),
    info("slopes", "idle", "the same, 1000 → 5000", 1),
    line(
        "burst",
        "burst",
        "memory per session after a 1 MiB burst, KiB (anonymous)",
        1,
        AtMost(36.0),
        AtMost(12.0),
    ),
    info("slopes", "burst", "the same, 1000 → 5000", 1),
    line("base", "base", "memory with no session, MB (RSS)", 1, AtMost(5.0), AtMost(3.0)),
    info("base", "base_proportional", "pages of several processes counted once (PSS)", 1),
    info("base", "base_anonymous", "of it anonymous", 1),
    line("base", "thousand", "memory with 1000 sessions, MB (RSS)", 1, AtMost(18.0), AtMost(11.0)),
    info("base", "thousand_proportional", "pages of several processes counted once (PSS)", 1),
    info("base", "thousand_anonymous", "of it anonymous", 1),
    info("stalled", "each", "memory per stalled reader under flood, KiB (anonymous)", 1),
    info("slopes", "stalled", "the same, 40 → 240 readers", 1),
    info("stalled", "before", "20 stalled readers, MB anonymous: before", 1),
    info("stalled", "during", "during", 1),
    info("stalled", "after", "after", 1),
    info("stalled", "kernel", "kernel memory of all its sockets, per stalled reader, KiB", 0),
    info("stalled", "queued", "bytes waiting in them, KiB", 0),
    info("stall30", "before", "20 readers stalled for 30 s, MB anonymous: before", 1),
    info("stall30", "during", "during", 1),
    info("stall30", "after", "after", 1),
    info("stall30", "gone", "from then until the cluster has lost the last of them, s", 1),
    info("stall30", "p50", "interrupt through the same relay afterwards, p50, ms", 2),
    info("stall30", "p99", "p99 of 200", 2),
    info("stall30", "max", "max", 2).highest(),
    info("interrupt", "p50", "interrupt through a flood, reader at 5 MB/s, p50, ms", 2),
    info("interrupt", "p99", "p99 of 200", 2),
    line("interrupt", "max", "max, highest of the runs", 2, AtMost(4.0), AtMost(1.0)).highest(),
    line(
        "interrupt",
        "waiting",
        "bytes waiting between cluster and that reader, MB",
        1,
        AtMostPlus(1.0, "direct"),
        AtMostPlus(0.5, "direct"),
    ),
    line(
        "opens",
        "rate",
        "sessions opened per second (8 workers)",
        0,
        AtLeastTimes(1.2, "kube-rs"),
        AtLeastTimes(1.2, "direct"),
    )
    .rate(),
    line("opens", "cpu", "CPU per open, ms", 2, AtMost(0.35), AtMost(0.25)),
    line(
        "paste8m",
        "rate",
        "paste 8 MiB in 32 KiB messages, MB/s",
        0,
        AtLeastTimes(1.0, "tungstenite"),
        AtLeastTimes(0.9, "haproxy"),
    )
    .rate(),
    info("paste8m", "cpu", "the same, CPU-s per GB", 2),
    line(
        "paste100k",
        "rate",
        "paste 100 KiB in one message, MB/s",
        0,
        AtLeastTimes(1.0, "tungstenite"),
        AtLeastTimes(0.9, "haproxy"),
    )
    .rate(),
    info("paste100k", "cpu", "the same, CPU-s per GB", 2),
    line("coldstart", "ms", "cold start to first HTTP answer, ms", 1, AtMost(5.0), AtMost(2.0)),
    line(
        "size",
        "program",
        "program, MB (podwire: `cargo build --release`, with `ui`)",
        2,
        AtMost(2.8),
        Goal::None,
    ),
    info("size", "beside", "and files beside it, MB", 0),
    line("size", "static", "static program without `ui`, MB", 2, AtMost(2.6), AtMost(1.8)),
    info("size", "static_ui", "static program with `ui`, MB", 2),
    line("size", "image", "container image, MB", 2, AtMost(3.0), AtMost(1.9)),
    info("size", "pulled", "the same as it is pulled, compressed", 2),
    Line {
        show: Show::YesNo,
        ..line(
            "text",
            "whole",
            "text cut inside characters, delivered whole",
            0,
            AtLeast(1.0),
            AtLeast(1.0),
        )
    },
    line("cycles", "grown", "growth after 100,000 sessions, MB (RSS)", 1, AtMost(2.0), AtMost(0.5)),
];

/// A column as goals see it.
pub(crate) struct Column<'a> {
    pub(crate) name: &'a str,
    pub(crate) is_peer: bool,
    pub(crate) figures: &'a Figures,
}

impl Goal {
    /// The bound as text and, if what it is held against was measured, as a number.
    pub(crate) fn bound(self, key: &str, columns: &[Column]) -> (String, Option<f64>) {
        let of = |name: &str| {
            let column = columns.iter().find(|column| column.name == name)?;
            column.figures.get(key).copied()
        };
        match self {
            Self::None => (String::new(), None),
            Self::AtMost(value) => (format!("≤ {value}"), Some(value)),
            Self::AtLeast(value) => (format!("≥ {value}"), Some(value)),
            Self::AtMostTimes(times, name) => {
                (format!("≤ {times} × {name}"), of(name).map(|value| value * times))
            }
            Self::AtLeastTimes(times, name) => {
                (format!("≥ {times} × {name}"), of(name).map(|value| value * times))
            }
            Self::AtMostPlus(more, name) => {
                (format!("≤ {name} + {more}"), of(name).map(|value| value + more))
            }
            Self::AddedTimes(times, name) => {
                let bound = of("direct").zip(of(name));
                let bound = bound.map(|(direct, value)| direct + (value - direct) * times);
                (format!("added ≤ {times} × {name}'s"), bound)
            }
            Self::LowestTimes(times) => {
                let peers = columns.iter().filter(|column| column.is_peer);
                let values = peers.filter_map(|column| column.figures.get(key).copied());
                let lowest = values.min_by(f64::total_cmp).map(|value| value * times);
                (format!("≤ {times} × the best peer's"), lowest)
            }
        }
    }

    /// What a rate is held against, and how many times it has to be that.
    pub(crate) fn reference(self) -> Option<(f64, &'static str)> {
        match self {
            Self::AtLeastTimes(times, name) => Some((times, name)),
            _ => None,
        }
    }

    /// Whether the bound is a number of its own.
    pub(crate) fn is_plain(self) -> bool {
        matches!(self, Self::None | Self::AtMost(_) | Self::AtLeast(_))
    }

    /// Whether a value keeps to a bound of this kind.
    pub(crate) fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::AtLeast(_) | Self::AtLeastTimes(..) => value >= bound,
            _ => value <= bound,
        }
    }
}

/// One value for several runs.
pub(crate) fn pick(pick: Pick, mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    match pick {
        Pick::Lowest => values.first().copied(),
        Pick::Highest => values.last().copied(),
        Pick::Median if values.len().is_multiple_of(2) => {
            let upper = values.len() / 2;
            let lower = upper.checked_sub(1)?;
            Some(f64::midpoint(*values.get(lower)?, *values.get(upper)?))
        }
        Pick::Median => values.get(values.len() / 2).copied(),
    }
}
