//! Flags and environment, as plain data.
//!
//! One table of flags; parsing, `--help` and `--print-config` all read it. A flag beats its
//! environment variable, which beats the default. What it must never know: sockets, sessions.

mod access;
mod flags;
mod types;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderName;

use crate::exec::OpenLimits;
use crate::origin::{Origin, parse_host};
use crate::proto::ending::is_odd;
use crate::proto::session::Limits;
use crate::route::Template;
use crate::target::Target;
pub use types::{Auth, Hangup, HeadLimits, Listen, LogFormat, Proxy, Subject};
use values::Values;
pub(crate) use values::duration;

/// The effective settings of `podwire serve`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where browsers connect.
    pub listen: Listen,
    /// With a slash at both ends.
    pub base_path: String,
    /// Where browsers see this, if that is elsewhere.
    pub public_url: Option<Origin>,
    /// Whose `X-Forwarded-*` count.
    pub trusted_proxy: Vec<Proxy>,
    /// Certificate chain and key, for TLS towards the browser.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The kubeconfig, if it was named.
    pub kubeconfig: Option<PathBuf>,
    /// The default cluster, if it was named.
    pub context: Option<String>,
    /// Further clusters that callers may name.
    pub clusters: Vec<String>,
    /// The credential plugins that a kubeconfig may name.
    pub allow_exec_plugin: Vec<String>,
    /// Whose identity the cluster sees.
    pub auth: Auth,
    /// Whether tickets are given out, too.
    pub tickets: bool,
    /// The cookie that may hold a token.
    pub token_cookie: Option<String>,
    /// The parameter that may hold a token.
    pub token_query: Option<String>,
    /// The header in which a trusted proxy names the user.
    pub user_header: Option<HeaderName>,
    /// The header in which it names the groups.
    pub groups_header: Option<HeaderName>,
    /// Who is asked about each session.
    pub authorize_url: Option<Uri>,
    /// The file of its certificate authority.
    pub authorize_ca: Option<PathBuf>,
    /// How long it may take.
    pub authorize_timeout: Duration,
    /// How often access is looked at again, if at all.
    pub recheck: Option<Duration>,
    /// How long that may be impossible.
    pub recheck_grace: Duration,
    /// What `podwire check` looks at.
    pub subject: Subject,
    /// Further origins of pages that may connect.
    pub allow_origin: Vec<Origin>,
    /// Other origins whose pages may show the terminal page in a frame.
    pub frame_ancestors: Vec<Origin>,
    /// Further names of this listener.
    pub allow_host: Vec<String>,
    /// Further addresses.
    pub routes: Vec<Template>,
    /// Shells to offer, best first.
    pub shells: Vec<String>,
    /// Whether free commands are refused.
    pub no_command: bool,
    /// What is done about a process whose browser left.
    pub hangup: Hangup,
    /// The limits of each session.
    pub limits: Limits,
    /// Sessions at the same time.
    pub max_sessions: usize,
    /// Sessions of one user at the same time, where there are users.
    pub max_sessions_per_user: usize,
    /// Sessions that may be opened in a second.
    pub session_rate: u32,
    /// Threads that serve.
    pub threads: usize,
    /// What the kernel keeps each way of a browser's connection, if that is bounded.
    pub browser_buffer: Option<usize>,
    /// The limits of a request's head.
    pub head: HeadLimits,
    /// The limits of opening the cluster's side.
    pub open: OpenLimits,
    /// Where operators connect, if anywhere.
    pub admin_listen: Option<Listen>,
    /// The file of the token that operators bring.
    pub admin_token_file: Option<PathBuf>,
    /// How long new sessions are still accepted once the program was told to end.
    pub drain_delay: Duration,
    /// How long all sessions may take to end after that.
    pub drain_timeout: Duration,
    /// What is logged.
    pub log_level: log::LevelFilter,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Called inside every session's loop as it begins; for tests: what panics in here is a bug in
    /// a session.
    #[doc(hidden)]
    pub hook: Option<fn(&Target)>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Print this and end.
    Print(String),
    /// Serve with these settings.
    Serve(Box<Config>),
    /// Say what is wrong with a cluster.
    Check(Box<Config>),
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
    command(arguments, environment).map_err(|error| one_line(&error))
}

