//! The runner: every load on every contender in turn, and again.

use std::io::{BufRead, stdin};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::contenders::{Bed, Contender, Lab};
use crate::rows::{EXPERIMENTS, Experiment, LONG, Measured, applies};
use crate::settings::{Given, HELP, Settings};
use crate::{machine, report};

/// Interleaved runs of `--full`.
const FULL_RUNS: usize = 3;
/// A load of ten seconds has its thousands of tries in it.
const FULL_RUNS_OF_LATENCY: usize = 2;
/// Memory does not depend on the clock, and takes long to look at.
const FULL_RUNS_OF_MEMORY: usize = 1;
/// To prepare the relay of `--target`.
const GIVEN_MAX: Duration = Duration::from_mins(10);

/// One load of one contender in one run.
pub(crate) struct Cell {
    pub(crate) rows: &'static [&'static str],
    pub(crate) contender: usize,
    pub(crate) run: usize,
    pub(crate) outcome: Result<Measured, String>,
}

/// All that was measured.
pub(crate) struct Results {
    pub(crate) contenders: Vec<Contender>,
    /// Why a contender has no figures, in the order of the contenders.
    pub(crate) missing: Vec<Option<String>>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) facts: machine::Facts,
    pub(crate) seconds: f64,
}

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let Some(settings) = Settings::parse(arguments)? else {
        print!("{HELP}");
        return Ok(());
    };
    let wanted = wanted(&settings)?;
    more_descriptors();
    let mut facts = machine::Facts::gather();
    let contenders = Contender::all(&settings);
    let lab = Lab::new(settings)?;
    if lab.settings.is_full {
        build_peers(lab.settings.peers.as_deref().unwrap_or_default());
    }
    if let Some(given) = &lab.settings.given {
        prepare(&lab, given)?;
    }
    let begun = Instant::now();
    let missing: Vec<_> = contenders.iter().map(|contender| probe(&lab, contender)).collect();
    for (contender, why) in contenders.iter().zip(&missing) {
        match why {
            Some(why) => eprintln!("{}: {why}", contender.name),
            None => facts.add_version(contender),
        }
    }
    let mut cells = Vec::new();
    for experiment in wanted {
        measure(&lab, experiment, &contenders, &missing, &mut cells);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let results = Results { contenders, missing, cells, facts, seconds };
    report::write(&results, &lab.settings, lab.cores)
}

/// One command is to measure everything. What is not installed, or does not build, is left out, and
/// said.
fn build_peers(names: &[String]) {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/build");
    match Command::new(&build).args(names).status() {
        Ok(status) if status.success() => {}
        Ok(_) => eprintln!("a peer could not be built"),
        Err(error) => eprintln!("{}: {error}", build.display()),
    }
}

/// The loads that were asked for.
fn wanted(settings: &Settings) -> Result<Vec<&'static Experiment>, String> {
    let known = |row: &String| EXPERIMENTS.iter().any(|one| one.rows.contains(&row.as_str()));
    if let Some(row) = settings.only.iter().find(|row| !known(row)) {
        return Err(format!("there is no row {row}; see --help"));
    }
    let is_wanted = |experiment: &&Experiment| {
        if settings.only.is_empty() {
            settings.is_full || !experiment.rows.contains(&LONG)
        } else {
            experiment.rows.iter().any(|row| settings.only.iter().any(|only| only == row))
        }
    };
    Ok(EXPERIMENTS.iter().filter(is_wanted).collect())
}

/// One load: A B C, A B C.
fn measure(
    lab: &Lab,
    experiment: &Experiment,
    contenders: &[Contender],
    missing: &[Option<String>],
    cells: &mut Vec<Cell>,
) {
    let rows = experiment.rows;
    let is_of_memory = rows.contains(&"idle") || rows.contains(&"stalled");
    let is_of_latency = rows.contains(&"keys") || rows.contains(&"interrupt");
    let runs = match lab.settings.runs {
        Some(runs) => runs,
        None if rows.contains(&LONG) => 1,
        None if lab.settings.is_full && is_of_memory => FULL_RUNS_OF_MEMORY,
        None if lab.settings.is_full && is_of_latency => FULL_RUNS_OF_LATENCY,
        None if lab.settings.is_full => FULL_RUNS,
        None => experiment.runs,
    };
    for run in 0..runs {
        for (index, contender) in contenders.iter().enumerate() {
            if missing[index].is_some()
                || !applies(experiment, contender, lab.settings.only.is_empty())
            {
                continue;
            }
            let begun = Instant::now();
            let outcome = (experiment.measure)(lab, contender);
            let seconds = begun.elapsed().as_secs_f64();
            let said = match &outcome {
                Ok(measured) => said(measured),
                Err(why) => format!("failed: {why}"),
            };
            eprintln!("{} {}/{runs} {} ({seconds:.1} s): {said}", rows[0], run + 1, contender.name);
            cells.push(Cell { rows, contender: index, run, outcome });
        }
    }
}

fn said(measured: &Measured) -> String {
    let figures = measured.figures.iter().map(|(name, value)| format!("{name} {value:.3}"));
    figures.collect::<Vec<_>>().join(", ")
}

/// Why a contender cannot be measured, if so.
fn probe(lab: &Lab, contender: &Contender) -> Option<String> {
    if contender.is_started() { Bed::new(lab, contender).err() } else { None }
}

/// The relay of somebody else must lead to our cluster first.
fn prepare(lab: &Lab, given: &Given) -> Result<(), String> {
    let cluster = lab.fix_cluster()?;
    println!("The cluster is https://127.0.0.1:{}, token bench-token", cluster.port);
    println!("  its authority:  {}", cluster.authority().display());
    println!("  its kubeconfig: {}", cluster.kubeconfig().display());
    println!("Let your relay lead there, so that {} opens", given.url);
    println!(
        "  /api/v1/namespaces/bench/pods/p/exec?container=main&stdin=true&stdout=true&tty=true"
    );
    println!("with the command= parameters of the address, all of them.");
    if let Some(seconds) = given.wait {
        println!("It begins in {seconds} s.");
        std::thread::sleep(Duration::from_secs(seconds).min(GIVEN_MAX));
    } else {
        println!("Then press Enter.");
        let mut line = String::new();
        stdin().lock().read_line(&mut line).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Thousands of sessions need more descriptors than a shell gives at first.
fn more_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Whoever may not have them sees it in the rows with thousands of sessions.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
