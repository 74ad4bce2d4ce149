//! The binary under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use fake_cluster::FakeCluster;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{eventually, within};

/// How the relay is started.
#[derive(Clone, Debug)]
pub struct Start {
    pub program: PathBuf,
    pub auth: &'static str,
    pub listen: String,
    pub flags: Vec<String>,
    pub kubeconfig: Option<String>,
    /// All of its environment.
    pub environment: Vec<(&'static str, String)>,
}

impl Default for Start {
    fn default() -> Self {
        let listen = "127.0.0.1:0".to_owned();
        let (flags, environment) = (Vec::new(), Vec::new());
        let program = env!("CARGO_BIN_EXE_podwire").into();
        Self { program, auth: "own", listen, flags, kubeconfig: None, environment }
    }
}

impl Start {
    pub fn flags(flags: &[&str]) -> Self {
        Self::default().and(flags)
    }

    pub fn passthrough() -> Self {
        Self { auth: "passthrough", ..Self::default() }
    }

    pub fn and(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    pub async fn before(self, cluster: &FakeCluster) -> Relay {
        Relay::with(cluster, self).await
    }
}

/// A running `podwire serve`. Dropping it kills it.
pub struct Relay {
    child: Child,
    folder: PathBuf,
    /// What stands behind `ready`.
    pub url: String,
    log: watch::Receiver<String>,
    /// What it has written to stdout since then.
    pub stdout: watch::Receiver<String>,
}

impl Relay {
    pub async fn start(cluster: &FakeCluster) -> Self {
        Self::with(cluster, Start::default()).await
    }

    pub async fn with(cluster: &FakeCluster, start: Start) -> Self {
        let folder = folder();
        let kubeconfig = folder.join("kubeconfig");
        let text = start.kubeconfig.unwrap_or_else(|| cluster.kubeconfig());
        std::fs::write(&kubeconfig, text).unwrap();
        // Many relays run at once, and the port of operators is one; tests open faster than users.
        let usual = ["--admin-listen=off", "--session-rate=100000", "--log-level=debug"];
        let usual = usual.into_iter().filter(|usual| {
            let name = usual.split('=').next().unwrap();
            !start.flags.iter().any(|flag| flag.split('=').next() == Some(name))
        });
        let mut child = Command::new(start.program)
            .args(["serve", "--auth", start.auth, "--listen", &start.listen])
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(usual)
            .args(&start.flags)
            .env_clear()
            .envs(start.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = collect(BufReader::new(child.stderr.take().unwrap()));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        within("the line that says ready", stdout.read_line(&mut line)).await.unwrap();
        let url = line.trim_end().strip_prefix("ready ").map(str::to_owned);
        let url = url.unwrap_or_else(|| panic!("{line:?} and {:?}", *log.borrow()));
        Self { child, folder, url, log, stdout: collect(stdout) }
    }

    /// Where it listens, if that is TCP.
    pub fn addr(&self) -> SocketAddr {
        let authority = self.url.split('/').nth(2).unwrap();
        authority.parse().unwrap()
    }

    /// Where operators connect, if it was started with `--admin-listen 127.0.0.1:0` or the like.
    pub async fn admin(&self) -> SocketAddr {
        // Of the first line, in either format.
        self.until_logged("version", 1).await;
        let log = self.log();
        let line = log.lines().find(|line| line.contains("version")).unwrap();
        let after = ["admin=", "\"admin\":\""].iter().find_map(|it| line.split(it).nth(1));
        let address = after.and_then(|it| it.split([' ', '"']).next()?.parse().ok());
        address.unwrap_or_else(|| panic!("{line}"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Everything it has written to stderr.
    pub fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// How many lines of the log contain this.
    pub fn logged(&self, words: &str) -> usize {
        self.log.borrow().lines().filter(|line| line.contains(words)).count()
    }

    /// Waits until so many lines of the log contain this, and gives the last of them.
    pub async fn until_logged(&self, words: &str, count: usize) -> String {
        let mut log = self.log.clone();
        let enough =
            |log: &String| log.lines().filter(|line| line.contains(words)).count() >= count;
        let what = format!("{count} lines with {words:?}");
        let log = within(&what, log.wait_for(enough)).await.unwrap();
        log.lines().rfind(|line| line.contains(words)).unwrap().to_owned()
    }

    /// A number of KiB from `/proc`: `VmRSS`, or `VmHWM` for the most it ever was.
    pub fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Waits until it has no more descriptors than this: every socket is closed again.
    pub async fn until_descriptors(&self, count: usize) {
        eventually("sockets are closed", || self.descriptors() <= count).await;
    }

    /// Ends it as a service manager does, and gives its exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal().await;
        self.ended().await
    }

    /// Tells it to end, as a service manager does.
    pub async fn signal(&self) {
        self.kill("-TERM").await;
    }

    /// Tells it to read its files again.
    pub async fn reload(&self) {
        self.kill("-HUP").await;
    }

    async fn kill(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }

    /// Where its files are; its kubeconfig is `kubeconfig`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until it has ended and everything that it has written is there, and gives its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let status = within("the relay ends", self.child.wait()).await.unwrap();
        for output in [&mut self.log, &mut self.stdout] {
            let end = async { while output.changed().await.is_ok() {} };
            within("the relay's output ends", end).await;
        }
        status.code()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // What is left is in the build's own folder and harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A new folder for the files of one test.
pub fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}", std::process::id());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn collect(output: impl AsyncBufRead + Send + Unpin + 'static) -> watch::Receiver<String> {
    let (sender, receiver) = watch::channel(String::new());
    tokio::spawn(async move {
        let mut lines = output.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            sender.send_modify(|log| {
                log.push_str(&line);
                log.push('\n');
            });
        }
    });
    receiver
}
