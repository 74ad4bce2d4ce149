//! A process's life: its output to the peer as long as there is one, its exit code at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::sync::{Notify, mpsc};

use crate::builtin;
use crate::leftovers::Alive;
use crate::link::Link;
use crate::process::{self, Container, Io, Plan, Process, Terminal};
use crate::resize::Size;
use crate::seen::Session;
use crate::status::Outcome;
use crate::stdin::Outlet;
use crate::wire::{HEADROOM, OUTPUT_MAX_BYTES};

pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;

/// The runtime starts the process first and looks at sizes then, so a size sent at once comes
/// when the process is up: at its first output, or after this long if it says nothing
/// (recording `resize_before_first_output_then_fast_exit`, where `stty size` prints `0 0`).
const FIRST_SIZE_AFTER: Duration = Duration::from_millis(50);

/// Those who hear what a process says.
pub(crate) trait Hear: Sync {
    /// Takes one channel's bytes, which lie in `buffer` behind [`HEADROOM`]. When nobody is
    /// there they are dropped: the process must not block because its peer left.
    fn hear(
        &self,
        buffer: &mut [u8],
        length: usize,
        channel: u8,
    ) -> impl Future<Output = ()> + Send;

    /// The terminal has taken this size.
    fn sized(&self, size: Size);
}

/// The one peer of an exec.
pub(crate) struct Ears {
    pub(crate) link: Arc<Link>,
    /// Output is read and dropped: the peer half-closed the stdin of a terminal.
    pub(crate) muted: Arc<AtomicBool>,
    pub(crate) session: Session,
    pub(crate) alive: Arc<Alive>,
}

impl Hear for Ears {
    async fn hear(&self, buffer: &mut [u8], length: usize, channel: u8) {
        if !self.muted.load(Ordering::Relaxed) {
            self.link.output(buffer, length, channel).await;
        }
    }

    fn sized(&self, size: Size) {
        self.session.note(|facts| facts.sizes.push((size.width, size.height)));
    }
}

/// Starts the plan and stays with it to its end, whether or not the peer does.
pub(crate) async fn run(
    plan: Plan,
    container: Container,
    mut outlet: Outlet,
    sizes: mpsc::UnboundedReceiver<Size>,
    ears: Ears,
    unread_hangs: bool,
) -> Outcome {
    if let Some(builtin) = builtin::find(&plan.argv) {
        let code = builtin.run(&mut outlet, &ears).await;
        ears.session.note(|facts| facts.exit_code = Some(code));
        return Outcome::Exit(code);
    }
    let process = match process::start(&plan, &container) {
        Ok(process) => process,
        Err(outcome) => return outcome,
    };
    let pid = process.pid;
    ears.alive.started(pid);
    ears.session.note(|facts| facts.pid = Some(pid));
    let (code, unread) = live(process, outlet, sizes, &ears).await;
    ears.alive.ended(pid);
    ears.session.note(|facts| facts.exit_code = Some(code));
    if unread && unread_hangs {
        std::future::pending::<()>().await;
    }
    Outcome::Exit(code)
}

/// A process's life up to its exit code, and whether it left too much stdin unread.
pub(crate) async fn live(
    mut process: Process,
    outlet: Outlet,
    sizes: mpsc::UnboundedReceiver<Size>,
    ears: &impl Hear,
) -> (i32, bool) {
    match process.io {
        Io::Terminal { terminal, reader, writer } => {
            let (unread, feed) = outlet.into_terminal(writer);
            let (up, ended) = (Notify::new(), Notify::new());
            let resizing = resize(&terminal, sizes, &up, ears);
            let talking = talk(&terminal, reader, ears, &up, &ended);
            let living = async {
                let status = process.child.wait().await;
                ended.notify_one();
                status.map_or(-1, process::exit_code)
            };
            let life = async {
                let (code, ()) = tokio::join!(living, talking);
                (code, unread.is_too_much())
            };
            let errands = async {
                tokio::join!(feed, resizing);
            };
            beside(life, errands).await
        }
        Io::Pipes { stdin: Some(pipe), stdout, stderr } => {
            let (unread, feed) = outlet.into_pipe(pipe);
            let life = async {
                let code = pipes_life(process.child, stdout, stderr, ears).await;
                (code, unread.is_too_much())
            };
            beside(life, feed).await
        }
        Io::Pipes { stdin: None, stdout, stderr } => {
            (pipes_life(process.child, stdout, stderr, ears).await, false)
        }
    }
}

/// Without a terminal the end is the end of both outputs, even if a child of the process keeps
/// one open (recording `background_child_keeps_stdout`).
async fn pipes_life(
    mut child: Child,
    stdout: Option<impl AsyncRead + Unpin>,
    stderr: Option<impl AsyncRead + Unpin>,
    ears: &impl Hear,
) -> i32 {
    let (status, (), ()) =
        tokio::join!(child.wait(), pump(stdout, STDOUT, ears), pump(stderr, STDERR, ears));
    status.map_or(-1, process::exit_code)
}

async fn pump(source: Option<impl AsyncRead + Unpin>, channel: u8, ears: &impl Hear) {
    let Some(mut source) = source else { return };
    let mut buffer = vec![0; HEADROOM + OUTPUT_MAX_BYTES];
    while let Ok(length @ 1..) = source.read(&mut buffer[HEADROOM..]).await {
        ears.hear(&mut buffer, length, channel).await;
    }
}

/// Applies sizes once the process is up.
pub(crate) async fn resize(
    terminal: &Terminal,
    mut sizes: mpsc::UnboundedReceiver<Size>,
    up: &Notify,
    ears: &impl Hear,
) {
    tokio::select! {
        () = up.notified() => {}
        () = tokio::time::sleep(FIRST_SIZE_AFTER) => {}
    }
    while let Some(size) = sizes.recv().await {
        if terminal.resize(size) {
            ears.sized(size);
        }
    }
}

/// Passes a terminal's output on. On a terminal the end is the end of the process, whoever else
/// has it open (recording `background_child_keeps_tty`).
async fn talk(
    terminal: &Terminal,
    mut reader: impl AsyncRead + Unpin,
    ears: &impl Hear,
    up: &Notify,
    ended: &Notify,
) {
    let mut buffer = vec![0; HEADROOM + OUTPUT_MAX_BYTES];
    loop {
        let read = tokio::select! {
            // It fails once no process has the terminal open.
            read = reader.read(&mut buffer[HEADROOM..]) => read,
            () = ended.notified() => break,
        };
        let Ok(length @ 1..) = read else { break };
        ears.hear(&mut buffer, length, STDOUT).await;
        up.notify_one();
    }
    while let Ok(length @ 1..) = terminal.read_now(&mut buffer[HEADROOM..]) {
        ears.hear(&mut buffer, length, STDOUT).await;
    }
}

/// Runs `life` to its end and `other` meanwhile, however early that one ends.
async fn beside<T>(life: impl Future<Output = T>, other: impl Future<Output = ()>) -> T {
    let other = async {
        other.await;
        std::future::pending().await
    };
    tokio::select! {
        end = life => end,
        end = other => end,
    }
}
