//! Real processes of the host, in a real terminal or on pipes, and the errors of the container
//! runtime when there is nothing to start.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use pty_process::{OwnedReadPty, OwnedWritePty};
use rustix::termios::Winsize;
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::random;
use crate::resize::Size;

/// A process's environment is what a small image would give it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Shells that the container `side` does not have.
const MISSING_IN_SIDE: [&str; 8] =
    ["bash", "rbash", "ash", "zsh", "ksh", "fish", "busybox", "dash"];

/// What `side` has besides `sh`: what a hang-up and a small test need.
const PRESENT_IN_SIDE: [&str; 58] = [
    "basename",
    "cat",
    "chmod",
    "clear",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dirname",
    "du",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "grep",
    "head",
    "hostname",
    "id",
    "kill",
    "less",
    "ln",
    "ls",
    "mkdir",
    "mktemp",
    "more",
    "mv",
    "nohup",
    "od",
    "printf",
    "ps",
    "pwd",
    "reset",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stty",
    "tail",
    "tee",
    "test",
    "top",
    "touch",
    "tr",
    "true",
    "tty",
    "uname",
    "uniq",
    "vi",
    "wc",
    "whoami",
    "yes",
];

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

/// The file system of one container, as far as finding programs goes.
pub(crate) struct Container {
    path: String,
    hidden: &'static [&'static str],
    mark: (&'static str, String),
    hostname: String,
    home: PathBuf,
}

impl Container {
    /// A container with all of the host's programs.
    pub(crate) fn main(mark: (&'static str, String), pod: &str, home: PathBuf) -> Container {
        let (path, hostname) = (PATH.to_owned(), pod.to_owned());
        Container { path, hidden: &[], mark, hostname, home }
    }

    /// A container with `sh` only. `bin` is filled with links, so that a shell inside finds no
    /// other shell by its name either.
    pub(crate) fn side(
        mark: (&'static str, String),
        pod: &str,
        home: PathBuf,
        bin: &Path,
    ) -> io::Result<Container> {
        if !bin.exists() {
            std::fs::create_dir_all(bin)?;
            for name in PRESENT_IN_SIDE {
                if let Some(found) = search(PATH, name) {
                    // Two first sessions at once make the same links.
                    let _ = std::os::unix::fs::symlink(found, bin.join(name));
                }
            }
        }
        let path = bin.to_string_lossy().into_owned();
        Ok(Container { path, hidden: &MISSING_IN_SIDE, mark, hostname: pod.to_owned(), home })
    }

    /// Finds the program as runc does, with its errors: recordings `command_not_found` and
    /// `command_not_found_tty`.
    fn find(&self, program: &OsString) -> Result<PathBuf, String> {
        let name = program.to_string_lossy();
        let path = Path::new(program);
        let hidden = path
            .file_name()
            .is_some_and(|file| self.hidden.contains(&file.to_string_lossy().as_ref()));
        if !name.contains('/') {
            let found = search(&self.path, &name).filter(|_| !hidden);
            return found.ok_or(format!("exec: \"{name}\": executable file not found in $PATH"));
        }
        match path.metadata() {
            Ok(file) if !hidden && file.is_file() && file.permissions().mode() & 0o111 != 0 => {
                Ok(path.to_owned())
            }
            Ok(_) if !hidden => Err(format!("exec: \"{name}\": permission denied")),
            _ => Err(format!("exec: \"{name}\": stat {name}: no such file or directory")),
        }
    }
}

fn search(path: &str, name: &str) -> Option<PathBuf> {
    let runs = |file: &PathBuf| {
        file.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    path.split(':').map(|folder| Path::new(folder).join(name)).find(runs)
}

/// A started process and the ends of its streams that are ours.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) pid: u32,
    pub(crate) io: Io,
}

pub(crate) enum Io {
    Terminal { terminal: Terminal, reader: OwnedReadPty, writer: OwnedWritePty },
    Pipes { stdin: Option<pipe::Sender>, stdout: Option<ChildStdout>, stderr: Option<ChildStderr> },
}

/// Starts it, or says what the runtime would, without "Internal error occurred: ".
pub(crate) fn start(plan: &Plan, container: &Container) -> Result<Process, String> {
    let failed = |why: String| {
        let id = random::exec_id();
        format!(
            "Internal error occurred: error executing command in container: failed to exec in \
             container: failed to start exec \"{id}\": OCI runtime exec failed: exec failed: \
             {why}: unknown"
        )
    };
    let Some(program) = plan.argv.first() else {
        return Err(failed("args must not be empty".to_owned()));
    };
    let unable = |why: String| failed(format!("unable to start container process: {why}"));
    let file = container.find(program).map_err(unable)?;
    let mut command = Command::new(file);
    command
        .arg0(program)
        .args(&plan.argv[1..])
        .current_dir("/")
        .env_clear()
        .env("PATH", &container.path)
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
    let terminal = Terminal { master: master.as_fd().try_clone_to_owned()? };
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
