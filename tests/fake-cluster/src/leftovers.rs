//! Kills what sessions left behind. Processes outlive their sessions, as on a real cluster, so
//! somebody has to.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Every process started here carries this variable, and so do its children.
pub(crate) const MARK: &str = "FAKE_CLUSTER_ID";

/// Rounds of looking and killing: a process may fork while it is looked for.
const ROUNDS: usize = 20;

/// The processes that were started and have not ended. A process that is just being born has
/// no environment to find the mark in.
#[derive(Default)]
pub(crate) struct Alive(Mutex<Pids>);

#[derive(Default)]
struct Pids {
    alive: BTreeSet<u32>,
    /// The cluster is gone; who is started now was a moment too late.
    over: bool,
}

impl Alive {
    pub(crate) fn started(&self, pid: u32) {
        let late = self.with(|pids| {
            pids.alive.insert(pid);
            pids.over
        });
        if late {
            kill_group(pid);
        }
    }

    pub(crate) fn ended(&self, pid: u32) {
        self.with(|pids| pids.alive.remove(&pid));
    }

    /// Kills these, their groups, and every process that carries the mark, until none is found.
    pub(crate) fn kill_all(&self, mark: &str) {
        let pids = self.with(|pids| {
            pids.over = true;
            std::mem::take(&mut pids.alive)
        });
        pids.into_iter().for_each(kill_group);
        kill_marked(mark);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Pids) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Every process here is born as the leader of a group of its own.
fn kill_group(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

fn kill_marked(mark: &str) {
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
