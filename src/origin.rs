//! Where a browser says it comes from, and whether that is allowed.
//!
//! Browsers do not apply CORS to a WebSocket and the API server does not look at `Origin`, so a
//! page anywhere could open a shell with the visitor's cookie. Pure; what it must never know:
//! credentials, sockets.

use std::fmt;

use hyper::Request;
use hyper::header::{HOST, HeaderMap, ORIGIN};

use crate::proto::ending::{Ending, Kind};

/// Scheme, host and port, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Reads `scheme://host[:port]`, as browsers send it.
    ///
    /// # Errors
    ///
    /// What it should look like, without what it is: that may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "not an origin such as https://console.example:8443".to_owned();
        let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
        let default = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(wrong()),
        };
        let (host, port) = host_and_port(authority).ok_or_else(wrong)?;
        let scheme = scheme.to_ascii_lowercase();
        Ok(Self { scheme, host, port: port.unwrap_or(default) })
    }

    /// That of pages from here; the authority is as it stands in a `Host` header.
    pub(crate) fn at(scheme: &str, authority: &str) -> Option<Self> {
        Self::parse(&format!("{scheme}://{authority}")).ok()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// Takes an authority apart; nothing if it has user information, a path, or anything else odd.
fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of an IPv6 address stand inside brackets.
        Some((host, port)) if !port.ends_with(']') => {
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            (host, Some(port.parse().ok().filter(|_| is_number)?))
        }
        _ => (authority, None),
    };
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let odd = |byte: u8| !(byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let is_odd = inner.map_or_else(
        || host.is_empty() || host.bytes().any(odd),
        |address| address.parse::<std::net::Ipv6Addr>().is_err(),
    );
    (!is_odd).then(|| (host.to_ascii_lowercase(), port))
}

/// Reads a further name of the listener, without a port: it is whatever browsers connect to.
///
/// # Errors
///
/// What to type instead.
pub(crate) fn parse_host(text: &str) -> Result<String, String> {
    match host_and_port(text) {
        Some((host, None)) => Ok(host),
        Some((host, Some(_))) => Err(format!("{text}: a host stands without its port: {host}")),
        None => Err(format!("{text}: not a host such as pod.example or [2001:db8::1]")),
    }
}

/// Whether a request carries an `Origin`, that is, comes from a page in a browser.
pub(crate) fn is_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN)
}

/// Checks the `Origin` of a request whose credential, if any, a foreign page could make a
/// browser send: a cookie, a header that a gateway puts in, none at all. Without an `Origin` it is
/// no browser and passes. `scheme` is that of our own listener, and its host is the request's;
/// where browsers see another one, through a gateway, that is one of `allowed`.
///
/// # Errors
///
/// The page is from elsewhere, and not from an allowed origin.
pub fn check_origin(headers: &HeaderMap, scheme: &str, allowed: &[Origin]) -> Result<(), Ending> {
    check_against(of_listener(headers, scheme).as_ref(), headers, allowed)
}

/// The origin of a listener, by the host that a request names. Nothing if it names none, or two.
pub(crate) fn of_listener(headers: &HeaderMap, scheme: &str) -> Option<Origin> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    Origin::at(scheme, host.to_str().ok()?)
}

/// Checks the `Origin` of a request whose credential no foreign page can have: it may be any, but
/// not `null`, which every page in a sandbox has, and not two.
pub(crate) fn check_any(headers: &HeaderMap) -> Result<(), Ending> {
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => Ok(()),
        (Some(origin), None) if !origin.is_empty() && origin != "null" => Ok(()),
        _ => Err(foreign()),
    }
}

/// [`check_origin`] for somebody who knows what our own origin is; nothing is the same as nothing.
pub(crate) fn check_against(
    own: Option<&Origin>,
    headers: &HeaderMap,
    allowed: &[Origin],
) -> Result<(), Ending> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    // Two headers mean that somebody on the way disagrees about where the request comes from.
    if origins.next().is_some() {
        return Err(foreign());
    }
    // `null` and other nonsense do not parse, and are foreign to everybody.
    let origin = origin.to_str().ok().and_then(|text| Origin::parse(text).ok());
    let origin = origin.ok_or_else(foreign)?;
    if own == Some(&origin) || allowed.contains(&origin) { Ok(()) } else { Err(foreign()) }
}

