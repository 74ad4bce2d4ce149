//! The package `kubernetes` of `PyPI`, whose programs take the relay for an API server. What they do
//! is in `clients_python.py`.
//!
//! A Python that has it is found by `PODWIRE_TEST_PYTHON` or as `python3` on the `PATH`
//! (`pip install -r .ci/requirements.txt`), and the relay by `PODWIRE_TEST_BIN`, or it is built.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on should stop"
)]

mod common;

use common::front::{Front, run};
use fake_cluster::Behaviour;
use tokio::process::Command;

/// Runs cases of the Python file as this user, one after the other: this library is slow to begin.
async fn python(front: &Front, path: &str, user: &str, cases: &[&str]) {
    let program = std::env::var_os("PODWIRE_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients_python.py");
    let mut command = Command::new(program);
    // Without a byte-compiled copy beside the file; a proxy of this machine is none of ours.
    command.args(["-B", file]).arg(front.kubeconfig(path)).arg(user).args(cases);
    command.env_clear().env("HOME", &front.folder).env("PATH", "/usr/bin:/bin");
    let output = run(&mut command, b"").await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{user}: {said}\n{}", front.log());
}

#[tokio::test]
async fn sessions_work_with_the_relays_own_rights() {
    let front = Front::own("python-own", &["--clusters", "demo"]).await;
    let cases = [
        "streams_stay_apart_and_the_exit_code_is_told",
        "megabytes_come_out_unharmed",
        "megabytes_of_stdin_arrive",
        "the_end_of_stdin_can_be_told",
        "a_terminal_has_its_size",
        "a_pod_is_read_for_its_containers",
        "what_is_refused_is_refused_in_the_servers_words",
    ];
    python(&front, "", "anybody", &cases).await;
    python(&front, "/clusters/demo", "anybody", &cases[..1]).await;
}

#[tokio::test]
async fn sessions_work_with_a_token_over_tls_and_over_plain_http() {
    for front in
        [Front::passthrough_with_tls("python-tls").await, Front::passthrough("python-plain").await]
    {
        let cases = ["streams_stay_apart_and_the_exit_code_is_told", "megabytes_of_stdin_arrive"];
        python(&front, "", "admin", &cases).await;
        python(&front, "", "nobody", &["who_may_not_is_told_so"]).await;
        python(&front, "", "stranger", &["a_wrong_token_is_told_so"]).await;
        front.assert_no_token_was_logged();
    }
}

#[tokio::test]
async fn sessions_work_with_older_clusters() {
    for (name, behaviour) in [
        ("python-1.30", Behaviour::api_server_mode()),
        ("python-v4", Behaviour::only(&["v4.channel.k8s.io"])),
    ] {
        let front = Front::of(name, behaviour, &[]).await;
        let cases = ["streams_stay_apart_and_the_exit_code_is_told", "a_terminal_has_its_size"];
        python(&front, "", "anybody", &cases).await;
    }
}