/// What was typed may hold anything, and is repeated: what a terminal would act on is escaped, as
/// in the sentence of an ending.
fn one_line(error: &str) -> String {
    error.chars().fold(String::new(), |mut line, c| {
        if is_odd(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
        line
    })
}

fn command(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Command, String> {
    let mut given: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut print_config = false;
    let mut parser = lexopt::Parser::from_iter(arguments);
    let (mut is_first, mut is_check) = (true, false);
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                return Ok(Command::Print(flags::help()));
            }
            lexopt::Arg::Long("version") | lexopt::Arg::Short('V') => {
                return Ok(Command::Print(flags::version()));
            }
            lexopt::Arg::Long("print-config") => print_config = true,
            lexopt::Arg::Long(name) => {
                let Some(flag) = flags::all().find(|flag| flag.name == name) else {
                    return Err(flags::unknown(name));
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
            lexopt::Arg::Value(word) if is_first && word == "check" => is_check = true,
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
    let config = Box::new(Config::new(&values)?);
    if is_check {
        return Ok(Command::Check(config));
    }
    if config.subject != Subject::default() {
        let names = "--cluster, --namespace, --pod and --container";
        return Err(format!("{names} are for podwire check; see podwire --help"));
    }
    Ok(Command::Serve(config))
}

fn usage(error: impl std::fmt::Display) -> String {
    format!("{error}; see podwire --help")
}

fn not_text(name: &str) -> String {
    format!("--{name}: not UTF-8")
}

impl Config {
    fn new(values: &Values) -> Result<Self, String> {
        let tls = match (values.optional("tls-cert"), values.optional("tls-key")) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            _ => return Err("--tls-cert and --tls-key go together".to_owned()),
        };
        let (auth, tickets) = values.read("auth", values::auth)?;
        let preset = values.read("headers-preset", values::preset)?;
        let header = |name, preset| Ok::<_, String>(values.read(name, values::name)?.or(preset));
        let subject = |name| values.optional(name).map(str::to_owned);
        let config = Self {
            listen: values.read("listen", values::listen)?,
            base_path: values.read("base-path", values::base_path)?,
            tls,
            kubeconfig: values.optional("kubeconfig").map(PathBuf::from),
            context: values.optional("context").map(str::to_owned),
            clusters: values.list("clusters"),
            public_url: values.read("public-url", values::public_url)?,
            trusted_proxy: values.read_list("trusted-proxy", values::proxy)?,
            allow_exec_plugin: values.list("allow-exec-plugin"),
            auth,
            tickets,
            token_cookie: values.optional("token-cookie").map(str::to_owned),
            token_query: values.optional("token-query").map(str::to_owned),
            user_header: header("user-header", preset.as_ref().map(|it| it.0.clone()))?,
            groups_header: header("groups-header", preset.map(|it| it.1))?,
            authorize_url: values.read("authorize-url", values::url)?,
            authorize_ca: values.optional("authorize-ca").map(PathBuf::from),
            authorize_timeout: values.time("authorize-timeout", 1..=60, "1s to 1m")?,
            recheck: values.read_or_off("recheck", values::duration)?,
            recheck_grace: values.read("recheck-grace", values::duration)?,
            subject: Subject {
                cluster: subject("cluster"),
                namespace: subject("namespace"),
                pod: subject("pod"),
                container: subject("container"),
            },
            allow_origin: values.read_list("allow-origin", values::origin)?,
            frame_ancestors: values.read_list("frame-ancestors", values::origin)?,
            allow_host: values.read_list("allow-host", parse_host)?,
            routes: values.read_list("route", Template::parse)?,
            shells: values.read_list("shells", values::shell)?,
            no_command: values.read("no-command", values::boolean)?,
            hangup: values.read("hangup", values::hangup)?,
            limits: session_limits(values)?,
            max_sessions: values.count("max-sessions", 1..=1_000_000)?,
            max_sessions_per_user: values.count("max-sessions-per-user", 1..=1_000_000)?,
            session_rate: values.count("session-rate", 1..=100_000)?.try_into().unwrap_or(u32::MAX),
            // More than that no machine has cores for; each costs some hundred KiB.
            threads: values.count("threads", 1..=64)?,
            browser_buffer: buffer(values, "browser-buffer")?,
            head: head_limits(values)?,
            open: open_limits(values)?,
            admin_listen: values.read_or_off("admin-listen", values::listen)?,
            admin_token_file: values.optional("admin-token-file").map(PathBuf::from),
            drain_delay: values.time("drain-delay", 0..=600, "0s to 10m")?,
            drain_timeout: values.time("drain-timeout", 1..=3600, "1s to 1h")?,
            log_level: values.read("log-level", values::log_level)?,
            log_format: values.read("log-format", values::log_format)?,
            hook: None,
        };
        config.check(values.read("insecure-allow-anonymous", values::boolean)?)?;
        config.check_auth()?;
        Ok(config)
    }

    /// What several settings must be together.
    fn check(&self, anonymous: bool) -> Result<(), String> {
        if self.auth == Auth::Own && !self.is_loopback() && !anonymous {
            return Err("--auth own gives everybody who can connect a shell: \
                        listen on loopback, or add --insecure-allow-anonymous"
                .to_owned());
        }
        if self.shells.is_empty() {
            return Err("--shells names no shell".to_owned());
        }
        if self.admin_listen.as_ref().is_some_and(|admin| admin.collides(&self.listen)) {
            return Err(format!(
                "--admin-listen must differ from --listen {}: another port, or off",
                self.listen
            ));
        }
        let limits = &self.limits;
        if limits.dead_after <= limits.browser_ping.max(limits.cluster_ping) {
            return Err("--dead-after must be longer than --ping and --cluster-ping: \
                        else a peer is given up before it was asked"
                .to_owned());
        }
        Ok(())
    }

    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        self.listen.is_loopback()
    }
}

fn session_limits(values: &Values) -> Result<Limits, String> {
    let duration = |name| values.read(name, values::duration);
    let duration_or_off = |name| values.read_or_off(name, values::duration);
    Ok(Limits {
        outbox: values.read("outbox", values::size)?,
        message_max: values.read("max-message", values::size)?,
        // Real servers fill frames of 32 KiB and a byte.
        cluster_frame_max: values.size("max-cluster-frame", 64 << 10..=1 << 30, "64KiB to 1GiB")?,
        ack_window: values.read("ack-window", values::size)? as u64,
        hangup_grace: duration("hangup-grace")?,
        slow_browser: duration("slow-browser")?,
        browser_ping: duration("ping")?,
        cluster_ping: duration("cluster-ping")?,
        dead_after: duration("dead-after")?,
        size_keepalive: duration_or_off("size-keepalive")?,
        idle_timeout: duration_or_off("idle-timeout")?,
        max_session: duration_or_off("max-session")?,
        ..Limits::default()
    })
}

fn head_limits(values: &Values) -> Result<HeadLimits, String> {
    Ok(HeadLimits {
        time: values.time("head-timeout", 1..=600, "1s to 10m")?,
        // Less than 8 KiB hyper cannot do; it is read into memory before anybody is known.
        size: values.size("max-head", 8 << 10..=1 << 20, "8KiB to 1MiB")?,
        // A handshake has about ten.
        fields: values.count("max-fields", 10..=1000)?,
    })
}

fn open_limits(values: &Values) -> Result<OpenLimits, String> {
    let time = |name| values.time(name, 1..=600, "1s to 10m");
    Ok(OpenLimits {
        connect: time("connect-timeout")?,
        response: time("response-timeout")?,
        error: time("error-timeout")?,
        error_max: values.size("max-error", 1 << 10..=16 << 20, "1KiB to 16MiB")?,
        buffer: buffer(values, "cluster-buffer")?,
    })
}

/// What the kernel keeps: at least a record of TLS, at most what is no bound any more.
fn buffer(values: &Values, name: &str) -> Result<Option<usize>, String> {
    values.read_or_off(name, |text| {
        values::bounded(values::size(text)?, &(16 << 10..=64 << 20), "16KiB to 64MiB")
    })
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
        let wrong: &[(&[&str], &str)] = &[
            (&["--nope"], "unknown flag --nope; see podwire --help"),
            (&["--listen"], "see podwire --help"),
            (&["--listen", "8080"], "127.0.0.1:8080"),
            (&["--outbox", "5"], "64KiB"),
            (&["--outbox", "0KiB"], "64KiB"),
            (&["--hangup-grace", "5"], "20s"),
            (&["--hangup-grace", "-1s"], "20s"),
            (&["--auth", "anybody"], "passthrough, own, headers or hook"),
            (&["--auth", "own", "--listen", "0.0.0.0:1"], "--insecure-allow-anonymous"),
            (&["--allow-host", "a,name:8080"], "without its port: name"),
            (&["--allow-host", "[::1]:80"], "without its port: [::1]"),
            (&["--allow-host", "http://name"], "not a host such as"),
            (&["--tls-cert", "x"], "go together"),
            (&["--shells", "sh;id"], "not a shell's name"),
            (&["--max-sessions", "0"], "from 1 to 1000000"),
            (&["--session-rate", "many"], "from 1 to 100000"),
            (&["--max-fields", "1"], "from 10 to 1000"),
            (&["--max-head", "4KiB"], "8KiB to 1MiB"),
            (&["--max-cluster-frame", "32KiB"], "64KiB to 1GiB"),
            (&["--max-error", "1GiB"], "1KiB to 16MiB"),
            (&["--browser-buffer", "8KiB"], "16KiB to 64MiB, nor off"),
            (&["--cluster-buffer", "0"], "64KiB or 1MiB, nor off"),
            (&["--threads", "0"], "from 1 to 64"),
            (&["--threads", "65"], "from 1 to 64"),
            (&["--head-timeout", "0s"], "1s to 10m"),
            (&["--connect-timeout", "1h"], "1s to 10m"),
            (&["--drain-timeout", "2h"], "1s to 1h"),
            (&["--idle-timeout", "never"], "12h, nor off"),
            (&["--idle-timeout", "0s"], "12h, nor off"),
            (&["--admin-listen", "9090"], "127.0.0.1:8080, nor off"),
            (&["--hangup", "kill"], "signal, keys or none"),
            (&["--log-format", "xml"], "text or json"),
            (&["--dead-after", "20s"], "longer than --ping and --cluster-ping"),
            (&["--cluster-ping", "60s"], "longer than --ping and --cluster-ping"),
            (&["serve", "serve"], "see podwire --help"),
        ];
        for (arguments, words) in wrong {
            let error = run(arguments, &[]).unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn the_defaults_of_the_table_are_those_of_the_types() {
        let config = config(&[], &[]);
        assert_eq!(format!("{:?}", config.limits), format!("{:?}", Limits::default()));
        assert_eq!(config.head, HeadLimits::default());
        assert_eq!(config.open, OpenLimits::default());
        assert_eq!((config.threads, config.browser_buffer), (1, Some(128 << 10)));
        assert!(config.hook.is_none());
    }

    #[test]
    fn what_can_be_off_can_be_switched_off() {
        let names = ["size-keepalive", "idle-timeout", "max-session", "admin-listen"];
        let names = names.into_iter().chain(["browser-buffer", "cluster-buffer"]);
        let off: Vec<String> = names.map(|name| format!("--{name}=off")).collect();
        let off: Vec<&str> = off.iter().map(String::as_str).collect();
        let config = config(&off, &[]);
        let limits = &config.limits;
        assert!(limits.size_keepalive.is_none() && limits.idle_timeout.is_none());
        assert!(limits.max_session.is_none() && config.admin_listen.is_none());
        assert_eq!((config.browser_buffer, config.open.buffer), (None, None));
        for name in ["--ping", "--dead-after", "--slow-browser", "--drain-timeout"] {
            assert!(run(&[name, "off"], &[]).is_err(), "{name}");
        }
    }

    #[test]
    fn the_drain_may_begin_at_once() {
        assert_eq!(config(&["--drain-delay", "0s"], &[]).drain_delay, Duration::ZERO);
    }

    #[test]
    fn two_listeners_have_two_addresses() {
        let collides = |listen: &str, admin: &str| {
            let arguments = ["--auth=passthrough", "--listen", listen, "--admin-listen", admin];
            run(&arguments, &[]).is_err_and(|error| error.contains("--admin-listen must differ"))
        };
        assert!(collides("127.0.0.1:9090", "127.0.0.1:9090"));
        assert!(collides("0.0.0.0:9090", "127.0.0.1:9090"));
        assert!(collides("127.0.0.1:9090", "[::]:9090"));
        assert!(collides("unix:/a", "unix:/a"));
        assert!(!collides("127.0.0.1:9090", "127.0.0.2:9090"));
        assert!(!collides("127.0.0.1:0", "127.0.0.1:0"), "they get two ports");
        assert!(!collides("127.0.0.1:9090", "off"));
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
