//! The relay and its peers under load, as separate processes side by side.
//!
//! One binary in three parts: the synthetic cluster, the generator of load, and the runner that
//! starts both with a relay between them and measures. `--help` says what can be asked for.
#![allow(missing_docs)] // A bench has no callers.

mod cluster;
mod cold;
mod contenders;
mod goals;
mod judge;
mod load;
mod machine;
mod measure;
mod memory;
mod plot;
mod process;
mod report;
mod rows;
mod run;
mod settings;
mod wire;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    // cargo says that it is a bench, wherever that stands.
    let arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let result = match arguments.first().map(String::as_str) {
        Some("cluster") => cluster::run(rest),
        Some("load") => load::run(rest),
        Some("under") => Err(process::under(rest)),
        _ => run::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("relay bench: {message}");
            ExitCode::FAILURE
        }
    }
}
