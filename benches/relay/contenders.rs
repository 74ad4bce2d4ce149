//! What stands between the generator and the cluster: ours, a peer, somebody's, or nothing.

use std::cell::RefCell;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::cold::Shipped;
use crate::goals::TUNED;
use crate::measure::{threads, tree};
use crate::process::{Process, kill_descendants, pin, until};
use crate::settings::{Given, Scale, Settings};

/// The peers that have a folder in `benches/peers`, in the order of the table.
pub(crate) const PEERS: [&str; 7] =
    ["nginx", "nginx-tuned", "haproxy", "haproxy-tuned", "kube-rs", "tungstenite", "node"];

/// For a cluster to make its certificates, or for an answer of its control port.
const CLUSTER_WAIT: Duration = Duration::from_secs(10);
/// Node needs a second on a busy machine.
const RELAY_WAIT: Duration = Duration::from_secs(15);

/// The address of an exec as the API server has it. The runner's word for a program stands at the
/// end, filled in by the generator.
const EXEC: &str = "/api/v1/namespaces/bench/pods/p/exec\
                    ?container=main&stdin=true&stdout=true&tty=true&{command}";
/// The address of the peers that are relays.
const SEED: &str = "/ws?namespace=bench&pod=p&container=main&tty=true&{command}";

/// Far above what any row opens; a limit is not what is measured here.
const PODWIRE_ARGUMENTS: [&str; 10] = [
    "--admin-listen",
    "off",
    "--auth",
    "own",
    "--session-rate",
    "10000",
    "--max-sessions",
    "6000",
    "--max-sessions-per-user",
    "6000",
];

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Direct,
    Podwire(PathBuf),
    Peer,
    Given(Given),
}

/// One column of the table.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

impl Contender {
    /// Those that were asked for, in the order of the table.
    pub(crate) fn all(settings: &Settings) -> Vec<Self> {
        let mut all = vec![Self { name: "direct".to_owned(), kind: Kind::Direct }];
        let is_short = settings.given.is_none() && settings.scale == Scale::Short;
        let short = if is_short { vec![TUNED] } else { Vec::new() };
        let named = match &settings.peers {
            Some(names) => names.iter().map(String::as_str).collect(),
            None if settings.scale == Scale::Full => PEERS.to_vec(),
            None => short,
        };
        all.extend(named.into_iter().map(|name| Self { name: name.to_owned(), kind: Kind::Peer }));
        if let Some(given) = &settings.given {
            all.push(Self { name: "target".to_owned(), kind: Kind::Given(given.clone()) });
        }
        for (name, program) in &settings.builds {
            all.push(Self { name: name.clone(), kind: Kind::Podwire(program.clone()) });
        }
        all
    }

    /// Whether it is a process that can be started anew.
    pub(crate) fn is_started(&self) -> bool {
        matches!(self.kind, Kind::Podwire(_) | Kind::Peer)
    }
}

/// Where the parts of a run are pinned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) relay: usize,
    pub(crate) cluster: usize,
    pub(crate) generator: usize,
}

impl Cores {
    /// The relay alone on the first one that this process may use; the rest by what there is.
    pub(crate) fn available() -> Self {
        let allowed = sched_getaffinity(None).ok();
        let is_set = |core: &usize| allowed.as_ref().is_some_and(|cores| cores.is_set(*core));
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(is_set).collect();
        match cores[..] {
            [] => Self { relay: 0, cluster: 0, generator: 0 },
            [only] => Self { relay: only, cluster: only, generator: only },
            [relay, other] => Self { relay, cluster: other, generator: other },
            [relay, cluster, generator, ..] => Self { relay, cluster, generator },
        }
    }
}

/// What all runs have in common.
pub(crate) struct Lab {
    pub(crate) settings: Settings,
    pub(crate) cores: Cores,
    /// This program, whose roles the cluster and the generator are.
    pub(crate) exe: PathBuf,
    /// Certificates and logs; removed at the end.
    pub(crate) folder: PathBuf,
    /// How large what is shipped otherwise is, or why that is not known; none if nobody asked.
    pub(crate) shipped: Option<Result<Shipped, String>>,
    /// The cluster that a given relay leads to; the others get a fresh one each time.
    fixed: RefCell<Option<Rc<Cluster>>>,
}

