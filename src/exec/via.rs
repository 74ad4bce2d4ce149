//! How an API server is reached: directly, or through which proxy.
//!
//! The rules are those of `golang.org/x/net/http/httpproxy`, by which kubectl goes, too. What this
//! must never know: sockets, and how a proxy is spoken to.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use hyper::header::HeaderValue;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

/// What SOCKS has room for (RFC 1929).
const LOGIN_MAX: usize = 255;

/// What to type for a proxy.
const REMEDY: &str = "type http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT, \
                      with USER:PASSWORD@ before the host if it wants a login";

/// The way to an API server: a straight one, or through a proxy. It prints without the proxy's
/// login.
#[derive(Clone, Default)]
pub struct Via(Option<Arc<Proxy>>);

/// A proxy, and how to begin with it.
pub(super) struct Proxy {
    pub(super) scheme: Scheme,
    /// A name or an address, an IPv6 one without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) login: Option<Login>,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    Socks,
}

/// Who we are to a proxy. It cannot be printed.
pub(super) struct Login {
    pub(super) user: Vec<u8>,
    pub(super) password: Vec<u8>,
}

impl Login {
    /// The value of a `Proxy-Authorization` header (RFC 7617).
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let pair = [&self.user[..], b":", &self.password].concat();
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy at {}", authority(&self.host, self.port))
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("directly"),
            Some(proxy) => write!(f, "through {proxy}"),
        }
    }
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Via({self})")
    }
}

impl Via {
    /// Through the proxy with this URL: `http`, `https`, `socks5` or `socks5h` (which mean the
    /// same here: the proxy looks names up), and perhaps a percent-encoded `user:password@`.
    ///
    /// # Errors
    ///
    /// What to type instead, in one sentence that does not repeat the URL: it may have a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let unfit = |why: &str| format!("not the URL of a proxy ({why}): {REMEDY}");
        let (scheme, rest) = url.split_once("://").ok_or_else(|| unfit("it has no scheme"))?;
        let (scheme, usual) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            "socks5" | "socks5h" => (Scheme::Socks, 1080),
            _ => return Err(unfit("its scheme is another one")),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (login, place) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((login, place)) => (Some(parse_login(login).map_err(unfit)?), place),
        };
        let place: hyper::http::uri::Authority =
            place.parse().map_err(|_| unfit("its host or port is malformed"))?;
        let host = bare(place.host());
        if host.is_empty() || place.as_str().ends_with(':') {
            return Err(unfit("its host or port is missing"));
        }
        let port = match (place.port(), place.port_u16()) {
            (None, _) => usual,
            (Some(_), Some(port)) if port > 0 => port,
            _ => return Err(unfit("its port is none")),
        };
        Ok(Self(Some(Arc::new(Proxy { scheme, host: host.to_owned(), port, login }))))
    }

    /// As the environment has it for this server, by the rules of Go: `HTTPS_PROXY` (or
    /// `HTTP_PROXY` for a server without TLS) unless `NO_PROXY` names the server; each in small
    /// letters if there is none in capitals. What is on this machine is never proxied.
    ///
    /// # Errors
    ///
    /// Which variable is wrong and what to type instead, without its value.
    pub fn from_environment(
        server: &Uri,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let is_plain = server.scheme_str() == Some("http");
        let name = if is_plain { "HTTP_PROXY" } else { "HTTPS_PROXY" };
        let value = |name: &str| {
            let names = [name.to_owned(), name.to_ascii_lowercase()];
            names.into_iter().find_map(|name| {
                lookup(&name).filter(|it| !it.is_empty()).map(|value| (name, value))
            })
        };
        let Some((name, url)) = value(name) else { return Ok(Self::default()) };
        let port = server.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
        let exceptions = value("NO_PROXY").map(|(_, list)| list).unwrap_or_default();
        if is_excepted(bare(server.host().unwrap_or_default()), port, &exceptions) {
            return Ok(Self::default());
        }
        let url = if url.contains("://") { url } else { format!("http://{url}") };
        Self::parse(&url).map_err(|error| format!("{name}: {error}"))
    }

    /// The proxy, if there is one.
    pub(super) fn proxy(&self) -> Option<&Proxy> {
        self.0.as_deref()
    }
}

/// A host and a port as they stand in a URL.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A host without the brackets that an IPv6 address has in a URL.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn parse_login(text: &str) -> Result<Login, &'static str> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let plain = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let login = Login { user: plain(user), password: plain(password) };
    if login.user.is_empty() {
        return Err("its user's name is empty");
    }
    if login.user.len() > LOGIN_MAX || login.password.len() > LOGIN_MAX {
        return Err("its user's name or password is longer than 255 bytes");
    }
    Ok(login)
}

/// Whether `NO_PROXY` says that this server is reached directly, or it is on this machine.
fn is_excepted(host: &str, port: u16, exceptions: &str) -> bool {
    let host = host.to_ascii_lowercase();
    // A v4 address in v6 clothes is the same machine.
    let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    if host == "localhost" || address.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    exceptions.split(',').any(|entry| {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let Ok(net) = entry.parse::<IpNet>() {
            return address.is_some_and(|ip| net.contains(&ip));
        }
        let (name, only) = split_port(&entry);
        if only.is_some_and(|only| only != port.to_string()) {
            return false;
        }
        if let Ok(ip) = name.parse::<IpAddr>() {
            return address == Some(ip.to_canonical());
        }
        let name = name.strip_prefix('*').filter(|it| it.starts_with('.')).unwrap_or(name);
        match name.strip_prefix('.') {
            _ if name.is_empty() => false,
            Some(_) => host.ends_with(name),
            None => host.strip_suffix(name).is_some_and(|it| it.is_empty() || it.ends_with('.')),
        }
    })
}

/// The name or address of an entry, and its port if it has one. What has several colons and no
/// brackets is an address of IPv6.
fn split_port(entry: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = entry.strip_prefix('[').and_then(|it| it.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (entry, None),
    }
}
