//! The binary: its first line, its kubeconfig, its end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on should stop"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

#[tokio::test]
async fn it_writes_a_private_kubeconfig_says_ready_and_ends_on_a_signal() {
    let file = std::env::temp_dir().join(format!("fake-cluster-program-{}", std::process::id()));
    let mut program = Command::new(env!("CARGO_BIN_EXE_fake-cluster"));
    program.arg("--listen=127.0.0.1:0").arg("--kubeconfig-out").arg(&file);
    let mut child = program.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
    let ready = ready.expect("it is ready soon").unwrap().unwrap();
    let config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(mode & 0o777, 0o600);
    let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap();
    assert_eq!(ready, format!("ready {server}/"));
    assert!(server.starts_with("https://127.0.0.1:"));
    assert_eq!(config["current-context"], "demo");
    assert_eq!(config["contexts"][0]["context"]["user"], "admin");
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
    assert!(status.expect("it ends soon").unwrap().success());
}

#[test]
fn a_wrong_flag_is_told_in_one_line() {
    let table = [
        (vec!["--no-such-flag"], "unknown flag --no-such-flag; see --help\n"),
        (vec!["--listen"], "--listen needs a value; see --help\n"),
        (vec!["--mode", "x"], "--mode cannot be \"x\"; see --help\n"),
        (vec!["--image=zsh"], "--image cannot be \"zsh\"; see --help\n"),
        (vec!["--misbehave=no"], "--misbehave cannot be \"no\"; see --help\n"),
    ];
    for (words, wanted) in table {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_fake-cluster"));
        let output = program.args(&words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), wanted);
    }
}
