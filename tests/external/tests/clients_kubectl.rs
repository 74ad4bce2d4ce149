//! The real kubectl, which takes the relay for an API server. On plain HTTP the relay has rights of
//! its own, as kubectl shows no token there; with TLS the rights are the token's.
//!
//! kubectl is found by `PODWIRE_TEST_KUBECTL` or on the `PATH`, and the relay by `PODWIRE_TEST_BIN`,
//! or it is built.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on should stop"
)]

mod common;

use std::path::Path;

use common::front::{DEADLINE, Front, bytes, run, sha256};
use common::kubectl::kubectl;
use fake_cluster::{Behaviour, Rights};
use pty_process::{Pty, Size};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// Some of a long paste, and more than is queued anywhere.
const MUCH: u32 = 8 * 1024 * 1024;

/// kubectl with this kubeconfig, as this user. The folder is its home, where it keeps what it has
/// found out about a server.
fn command(front: &Front, config: &Path, user: &str, words: &[&str]) -> Command {
    let mut command = Command::new(kubectl());
    command.args(["--context", user]).args(words).env_clear().env("HOME", &front.folder);
    command.env("KUBECONFIG", config).env("PATH", "/usr/bin:/bin").kill_on_drop(true);
    command
}

/// Runs it to its end: exit code, stdout, stderr.
async fn run_as(
    front: &Front,
    path: &str,
    user: &str,
    words: &[&str],
    stdin: &[u8],
) -> (i32, String, String) {
    let config = front.kubeconfig(path);
    let output = run(&mut command(front, &config, user, words), stdin).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// On plain HTTP, where nobody has a name.
async fn kubectl_says(front: &Front, words: &[&str], stdin: &[u8]) -> (i32, String, String) {
    run_as(front, "", "anybody", words, stdin).await
}

/// The words of an exec in a container.
fn exec<'a>(flags: &'a str, container: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["exec", "shell", "-c", container];
    words.extend(flags.split(' ').filter(|flag| !flag.is_empty()));
    words.push("--");
    words.extend(command);
    words
}

#[tokio::test]
async fn streams_stay_apart_and_exit_codes_arrive() {
    let front = Front::own("kubectl-codes", &[]).await;
    let script = async |script: &str| {
        kubectl_says(&front, &exec("", "main", &["sh", "-c", script]), b"").await
    };
    let (code, out, err) = script("echo out; echo err >&2").await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "out\n", "err\n"));
    let (code, _, err) = script("exit 3").await;
    assert_eq!((code, err.as_str()), (3, "command terminated with exit code 3\n"));
    let (code, _, err) = script("kill -9 $$").await;
    assert_eq!((code, err.as_str()), (137, "command terminated with exit code 137\n"));
    let (code, out, err) = script("printf 'äöü 世界 🌍'").await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "äöü 世界 🌍", ""));
    let line = front.until_logged("exit_code=3 ").await;
    assert!(line.contains("dialect=v5.channel.k8s.io"), "{line}");
}

#[tokio::test]
async fn exit_codes_arrive_from_older_clusters_too() {
    for (name, behaviour) in [
        ("kubectl-1.30", Behaviour::api_server_mode()),
        ("kubectl-v4", Behaviour::only(&["v4.channel.k8s.io"])),
    ] {
        let front = Front::of(name, behaviour, &[]).await;
        let words = exec("", "main", &["sh", "-c", "echo out; exit 3"]);
        let (code, out, err) = kubectl_says(&front, &words, b"").await;
        assert_eq!((code, out.as_str()), (3, "out\n"), "{name}: {err}");
    }
}

