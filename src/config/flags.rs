//! The table of flags, and what is printed about it.

use std::fmt::Write as _;

/// One flag.
pub(super) struct Flag {
    pub(super) name: &'static str,
    /// What stands for its value in `--help`; nothing for a switch. A list's ends with an S.
    pub(super) value: Option<&'static str>,
    pub(super) default: &'static str,
    help: &'static str,
}

impl Flag {
    /// Whether it may be given several times.
    pub(super) fn is_list(&self) -> bool {
        self.value.is_some_and(|value| value.ends_with('S'))
    }
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

/// Every flag under its heading, in the order of `--help`.
const GROUPS: &[(&str, &[Flag])] = &[
    (
        "Where browsers connect",
        &[
            flag("listen", "ADDR", "127.0.0.1:8080", "the address; also unix:/path"),
            flag("base-path", "PATH", "/", "the path under which everything is served"),
            flag("route", "PATHS", "", "more, of {cluster} {namespace} {pod} {container} {shell}"),
            flag(
                "public-url",
                "URL",
                "",
                "where browsers see this, if a gateway stands in between",
            ),
            flag("trusted-proxy", "CIDRS", "", "gateways whose X-Forwarded-* count; also unix"),
            flag("tls-cert", "FILE", "", "serve TLS with this certificate chain (PEM)"),
            flag("tls-key", "FILE", "", "and this private key (PEM)"),
        ],
    ),
    (
        "Which clusters",
        &[
            flag("kubeconfig", "FILE", "", "else the pod's account, $KUBECONFIG, ~/.kube/config"),
            flag("context", "NAME", "", "the default cluster; else the current context"),
            flag("clusters", "NAMES", "", "further contexts that callers may name, with commas"),
            flag(
                "allow-exec-plugin",
                "NAMES",
                "",
                "credential plugins that the kubeconfig may run",
            ),
        ],
    ),
    (
        "Who may",
        &[
            flag("auth", "MODES", "passthrough", "passthrough, own, headers or hook; and ticket"),
            flag(
                "token-cookie",
                "NAME",
                "",
                "passthrough: a token may be in this cookie; two must agree",
            ),
            flag("token-query", "NAME", "", "passthrough: so may this parameter, which others log"),
            flag(
                "headers-preset",
                "NAME",
                "",
                "headers: oauth2-proxy, auth-request or remote-user",
            ),
            flag("user-header", "NAME", "", "headers: who it is, from a --trusted-proxy"),
            flag("groups-header", "NAME", "", "headers: the groups, with commas"),
            flag("authorize-url", "URL", "", "hook: who is asked about each session"),
            flag("authorize-ca", "FILE", "", "hook: its certificate authority; else the system's"),
            flag("authorize-timeout", "TIME", "5s", "hook: how long it may take"),
            flag("recheck", "TIME", "60s", "how often access is looked at again; or off"),
            flag("recheck-grace", "TIME", "5m", "how long that may be impossible"),
            switch("insecure-allow-anonymous", "--auth own off loopback: anybody gets a shell"),
            flag("allow-origin", "ORIGINS", "", "further origins of pages that may connect"),
            flag("frame-ancestors", "ORIGINS", "", "other origins whose pages may frame the page"),
            flag("allow-host", "HOSTS", "", "further names of this listener under --auth own"),
        ],
    ),
    (
        "What is started, and ended",
        &[
            flag(
                "shells",
                "NAMES",
                "bash,sh,ash,/busybox/sh,powershell.exe,cmd.exe",
                "shells to offer; auto takes the first found",
            ),
            switch("no-command", "only shells: a request that names a command is refused"),
            flag("hangup", "WAY", "signal", "when a browser leaves: signal, keys or none"),
            flag("hangup-grace", "TIME", "5s", "how long a hung-up process may take to end"),
        ],
    ),
    (
        "How long",
        &[
            flag("ping", "TIME", "20s", "how often a browser is pinged"),
            flag("cluster-ping", "TIME", "10s", "how often a cluster is pinged"),
            flag("dead-after", "TIME", "60s", "how long either may be silent; above both pings"),
            flag("size-keepalive", "TIME", "1m", "say an idle terminal's size again; or off"),
            flag("slow-browser", "TIME", "5m", "how long a browser may take no output"),
            flag(
                "idle-timeout",
                "TIME",
                "30m",
                "how long nothing is typed where it can be; or off",
            ),
            flag("max-session", "TIME", "12h", "how long a session may last; or off"),
            flag("head-timeout", "TIME", "10s", "a request's head, and before it TLS"),
            flag("connect-timeout", "TIME", "10s", "cluster: TCP and TLS"),
            flag("response-timeout", "TIME", "30s", "cluster: the head of its answer"),
            flag("error-timeout", "TIME", "5s", "cluster: the body of a refusal"),
        ],
    ),
    (
        "How much",
        &[
            flag("outbox", "SIZE", "256KiB", "queued for a peer before the other one must wait"),
            flag("max-message", "SIZE", "1MiB", "a browser's longest message; pages paste in one"),
            flag("max-cluster-frame", "SIZE", "1MiB", "a cluster's longest frame"),
            flag("ack-window", "SIZE", "512KiB", "output unacknowledged by a page that does it"),
            flag("browser-buffer", "SIZE", "128KiB", "kept by the kernel for a browser; or off"),
            flag(
                "cluster-buffer",
                "SIZE",
                "192KiB",
                "and for a cluster, no more per round trip; or off",
            ),
            flag("max-head", "SIZE", "32KiB", "a request's head"),
            flag("max-fields", "COUNT", "100", "and the fields in it"),
            flag("max-error", "SIZE", "64KiB", "what is read of a cluster's refusal"),
            flag("max-sessions", "COUNT", "1000", "sessions at the same time"),
            flag("max-sessions-per-user", "COUNT", "20", "and of one user, where there are users"),
            flag("session-rate", "COUNT", "50", "sessions opened in a second"),
            flag("threads", "COUNT", "1", "threads that serve, each with sessions of its own"),
        ],
    ),
    (
        "For podwire check",
        &[
            flag("cluster", "NAME", "", "the cluster to look at; else the default one"),
            flag("namespace", "NAME", "", "the namespace of a pod to start a process in"),
            flag("pod", "NAME", "", "and the pod"),
            flag("container", "NAME", "", "and the container; else the one kubectl would take"),
        ],
    ),
    (
        "For operators",
        &[
            flag(
                "admin-listen",
                "ADDR",
                "127.0.0.1:9090",
                "health, metrics, sessions; also unix:/path or off",
            ),
            flag("admin-token-file", "FILE", "", "who brings this may see and end sessions"),
            flag("drain-delay", "TIME", "3s", "accept so long after a SIGTERM"),
            flag("drain-timeout", "TIME", "22s", "then all sessions must be over in this time"),
            flag("log-level", "LEVEL", "info", "error, warn, info, debug or trace; to stderr"),
            flag("log-format", "FORMAT", "text", "text or json"),
        ],
    ),
];

/// Every flag.
pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|(_, flags)| flags.iter())
}

