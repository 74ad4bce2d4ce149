//! On what it was measured: the machine, and the versions of everything.

use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use crate::contenders::{Contender, Kind, peer_folder};

/// A machine with more to do than this at the start measures something else.
const BUSY: f64 = 0.5;

/// Names and values, in order.
pub(crate) struct Facts(pub(crate) Vec<(String, String)>);

impl Facts {
    /// With the load that there was before anything was built.
    pub(crate) fn gather(load: &str) -> Self {
        let processor = value("/proc/cpuinfo", "model name");
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let memory = value("/proc/meminfo", "MemTotal");
        let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let now = load.split_whitespace().next().and_then(|load| load.parse().ok());
        if now.is_some_and(|load: f64| load > BUSY) {
            eprintln!("the machine is busy (load {load}): figures will be wrong");
        }
        let congestion =
            read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default();
        if congestion.trim() == "bbr" {
            eprintln!(
                "TCP's congestion control is bbr, which paces what has no network to cross: rates \
                 will be its own; sysctl -w net.ipv4.tcp_congestion_control=cubic"
            );
        }
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        // Three figures each: least, at first, most.
        let buffers = ["tcp_rmem", "tcp_wmem"].map(|name| system(&format!("net/ipv4/{name}")));
        let facts = [
            ("date", now.replace('T', " ").trim_end_matches('Z').to_owned() + " UTC"),
            ("processor", format!("{processor}, {cores} cores")),
            ("memory", memory),
            ("kernel", format!("Linux {}", kernel.trim())),
            ("congestion control", congestion.trim().to_owned()),
            ("`tcp_rmem`, `tcp_wmem`", buffers.join(", ")),
            ("`net.core.rmem_max`", system("net/core/rmem_max")),
            ("load at the start", load.to_owned()),
            ("compiler", first_line("rustc", &["--version"])),
            ("commit", commit()),
        ];
        Self(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Adds what a contender is.
    pub(crate) fn add_version(&mut self, contender: &Contender) {
        let version = match &contender.kind {
            Kind::Direct => return,
            Kind::Given(given) => format!("{} ({})", given.url, given.dialect),
            Kind::Podwire(program) => {
                let version = first_line(&program.to_string_lossy(), &["--version"]);
                version.trim_start_matches("podwire ").to_owned()
            }
            Kind::Peer => peer(&contender.name),
        };
        self.0.push((contender.name.clone(), version));
    }
}

fn peer(name: &str) -> String {
    let folder = peer_folder(name);
    match name.split('-').next().unwrap_or_default() {
        "nginx" => first_line("nginx", &["-v"]),
        "haproxy" => first_line("haproxy", &["-v"]),
        "node" => {
            let client = npm(&folder, "@kubernetes/client-node");
            let node = first_line("node", &["--version"]);
            format!("Node {node}, client-node {client}, ws {}", npm(&folder, "ws"))
        }
        "kube" => locked(&folder, &["kube", "axum", "tokio"]),
        _ => locked(&folder, &["tokio-tungstenite", "tokio-rustls", "tokio"]),
    }
}

/// The versions of crates in a lock file.
fn locked(folder: &Path, names: &[&str]) -> String {
    let text = read_to_string(folder.join("Cargo.lock")).unwrap_or_default();
    let version = |name: &str| {
        let (_, behind) = text.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        behind.split('"').next()
    };
    let versions = names.iter().filter_map(|name| Some(format!("{name} {}", version(name)?)));
    versions.collect::<Vec<_>>().join(", ")
}

fn npm(folder: &Path, name: &str) -> String {
    let text = read_to_string(folder.join("package-lock.json")).unwrap_or_default();
    let lock: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let version = &lock["packages"][format!("node_modules/{name}")]["version"];
    version.as_str().unwrap_or("?").to_owned()
}

/// What a program says of itself, on either output.
fn first_line(program: &str, arguments: &[&str]) -> String {
    // Debian has servers where users do not look.
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let Ok(output) = output else { return "?".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("?").to_owned()
}

/// The load of the machine: of the last minute, of five, of fifteen.
pub(crate) fn load() -> String {
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// What is checked out.
pub(crate) fn commit() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    first_line("git", &["-C", folder, "describe", "--always", "--dirty", "--abbrev=12"])
}

/// A setting of the kernel.
fn system(name: &str) -> String {
    let text = read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first value of a name in one of the kernel's files.
fn value(path: &str, name: &str) -> String {
    let text = read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_once(':')).map_or("?", |(_, value)| value.trim()).to_owned()
}
