//! The real kubectl against the pretend cluster: a client that this repository did not write.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on should stop"
)]

mod common;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use common::kubectl::kubectl;
use fake_cluster::{Behaviour, FakeCluster, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_mins(1);

/// A cluster with its kubeconfig in a folder of its own, which is also kubectl's home.
struct Demo {
    home: PathBuf,
    _cluster: FakeCluster,
}

impl Demo {
    async fn start(name: &str, behaviour: Behaviour) -> Demo {
        let cluster =
            FakeCluster::start(Options { behaviour, ..Options::default() }).await.unwrap();
        let folder = format!("external-kubectl-{name}-{}", std::process::id());
        let home = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("config"), cluster.kubeconfig()).unwrap();
        Demo { home, _cluster: cluster }
    }

    fn kubectl(&self, words: &[&str]) -> Command {
        let mut command = Command::new(kubectl());
        command.args(words).env_clear().env("HOME", &self.home).env("PATH", "/usr/bin:/bin");
        command.env("KUBECONFIG", self.home.join("config")).kill_on_drop(true);
        command
    }

    async fn run(&self, words: &[&str], stdin: &[u8]) -> (i32, String, String) {
        let mut command = self.kubectl(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let feed = async {
            // A command that reads nothing ends without it.
            let _ = pipe.write_all(stdin).await;
            drop(pipe);
        };
        let run = async { tokio::join!(feed, child.wait_with_output()).1.unwrap() };
        let output = tokio::time::timeout(DEADLINE, run).await.expect("kubectl ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

async fn honest(name: &str) -> Demo {
    Demo::start(name, Behaviour::default()).await
}

#[tokio::test]
async fn streams_stay_apart_and_exit_codes_arrive() {
    let demo = honest("codes").await;
    let run = async |script: &str| {
        demo.run(&["exec", "shell", "-c", "main", "--", "sh", "-c", script], b"").await
    };
    let (code, out, err) = run("echo out; echo err >&2").await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "out\n", "err\n"));
    let (code, _, err) = run("exit 3").await;
    assert_eq!((code, err.as_str()), (3, "command terminated with exit code 3\n"));
    let (code, _, err) = run("kill -9 $$").await;
    assert_eq!((code, err.as_str()), (137, "command terminated with exit code 137\n"));
}

#[tokio::test]
async fn exit_codes_arrive_from_an_older_cluster_too() {
    let demo = Demo::start("older", Behaviour::api_server_mode()).await;
    let words = ["exec", "shell", "-c", "main", "--", "sh", "-c", "echo out; exit 3"];
    let (code, out, _) = demo.run(&words, b"").await;
    assert_eq!((code, out.as_str()), (3, "out\n"));
}

#[tokio::test]
async fn fifty_megabytes_of_stdin_arrive_unharmed() {
    let demo = honest("stdin").await;
    let bytes: Vec<u8> = (0_u32..12_500_000).flat_map(|n| (n ^ (n >> 7)).to_le_bytes()).collect();
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let words = ["exec", "-i", "shell", "-c", "main", "--", "sha256sum"];
    let (code, out, err) = demo.run(&words, &bytes).await;
    let hex: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((code, out, err), (0, format!("{}  -\n", hex.concat()), String::new()));
}

#[tokio::test]
async fn a_terminal_has_its_size_and_its_exit_code() {
    let demo = honest("tty").await;
    let (mut terminal, slave) = pty_process::open().unwrap();
    terminal.resize(pty_process::Size::new(30, 100)).unwrap();
    let words = ["exec", "-it", "shell", "-c", "main", "--", "bash", "--norc"];
    let command = pty_process::Command::from(demo.kubectl(&words));
    let mut child = command.env("TERM", "xterm").spawn(slave).unwrap();
    let talk = async {
        let mut seen = Vec::new();
        until(&mut terminal, &mut seen, "# ").await;
        terminal.write_all(b"while [ \"$(stty size)\" != '30 100' ]; do :; done\r").await.unwrap();
        terminal.write_all(b"echo $TERM:$(stty size):$((6*7)); exit 3\r").await.unwrap();
        until(&mut terminal, &mut seen, "xterm:30 100:42").await;
        // The rest is read so that kubectl is never stuck on a full terminal.
        while let Ok(1..) = terminal.read_buf(&mut seen).await {}
        child.wait().await.unwrap().code()
    };
    let code = tokio::time::timeout(DEADLINE, talk).await.expect("kubectl ends");
    assert_eq!(code, Some(3));
}

async fn until(terminal: &mut pty_process::Pty, seen: &mut Vec<u8>, wanted: &str) {
    while !String::from_utf8_lossy(seen).contains(wanted) {
        assert!(terminal.read_buf(seen).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_missing_command_is_named() {
    let demo = honest("missing").await;
    let (code, _, err) = demo.run(&["exec", "shell", "-c", "side", "--", "bash"], b"").await;
    assert_eq!(code, 1);
    assert!(err.contains("exec: \"bash\": executable file not found in $PATH: unknown"), "{err}");
}

#[tokio::test]
async fn what_is_refused_is_refused_in_the_servers_words() {
    let demo = honest("refused").await;
    let table = [
        (
            vec!["exec", "ghost", "--", "true"],
            "Error from server (NotFound): pods \"ghost\" not found",
        ),
        (
            vec!["--context", "demo-nobody", "exec", "shell", "-c", "main", "--", "true"],
            "Error from server (Forbidden): pods \"shell\" is forbidden: User \"nobody\" cannot \
             get resource \"pods\" in API group \"\" in the namespace \"demo\"",
        ),
        (
            vec!["exec", "done", "--", "true"],
            "error: cannot exec into a container in a completed pod; current phase is Succeeded",
        ),
    ];
    for (words, wanted) in table {
        let (code, _, err) = demo.run(&words, b"").await;
        assert_eq!((code, err.trim_end()), (1, wanted), "{words:?}");
    }
}

#[tokio::test]
async fn the_default_container_is_the_first_or_the_annotated_one() {
    let demo = honest("first").await;
    let (code, _, err) = demo.run(&["exec", "shell", "--", "true"], b"").await;
    assert_eq!((code, err.trim_end()), (0, "Defaulted container \"main\" out of: main, side"));
    let default_container = Some("side".to_owned());
    let behaviour = Behaviour { default_container, ..Behaviour::default() };
    let demo = Demo::start("annotated", behaviour).await;
    let (code, out, err) =
        demo.run(&["exec", "shell", "--", "sh", "-c", "command -v bash"], b"").await;
    assert_eq!((code, out.as_str()), (127, ""), "{err}");
}