/// What is said of a flag that there is not.
pub(super) fn unknown(name: &str) -> String {
    let distance = |flag: &&Flag| strsim::damerau_levenshtein(flag.name, name);
    // Further away it is another word.
    let near = all().min_by_key(distance).filter(|flag| distance(flag) <= 2);
    let meant = near.map_or(String::new(), |flag| format!(" (did you mean --{}?)", flag.name));
    format!("unknown flag --{name}; see podwire --help{meant}")
}

/// The environment variable of a flag.
pub(super) fn variable(name: &str) -> String {
    format!("PODWIRE_{}", name.replace('-', "_").to_ascii_uppercase())
}

/// Name, version, commit, features.
pub(super) fn version() -> String {
    let features = if cfg!(feature = "ui") { "ui" } else { "none" };
    let commit = option_env!("PODWIRE_COMMIT").unwrap_or("unknown");
    format!("podwire {} (commit {commit}; features {features})\n", env!("CARGO_PKG_VERSION"))
}

/// The width of `--help`.
const WIDTH: usize = 100;

/// The text of `--help`.
pub(super) fn help() -> String {
    let mut text = "\
Puts the shell of a Kubernetes container into a browser.

Usage: podwire [serve] [flags]     serve browsers
       podwire check [flags]       say what is wrong with a cluster, step by step

Each flag is also an environment variable: --max-message is PODWIRE_MAX_MESSAGE.
A list takes commas, or the flag several times. Times are as 20s, 5m, 12h, sizes as 64KiB, 1MiB.
"
    .to_owned();
    for (heading, flags) in GROUPS {
        let _ = writeln!(text, "\n{heading}:");
        for flag in *flags {
            let head = format!("--{} {}", flag.name, flag.value.unwrap_or_default());
            let default = if flag.default.is_empty() { "none" } else { flag.default };
            let line = format!("  {head:31}{} [{default}]", flag.help);
            // Only the list of shells is too long to stand behind its text.
            let gap = if line.len() > WIDTH { format!("\n{:33}", "") } else { " ".to_owned() };
            let _ = writeln!(text, "  {head:31}{}{gap}[{default}]", flag.help);
        }
    }
    text.push_str(
        "
Instead of serving:
  --print-config                 print the effective settings and end
  --version, -V                  print name, version, commit and features
  --help, -h                     print this

In brackets stands what is taken if nothing is given.
Exit codes: 0 fine, 1 failed while running, 2 wrong usage or configuration.
",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_flag_with_its_default_and_fits() {
        let help = help();
        let long: Vec<_> = help.lines().filter(|line| line.chars().count() > WIDTH).collect();
        assert!(long.is_empty(), "{long:#?}");
        for flag in all() {
            let (_, behind) = help.split_once(&format!("  --{} ", flag.name)).unwrap();
            let (_, default) = behind.split_once('[').unwrap();
            assert!(default.starts_with(flag.default), "{}", flag.name);
        }
    }
}