#[tokio::test]
async fn megabytes_go_in_and_come_out_unharmed() {
    let front = Front::own("kubectl-pipes", &[]).await;
    let input = bytes(MUCH);
    let words = exec("-i", "main", &["sha256sum"]);
    let said = kubectl_says(&front, &words, &input).await;
    assert_eq!(said, (0, format!("{}  -\n", sha256(&input)), String::new()));

    let config = front.kubeconfig("");
    let words = exec("-i", "main", &["sh", "-c", "cat; exit 9"]);
    let output = run(&mut command(&front, &config, "anybody", &words), &input).await;
    assert_eq!(output.status.code(), Some(9));
    assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
}

#[tokio::test]
async fn a_file_is_copied_there_and_back() {
    let front = Front::own("kubectl-copy", &[]).await;
    let content = bytes(MUCH / 4);
    let [here, there, back] = ["here", "there", "back"].map(|name| front.folder.join(name));
    std::fs::write(&here, &content).unwrap();
    let [here, there, back] = [here, there, back].map(|path| path.to_str().unwrap().to_owned());
    let remote = format!("demo/shell:{there}");
    let (code, _, err) = kubectl_says(&front, &["cp", &here, &remote, "-c", "main"], b"").await;
    assert_eq!(code, 0, "{err}");
    assert!(std::fs::read(&there).unwrap() == content, "there it is another file");
    let (code, _, err) = kubectl_says(&front, &["cp", &remote, &back, "-c", "main"], b"").await;
    assert_eq!(code, 0, "{err}");
    assert!(std::fs::read(&back).unwrap() == content, "back it is another file");
}

/// kubectl at a terminal of this size.
struct Seat {
    terminal: Pty,
    child: tokio::process::Child,
    seen: Vec<u8>,
}

impl Seat {
    fn take(front: &Front, path: &str, user: &str, words: &[&str]) -> Seat {
        let (terminal, slave) = pty_process::open().unwrap();
        terminal.resize(Size::new(30, 100)).unwrap();
        let config = front.kubeconfig(path);
        let command = pty_process::Command::from(command(front, &config, user, words));
        let child = command.env("TERM", "xterm").spawn(slave).unwrap();
        Seat { terminal, child, seen: Vec::new() }
    }

    async fn types(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).await.unwrap();
    }

    /// Reads on, to the end of these words.
    async fn until(&mut self, wanted: &str) {
        let find = |seen: &[u8]| {
            let mut windows = seen.windows(wanted.len());
            windows.position(|it| it == wanted.as_bytes()).map(|at| at + wanted.len())
        };
        let look = async {
            loop {
                match find(&self.seen) {
                    Some(end) => return drop(self.seen.drain(..end)),
                    None => assert!(self.terminal.read_buf(&mut self.seen).await.unwrap() > 0),
                }
            }
        };
        let found = tokio::time::timeout(DEADLINE, look).await;
        let seen = String::from_utf8_lossy(&self.seen);
        assert!(found.is_ok(), "never saw {wanted:?}, but {seen:?}");
    }

    async fn code(mut self) -> Option<i32> {
        let end = async {
            // It is read so that kubectl is never stuck on a full terminal.
            while let Ok(1..) = self.terminal.read_buf(&mut self.seen).await {}
            self.child.wait().await.unwrap().code()
        };
        tokio::time::timeout(DEADLINE, end).await.expect("kubectl ends")
    }
}

#[tokio::test]
async fn a_terminal_has_its_size_and_follows_it_and_tells_its_exit_code() {
    let front = Front::own("kubectl-tty", &[]).await;
    let words = exec("-i -t", "main", &["bash", "--norc"]);
    let mut seat = Seat::take(&front, "", "anybody", &words);
    seat.until("# ").await;
    for (rows, cols) in [(30, 100), (41, 123)] {
        seat.terminal.resize(Size::new(rows, cols)).unwrap();
        let until = format!("while [ \"$(stty size)\" != '{rows} {cols}' ]; do :; done");
        seat.types(&format!("{until}; echo $TERM:$(stty size):$((6*7))\r")).await;
        seat.until(&format!("xterm:{rows} {cols}:42")).await;
    }
    seat.types("printf '%s|' 世界 🌍; echo\r").await;
    seat.until("世界|🌍|").await;
    // An interrupt is for what runs there, not for kubectl.
    seat.types("sleep 1000\r").await;
    seat.until("sleep 1000\r\n").await;
    seat.types("\u{3}").await;
    seat.until("# ").await;
    seat.types("exit 3\r").await;
    assert_eq!(seat.code().await, Some(3));
}

