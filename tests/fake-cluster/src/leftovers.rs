//! Kills what sessions left behind. Processes outlive their sessions, as on a real cluster, so
//! somebody has to.

use rustix::process::{Pid, Signal, kill_process};

/// Every process started here carries this variable, and so do its children.
pub(crate) const MARK: &str = "FAKE_CLUSTER_ID";

/// Rounds of looking and killing: a process may fork while it is looked for.
const ROUNDS: usize = 20;

/// Kills every process that carries this mark, until none is found.
pub(crate) fn kill_all(mark: &str) {
    for _ in 0..ROUNDS {
        let found = marked(mark);
        if found.is_empty() {
            return;
        }
        for pid in found {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn marked(mark: &str) -> Vec<Pid> {
    let entry = format!("{MARK}={mark}");
    let Ok(folders) = std::fs::read_dir("/proc") else { return Vec::new() };
    let carries = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
            environment.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes())
        })
    };
    folders
        .flatten()
        .filter_map(|folder| folder.file_name().to_str()?.parse::<i32>().ok())
        .filter(carries)
        .filter_map(Pid::from_raw)
        .collect()
}
