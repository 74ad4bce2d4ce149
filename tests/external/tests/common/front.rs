//! The relay's program before a pretend cluster, for clients that take it for an API server.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fake_cluster::{Behaviour, FakeCluster, Options};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::{Running, podwire, spawn};

/// For what is bound to happen at once, on a machine with much else to do.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// How often a file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The users of the pretend cluster, and somebody whose token is none of its.
const USERS: [&str; 4] = ["admin", "execer", "nobody", "stranger"];

/// A pretend cluster and the relay before it, with a folder for files. All of it goes with its test.
pub(crate) struct Front {
    pub(crate) folder: PathBuf,
    pub(crate) cluster: FakeCluster,
    /// Where the relay listens, with its base path and without a slash in the end.
    pub(crate) url: String,
    /// The file with its certificate, if it has one.
    certificate: Option<PathBuf>,
    _relay: Running,
}

impl Front {
    /// A relay that takes everybody for the kubeconfig's user, on plain HTTP.
    pub(crate) async fn own(name: &str, flags: &[&str]) -> Front {
        Self::of(name, Behaviour::default(), flags).await
    }

    /// The same before a cluster that behaves in some way.
    pub(crate) async fn of(name: &str, behaviour: Behaviour, flags: &[&str]) -> Front {
        let (folder, cluster) = behind(name, behaviour).await;
        let (relay, url) = serve(&folder, &cluster, &[&["--auth", "own"], flags].concat());
        Front { folder, cluster, url, certificate: None, _relay: relay }
    }

    /// A relay that takes callers for whom their tokens say, on plain HTTP.
    pub(crate) async fn passthrough(name: &str) -> Front {
        let (folder, cluster) = behind(name, Behaviour::default()).await;
        let (relay, url) = serve(&folder, &cluster, &["--auth", "passthrough"]);
        Front { folder, cluster, url, certificate: None, _relay: relay }
    }

    /// The same with a certificate of its own.
    pub(crate) async fn passthrough_with_tls(name: &str) -> Front {
        let (folder, cluster) = behind(name, Behaviour::default()).await;
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let own = rcgen::generate_simple_self_signed(names).unwrap();
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        std::fs::write(&certificate, own.cert.pem()).unwrap();
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
        let flags = ["--auth", "passthrough", "--tls-cert", files[0], "--tls-key", files[1]];
        let (relay, url) = serve(&folder, &cluster, &flags);
        Front { folder, cluster, url, certificate: Some(certificate), _relay: relay }
    }

    /// Writes a kubeconfig whose server is the relay, at a path of it. Each user of the cluster is
    /// a context by their name; `anybody` has no token, and is the current one.
    pub(crate) fn kubeconfig(&self, path: &str) -> PathBuf {
        let mut server = json!({"server": format!("{}{path}", self.url)});
        if let Some(certificate) = &self.certificate {
            server["certificate-authority"] = json!(certificate);
        }
        let names = || USERS.into_iter().chain(["anybody"]);
        let users = names().map(|name| match name {
            "anybody" => json!({"name": name, "user": {}}),
            "stranger" => json!({"name": name, "user": {"token": "nobody-knows-this-one"}}),
            _ => json!({"name": name, "user": {"token": self.cluster.token(name)}}),
        });
        let contexts = names().map(|name| {
            let context = json!({"cluster": "relay", "user": name, "namespace": "demo"});
            json!({"name": name, "context": context})
        });
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "relay", "cluster": server}],
            "users": users.collect::<Vec<_>>(),
            "contexts": contexts.collect::<Vec<_>>(),
            "current-context": "anybody",
        });
        let file = self.folder.join(format!("config{}", path.replace('/', "-")));
        std::fs::write(&file, config.to_string()).unwrap();
        file
    }

    /// What the relay has logged, at its most talkative.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// Waits for a line of the log that has these words.
    pub(crate) async fn until_logged(&self, words: &str) -> String {
        let begun = Instant::now();
        let mut often = tokio::time::interval(LOOK_EVERY);
        loop {
            if let Some(line) = self.log().lines().find(|line| line.contains(words)) {
                return line.to_owned();
            }
            assert!(begun.elapsed() < DEADLINE, "{words:?} is not logged: {}", self.log());
            often.tick().await;
        }
    }

    /// Nobody's token may be read anywhere but where it is shown.
    pub(crate) fn assert_no_token_was_logged(&self) {
        let log = self.log();
        assert!(log.contains("session end") || log.contains("refused"), "{log}");
        for user in &USERS[..3] {
            assert!(!log.contains(&self.cluster.token(user)), "{user}'s token is in the log");
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // What stays is in a folder for such things.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn behind(name: &str, behaviour: Behaviour) -> (PathBuf, FakeCluster) {
    let folder = std::env::temp_dir().join(format!("external-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let options = Options { behaviour, ..Options::default() };
    (folder, FakeCluster::start(options).await.unwrap())
}

fn serve(folder: &Path, cluster: &FakeCluster, flags: &[&str]) -> (Running, String) {
    let kubeconfig = folder.join("cluster");
    std::fs::write(&kubeconfig, cluster.kubeconfig()).unwrap();
    let mut relay = Command::new(podwire());
    relay.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    relay.args(["--log-level", "trace", "--kubeconfig"]).arg(&kubeconfig).args(flags);
    let log = File::create(folder.join("log")).unwrap();
    let mut relay = spawn(relay.stdout(Stdio::piped()).stderr(log));
    let mut line = String::new();
    BufReader::new(relay.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("ready ").expect("the relay starts");
    let url = url.trim_end_matches('/').to_owned();
    (relay, url)
}

/// Runs a program to its end, with this input.
pub(crate) async fn run(command: &mut tokio::process::Command, stdin: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let feed = async {
        // A command that reads nothing ends without it.
        let _ = pipe.write_all(stdin).await;
        drop(pipe);
    };
    let run = async { tokio::join!(feed, child.wait_with_output()).1.unwrap() };
    tokio::time::timeout(DEADLINE, run).await.expect("the program ends")
}

/// Bytes that are not the same twice in a row, so that what is lost or doubled is seen.
pub(crate) fn bytes(count: u32) -> Vec<u8> {
    (0..count / 4).flat_map(|n| (n ^ (n >> 7)).to_le_bytes()).collect()
}

/// As `sha256sum` prints it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    hex.concat()
}
