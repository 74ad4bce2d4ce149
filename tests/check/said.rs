//! One run of `podwire check`, and what it said.

use std::process::Stdio;

use fake_cluster::misbehaviour::named;
use fake_cluster::{Behaviour, FakeCluster};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::common::{folder, within};

/// What one run came to.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub text: String,
    pub stderr: String,
}

impl Said {
    /// The state of a step, from the second column.
    pub fn state(&self, step: &str) -> &str {
        let line = self.line(step);
        line[13..].split_whitespace().next().unwrap()
    }

    pub fn line(&self, step: &str) -> &str {
        let head = format!("{step:12} ");
        let line = self.text.lines().find(|line| line.starts_with(&head));
        line.unwrap_or_else(|| panic!("no step {step}: {self:?}"))
    }

    /// The text on one line, as it is read.
    pub fn words(&self) -> String {
        self.text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Whatever the cluster says, it drives no terminal, and no secret is in it.
    pub fn assert_harmless(&self, secrets: &[String]) {
        let all = format!("{}{}", self.text, self.stderr);
        assert!(all.chars().all(|c| c == '\n' || !c.is_control()), "{all:?}");
        for secret in secrets {
            assert!(!all.contains(secret.as_str()), "{all}");
        }
        let copied = |line: &str| line.trim_start().starts_with("try: kubectl ");
        let wide = |line: &&str| line.chars().count() > 100 && !copied(line);
        let wide: Vec<&str> = self.text.lines().filter(wide).collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }
}

/// Runs `podwire check` with a kubeconfig, flags and variables.
pub async fn check(kubeconfig: &str, flags: &[&str], variables: &[(&str, &str)]) -> Said {
    let folder = folder();
    let file = folder.join("kubeconfig");
    std::fs::write(&file, kubeconfig).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwire"));
    command.arg("check").arg("--kubeconfig").arg(&file).args(flags);
    command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = within("the end of the check", command.output()).await.unwrap();
    let _ = std::fs::remove_dir_all(folder);
    Said {
        code: output.status.code(),
        text: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn secrets(cluster: &FakeCluster) -> Vec<String> {
    ["admin", "execer", "nobody"].map(|user| cluster.token(user)).to_vec()
}

pub const POD: [&str; 2] = ["--namespace=demo", "--pod=shell"];

pub const STEPS: [&str; 11] = [
    "config",
    "DNS",
    "TCP",
    "TLS",
    "ALPN",
    "token",
    "version",
    "subprotocol",
    "RBAC get",
    "RBAC create",
    "round trip",
];

pub fn set_server(file: &mut Value, field: &str, value: &str) {
    file["clusters"][0]["cluster"][field] = json!(value);
}

pub fn script(name: &str) -> Behaviour {
    Behaviour::scripted(named(name).unwrap())
}