/// An API server leaves a process behind that nobody sees any more.
#[tokio::test]
async fn a_shell_whose_kubectl_was_killed_is_hung_up() {
    let front = Front::own("kubectl-killed", &[]).await;
    let words = exec("-i -t", "main", &["bash", "--norc"]);
    let mut seat = Seat::take(&front, "", "anybody", &words);
    seat.until("# ").await;
    seat.types("sleep 1000\r").await;
    seat.until("sleep 1000\r\n").await;
    seat.child.kill().await.unwrap();
    let line = front.until_logged("session end").await;
    assert!(line.contains("process=ended"), "{line}");
}

#[tokio::test]
async fn the_container_is_the_named_the_annotated_or_the_first_one() {
    let front = Front::own("kubectl-first", &[]).await;
    let has_bash = ["sh", "-c", "command -v bash >/dev/null"];
    let (code, _, err) = kubectl_says(&front, &["exec", "shell", "--", "true"], b"").await;
    assert_eq!((code, err.trim_end()), (0, "Defaulted container \"main\" out of: main, side"));
    let (code, _, _) = kubectl_says(&front, &exec("", "main", &has_bash), b"").await;
    assert_eq!(code, 0);
    let words = ["exec", "shell", "--container", "side", "--", "sh", "-c", has_bash[2]];
    let (code, _, err) = kubectl_says(&front, &words, b"").await;
    assert_eq!(code, 127, "{err}");

    let default_container = Some("side".to_owned());
    let behaviour = Behaviour { default_container, ..Behaviour::default() };
    let front = Front::of("kubectl-annotated", behaviour, &[]).await;
    let words = ["exec", "shell", "--", "sh", "-c", has_bash[2]];
    let (code, _, err) = kubectl_says(&front, &words, b"").await;
    assert_eq!(code, 127, "{err}");
}

/// What kubectl prints is what it prints at the cluster itself (`kubectl.rs`).
#[tokio::test]
async fn what_is_refused_is_refused_in_the_servers_words() {
    let flags = ["--clusters", "demo,demo-nobody"];
    let front = Front::own("kubectl-refused", &flags).await;
    let table = [
        (
            "",
            vec!["exec", "ghost", "--", "true"],
            "Error from server (NotFound): pods \"ghost\" not found",
        ),
        (
            "/clusters/demo-nobody",
            vec!["exec", "shell", "-c", "main", "--", "true"],
            "Error from server (Forbidden): pods \"shell\" is forbidden: User \"nobody\" cannot \
             get resource \"pods\" in API group \"\" in the namespace \"demo\"",
        ),
        (
            "",
            vec!["exec", "shell", "-c", "nope", "--", "true"],
            "error: container nope is not valid for pod shell out of: main, side",
        ),
        (
            "",
            vec!["exec", "done", "--", "true"],
            "error: cannot exec into a container in a completed pod; current phase is Succeeded",
        ),
    ];
    for (path, words, wanted) in table {
        let (code, _, err) = run_as(&front, path, "anybody", &words, b"").await;
        assert_eq!((code, err.trim_end()), (1, wanted), "{path} {words:?}");
    }
    let (code, _, err) = kubectl_says(&front, &exec("", "side", &["bash"]), b"").await;
    assert_eq!(code, 1);
    assert!(err.contains("exec: \"bash\": executable file not found in $PATH: unknown"), "{err}");
}

