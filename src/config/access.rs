//! Which settings go together about who may do what: a configuration that would open a door, or
//! that somebody would believe to have closed one, does not start.

use hyper::header::HeaderName;
use ipnet::IpNet;

use super::{Auth, Config, Listen, Proxy};

/// The shortest prefixes, of IPv4 and IPv6, of networks whose word about users counts: nobody has a
/// larger network than `10.0.0.0/8` or `fc00::/7` to themselves.
const PREFIXES: (u8, u8) = (8, 7);

/// Headers that hold a secret. Users' names stand in the log.
const SECRET: [&str; 6] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "sec-websocket-protocol",
    "x-auth-request-access-token",
    "x-forwarded-access-token",
];

/// Parameters that mean something else already; most of them stand in the log.
const TAKEN: [&str; 18] = [
    "cluster",
    "cols",
    "command",
    "container",
    "containerName",
    "name",
    "namespace",
    "ns",
    "pod",
    "podName",
    "proto",
    "rows",
    "shell",
    "stderr",
    "stdin",
    "stdout",
    "ticket",
    "tty",
];

impl Config {
    /// What a mode of `--auth` needs, and what is given for another one, which somebody would
    /// believe to have an effect.
    pub(super) fn check_auth(&self) -> Result<(), String> {
        let auth = self.auth;
        let only = |mode: Auth, flag: &str, is_given: bool| {
            let wrong = || Err(format!("{flag} is for --auth {mode}, and this is {auth}"));
            if is_given && auth != mode { wrong() } else { Ok(()) }
        };
        let user_header = "--user-header, or a --headers-preset,";
        only(Auth::Headers, user_header, self.user_header.is_some())?;
        only(Auth::Headers, "--groups-header", self.groups_header.is_some())?;
        only(Auth::Hook, "--authorize-url", self.authorize_url.is_some())?;
        only(Auth::Passthrough, "--token-cookie", self.token_cookie.is_some())?;
        only(Auth::Passthrough, "--token-query", self.token_query.is_some())?;
        if auth == Auth::Headers && self.user_header.is_none() {
            return Err(format!(
                "--auth {auth} needs {user_header} to say who is there: type \
                 --headers-preset=oauth2-proxy, or --user-header=X-Forwarded-User"
            ));
        }
        if auth == Auth::Hook && self.authorize_url.is_none() {
            return Err(format!("--auth {auth} needs --authorize-url"));
        }
        if self.authorize_ca.is_some()
            && self.authorize_url.as_ref().is_none_or(|url| url.scheme_str() != Some("https"))
        {
            return Err("--authorize-ca is for an --authorize-url with https".to_owned());
        }
        self.check_headers()?;
        self.check_names()?;
        self.check_plugins()
    }

    /// What would allow nothing, and look as if it allowed everything.
    fn check_plugins(&self) -> Result<(), String> {
        match self.allow_exec_plugin.iter().find(|name| name.contains('*')) {
            None => Ok(()),
            Some(name) => Err(format!(
                "--allow-exec-plugin {name} is no program: name each that may be run as the \
                 kubeconfig does in users[].user.exec.command, such as \
                 --allow-exec-plugin=aws,kubelogin"
            )),
        }
    }

    /// Whoever is trusted with headers can be anybody.
    fn check_headers(&self) -> Result<(), String> {
        if self.auth != Auth::Headers {
            return Ok(());
        }
        if self.trusted_proxy.is_empty() {
            return Err("--auth headers believes what headers say, from a --trusted-proxy only: \
                        name the network of the gateway, such as 10.0.0.7"
                .to_owned());
        }
        let networks = self.trusted_proxy.iter().filter_map(|proxy| match proxy {
            Proxy::Net(network) => Some(*network),
            Proxy::Unix => None,
        });
        let too_wide = |network: &IpNet| match network {
            IpNet::V4(network) => network.prefix_len() < PREFIXES.0,
            IpNet::V6(network) => network.prefix_len() < PREFIXES.1,
        };
        // Two halves of the world are as wide as the world.
        if let Some(wide) = IpNet::aggregate(&networks.collect()).iter().find(|it| too_wide(it)) {
            return Err(format!(
                "--trusted-proxy {wide} lets everybody in there be anybody under --auth headers: \
                 name the gateway's own network, such as 10.0.0.7"
            ));
        }
        let is_unix = matches!(self.listen, Listen::Unix(_));
        if !self.trusted_proxy.iter().any(|proxy| (*proxy == Proxy::Unix) == is_unix) {
            return Err(format!(
                "no --trusted-proxy can connect to --listen {}: over a Unix socket it is unix, \
                 else an address or a network",
                self.listen
            ));
        }
        if self.user_header == self.groups_header {
            return Err("--user-header and --groups-header must differ".to_owned());
        }
        Ok(())
    }

    /// Names under which others send something else.
    fn check_names(&self) -> Result<(), String> {
        for (flag, header) in
            [("--user-header", &self.user_header), ("--groups-header", &self.groups_header)]
        {
            if let Some(header) = header.as_ref().filter(|it| SECRET.contains(&it.as_str())) {
                return Err(format!(
                    "{flag} {header} holds a secret, not a name such as X-Forwarded-User does"
                ));
            }
        }
        for (flag, name) in
            [("--token-cookie", &self.token_cookie), ("--token-query", &self.token_query)]
        {
            let Some(name) = name else { continue };
            // Cookies and headers are named by the same characters.
            if HeaderName::try_from(name).is_err() {
                return Err(format!("{flag} {name}: not a name such as access_token"));
            }
            if flag == "--token-query" && TAKEN.contains(&name.as_str()) {
                return Err(format!(
                    "{flag} {name}: this parameter means something else; take another, such as \
                     access_token"
                ));
            }
        }
        Ok(())
    }
}