impl Lab {
    pub(crate) fn new(settings: Settings) -> Result<Self, String> {
        let exe = env::current_exe().map_err(|error| format!("where am I: {error}"))?;
        let folder = env::temp_dir().join(format!("podwire-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let cores = Cores::available();
        // The runner looks around in `/proc`, which the relay's core shall not feel.
        pin(None, cores.generator).map_err(|error| format!("no affinity: {error}"))?;
        leave_nothing(folder.clone());
        Ok(Self { settings, cores, exe, folder, shipped: None, fixed: RefCell::new(None) })
    }

    /// Starts the cluster that a given relay is to lead to, and keeps it.
    pub(crate) fn fix_cluster(&self, given: &Given) -> Result<Rc<Cluster>, String> {
        let listen = given.cluster_listen.unwrap_or(local(0));
        let folder = given.cluster_dir.clone().unwrap_or_else(|| self.folder.join("cluster"));
        let cluster = Rc::new(Cluster::start(self, listen, folder)?);
        *self.fixed.borrow_mut() = Some(Rc::clone(&cluster));
        Ok(cluster)
    }

    fn cluster(&self) -> Result<Rc<Cluster>, String> {
        match &*self.fixed.borrow() {
            Some(cluster) => Ok(Rc::clone(cluster)),
            None => Cluster::start(self, local(0), self.folder.join("cluster")).map(Rc::new),
        }
    }
}

/// Ctrl-C, and a polite kill, leave no process and no file behind.
fn leave_nothing(folder: PathBuf) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            kill_descendants();
            let _ = fs::remove_dir_all(&folder);
            std::process::exit(130);
        });
    });
}

impl Drop for Lab {
    fn drop(&mut self) {
        *self.fixed.borrow_mut() = None;
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The synthetic cluster.
pub(crate) struct Cluster {
    process: Process,
    pub(crate) folder: PathBuf,
    pub(crate) address: SocketAddr,
    control: u16,
}

impl Cluster {
    fn start(lab: &Lab, listen: SocketAddr, folder: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let words = [listen.to_string(), folder.to_string_lossy().into_owned()];
        let arguments = ["cluster", "--listen", &words[0], "--dir", &words[1]].map(str::to_owned);
        let cores = lab.cores;
        let mut process =
            Process::start("cluster", cores.cluster, &lab.exe, &arguments, &[], &lab.folder)?;
        let line = process.line(CLUSTER_WAIT)?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let (port, control) = match words[..] {
            ["ready", port, control] => (port.parse(), control.parse()),
            _ => return Err(format!("the cluster said: {line}")),
        };
        let (Ok(port), Ok(control)) = (port, control) else {
            return Err(format!("the cluster said: {line}"));
        };
        // Who listens everywhere is met here.
        let everywhere = listen.ip().is_unspecified();
        let ip = if everywhere { local(0).ip() } else { listen.ip() };
        Ok(Self { process, folder, address: SocketAddr::new(ip, port), control })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig.json")
    }

    /// Where it answers questions.
    pub(crate) fn control(&self) -> SocketAddr {
        local(self.control)
    }

    /// What it counted since [`Cluster::reset`].
    pub(crate) fn stats(&self) -> Result<Value, String> {
        self.ask("stats")
    }

    pub(crate) fn reset(&self) -> Result<(), String> {
        self.ask("reset").map(drop)
    }

    fn ask(&self, word: &str) -> Result<Value, String> {
        let ask = || {
            let mut stream = TcpStream::connect(self.control())?;
            stream.set_read_timeout(Some(CLUSTER_WAIT))?;
            writeln!(stream, "{word}")?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            Ok(serde_json::from_str(&line)?)
        };
        ask().map_err(|error: std::io::Error| format!("the cluster's control port: {error}"))
    }
}

/// A contender in its place between generator and cluster.
pub(crate) struct Bed<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) cluster: Rc<Cluster>,
    relay: Option<Process>,
    /// The one of somebody else.
    pid: Option<u32>,
    pub(crate) port: Option<u16>,
    /// What the generator is told of it.
    target: Vec<String>,
}

impl<'a> Bed<'a> {
    /// Starts a cluster and the contender, and waits until it accepts.
    pub(crate) fn new(lab: &'a Lab, contender: &Contender) -> Result<Self, String> {
        let mut bed = Self::started(lab, contender)?;
        if let (Some(relay), Some(port)) = (&mut bed.relay, bed.port) {
            let name = &contender.name;
            until(&format!("{name} accepts"), RELAY_WAIT, || {
                if let Some(code) = relay.ended() {
                    return Some(Err(format!("ended with {code}{}", relay.last_words())));
                }
                TcpStream::connect(local(port)).ok().map(|_| Ok(()))
            })?;
        }
        bed.cluster.reset()?;
        Ok(bed)
    }

