//! The pretend cluster as a program: flags in, kubeconfig out, then serve until a signal comes.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use fake_cluster::{Behaviour, FakeCluster, Mode, Options, misbehaviour};
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
A pretend Kubernetes API server: namespace demo, pods shell (containers main, side) and done,
users admin, execer and nobody. Its shells are processes of this machine.

usage: fake-cluster [flags]

  --listen ADDR:PORT       where to listen; port 0 takes a free one (default 127.0.0.1:0)
  --kubeconfig-out FILE    writes a kubeconfig, mode 0600, before it accepts
  --mode kubelet|api-server
                           who ends the WebSocket: Kubernetes 1.36, or 1.30 to 1.35
                           (default kubelet)
  --protocols A,B          knows only these subprotocols (default all)
  --default-container C    annotates pod shell with its default container (default none)
  --image IMAGE            what container main has: bash, sh, sh-without:tr,grep, ash,
                           no-sh:/busybox/sh, windows, nothing, or exit127:/busybox/sh, where a
                           missing program is an exit code (default bash)
  --stdin-buffer BYTES     how much stdin waits for a process before reading stops
                           (default 4 MiB in kubelet mode, 64 MiB in api-server mode)
  --kubelet-down           no exec reaches a kubelet
  --offer-h2               offers HTTP/2 in ALPN and closes when it is taken
  --plain-http             speaks http:// instead of https://
  --misbehave NAME         answers every exec with this misbehaviour
  --list-misbehaviours     prints the names and what they do
";

struct Flags {
    options: Options,
    kubeconfig_out: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|word| word == "--list-misbehaviours") {
        for (name, what) in misbehaviour::LIST {
            println!("{name:24} {what}");
        }
        return ExitCode::SUCCESS;
    }
    let flags = match parse(arguments.into_iter()) {
        Ok(flags) => flags,
        Err(complaint) => {
            eprintln!("{complaint}; see --help");
            return ExitCode::from(2);
        }
    };
    match run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> io::Result<()> {
    // Before anything is started, lest a signal leaves processes behind.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let bound = FakeCluster::bind(flags.options)?;
    if let Some(path) = flags.kubeconfig_out {
        write_private(&path, &bound.kubeconfig())?;
    }
    let cluster = bound.serve()?;
    println!("ready {}/", cluster.url());
    io::stdout().flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drop(cluster);
    Ok(())
}

/// It carries admin's token, so nobody else may read it, not even for a moment.
fn write_private(path: &PathBuf, text: &str) -> io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Flags, String> {
    let mut options = Options::default();
    let mut behaviour = Behaviour::default();
    let mut kubeconfig_out = None;
    while let Some(word) = words.next() {
        let (flag, inline) = match word.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        match flag.as_str() {
            "--offer-h2" => options.offer_h2 = true,
            "--plain-http" => options.tls = false,
            "--kubelet-down" => behaviour.kubelet_down = true,
            _ => {
                let known = [
                    "listen",
                    "kubeconfig-out",
                    "mode",
                    "protocols",
                    "default-container",
                    "image",
                    "stdin-buffer",
                    "misbehave",
                ];
                if !flag.strip_prefix("--").is_some_and(|name| known.contains(&name)) {
                    return Err(format!("unknown flag {flag}"));
                }
                let value =
                    inline.or_else(|| words.next()).ok_or(format!("{flag} needs a value"))?;
                let wrong = || format!("{flag} cannot be {value:?}");
                match flag.as_str() {
                    "--listen" => {
                        options.listen = value.parse::<SocketAddr>().map_err(|_| wrong())?;
                    }
                    "--kubeconfig-out" => kubeconfig_out = Some(PathBuf::from(&value)),
                    "--mode" => {
                        behaviour.mode = match value.as_str() {
                            "kubelet" => Mode::Kubelet,
                            "api-server" => Mode::ApiServer,
                            _ => return Err(wrong()),
                        };
                    }
                    "--protocols" => {
                        behaviour.protocols = value.split(',').map(str::to_owned).collect();
                    }
                    "--default-container" => behaviour.default_container = Some(value),
                    "--image" => behaviour.image = value.parse().map_err(|()| wrong())?,
                    "--stdin-buffer" => {
                        let bytes = value.parse().map_err(|_| wrong())?;
                        behaviour.stdin_buffer_bytes = Some(bytes);
                    }
                    _ => {
                        behaviour.exec = Some(misbehaviour::named(&value).ok_or_else(wrong)?);
                    }
                }
            }
        }
    }
    options.behaviour = behaviour;
    Ok(Flags { options, kubeconfig_out })
}