fn foreign() -> Ending {
    Ending::new(
        Kind::Forbidden,
        "this origin is not allowed; see --allow-origin, or --public-url behind a gateway",
    )
}

/// The host that a request names, without its port. Two are refused (RFC 9112 section 3.2): somebody
/// on the way may have looked at the other.
pub(crate) fn host<B>(request: &Request<B>) -> Result<String, Ending> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).and_then(host_and_port);
    match (host, hosts.next()) {
        (Some((host, _)), None) => Ok(host),
        _ => Err(Ending::new(Kind::BadRequest, "the Host header is missing, doubled or malformed")),
    }
}

/// Checks the host of a request to a listener on loopback that asks for no credential: a page
/// whose name was made to resolve to this machine has its own name in it (DNS rebinding).
pub(crate) fn check_host(host: &str, allowed: &[String]) -> Result<(), Ending> {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback =
        address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if host == "localhost" || is_loopback || allowed.iter().any(|it| it.eq_ignore_ascii_case(host))
    {
        Ok(())
    } else {
        Err(Ending::new(Kind::Forbidden, "this Host is not allowed; see --allow-host"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let parse = |text: &'static str| hyper::header::HeaderValue::from_static(text);
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, parse(value));
        }
        headers
    }

    #[test]
    fn only_the_exact_origin_passes() {
        let allowed = [Origin::parse("https://good").unwrap()];
        let passes = |origin: &'static str| {
            let headers = headers(&[("host", "relay:8080"), ("origin", origin)]);
            check_origin(&headers, "http", &allowed).is_ok()
        };
        for origin in ["https://good", "HTTPS://GOOD", "https://good:443", "http://relay:8080"] {
            assert!(passes(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "https://evil",
            "https://good.evil",
            "http://good",
            "https://good:444",
            "https://good.",
            "https://good/",
            "https://u@good",
            "https://good:+443",
            "https://good:",
            "https://good:65979",
            "https://good https://good",
            "https://relay:8080",
            "http://relay",
        ] {
            assert!(!passes(origin), "{origin}");
        }
        assert!(check_origin(&headers(&[("host", "relay")]), "http", &[]).is_ok(), "no browser");
        let two = headers(&[("origin", "https://good"), ("origin", "https://good")]);
        assert!(check_origin(&two, "http", &allowed).is_err(), "two origins");
        let two = headers(&[("host", "relay"), ("host", "relay"), ("origin", "http://relay")]);
        assert!(check_origin(&two, "http", &[]).is_err(), "two hosts");
        let none = headers(&[("origin", "null")]);
        assert!(check_origin(&none, "http", &[]).is_err(), "nothing is not the same as nothing");
    }

    #[test]
    fn a_foreign_name_for_this_machine_is_refused() {
        let passes = |host: &'static str| {
            let mut request = Request::new(());
            *request.headers_mut() = headers(&[("host", host)]);
            super::host(&request).is_ok_and(|host| check_host(&host, &["good".into()]).is_ok())
        };
        for host in
            ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "127.9.9.9", "GOOD:1"]
        {
            assert!(passes(host), "{host}");
        }
        for host in ["evil", "evil:8080", "10.0.0.1", "u@localhost", "localhost/x", "", "[::2]"] {
            assert!(!passes(host), "{host}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let mut request = Request::new(());
        assert!(host(&request).is_err(), "none");
        *request.headers_mut() = headers(&[("host", "relay:1")]);
        assert_eq!(host(&request).ok().as_deref(), Some("relay"));
        *request.headers_mut() = headers(&[("host", "localhost"), ("host", "localhost")]);
        assert!(host(&request).is_err(), "two");
    }
}
