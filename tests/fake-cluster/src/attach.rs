//! A container's main process, which everybody who attaches shares.
//!
//! As `ContainerIO` of containerd does it: output goes to all who are attached at that moment,
//! one after the other, so that one who does not read holds up the others; input of all goes to
//! the process. Who half-closes his input, with a terminal or without, ends only his own
//! attachment (`stdinOnce` is false). A process that ends is `Success` whatever its exit code;
//! the next attachment finds the container started again. Its end takes no other process of the
//! container along, which a real one's does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::cluster::Cluster;
use crate::link::Link;
use crate::output::{self, Ears, Hear, STDERR, STDOUT};
use crate::process::{self, Container, Io, Plan, Process, Terminal};
use crate::resize::Size;
use crate::status::Outcome;
use crate::stdin::{self, Inlet, Outlet};

/// What a container does all day: it says every line again, `stderr LINE` on stderr, until `exit`
/// with or without a code. As a container's first process it is not to be interrupted; the end
/// of its input does end it.
const MAIN: &str = r#"
trap '' INT QUIT TSTP
while IFS= read -r line; do
  case $line in
    exit) exit 0 ;;
    'exit '*) exit "${line#exit }" ;;
    'stderr '*) echo "main: ${line#stderr }" >&2 ;;
    *) echo "main: $line" ;;
  esac
done
"#;

/// The main processes by pod and container. They start when somebody attaches first.
#[derive(Default)]
pub(crate) struct Mains(Mutex<BTreeMap<(String, String), Arc<Main>>>);

/// A running main process.
pub(crate) struct Main {
    pid: u32,
    stdin: Inlet,
    terminal: Option<Arc<Terminal>>,
    attached: Mutex<Vec<Attached>>,
    /// The exit code, once there is one.
    exit_code: watch::Sender<Option<i32>>,
}

/// Somebody who hears it.
#[derive(Clone)]
struct Attached {
    link: Arc<Link>,
    stdout: bool,
    stderr: bool,
}

impl Mains {
    /// The main process of this container, started if it does not run.
    pub(crate) fn of(
        &self,
        cluster: &Arc<Cluster>,
        names: (String, String),
        container: &Container,
        tty: bool,
    ) -> Result<Arc<Main>, String> {
        let mut mains = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(main) = mains.get(&names).filter(|main| main.exit_code.borrow().is_none()) {
            return Ok(Arc::clone(main));
        }
        let main = start(cluster, container, tty)?;
        mains.insert(names, Arc::clone(&main));
        Ok(main)
    }
}

fn start(cluster: &Arc<Cluster>, container: &Container, tty: bool) -> Result<Arc<Main>, String> {
    let argv = ["sh", "-c", MAIN].map(OsString::from).to_vec();
    let plan = Plan { argv, tty, stdin: true, stdout: true, stderr: !tty };
    let process = process::start(&plan, container).map_err(|outcome| match outcome {
        Outcome::Internal(text) => text,
        Outcome::Exit(code) => format!("the container ended with {code}"),
    })?;
    let terminal = match &process.io {
        Io::Terminal { terminal, .. } => Some(Arc::clone(terminal)),
        Io::Pipes { .. } => None,
    };
    let (stdin, outlet) = stdin::queue(cluster.behaviour().stdin_room());
    let main = Arc::new(Main {
        pid: process.pid,
        stdin,
        terminal,
        attached: Mutex::default(),
        exit_code: watch::Sender::new(None),
    });
    cluster.alive().started(main.pid);
    let (alive, living) = (Arc::clone(cluster.alive()), Arc::clone(&main));
    cluster.spawn(async move {
        living.live(process, outlet).await;
        alive.ended(living.pid);
    });
    Ok(main)
}

impl Main {
    async fn live(&self, process: Process, outlet: Outlet) {
        // Each attachment applies its own sizes.
        let (_, sizes) = mpsc::unbounded_channel();
        let (code, _) = output::live(process, outlet, sizes, self).await;
        self.exit_code.send_replace(Some(code));
    }

    /// Lets a peer hear what is said from now on, and gives it its input.
    pub(crate) fn join(&self, plan: &Plan, link: &Arc<Link>) -> Inlet {
        let (stdout, stderr) = (plan.stdout, plan.stderr);
        self.attached().push(Attached { link: Arc::clone(link), stdout, stderr });
        self.stdin.clone()
    }

    /// Stays with a peer that has joined until the process ends, or `left` says that the peer
    /// wants no more.
    pub(crate) async fn attend(
        &self,
        left: oneshot::Receiver<()>,
        sizes: mpsc::UnboundedReceiver<Size>,
        ears: &Ears,
    ) -> Outcome {
        ears.session.note(|facts| facts.pid = Some(self.pid));
        let resizing = async {
            if let Some(terminal) = &self.terminal {
                let up = Notify::new();
                up.notify_one();
                output::resize(terminal, sizes, &up, ears).await;
            }
            std::future::pending::<()>().await;
        };
        let mut ending = self.exit_code.subscribe();
        tokio::select! {
            // The sender lives as long as this process does.
            code = ending.wait_for(Option::is_some) => if let Ok(code) = code {
                ears.session.note(|facts| facts.exit_code = *code);
            },
            _ = left => {}
            () = resizing => {}
        }
        self.attached().retain(|peer| !Arc::ptr_eq(&peer.link, &ears.link));
        // There is no exit code here, for whatever reason it ended.
        Outcome::Exit(0)
    }

    fn attached(&self) -> MutexGuard<'_, Vec<Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hear for Main {
    async fn hear(&self, buffer: &mut [u8], length: usize, channel: u8) {
        let present = self.attached().clone();
        for Attached { link, stdout, stderr } in present {
            let wanted = match channel {
                STDOUT => stdout,
                STDERR => stderr,
                _ => false,
            };
            if wanted {
                link.output(buffer, length, channel).await;
            }
        }
    }

    fn sized(&self, _: Size) {}
}
