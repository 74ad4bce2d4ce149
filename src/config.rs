//! Flags and environment, as plain data.
//!
//! One table of flags; parsing, `--help` and `--print-config` all read it. A flag beats its
//! environment variable, which beats the default. What it must never know: sockets, sessions.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::origin::{Origin, parse_host};
use crate::proto::session::Limits;
use crate::route::Template;

/// One flag.
struct Flag {
    name: &'static str,
    /// What stands for its value in `--help`; nothing for a switch.
    value: Option<&'static str>,
    default: &'static str,
    help: &'static str,
}

const fn flag(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, value: Some(value), default, help }
}

const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag { name, value: None, default: "false", help }
}

/// Every flag, in the order of `--help`.
const FLAGS: &[Flag] = &[
    flag("listen", "ADDR", "127.0.0.1:8080", "where browsers connect; also unix:/path"),
    flag("base-path", "PATH", "/", "the path under which everything is served"),
    flag("tls-cert", "FILE", "", "serve TLS with this certificate chain (PEM)"),
    flag("tls-key", "FILE", "", "and this private key (PEM)"),
    flag("kubeconfig", "FILE", "", "else $KUBECONFIG, the pod's service account, ~/.kube/config"),
    flag("context", "NAME", "", "the default cluster; else the kubeconfig's current context"),
    flag("clusters", "NAMES", "", "further contexts that callers may name, with commas"),
    flag("auth", "MODE", "passthrough", "whose identity the cluster sees: passthrough or own"),
    switch("insecure-allow-anonymous", "allow --auth own off loopback: anybody gets a shell"),
    flag("allow-origin", "ORIGINS", "", "further origins of pages that may connect, with commas"),
    flag("allow-host", "HOSTS", "", "further names of this listener under --auth own"),
    flag(
        "route",
        "PATHS",
        "",
        "further addresses, from {cluster} {namespace} {pod} {container} {shell}",
    ),
    flag(
        "shells",
        "NAMES",
        "bash,sh,ash,/busybox/sh",
        "shells to offer; auto takes the first found",
    ),
    switch("no-command", "only shells: a request that names a command is refused"),
    flag("outbox", "SIZE", "256KiB", "bytes queued for a peer before the other one must wait"),
    flag("max-message", "SIZE", "1MiB", "the longest message of a browser; pages paste in one"),
    flag(
        "ack-window",
        "SIZE",
        "512KiB",
        "output a page may leave unacknowledged, if it acknowledges",
    ),
    flag("hangup-grace", "TIME", "5s", "how long a hung-up process may take to end"),
    flag("slow-browser", "TIME", "5m", "how long a browser may take no output"),
    flag("log-level", "LEVEL", "info", "error, warn, info, debug or trace; to stderr"),
];

/// Whose identity the cluster sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// The caller's bearer token.
    Passthrough,
    /// The relay's own, for everybody who can reach it.
    Own,
}

/// Where browsers connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket, mode 0600.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    /// As `--listen` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The effective settings of `podwire serve`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where browsers connect.
    pub listen: Listen,
    /// With a slash at both ends.
    pub base_path: String,
    /// Certificate chain and key, for TLS towards the browser.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The kubeconfig, if it was named.
    pub kubeconfig: Option<PathBuf>,
    /// The default cluster, if it was named.
    pub context: Option<String>,
    /// Further clusters that callers may name.
    pub clusters: Vec<String>,
    /// Whose identity the cluster sees.
    pub auth: Auth,
    /// Further origins of pages that may connect.
    pub allow_origin: Vec<Origin>,
    /// Further names of this listener.
    pub allow_host: Vec<String>,
    /// Further addresses.
    pub routes: Vec<Template>,
    /// Shells to offer, best first.
    pub shells: Vec<String>,
    /// Whether free commands are refused.
    pub no_command: bool,
    /// The limits of each session.
    pub limits: Limits,
    /// What is logged.
    pub log_level: log::LevelFilter,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Print this and end.
    Print(String),
    /// Serve with these settings.
    Serve(Box<Config>),
}

/// Reads the command line and the environment.
///
/// # Errors
///
/// One line that says what is wrong and what to type instead.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Command, String> {
    let mut given: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut print_config = false;
    let mut parser = lexopt::Parser::from_iter(arguments);
    let mut is_first = true;
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                return Ok(Command::Print(help()));
            }
            lexopt::Arg::Long("version") | lexopt::Arg::Short('V') => {
                return Ok(Command::Print(version()));
            }
            lexopt::Arg::Long("print-config") => print_config = true,
            lexopt::Arg::Long(name) => {
                let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
                    return Err(format!("unknown flag --{name}; see podwire --help"));
                };
                let value = if flag.value.is_some() {
                    parser.value().and_then(lexopt::ValueExt::string).map_err(usage)?
                } else {
                    match parser.optional_value() {
                        None => "true".to_owned(),
                        Some(value) => value.into_string().map_err(|_| not_text(flag.name))?,
                    }
                };
                given.entry(flag.name).or_default().push(value);
            }
            lexopt::Arg::Value(word) if is_first && word == "serve" => {}
            other => return Err(usage(other.unexpected())),
        }
        is_first = false;
    }
    let values = Values::new(given, environment)?;
    if print_config {
        // The settings must be right to be effective.
        Config::new(&values)?;
        return Ok(Command::Print(values.print()));
    }
    Config::new(&values).map(|config| Command::Serve(Box::new(config)))
}

