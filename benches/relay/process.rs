//! Processes of a run: pinned, watched, and gone when the runner is.

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::measure::tree;

/// Between two looks at something that has no event to wait for, such as a port.
pub(crate) const LOOK: Duration = Duration::from_millis(2);

/// The role `under CORE PROGRAM ARGUMENTS`: becomes that program, on that core, for as long as the
/// runner lives. A role of its own, because it must be done between fork and exec. Returns only
/// what went wrong.
pub(crate) fn under(arguments: &[String]) -> String {
    let [core, program, rest @ ..] = arguments else {
        return "under needs a core and a program".to_owned();
    };
    let Ok(core) = core.parse() else { return format!("no core: {core}") };
    // A kill would leave the workers of a program that has some.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return format!("the death of the runner cannot be noticed: {error}");
    }
    if let Err(error) = pin(None, core) {
        return format!("no affinity for core {core}: {error}");
    }
    format!("{program}: {}", Command::new(program).args(rest).exec())
}

/// Moves a thread, or the calling one, to a core.
pub(crate) fn pin(thread: Option<Pid>, core: usize) -> rustix::io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(thread, &cores)
}

/// A process that was started for a run, and is killed with its children when this is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a program on a core. What it says on stderr goes into the log, and so does stdout,
    /// unless it is a role of this binary, which is talked to.
    pub(crate) fn start(
        name: &str,
        core: usize,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
        folder: &Path,
    ) -> Result<Self, String> {
        let this = env::current_exe().map_err(|error| format!("where am I: {error}"))?;
        let is_role = program == this;
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = Command::new(this);
        command.arg("under").arg(core.to_string()).arg(program).args(arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        if is_role {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            let copy = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
            command.stdin(Stdio::null()).stdout(copy);
        }
        let mut child = command.stderr(file).spawn().map_err(|error| format!("{name}: {error}"))?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, lines, name: name.to_owned(), log })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of a role's stdout.
    pub(crate) fn line(&mut self, within: Duration) -> Result<String, String> {
        match self.lines.recv_timeout(within) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("{}: nothing within {within:?}{}", self.name, self.last_words()))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(format!("{} ended{}", self.name, self.last_words()))
            }
        }
    }

    /// Says a line to a role.
    pub(crate) fn say(&mut self, line: &str) -> Result<(), String> {
        let Some(stdin) = &mut self.stdin else { return Err("nobody to talk to".to_owned()) };
        writeln!(stdin, "{line}")
            .map_err(|error| format!("{} does not listen: {error}{}", self.name, self.last_words()))
    }

    /// The exit code, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(status.code().unwrap_or(-1))
    }

    /// The end of its log, for people who ask why.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        // A line of a table holds no more.
        let last: String = last.chars().take(160).collect();
        if last.is_empty() { last } else { format!(": {last}") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        kill(&tree(self.id()));
        let _ = self.child.wait();
    }
}

/// Kills processes: parents before children, so that no worker is started again.
fn kill(all: &[u32]) {
    for id in all {
        if let Some(pid) = i32::try_from(*id).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Kills everything that this process started.
pub(crate) fn kill_descendants() {
    kill(tree(std::process::id()).get(1..).unwrap_or_default());
}

/// Looks until there is something to see.
pub(crate) fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Option<Result<T, String>>,
) -> Result<T, String> {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        if begun.elapsed() > within {
            return Err(format!("{what}: not within {within:?}"));
        }
        thread::sleep(LOOK);
    }
}
