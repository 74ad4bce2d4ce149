//! The cluster itself: what its connections share, and the handle that starts and stops it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::access::{Access, Rights};
use crate::attach::{Main, Mains};
use crate::behaviour::Behaviour;
use crate::connection;
use crate::http::Request;
use crate::image::{Image, Installed};
use crate::leftovers::{Alive, MARK};
use crate::pki::{ClientIdentity, Pki};
use crate::process::Container;
use crate::random;
use crate::script::Script;
use crate::seen::{Seen, Session};

/// What the kernel keeps of a connection's output, which it doubles for its bookkeeping: about what
/// it comes to by itself between two machines. There it grows with the segments on the way; those of
/// loopback are of 64 KiB, and four megabytes of a flood would still come after an interrupt.
const SEND_BUFFER: u32 = 256 * 1024;

/// As many connections may wait as a bench opens at once.
const BACKLOG: u32 = 4096;

const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// How a cluster is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes a free one. `127.0.0.1:0` by default.
    pub listen: SocketAddr,
    /// Whether it speaks TLS, as every cluster does. Without, `http://` for benches.
    pub tls: bool,
    /// Whether it offers `h2` before `http/1.1`, as Go's server does. A peer that lets h2 win
    /// gets a closed connection, which is all that an exec over h2 comes to. Off by default, as
    /// kubectl reads pods over h2 if it can; the recordings were made without h2, too.
    pub offer_h2: bool,
    /// How it behaves at first, see [`FakeCluster::set_behaviour`].
    pub behaviour: Behaviour,
}

impl Default for Options {
    fn default() -> Options {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Options { listen, tls: true, offer_h2: false, behaviour: Behaviour::default() }
    }
}

