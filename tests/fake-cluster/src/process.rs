//! Real processes of the host, in a real terminal or on pipes, and the errors of the container
//! runtime when there is nothing to start.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Once, PoisonError};

use pty_process::{OwnedReadPty, OwnedWritePty};
use rustix::termios::Winsize;
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::image::Installed;
use crate::random;
use crate::resize::Size;
use crate::status::Outcome;

/// Held while descriptors of a new process exist without close-on-exec, so that no other new
/// process inherits a terminal's master and keeps it open.
static SPAWN: Mutex<()> = Mutex::new(());

/// What to start and which of its streams somebody wants.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "they are the four parameters of the request")]
pub(crate) struct Plan {
    pub(crate) argv: Vec<OsString>,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// What a process is born into.
pub(crate) struct Container {
    pub(crate) image: Arc<Installed>,
    pub(crate) mark: (&'static str, String),
    pub(crate) hostname: String,
    pub(crate) home: PathBuf,
}

/// A started process and the ends of its streams that are ours.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) pid: u32,
    pub(crate) io: Io,
}

pub(crate) enum Io {
    Terminal { terminal: Arc<Terminal>, reader: OwnedReadPty, writer: OwnedWritePty },
    Pipes { stdin: Option<pipe::Sender>, stdout: Option<ChildStdout>, stderr: Option<ChildStderr> },
}

/// Starts it, or says what the runtime would, without "Internal error occurred: ".
pub(crate) fn start(plan: &Plan, container: &Container) -> Result<Process, Outcome> {
    let failed = |why: String| {
        let id = random::exec_id();
        Outcome::Internal(format!(
            "Internal error occurred: error executing command in container: failed to exec in \
             container: failed to start exec \"{id}\": OCI runtime exec failed: exec failed: \
             {why}: unknown"
        ))
    };
    let Some(program) = plan.argv.first() else {
        return Err(failed("args must not be empty".to_owned()));
    };
    let unable = |why: String| failed(format!("unable to start container process: {why}"));
    let image = &container.image;
    let found = match image.find(program) {
        Ok(found) => found,
        Err(_) if image.exits_127() => return Err(Outcome::Exit(127)),
        Err(why) => return Err(unable(why)),
    };
    forget_ignored_signals();
    let mut command = Command::new(found.file);
    command
        .arg0(program)
        .args(found.before)
        .args(plan.argv[1..].iter().map(|word| image.word(word)))
        .current_dir("/")
        .env_clear()
        .env("PATH", image.path())
        .env("HOSTNAME", &container.hostname)
        .env("HOME", &container.home)
        .env("LANG", "C.UTF-8")
        .env(container.mark.0, &container.mark.1);
    let started = if plan.tty { in_terminal(command) } else { on_pipes(command, plan) };
    started.map_err(|error| {
        let text = error.to_string();
        let reason = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        unable(format!("exec: \"{}\": {reason}", program.to_string_lossy()))
    })
}

/// Signals that were ignored when this program was started, as `nohup` and the background jobs of
/// scripts have it, would be ignored by everything that it starts; in a container none is. A signal
/// that is caught here is neither caught nor ignored there (`execve(2)`).
fn forget_ignored_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        let kinds = [
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::terminate(),
        ];
        for kind in kinds {
            if mask >> (kind.as_raw_value() - 1) & 1 == 1 {
                // It stays caught when this is dropped, and nobody is told.
                let _ = signal(kind);
            }
        }
    });
}

fn in_terminal(mut command: Command) -> io::Result<Process> {
    command.env("TERM", "xterm");
    let _alone = SPAWN.lock().unwrap_or_else(PoisonError::into_inner);
    // Born 0x0, as under containerd; a size comes later if at all.
    let (master, slave) = pty_process::open().map_err(io::Error::other)?;
    let child = pty_process::Command::from(command).spawn(slave).map_err(|error| match error {
        pty_process::Error::Io(error) => error,
        error => io::Error::other(error),
    })?;
    let pid = child.id().unwrap_or_default();
    let terminal = Arc::new(Terminal { master: master.as_fd().try_clone_to_owned()? });
    let (reader, writer) = master.into_split();
    Ok(Process { child, pid, io: Io::Terminal { terminal, reader, writer } })
}

fn on_pipes(mut command: Command, plan: &Plan) -> io::Result<Process> {
    let pipe = |wanted| if wanted { Stdio::piped() } else { Stdio::null() };
    command.stdin(pipe(plan.stdin)).stdout(pipe(plan.stdout)).stderr(pipe(plan.stderr));
    command.process_group(0);
    let _alone = SPAWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = command.spawn()?;
    let pid = child.id().unwrap_or_default();
    let stdin = match child.stdin.take() {
        Some(stdin) => Some(pipe::Sender::from_owned_fd(stdin.into_owned_fd()?)?),
        None => None,
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    Ok(Process { child, pid, io: Io::Pipes { stdin, stdout, stderr } })
}

/// The exit code as Kubernetes reports it: 128 and the signal's number for a killed process
/// (recordings `killed_by_signal`, `killed_by_sigterm`).
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// The master side of a terminal, for everything but waiting.
pub(crate) struct Terminal {
    /// A second descriptor, as the halves that wait do not show theirs.
    master: OwnedFd,
}

impl Terminal {
    /// Reads what is there and does not wait. The kernel moves what a process wrote before it
    /// ended into reach of this read, so nothing that was written can be missed.
    pub(crate) fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.master, buffer)?)
    }

    /// containerd passes over a size with a zero in it (recording `client_resize_variants`).
    /// Says whether it was taken.
    pub(crate) fn resize(&self, size: Size) -> bool {
        if size.width == 0 || size.height == 0 {
            return false;
        }
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.master, size).is_ok()
    }
}
