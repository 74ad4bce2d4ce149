//! The runner: every load on every contender in turn, and again.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::io::{BufRead, stdin};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::contenders::{Bed, Contender, Kind, Lab};
use crate::rows::{EXPERIMENTS, Experiment, LONG, Measured, applies};
use crate::settings::{Given, HELP, Scale, Settings};
use crate::{cold, machine, report};

/// Interleaved runs of `--full`.
const FULL_RUNS: usize = 3;
/// Nine seconds for each contender.
const FULL_RUNS_OF_INTERRUPTS: usize = 2;
/// What runs once: memory does not depend on the clock and takes long to look at, ten starts are in
/// one run, and a text or a file does not change.
const ONCE: [&str; 5] = ["idle", "stalled", "coldstart", "size", "text"];
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
    let load = machine::load();
    let Some(mut settings) = Settings::parse(arguments)? else {
        print!("{HELP}");
        return Ok(());
    };
    let wanted = wanted(&settings)?;
    let scale = settings.scale;
    // Before the laboratory is there, which keeps to one core.
    if scale == Scale::Full {
        build_peers(settings.peers.as_deref().unwrap_or_default());
    }
    let shipped = shipped(&settings, &wanted);
    if scale == Scale::Full
        && let Some(Ok(_)) = shipped
        && let Some(program) = cold::static_program()
    {
        settings.builds.push((cold::STATIC.to_owned(), program));
    }
    let mut facts = machine::Facts::gather(&load);
    more_descriptors();
    let mut contenders = Contender::all(&settings);
    let mut lab = Lab::new(settings)?;
    lab.shipped = shipped;
    if let Some(given) = &lab.settings.given {
        let pid = prepare(&lab, given)?;
        for contender in &mut contenders {
            if let Kind::Given(given) = &mut contender.kind {
                given.pid = pid;
            }
        }
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
    facts.0.push(("runs".to_owned(), runs_of_rows(&cells)));
    let results = Results { contenders, missing, cells, facts, seconds };
    // Figures of so little would only be misread.
    match scale {
        Scale::Smoke => report::complete(&results, lab.cores),
        _ => report::write(&results, &lab.settings, lab.cores),
    }
}

/// What is shipped beside the program, for the row about sizes. It takes minutes to build, which a
/// short run does not spend unless the row is asked for by name.
fn shipped(settings: &Settings, wanted: &[&Experiment]) -> Option<Result<cold::Shipped, String>> {
    let is_named = settings.only.iter().any(|row| row == "size");
    let is_wanted = wanted.iter().any(|experiment| experiment.rows == ["size"]);
    let is_time = settings.scale == Scale::Full || is_named;
    (settings.is_shipped && is_wanted && is_time).then(cold::shipped)
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
            settings.scale != Scale::Short || !LONG.contains(&experiment.rows[0])
        } else {
            experiment.rows.iter().any(|row| settings.only.iter().any(|only| only == row))
        }
    };
    Ok(EXPERIMENTS.iter().filter(is_wanted).collect())
}

/// How often a load runs.
fn runs(settings: &Settings, experiment: &Experiment) -> usize {
    let is_one_of = |rows: &[&str]| experiment.rows.iter().any(|row| rows.contains(row));
    match (settings.runs, settings.scale) {
        (Some(runs), _) => runs,
        (None, Scale::Smoke) => 1,
        (None, _) if is_one_of(&LONG) => 1,
        (None, Scale::Full) if is_one_of(&ONCE) => 1,
        (None, Scale::Full) if is_one_of(&["interrupt"]) => FULL_RUNS_OF_INTERRUPTS,
        (None, Scale::Full) => FULL_RUNS,
        (None, Scale::Short) => experiment.runs,
    }
}

/// The order of so many contenders in a run. Each has another one before it in the next run, and
/// another place: a machine is not the same after a heavy one, and later.
fn order(run: usize, contenders: usize) -> impl Iterator<Item = usize> {
    let is_coprime = |step: &usize| {
        let (mut a, mut b) = (*step, contenders);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    };
    let steps: Vec<usize> = (1..contenders).filter(is_coprime).collect();
    let step = steps.get(run % steps.len().max(1)).copied().unwrap_or(1);
    (0..contenders).map(move |place| (run + place * step) % contenders)
}

/// How often each row ran, for people.
fn runs_of_rows(cells: &[Cell]) -> String {
    let mut by_runs: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for experiment in EXPERIMENTS {
        let row = experiment.rows[0];
        let of_row = cells.iter().filter(|cell| cell.rows.contains(&row));
        if let Some(last) = of_row.map(|cell| cell.run).max() {
            by_runs.entry(last + 1).or_default().push(row);
        }
    }
    let said = by_runs.iter().rev().map(|(runs, rows)| format!("{runs} of {}", rows.join(", ")));
    said.collect::<Vec<_>>().join("; ")
}

/// One load: A B C, then B A C and so on.
fn measure(
    lab: &Lab,
    experiment: &Experiment,
    contenders: &[Contender],
    missing: &[Option<String>],
    cells: &mut Vec<Cell>,
) {
    let rows = experiment.rows;
    let is_of_all = lab.settings.only.is_empty() && lab.settings.scale != Scale::Smoke;
    let runs = runs(&lab.settings, experiment);
    for run in 0..runs {
        for index in order(run, contenders.len()) {
            let contender = &contenders[index];
            if missing[index].is_some() || !applies(experiment, contender, is_of_all) {
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

/// The relay of somebody else must lead to our cluster first. Says its process, if anybody did.
fn prepare(lab: &Lab, given: &Given) -> Result<Option<u32>, String> {
    let cluster = lab.fix_cluster(given)?;
    println!("The cluster is https://{}, token bench-token", cluster.address);
    println!("  its authority:  {}", cluster.authority().display());
    println!("  its kubeconfig: {}", cluster.kubeconfig().display());
    println!("Let your relay lead there, so that {} opens", given.url);
    println!(
        "  /api/v1/namespaces/bench/pods/p/exec?container=main&stdin=true&stdout=true&tty=true"
    );
    println!("with the command= parameters of the address, all of them.");
    let mut pid = given.pid;
    if let Some(seconds) = given.wait {
        println!("It begins in {seconds} s.");
        std::thread::sleep(Duration::from_secs(seconds).min(GIVEN_MAX));
    } else {
        println!("Then press Enter; its process id before it has CPU and memory measured, too.");
        let mut line = String::new();
        stdin().lock().read_line(&mut line).map_err(|error| error.to_string())?;
        if !line.trim().is_empty() {
            pid = Some(process(line.trim())?);
        }
    }
    if let Some(file) = &given.pid_file {
        let text = read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        pid = Some(process(text.trim())?);
    }
    match pid {
        Some(pid) if !Path::new(&format!("/proc/{pid}")).exists() => {
            Err(format!("there is no process {pid}"))
        }
        _ => Ok(pid),
    }
}

fn process(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("no process id: {text}"))
}

/// Thousands of sessions need more descriptors than a shell gives at first.
fn more_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Whoever may not have them sees it in the rows with thousands of sessions.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