    /// The same without waiting.
    pub(crate) fn started(lab: &'a Lab, contender: &Contender) -> Result<Self, String> {
        let cluster = lab.cluster()?;
        let mut bed = Self { lab, cluster, relay: None, pid: None, port: None, target: Vec::new() };
        match &contender.kind {
            Kind::Direct => {
                let address = bed.cluster.address;
                bed.aim(&format!("wss://{address}{EXEC}"), "v5");
                let authority = bed.cluster.authority().to_string_lossy().into_owned();
                let token = "Authorization: Bearer bench-token";
                bed.target.extend(["--ca", &authority, "--header", token].map(str::to_owned));
            }
            Kind::Given(given) => bed.take(given),
            Kind::Podwire(program) => {
                let port = bed.choose_port()?;
                let kubeconfig = bed.cluster.kubeconfig().to_string_lossy().into_owned();
                let listen = local(port).to_string();
                let words = ["serve", "--listen", &listen, "--kubeconfig", &kubeconfig];
                let words = words.into_iter().chain(PODWIRE_ARGUMENTS).map(str::to_owned);
                let arguments: Vec<_> =
                    words.chain(lab.settings.podwire_args.iter().cloned()).collect();
                bed.start(&contender.name, program, &arguments)?;
                bed.aim(&format!("ws://127.0.0.1:{port}{EXEC}"), "podwire.v1");
            }
            Kind::Peer => {
                let port = bed.choose_port()?;
                let start = peer_folder(&contender.name).join("start");
                if !start.exists() {
                    return Err("no such peer".to_owned());
                }
                bed.start(&contender.name, &start, &[])?;
                let is_blind = ["nginx", "haproxy"].iter().any(|name| {
                    contender.name == *name || contender.name.starts_with(&format!("{name}-"))
                });
                let (path, dialect) = if is_blind { (EXEC, "v5") } else { (SEED, "seed") };
                bed.aim(&format!("ws://127.0.0.1:{port}{path}"), dialect);
            }
        }
        Ok(bed)
    }

    fn aim(&mut self, url: &str, dialect: &str) {
        self.target.extend(["--target", url, "--dialect", dialect].map(str::to_owned));
    }

    fn take(&mut self, given: &Given) {
        self.aim(&given.url, &given.dialect);
        if let Some(ca) = &given.ca {
            self.target.extend(["--ca".to_owned(), ca.to_string_lossy().into_owned()]);
        }
        for header in &given.headers {
            self.target.extend(["--header".to_owned(), header.clone()]);
        }
        self.pid = given.pid;
        for process in given.pid.map(tree).unwrap_or_default() {
            for thread in threads(process) {
                let thread = i32::try_from(thread).ok().and_then(rustix::process::Pid::from_raw);
                // A thread that ended meanwhile needs no core.
                let _ = pin(thread, self.lab.cores.relay);
            }
        }
    }

    fn choose_port(&mut self) -> Result<u16, String> {
        let listener = TcpListener::bind(local(0)).map_err(|error| format!("no port: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("no port: {error}"))?;
        self.port = Some(address.port());
        Ok(address.port())
    }

    fn start(&mut self, name: &str, program: &Path, arguments: &[String]) -> Result<(), String> {
        let folder = self.lab.folder.join(name);
        // A server may have left files that it would trip over.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let environment = [
            ("BENCH_LISTEN", local(self.port.unwrap_or_default()).to_string()),
            ("BENCH_CLUSTER", format!("https://{}", self.cluster.address)),
            ("BENCH_CA", text(self.cluster.authority())),
            ("BENCH_KUBECONFIG", text(self.cluster.kubeconfig())),
            ("BENCH_TOKEN", "bench-token".to_owned()),
            ("BENCH_DIR", text(folder.clone())),
        ];
        let core = self.lab.cores.relay;
        let process = Process::start(name, core, program, arguments, &environment, &folder)?;
        self.relay = Some(process);
        Ok(())
    }

    /// The processes of the relay, if there are any that can be looked at.
    pub(crate) fn processes(&self) -> Option<Vec<u32>> {
        self.root().map(tree)
    }

    /// The process that all others of the relay descend from.
    pub(crate) fn root(&self) -> Option<u32> {
        self.relay.as_ref().map(Process::id).or(self.pid)
    }

    /// Starts the generator with a scenario against this contender.
    pub(crate) fn load(&self, scenario: &str, arguments: &[&str]) -> Result<Process, String> {
        let words = ["load", scenario].into_iter().map(str::to_owned);
        let words = words.chain(self.target.iter().cloned());
        let arguments: Vec<_> =
            words.chain(arguments.iter().map(|word| (*word).to_owned())).collect();
        let (core, folder) = (self.lab.cores.generator, &self.lab.folder);
        Process::start("load", core, &self.lab.exe, &arguments, &[], folder)
    }
}

/// Where a peer lives.
pub(crate) fn peer_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(name)
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