/// What all connections share.
pub(crate) struct Cluster {
    pki: Pki,
    access: Access,
    tls: bool,
    id: String,
    behaviour: Mutex<Behaviour>,
    scripts: Mutex<VecDeque<Script>>,
    seen: Seen,
    alive: Arc<Alive>,
    images: Mutex<HashMap<Image, Arc<Installed>>>,
    mains: Mains,
    /// Counts up to end connections; dropped with the cluster to end everything.
    cut: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

impl Cluster {
    pub(crate) fn pki(&self) -> &Pki {
        &self.pki
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    pub(crate) fn alive(&self) -> &Arc<Alive> {
        &self.alive
    }

    pub(crate) fn tls(&self) -> bool {
        self.tls
    }

    pub(crate) fn behaviour(&self) -> Behaviour {
        lock(&self.behaviour).clone()
    }

    pub(crate) fn next_script(&self) -> Option<Script> {
        lock(&self.scripts).pop_front()
    }

    /// A container of this image in this pod, ready for a process.
    pub(crate) fn container(&self, image: &Image, pod: &str) -> Result<Container, String> {
        let failed = |error| format!("failed to set up the container: {error}");
        // Nobody's own: a shell must not read this machine's settings or write to its history.
        let home = self.folder().join("home");
        std::fs::create_dir_all(&home).map_err(failed)?;
        let image = self.image(image).map_err(failed)?;
        let mark = (MARK, self.id.clone());
        Ok(Container { image, mark, hostname: pod.to_owned(), home })
    }

    /// The main process of a container, which has its own image always.
    pub(crate) fn main(
        self: &Arc<Self>,
        pod: &str,
        container: &str,
        tty: bool,
    ) -> Result<Arc<Main>, String> {
        let inside = self.container(&Image::Bash, pod)?;
        self.mains.of(self, (pod.to_owned(), container.to_owned()), &inside, tty)
    }

    /// Made once, as two first sessions at once would make the same links.
    fn image(&self, image: &Image) -> io::Result<Arc<Installed>> {
        let mut images = lock(&self.images);
        if let Some(installed) = images.get(image) {
            return Ok(Arc::clone(installed));
        }
        let installed = Arc::new(Installed::new(image, &self.folder())?);
        images.insert(image.clone(), Arc::clone(&installed));
        Ok(installed)
    }

    /// Where the containers keep what is theirs alone.
    fn folder(&self) -> PathBuf {
        std::env::temp_dir().join(format!("fake-cluster-{}", self.id))
    }

    /// Runs something beside the connection that started it; it ends with the cluster.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let mut stop = self.stop.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                end = work => Some(end),
                _ = stop.wait_for(|stop| *stop) => None,
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running cluster. Dropping it stops it and kills every process it has left.
pub struct FakeCluster {
    cluster: Arc<Cluster>,
    addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl FakeCluster {
    /// Binds and prepares a cluster that does not accept yet, so that its kubeconfig can be
    /// written first. See [`Bound::serve`].
    pub fn bind(options: Options) -> io::Result<Bound> {
        let socket = match options.listen {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(options.listen)?;
        let addr = socket.local_addr()?;
        let cluster = Arc::new(Cluster {
            pki: Pki::new(options.offer_h2)?,
            access: Access::new(),
            tls: options.tls,
            id: random::uuid(),
            behaviour: Mutex::new(options.behaviour),
            scripts: Mutex::default(),
            seen: Seen::default(),
            alive: Arc::default(),
            images: Mutex::default(),
            mains: Mains::default(),
            cut: watch::Sender::new(0),
            stop: watch::Sender::new(false),
        });
        Ok(Bound { cluster, addr, socket })
    }

    /// Starts a cluster on the current runtime.
    #[allow(clippy::unused_async, reason = "it needs a runtime, and its signature says so")]
    pub async fn start(options: Options) -> io::Result<FakeCluster> {
        FakeCluster::bind(options)?.serve()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `https://ADDR:PORT`, or `http://` without TLS.
    pub fn url(&self) -> String {
        url(&self.cluster, self.addr)
    }

    /// A kubeconfig with the contexts `demo` (admin, current), `demo-execer` and `demo-nobody`.
    /// It is JSON, which is YAML.
    pub fn kubeconfig(&self) -> String {
        kubeconfig(&self.cluster, self.addr)
    }

    /// The CA's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.cluster.pki.ca_pem
    }

    /// The bearer token of a user: `admin`, `execer`, `nobody` or one that was added.
    pub fn token(&self, user: &str) -> String {
        self.cluster.access.token(user)
    }

    /// Gives a user this token; the old one is a 401 from now on.
    pub fn set_token(&self, user: &str, token: &str) {
        self.cluster.access.set_token(user, token);
    }

    /// Changes what a user, or as `group:NAME` a group, may do. New names are added. Sessions
    /// that are open stay open (recording `rights_withdrawn_mid_session`).
    pub fn set_rights(&self, user: &str, rights: Rights) {
        self.cluster.access.set_rights(user, rights);
    }

    /// A client certificate for admin.
    pub fn client_identity(&self) -> &ClientIdentity {
        &self.cluster.pki.admin
    }

    /// Changes how new connections and new requests are treated.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        *lock(&self.cluster.behaviour) = behaviour;
    }

    /// Plays this script on the next exec or attach request only. Calls queue up.
    pub fn script_next(&self, script: Script) {
        lock(&self.cluster.scripts).push_back(script);
    }

    /// Ends every connection as the death of the API server's process does, with no status and
    /// no Close (recording `apiserver_sigkill_tty`). Processes live on, new connections work.
    pub fn cut(&self) {
        self.cluster.cut.send_modify(|count| *count += 1);
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.cluster.seen.now().requests
    }

    /// Every exec so far, in order; refused ones too.
    pub fn sessions(&self) -> Vec<Session> {
        self.cluster.seen.now().sessions
    }

    /// How many connections have been accepted.
    pub fn connections(&self) -> u64 {
        self.cluster.seen.now().connections
    }

    /// Waits for the exec with this number, from 0.
    pub async fn session(&self, number: usize) -> Session {
        self.cluster.seen.until(|state| state.sessions.get(number).cloned()).await
    }

    /// Waits for a request that `wanted` accepts.
    pub async fn request(&self, wanted: impl Fn(&Request) -> bool) -> Request {
        self.cluster.seen.until(|state| state.requests.iter().find(|r| wanted(r)).cloned()).await
    }

    /// Waits until so many connections have been accepted.
    pub async fn until_connections(&self, count: u64) {
        self.cluster.seen.until(|state| (state.connections >= count).then_some(())).await;
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cluster.stop.send_replace(true);
        self.cluster.alive.kill_all(&self.cluster.id);
        // It exists only if something was started.
        let _ = std::fs::remove_dir_all(self.cluster.folder());
    }
}

/// A cluster that has its address but accepts nothing yet.
pub struct Bound {
    cluster: Arc<Cluster>,
    addr: SocketAddr,
    socket: TcpSocket,
}

impl Bound {
    /// See [`FakeCluster::kubeconfig`].
    pub fn kubeconfig(&self) -> String {
        kubeconfig(&self.cluster, self.addr)
    }

    /// Starts to accept, on the current runtime.
    pub fn serve(self) -> io::Result<FakeCluster> {
        let listener = self.socket.listen(BACKLOG)?;
        let accepting = tokio::spawn(accept(Arc::clone(&self.cluster), listener));
        Ok(FakeCluster { cluster: self.cluster, addr: self.addr, accepting })
    }
}

async fn accept(cluster: Arc<Cluster>, listener: TcpListener) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            // Out of descriptors, most likely: let others end first.
            tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            continue;
        };
        cluster.seen.note(|state| state.connections += 1);
        let mut cut = cluster.cut.subscribe();
        let serving = connection::serve(Arc::clone(&cluster), tcp);
        cluster.spawn(async move {
            tokio::select! {
                // What goes wrong on a connection is the peer's to notice.
                _ = serving => {}
                _ = cut.changed() => {}
            }
        });
    }
}

fn url(cluster: &Cluster, addr: SocketAddr) -> String {
    format!("{}://{addr}", if cluster.tls { "https" } else { "http" })
}

fn kubeconfig(cluster: &Cluster, addr: SocketAddr) -> String {
    let users = ["admin", "execer", "nobody"];
    let context = |user: &&str| {
        let name = if *user == "admin" { "demo".to_owned() } else { format!("demo-{user}") };
        json!({"name": name, "context": {"cluster": "fake", "user": user, "namespace": "demo"}})
    };
    let user = |user: &&str| json!({"name": user, "user": {"token": cluster.access.token(user)}});
    let mut server = json!({"server": url(cluster, addr)});
    if cluster.tls {
        server["certificate-authority-data"] = json!(STANDARD.encode(&cluster.pki.ca_pem));
    }
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": [{"name": "fake", "cluster": server}],
        "users": users.iter().map(user).collect::<Vec<Value>>(),
        "contexts": users.iter().map(context).collect::<Vec<Value>>(),
        "current-context": "demo",
    });
    format!("{config:#}\n")
}