fn usage(error: impl std::fmt::Display) -> String {
    format!("{error}; see podwire --help")
}

fn not_text(name: &str) -> String {
    format!("--{name}: not UTF-8")
}

/// The value of every flag, whatever it comes from. Lists are joined by commas.
struct Values(BTreeMap<&'static str, String>);

impl Values {
    fn new(
        mut given: BTreeMap<&str, Vec<String>>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for flag in FLAGS {
            let is_list = flag.value.is_some_and(|value| value.ends_with('S'));
            let value = match given.remove(flag.name) {
                Some(all) if all.len() > 1 && !is_list => {
                    return Err(format!("--{} is given twice; once is enough", flag.name));
                }
                Some(all) => all.join(","),
                None => environment(&variable(flag.name)).unwrap_or_else(|| flag.default.into()),
            };
            values.insert(flag.name, value);
        }
        Ok(Self(values))
    }

    /// The settings in the form in which they can be typed. No flag holds a secret.
    fn print(&self) -> String {
        FLAGS.iter().fold(String::new(), |mut text, flag| {
            let _ = writeln!(text, "--{}={}", flag.name, self.text(flag.name));
            text
        })
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn optional(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    fn list(&self, name: &str) -> Vec<String> {
        let items = self.text(name).split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    }

    fn read<T>(&self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
        read(self.text(name)).map_err(|error| format!("--{name} {}: {error}", self.text(name)))
    }

    fn read_list<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let all = self.list(name);
        let all = all.iter().map(|item| read(item).map_err(|error| format!("--{name} {error}")));
        all.collect()
    }
}

impl Config {
    fn new(values: &Values) -> Result<Self, String> {
        let tls = match (values.optional("tls-cert"), values.optional("tls-key")) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            _ => return Err("--tls-cert and --tls-key go together".to_owned()),
        };
        let limits = Limits {
            outbox: values.read("outbox", size)?,
            message_max: values.read("max-message", size)?,
            ack_window: values.read("ack-window", size)? as u64,
            hangup_grace: values.read("hangup-grace", duration)?,
            slow_browser: values.read("slow-browser", duration)?,
            ..Limits::default()
        };
        let config = Self {
            listen: values.read("listen", listen)?,
            base_path: values.read("base-path", base_path)?,
            tls,
            kubeconfig: values.optional("kubeconfig").map(PathBuf::from),
            context: values.optional("context").map(str::to_owned),
            clusters: values.list("clusters"),
            auth: values.read("auth", auth)?,
            allow_origin: values.read_list("allow-origin", Origin::parse)?,
            allow_host: values.read_list("allow-host", parse_host)?,
            routes: values.read_list("route", Template::parse)?,
            shells: values.read_list("shells", shell)?,
            no_command: values.read("no-command", boolean)?,
            limits,
            log_level: values.read("log-level", log_level)?,
        };
        let anonymous = values.read("insecure-allow-anonymous", boolean)?;
        if config.auth == Auth::Own && !config.is_loopback() && !anonymous {
            return Err("--auth own gives everybody who can connect a shell: \
                        listen on loopback, or add --insecure-allow-anonymous"
                .to_owned());
        }
        if config.shells.is_empty() {
            return Err("--shells names no shell".to_owned());
        }
        Ok(config)
    }

    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        match &self.listen {
            Listen::Tcp(address) => address.ip().is_loopback(),
            Listen::Unix(_) => true,
        }
    }
}

fn listen(text: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Listen::Unix(path.into()));
    }
    let parsed = text.replace("localhost:", "127.0.0.1:").parse();
    parsed.map(Listen::Tcp).map_err(|_| "not an address such as 127.0.0.1:8080".to_owned())
}

fn base_path(text: &str) -> Result<String, String> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "-._~/".contains(c));
    if !text.starts_with('/') || text.contains(odd) || text.contains("//") {
        return Err("not a path such as /terminal".to_owned());
    }
    Ok(format!("{}/", text.trim_end_matches('/')))
}

fn auth(text: &str) -> Result<Auth, String> {
    match text {
        "passthrough" => Ok(Auth::Passthrough),
        "own" => Ok(Auth::Own),
        _ => Err("must be passthrough or own".to_owned()),
    }
}

