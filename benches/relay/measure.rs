//! What `/proc` says of processes and of the kernel's sockets.

use std::collections::BTreeMap;
use std::fs::{read_dir, read_to_string};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// What `/proc/PID/stat` counts time in, on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// The unit of `/proc/net/sockstat`'s memory, on the same.
const PAGE: u64 = 4096;

/// Memory has settled when it moved less than this between two looks.
const SETTLED: u64 = 64;
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// Some program never comes to rest; then the last look counts.
const SETTLE_MAX: Duration = Duration::from_secs(4);

/// A process and everything that descends from it, parents first.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for id in numbers(Path::new("/proc")) {
        // The name in brackets may hold anything; behind it stand the state and the parent.
        let stat = read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
            parents.push((id, parent));
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        at += 1;
    }
    found
}

/// The threads of a process.
pub(crate) fn threads(process: u32) -> Vec<u32> {
    numbers(Path::new(&format!("/proc/{process}/task")))
}

fn numbers(folder: &Path) -> Vec<u32> {
    let entries = read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What processes have used of their cores until now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu {
    /// By thread, in nanoseconds: exact, but forgotten with the thread.
    threads: BTreeMap<u32, u64>,
    /// By process, in ticks: coarse, with the threads and children that have ended.
    ticks: f64,
}

impl Cpu {
    pub(crate) fn of(processes: &[u32]) -> Self {
        let mut cpu = Self::default();
        for process in processes {
            for thread in threads(*process) {
                let path = format!("/proc/{process}/task/{thread}/schedstat");
                let text = read_to_string(path).unwrap_or_default();
                let used = text.split_whitespace().next().and_then(|used| used.parse().ok());
                if let Some(used) = used {
                    cpu.threads.insert(thread, used);
                }
            }
            let stat = read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
            // utime and stime are the 14th and 15th field, counted from the process's number, and
            // behind them is what its children had used when they ended.
            let times = fields.split_whitespace().skip(11).take(4);
            cpu.ticks += times.filter_map(|time| time.parse::<f64>().ok()).sum::<f64>();
        }
        cpu
    }

    /// The seconds since an earlier look at the same processes.
    pub(crate) fn since(&self, earlier: &Self) -> f64 {
        if !self.threads.is_empty() && self.threads.keys().eq(earlier.threads.keys()) {
            let used = |cpu: &Self| cpu.threads.values().sum::<u64>();
            Duration::from_nanos(used(self).saturating_sub(used(earlier))).as_secs_f64()
        } else {
            (self.ticks - earlier.ticks) / TICKS_PER_SECOND
        }
    }
}

/// The seconds that a core had nothing to do until now. What interrupts take is nobody's, and what
/// a process used is not all that a core did for it; what is idle is idle.
pub(crate) fn idle(core: usize) -> Option<f64> {
    let text = read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("cpu{core} ")))?;
    // Behind user, nice and system stand idle and iowait.
    let times = line.split_whitespace().skip(3).take(2);
    Some(times.filter_map(|time| time.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND)
}

/// Memory of processes, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// What they wrote and nobody else could have: heap, stacks.
    pub(crate) anonymous: u64,
    /// What `ps` shows; pages that several of them have count several times.
    pub(crate) resident: u64,
    /// The same with shared pages split between those that have them.
    pub(crate) proportional: u64,
}

impl Memory {
    pub(crate) fn of(processes: &[u32]) -> Self {
        let mut memory = Self::default();
        for process in processes {
            let text = read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
            memory.anonymous += field(&text, "Anonymous:");
            memory.resident += field(&text, "Rss:");
            memory.proportional += field(&text, "Pss:");
        }
        memory
    }

    /// Memory once it has come to rest.
    pub(crate) fn settled(processes: &[u32]) -> Self {
        let begun = Instant::now();
        let mut last = Self::of(processes);
        loop {
            thread::sleep(BETWEEN_LOOKS);
            let now = Self::of(processes);
            if now.anonymous.abs_diff(last.anonymous) < SETTLED || begun.elapsed() > SETTLE_MAX {
                return now;
            }
            last = now;
        }
    }
}

/// A number of a file with lines of names and numbers.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|rest| rest.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or_default()
}

/// What the kernel holds for all TCP sockets of this machine, in KiB.
pub(crate) fn socket_memory() -> u64 {
    let text = read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem").skip(1);
    let pages: u64 = words.next().and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * PAGE / 1024
}

/// The bytes that wait in the kernel's queues of connections to or from these ports, in KiB.
pub(crate) fn queued(ports: &[u16]) -> u64 {
    let text = read_to_string("/proc/net/tcp").unwrap_or_default();
    let mut bytes = 0;
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().take(5).collect();
        let [_, from, to, state, queues] = fields[..] else { continue };
        let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
        // For a listener the queues count connections.
        let is_ours = [from, to].into_iter().filter_map(port).any(|port| ports.contains(&port));
        if is_ours && state != "0A" {
            let sizes = queues.split(':').filter_map(|size| u64::from_str_radix(size, 16).ok());
            bytes += sizes.sum::<u64>();
        }
    }
    bytes / 1024
}
