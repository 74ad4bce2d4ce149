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
use hyper::http::uri::Authority;
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
        let place: Authority = place.parse().map_err(|_| unfit("its host or port is malformed"))?;
        let host = bare(place.host());
        if host.is_empty() {
            return Err(unfit("its host is missing"));
        }
        let port = port_of(&place).map_err(|()| unfit("its port is none"))?.unwrap_or(usual);
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

/// The port of an authority without a login, if it has one. The library passes over what is none.
pub(super) fn port_of(authority: &Authority) -> Result<Option<u16>, ()> {
    let rest = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    match rest.strip_prefix(':') {
        None => Ok(None),
        Some(port) => port.parse().ok().filter(|port| *port > 0).map(Some).ok_or(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A server, an environment, and the way.
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

    #[test]
    fn a_proxy_is_understood_or_the_remedy_is_named() {
        let rows = [
            ("http://proxy.example", "through the proxy at proxy.example:80"),
            ("HTTP://proxy.example:3128/", "through the proxy at proxy.example:3128"),
            ("https://10.0.0.1", "through the proxy at 10.0.0.1:443"),
            ("socks5://[fd00::1]:9", "through the proxy at [fd00::1]:9"),
            ("socks5h://u:secret@proxy", "through the proxy at proxy:1080"),
            ("http://u@proxy:8080/?secret", "through the proxy at proxy:8080"),
            ("http://%75:%73ecret%40@proxy", "through the proxy at proxy:80"),
        ];
        for (url, expected) in rows {
            let via = Via::parse(url).unwrap();
            assert_eq!(via.to_string(), expected);
            assert_eq!(format!("{via:?}"), format!("Via({expected})"));
        }
        let long = format!("socks5://u:secret{}@proxy", "x".repeat(255));
        let wrong = [
            "",
            "proxy:3128",
            "://",
            "http://",
            "http://:80",
            "http://proxy:",
            "http://proxy:0",
            "http://proxy:65536",
            "http://pro xy",
            "ftp://u:secret@proxy",
            "socks4://proxy",
            "http://u:sec/ret@proxy",
            "http://:secret@proxy",
            "http://@proxy",
            &long,
            "http://u:secret@",
            "http://[::1",
            "http://u:secret\n@proxy:x",
        ];
        for url in wrong {
            let error = Via::parse(url).expect_err(url);
            assert!(error.contains("type http://HOST:PORT"), "{url}: {error}");
            assert!(!error.contains("sec") && !error.contains('\n'), "{url}: {error}");
        }
        let via = Via::parse("http://some%40one:p%3Ass@proxy").unwrap();
        let login = via.proxy().and_then(|proxy| proxy.login.as_ref()).unwrap();
        assert_eq!((&login.user[..], &login.password[..]), (&b"some@one"[..], &b"p:ss"[..]));
        assert_eq!(login.basic().unwrap(), "Basic c29tZUBvbmU6cDpzcw==");
        assert_eq!(format!("{:?}", login.basic().unwrap()), "Sensitive");
    }

    /// As in the tests of `golang.org/x/net/http/httpproxy`, and what is said of it in its manual.
    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        let rows = [
            ("https://api.example:6443", "", true),
            ("https://localhost:6443", "", false),
            ("https://LOCALHOST", "", false),
            ("https://127.1.2.3:6443", "", false),
            ("https://[::1]:6443", "", false),
            ("https://[::ffff:127.0.0.1]", "", false),
            ("https://localhost.example", "", true),
            ("https://api.example:6443", "*", false),
            ("https://api.example:6443", " , other.example,*", false),
            ("https://api.example:6443", "api.example", false),
            ("https://api.example:6443", "API.Example", false),
            ("https://API.example:6443", "api.example", false),
            ("https://api.example:6443", "example", false),
            ("https://api.example:6443", ".example", false),
            ("https://api.example:6443", "*.example", false),
            ("https://example:6443", "example", false),
            ("https://example:6443", ".example", true),
            ("https://example:6443", "*.example", true),
            ("https://myexample", "example", true),
            ("https://api.example:6443", "api*", true),
            ("https://api.example:6443", "api.example:6443", false),
            ("https://api.example:6443", ".example:6443", false),
            ("https://api.example:6443", "api.example:443", true),
            ("https://api.example", "api.example:443", false),
            ("https://api.example", "api.example:", true),
            ("https://10.1.2.3:6443", "10.1.2.3", false),
            ("https://10.1.2.3:6443", "10.1.2.3:6443", false),
            ("https://10.1.2.3:6443", "10.1.2.3:80", true),
            ("https://10.1.2.3:6443", "10.0.0.0/8", false),
            ("https://10.1.2.3:6443", "11.0.0.0/8, 10.1.2.0/24", false),
            ("https://10.1.2.3:6443", "10.2.0.0/16", true),
            ("https://10.1.2.3:6443", "10.1.2", true),
            ("https://[::ffff:10.1.2.3]", "10.0.0.0/8", false),
            ("https://[fd00::1]:6443", "fd00::1", false),
            ("https://[fd00::1]:6443", "[fd00::1]:6443", false),
            ("https://[fd00::1]:6443", "[fd00::1]:80", true),
            ("https://[fd00::1]:6443", "fd00::/8", false),
            ("https://[fd00::1]:6443", "fe80::/10", true),
            ("https://api.example", "10.0.0.0/8,:443,[,],/", true),
        ];
        for (server, exceptions, proxied) in rows {
            let uri: Uri = server.parse().unwrap();
            let lookup = |name: &str| match name {
                "HTTPS_PROXY" => Some("http://proxy:3128".to_owned()),
                "NO_PROXY" => Some(exceptions.to_owned()),
                _ => None,
            };
            let via = Via::from_environment(&uri, lookup).unwrap();
            assert_eq!(via.proxy().is_some(), proxied, "{server} and {exceptions:?}");
        }
    }

    #[test]
    fn the_environment_has_one_proxy_for_each_scheme_and_two_ways_to_spell_it() {
        let via = |server: &str, environment: &[(&str, &str)]| {
            let lookup = |name: &str| {
                let found = environment.iter().find(|(it, _)| *it == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            Via::from_environment(&server.parse().unwrap(), lookup).map(|it| it.to_string())
        };
        let (https, http) = ("https://10.0.0.1:6443", "http://10.0.0.1:6443");
        let rows: &[Row] = &[
            (https, &[], "directly"),
            (https, &[("HTTPS_PROXY", "")], "directly"),
            (https, &[("HTTP_PROXY", "http://a:1")], "directly"),
            (https, &[("ALL_PROXY", "http://a:1")], "directly"),
            (https, &[("HTTPS_PROXY", "http://a:1")], "through the proxy at a:1"),
            (https, &[("https_proxy", "socks5://a:1")], "through the proxy at a:1"),
            (
                https,
                &[("https_proxy", "http://a:1"), ("HTTPS_PROXY", "http://b:2")],
                "through the proxy at b:2",
            ),
            (
                https,
                &[("https_proxy", "http://a:1"), ("HTTPS_PROXY", "")],
                "through the proxy at a:1",
            ),
            (https, &[("HTTPS_PROXY", "a")], "through the proxy at a:80"),
            (https, &[("HTTPS_PROXY", "u:p@a:1")], "through the proxy at a:1"),
            (https, &[("HTTPS_PROXY", "http://a:1"), ("no_proxy", "10.0.0.1")], "directly"),
            (http, &[("HTTPS_PROXY", "http://a:1")], "directly"),
            (http, &[("http_proxy", "http://a:1")], "through the proxy at a:1"),
        ];
        for (server, environment, expected) in rows {
            assert_eq!(via(server, environment).unwrap(), *expected, "{environment:?}");
        }
        let error = via(https, &[("https_proxy", "quic://u:secret@a")]).unwrap_err();
        assert!(error.starts_with("https_proxy: ") && !error.contains("secret"), "{error}");
    }
}