/// A shell's name goes into a script, so it consists of harmless characters.
fn shell(text: &str) -> Result<String, String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
    if text.chars().all(harmless) && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err(format!("{text}: not a shell's name such as bash or /busybox/sh"))
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn log_level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| "must be error, warn, info, debug or trace".to_owned())
}

/// `20s`, `5m`, `12h`; not zero.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = [("s", 1), ("m", 60), ("h", 3600)].into_iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(factor).filter(|seconds| (1..=365 * 86_400).contains(seconds))
    });
    seconds.map(Duration::from_secs).ok_or_else(|| "not a time such as 20s, 5m or 12h".to_owned())
}

/// `512B`, `64KiB`, `1MiB`; at least 1 KiB and at most 1 GiB.
fn size(text: &str) -> Result<usize, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
    let bytes = units.into_iter().find_map(|(unit, factor)| {
        let number: usize = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(factor).filter(|bytes| (1 << 10..=1 << 30).contains(bytes))
    });
    bytes.ok_or_else(|| "not a size such as 64KiB or 1MiB".to_owned())
}

fn variable(name: &str) -> String {
    format!("PODWIRE_{}", name.replace('-', "_").to_ascii_uppercase())
}

/// Name, version, commit, features.
fn version() -> String {
    let features = if cfg!(feature = "ui") { "ui" } else { "none" };
    let commit = option_env!("PODWIRE_COMMIT").unwrap_or("unknown");
    format!("podwire {} (commit {commit}; features {features})\n", env!("CARGO_PKG_VERSION"))
}

fn help() -> String {
    let mut text = "\
Puts the shell of a Kubernetes container into a browser.

Usage: podwire [serve] [flags]

Each flag is also an environment variable: --max-message is PODWIRE_MAX_MESSAGE.
A list takes commas, or the flag several times.

"
    .to_owned();
    for flag in FLAGS {
        let head = format!("--{} {}", flag.name, flag.value.unwrap_or_default());
        let default = if flag.default.is_empty() { "none" } else { flag.default };
        let _ = writeln!(text, "  {head:27}{}", flag.help);
        let _ = writeln!(text, "  {:27}[default: {default}]", "");
    }
    text.push_str(
        "  --print-config             print the effective settings and end
  --version, -V              print name, version, commit and features
  --help, -h                 print this

Exit codes: 0 fine, 1 failed while running, 2 wrong usage or configuration.
",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Command, String> {
        let arguments = ["podwire"].iter().chain(arguments).map(OsString::from);
        parse(arguments, |name| {
            environment.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn config(arguments: &[&str], environment: &[(&str, &str)]) -> Config {
        match run(arguments, environment) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_default() {
        assert_eq!(config(&[], &[]).limits.hangup_grace, Duration::from_secs(5));
        let environment = [("PODWIRE_HANGUP_GRACE", "7s")];
        assert_eq!(config(&["serve"], &environment).limits.hangup_grace, Duration::from_secs(7));
        let arguments = ["serve", "--hangup-grace", "2m"];
        assert_eq!(config(&arguments, &environment).limits.hangup_grace, Duration::from_mins(2));
    }

    #[test]
    fn wrong_usage_says_what_and_what_instead() {
        let wrong: [(&[&str], &str); 15] = [
            (&["--nope"], "unknown flag --nope; see podwire --help"),
            (&["--listen"], "see podwire --help"),
            (&["--listen", "8080"], "127.0.0.1:8080"),
            (&["--outbox", "5"], "64KiB"),
            (&["--outbox", "0KiB"], "64KiB"),
            (&["--hangup-grace", "5"], "20s"),
            (&["--hangup-grace", "-1s"], "20s"),
            (&["--auth", "anybody"], "passthrough or own"),
            (&["--auth", "own", "--listen", "0.0.0.0:1"], "--insecure-allow-anonymous"),
            (&["--allow-host", "a,name:8080"], "without its port: name"),
            (&["--allow-host", "[::1]:80"], "without its port: [::1]"),
            (&["--allow-host", "http://name"], "not a host such as"),
            (&["--tls-cert", "x"], "go together"),
            (&["--shells", "sh;id"], "not a shell's name"),
            (&["serve", "serve"], "see podwire --help"),
        ];
        for (arguments, words) in wrong {
            let error = run(arguments, &[]).unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn help_names_every_flag_and_fits() {
        let help = help();
        assert!(help.lines().all(|line| line.chars().count() <= 100));
        assert!(FLAGS.iter().all(|flag| help.contains(&format!("--{}", flag.name))));
    }

    #[test]
    fn what_is_printed_can_be_typed() {
        let Ok(Command::Print(text)) =
            run(&["--print-config", "--route", "/x/{namespace}/{pod}"], &[])
        else {
            panic!("nothing printed");
        };
        let again: Vec<&str> = text.lines().chain(["--print-config"]).collect();
        assert!(matches!(run(&again, &[]), Ok(Command::Print(second)) if second == text));
    }
}