/// After a WebSocket that is refused kubectl asks by SPDY, and shows what comes of that; what the
/// server said before is in its log.
#[tokio::test]
async fn an_exec_that_is_refused_says_where_the_servers_words_are() {
    let front = Front::own("kubectl-spdy", &[]).await;
    front.cluster.set_rights("admin", Rights::of(&[("get", "pods")]));
    let words = exec("", "main", &["true"]);
    let (code, _, err) = kubectl_says(&front, &words, b"").await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("and says with -v=4 why that was"), "{err}");
    let words = [&["-v=4"], &words[..]].concat();
    let (_, _, err) = kubectl_says(&front, &words, b"").await;
    // A log line of its, in which quotes are escaped.
    let wanted = r#"pods \"shell\" is forbidden: User \"admin\" cannot get resource"#;
    assert!(err.contains(wanted), "{err}");
}

#[tokio::test]
async fn a_clusters_own_address_is_a_server_too() {
    let flags = ["--clusters", "demo,demo-execer", "--base-path", "/pods"];
    let front = Front::own("kubectl-clusters", &flags).await;
    let words = exec("-i", "main", &["cat"]);
    for path in ["", "/clusters/demo", "/clusters/demo/"] {
        let said = run_as(&front, path, "anybody", &words, b"through").await;
        assert_eq!(said, (0, "through".to_owned(), String::new()), "{path}");
    }
    let mut seat = Seat::take(
        &front,
        "/clusters/demo",
        "anybody",
        &exec("-i -t", "main", &["sh", "-c", "read x; exit $x"]),
    );
    seat.types("5\r").await;
    assert_eq!(seat.code().await, Some(5));
    for (path, wanted) in [
        // This one may exec and read no pods, and kubectl reads the pod first.
        ("/clusters/demo-execer", "User \"execer\" cannot get resource \"pods\""),
        ("/clusters/other", "the server could not find the requested resource"),
    ] {
        let (code, _, err) = run_as(&front, path, "anybody", &words, b"").await;
        assert_eq!(code, 1, "{path}");
        assert!(err.contains(wanted), "{path}: {err}");
    }
}

#[tokio::test]
async fn with_tls_the_rights_are_those_of_the_users_token() {
    let front = Front::passthrough_with_tls("kubectl-tls").await;
    let words = exec("-i", "main", &["sha256sum"]);
    let input = bytes(MUCH / 4);
    let said = run_as(&front, "", "admin", &words, &input).await;
    assert_eq!(said, (0, format!("{}  -\n", sha256(&input)), String::new()));

    let mut seat = Seat::take(&front, "", "admin", &exec("-i -t", "main", &["bash", "--norc"]));
    seat.until("# ").await;
    seat.types("echo $((6*7)); exit 4\r").await;
    seat.until("42").await;
    assert_eq!(seat.code().await, Some(4));

    front.cluster.set_rights("execer", Rights::of(&[("get", "pods")]));
    for (user, wanted) in [
        ("nobody", "Error from server (Forbidden): pods \"shell\" is forbidden: User \"nobody\""),
        ("execer", "with -v=4"),
        ("stranger", "error: You must be logged in to the server"),
    ] {
        let (code, out, err) = run_as(&front, "", user, &words, b"").await;
        assert_eq!((code, out.as_str()), (1, ""), "{user}: {err}");
        assert!(err.contains(wanted), "{user}: {err}");
    }
    // Who has no credential at all is asked for one by kubectl itself.
    let (code, _, err) = run_as(&front, "", "anybody", &words, b"").await;
    assert_eq!(code, 1, "{err}");
    front.assert_no_token_was_logged();
}

/// Why `passthrough` needs a certificate: kubectl keeps its token to itself on plain HTTP.
#[tokio::test]
async fn without_tls_kubectl_shows_no_token_and_is_let_in_by_none() {
    let front = Front::passthrough("kubectl-plain").await;
    let (code, _, err) = run_as(&front, "", "admin", &exec("", "main", &["true"]), b"").await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("error: You must be logged in to the server"), "{err}");
    assert!(front.cluster.sessions().is_empty());
}
