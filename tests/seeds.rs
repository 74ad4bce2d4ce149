//! Every input that a fuzzer begins with, and every finding that was kept, without a fuzzer.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]
// In what the frame's check takes from its own test.
#![allow(clippy::cast_possible_truncation)]

use std::fs;
use std::path::Path;

#[path = "../fuzz/checks/frame.rs"]
mod frame;
#[path = "../fuzz/checks/kubeconfig.rs"]
mod kubeconfig;
#[path = "../fuzz/checks/message.rs"]
mod message;
#[path = "../fuzz/checks/status.rs"]
mod status;
#[path = "../fuzz/checks/target.rs"]
mod target;

type Check = fn(&[u8]);

const CHECKS: [(&str, Check); 5] = [
    ("frame", frame::check),
    ("kubeconfig", kubeconfig::check),
    ("message", message::check),
    ("status", status::check),
    ("target", target::check),
];

fn names(folder: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_fuzz_target_has_seeds_and_is_checked_here() {
    let checked = CHECKS.map(|(name, _)| name);
    let files = checked.map(|name| format!("{name}.rs"));
    assert_eq!(names("fuzz_targets"), files);
    assert_eq!(names("checks"), files);
    assert_eq!(names("seeds"), checked);
}

#[test]
fn no_seed_is_a_finding() {
    for (target, check) in CHECKS {
        let folder = format!("seeds/{target}");
        let seeds = names(&folder);
        assert!(seeds.len() >= 10, "{target} has seeds for what it is about");
        for seed in seeds {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(&folder).join(&seed);
            let input = fs::read(path).unwrap();
            let outcome = std::panic::catch_unwind(|| check(&input));
            assert!(outcome.is_ok(), "fuzz/{folder}/{seed}");
        }
    }
}
