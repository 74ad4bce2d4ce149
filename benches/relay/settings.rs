//! What the runner was asked for.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use lexopt::prelude::*;

use crate::machine::commit;

pub(crate) const HELP: &str = "\
The relay and its peers under the same load, as separate processes side by side.

Usage: cargo bench --bench relay -- [flags]

  --full                  for publication: every peer, 3 interleaved runs, to 5000 sessions
  --smoke                 every row once with a tiny load, podwire and direct: whether the bench
                          works; its figures mean nothing
  --peers NAMES           beside podwire and direct: nginx, nginx-tuned, haproxy, haproxy-tuned,
                          kube-rs, tungstenite, node; with commas, or none [nginx-tuned]
  --only ROWS             only these rows; with commas
  --runs N                so many interleaved runs [short: 1 or 3, by row]
  --out DIR               write README.md, results.json and plots [with --full benches/results]
  --podwire [NAME=]PATH   another build of ours; several are compared side by side
  --podwire-args ARGS     further flags for podwire; words split at spaces
  --target URL            a relay that runs already: its WebSocket address with {command}, which
                          becomes command=WORD&command=WORD
  --dialect D             what it speaks: podwire.v1, seed (JSON in, bytes out) or v5 (channels)
  --pid PID               its process, for CPU and memory; may also be told at the prompt
  --pid-file FILE         the same from a file, which is read once the load begins
  --cluster-listen ADDR   where the cluster listens [127.0.0.1:0], so that the relay can be told
                          beforehand
  --cluster-dir DIR       where its ca.pem and kubeconfig.json are written and stay
  --ca FILE               for wss: its authority
  --header 'NAME: VALUE'  sent with its upgrade; may repeat
  --wait SECONDS          for --target: begin after so long instead of at Enter
  --help

Rows: bulk32 bulk4 recorded small-packed small-single keys idle burst base stalled interrupt opens
      paste8m paste100k coldstart size text; with --full or by name stall30 slopes cycles
Roles: relay cluster --listen 127.0.0.1:0 --dir DIR, relay load SCENARIO --target URL ...
Peers are built by benches/peers/build; one that is not there is said so in the table.
";

/// A relay that somebody else started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    pub(crate) url: String,
    pub(crate) dialect: String,
    pub(crate) pid: Option<u32>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) headers: Vec<String>,
    pub(crate) wait: Option<u64>,
    pub(crate) cluster_listen: Option<SocketAddr>,
    pub(crate) cluster_dir: Option<PathBuf>,
}

/// How long loads are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Scale {
    /// Whether everything works.
    Smoke,
    #[default]
    Short,
    /// For publication.
    Full,
}

impl Scale {
    /// That of three which is of this scale.
    pub(crate) fn of<T>(self, smoke: T, short: T, full: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Short => short,
            Self::Full => full,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) scale: Scale,
    pub(crate) peers: Option<Vec<String>>,
    pub(crate) only: Vec<String>,
    pub(crate) runs: Option<usize>,
    pub(crate) out: Option<PathBuf>,
    /// Builds of ours: name and program.
    pub(crate) builds: Vec<(String, PathBuf)>,
    /// Whether ours is what this checkout makes.
    pub(crate) is_shipped: bool,
    pub(crate) podwire_args: Vec<String>,
    pub(crate) given: Option<Given>,
    /// The words of all of this, so that it can be repeated.
    pub(crate) words: Vec<String>,
}

impl Settings {
    /// Reads the arguments; none if help was asked for.
    pub(crate) fn parse(arguments: &[String]) -> Result<Option<Self>, String> {
        Self::read(arguments).map_err(|error| format!("{error}; see --help"))
    }

    fn read(arguments: &[String]) -> Result<Option<Self>, lexopt::Error> {
        let mut settings = Self { words: arguments.to_vec(), ..Self::default() };
        let mut given = Given::default();
        let mut is_about_given = false;
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("help") | Short('h') => return Ok(None),
                Long("full") => settings.scale = Scale::Full,
                Long("smoke") => settings.scale = Scale::Smoke,
                Long("peers") => settings.peers = Some(list(&parser.value()?.string()?)),
                Long("only") => settings.only = list(&parser.value()?.string()?),
                Long("runs") => settings.runs = Some(parser.value()?.parse()?),
                Long("out") => settings.out = Some(absolute(&parser.value()?.string()?)),
                Long("podwire") => settings.builds.push(build(&parser.value()?.string()?)),
                Long("podwire-args") => {
                    let words = parser.value()?.string()?;
                    settings.podwire_args.extend(words.split_whitespace().map(str::to_owned));
                }
                // cargo says it to every bench.
                Long("bench") => {}
                Long(name) => {
                    let name = name.to_owned();
                    if !given.read(&name, &mut parser)? {
                        return Err(Long(&name).unexpected());
                    }
                    is_about_given = true;
                }
                other => return Err(other.unexpected()),
            }
        }
        match (given.url.is_empty(), given.dialect.is_empty()) {
            (false, false) => settings.given = Some(given),
            (true, true) if !is_about_given => {}
            _ => return Err("--target and --dialect go together, and others with them".into()),
        }
        if settings.runs == Some(0) {
            return Err("--runs is at least 1".into());
        }
        if settings.builds.is_empty() {
            settings.builds.push(("podwire".to_owned(), shipped()?));
            settings.is_shipped = true;
        }
        if settings.scale == Scale::Full && settings.out.is_none() {
            settings.out = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results"));
        }
        Ok(Some(settings))
    }
}

impl Given {
    /// Reads the value of a flag, if it is one about the relay of somebody else.
    fn read(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<bool, lexopt::Error> {
        match name {
            "target" => self.url = parser.value()?.string()?,
            "dialect" => self.dialect = parser.value()?.string()?,
            "pid" => self.pid = Some(parser.value()?.parse()?),
            "pid-file" => self.pid_file = Some(absolute(&parser.value()?.string()?)),
            "ca" => self.ca = Some(absolute(&parser.value()?.string()?)),
            "header" => self.headers.push(parser.value()?.string()?),
            "wait" => self.wait = Some(parser.value()?.parse()?),
            "cluster-listen" => self.cluster_listen = Some(parser.value()?.parse()?),
            "cluster-dir" => self.cluster_dir = Some(absolute(&parser.value()?.string()?)),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The program as `cargo build --release` makes it. The one that cargo made for this bench has what
/// tests need in its libraries, a clock that can be stopped among it, and is slower.
fn shipped() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/shipped");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--bin", "podwire", "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // Peers are built without these, too, and the program lies elsewhere with a target.
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env("PODWIRE_COMMIT", commit())
        .status();
    match built {
        Ok(status) if status.success() => Ok(target.join("release/podwire")),
        Ok(_) => Err("podwire could not be built".to_owned()),
        Err(error) => Err(format!("cargo: {error}; give a program with --podwire")),
    }
}

fn list(text: &str) -> Vec<String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "none");
    words.map(str::to_owned).collect()
}

/// cargo runs a bench in the package's folder, which may not be the caller's.
fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

fn build(text: &str) -> (String, PathBuf) {
    match text.split_once('=') {
        Some((name, path)) => (name.to_owned(), absolute(path)),
        None => ("podwire".to_owned(), absolute(text)),
    }
}
