//! What gateways in front of us say about a request, and whose word counts.
//!
//! Any peer can send these headers; they are read from a `--trusted-proxy` only. What this must
//! never know: credentials, what is asked for.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::header::{HeaderMap, HeaderValue};

use crate::config::{Config, Proxy};
use crate::door::Remote;
use crate::origin::{self, Origin};

const FOR: &str = "x-forwarded-for";
const HOST: &str = "x-forwarded-host";
const PROTO: &str = "x-forwarded-proto";

/// How many hops of `X-Forwarded-For` are looked at: no request that is wanted here passes through
/// more gateways, and a caller can write as many as fit into a head.
const HOPS_MAX: usize = 32;

/// Whether the word of this peer counts.
pub(crate) fn is_trusted(config: &Config, peer: &Remote) -> bool {
    match peer {
        Remote::Tcp(address) => is_trusted_address(config, address.ip()),
        Remote::Unix => config.trusted_proxy.contains(&Proxy::Unix),
    }
}

fn is_trusted_address(config: &Config, address: IpAddr) -> bool {
    // A listener on `[::]` shows IPv4 peers as IPv6 addresses.
    let address = address.to_canonical();
    config.trusted_proxy.iter().any(|proxy| match proxy {
        Proxy::Net(network) => network.contains(&address),
        Proxy::Unix => false,
    })
}

/// Where browsers see us: as the settings say, else as a trusted gateway does, else as the request
/// itself does. Nothing if that makes no sense, for then no page is ours.
pub(super) fn own_origin(config: &Config, headers: &HeaderMap, peer: &Remote) -> Option<Origin> {
    if let Some(url) = &config.public_url {
        return Some(url.clone());
    }
    let own = if config.tls.is_some() { "https" } else { "http" };
    if !is_trusted(config, peer) {
        return origin::of_listener(headers, own);
    }
    let scheme = match last(headers, PROTO) {
        None => own,
        // Traefik says of a WebSocket's handshake which WebSocket it is.
        Some(b"http" | b"ws") => "http",
        Some(b"https" | b"wss") => "https",
        Some(_) => return None,
    };
    match last(headers, HOST) {
        None => origin::of_listener(headers, scheme),
        Some(host) => Origin::at(scheme, std::str::from_utf8(host).ok()?),
    }
}

/// The last member of a header that is a list: what the gateway before us said, and not what
/// somebody told it.
fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    from_the_end(headers, name).next()
}

/// The members of a list over all lines of its header, the last first.
fn from_the_end<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter().rev().map(HeaderValue::as_bytes);
    lines.flat_map(|line| line.rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Who is at the other end, for people to read: the peer, or if that is a gateway of ours whoever
/// it was asked by, and so on. Where a hop makes no sense it is the gateway that named it. It is
/// an address in any case, and never text of a caller's.
pub(crate) fn remote(config: &Config, headers: &HeaderMap, peer: &Remote) -> String {
    let mut nearest = None;
    if is_trusted(config, peer) {
        for hop in from_the_end(headers, FOR).take(HOPS_MAX).map(address) {
            let Some(hop) = hop else { break };
            nearest = Some(hop);
            if !is_trusted_address(config, hop) {
                break;
            }
        }
    }
    nearest.map_or_else(|| peer.to_string(), |address| address.to_string())
}

/// The address of a hop. Some gateways add the port; a zone means nothing to anybody else.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?;
    if let Ok(address) = hop.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = match bare.split_once('%') {
        Some((address, _)) => address.parse::<Ipv6Addr>().ok()?.into(),
        None => bare.parse::<IpAddr>().ok()?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// Lines of headers.
    type Lines<'a> = &'a [(&'static str, &'a str)];

    fn config(flags: &[&str]) -> Config {
        let arguments = ["podwire"].iter().chain(flags).map(std::ffi::OsString::from);
        match config::parse(arguments, |_| None) {
            Ok(config::Command::Serve(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn peer(address: &str) -> Remote {
        Remote::Tcp(address.parse().unwrap())
    }

    #[test]
    fn a_peer_is_trusted_by_its_address_alone() {
        let config = config(&["--trusted-proxy", "10.0.0.0/8,192.0.2.7,fd00::/8"]);
        for (address, trusted) in [
            ("10.1.2.3:1", true),
            ("11.1.2.3:1", false),
            ("192.0.2.7:1", true),
            ("192.0.2.8:1", false),
            ("[fd00::1]:1", true),
            ("[fe80::1]:1", false),
            ("[::ffff:10.1.2.3]:1", true),
            ("[::ffff:11.1.2.3]:1", false),
        ] {
            assert_eq!(is_trusted(&config, &peer(address)), trusted, "{address}");
        }
        assert!(!is_trusted(&config, &Remote::Unix));
        assert!(is_trusted(&self::config(&["--trusted-proxy", "unix"]), &Remote::Unix));
    }

    #[test]
    fn the_last_hop_that_is_not_ours_is_who_asks() {
        let config = config(&["--trusted-proxy", "10.0.0.0/8"]);
        let long = format!("192.0.2.1{}", ", 10.0.0.9".repeat(500));
        let rows: &[(&str, &[&str], &str)] = &[
            ("H21 none", &[], "10.0.0.1:5"),
            ("H21 one", &["192.0.2.1"], "192.0.2.1"),
            ("H21 a caller's own", &["8.8.8.8, 192.0.2.1"], "192.0.2.1"),
            ("H21 two of ours", &["8.8.8.8, 192.0.2.1, 10.0.0.2, 10.0.0.3"], "192.0.2.1"),
            ("H21 lines", &["8.8.8.8", "192.0.2.1,10.0.0.2"], "192.0.2.1"),
            ("H21 all ours", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("H21 port", &["192.0.2.1:4711"], "192.0.2.1"),
            ("H21 IPv6", &["2001:db8::1"], "2001:db8::1"),
            ("H21 IPv6 in brackets", &["[2001:db8::1]"], "2001:db8::1"),
            ("H21 IPv6 and port", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("H21 IPv4 as IPv6", &["192.0.2.1, ::ffff:10.0.0.2"], "192.0.2.1"),
            ("H21 zone", &["fe80::1%eth0\\r\\nx"], "fe80::1"),
            ("H21 zone of IPv4", &["192.0.2.1%eth0"], "10.0.0.1:5"),
            ("H21 garbage", &["192.0.2.1, unknown"], "10.0.0.1:5"),
            ("H21 garbage further on", &["<script>, 10.0.0.2"], "10.0.0.2"),
            ("H21 empty", &[""], "10.0.0.1:5"),
            ("H21 not text", &["\u{202e}"], "10.0.0.1:5"),
            ("H21 500 hops", &[&long], "10.0.0.9"),
        ];
        for (id, lines, wanted) in rows {
            let lines: Vec<_> = lines.iter().map(|line| (FOR, *line)).collect();
            let headers = headers(&lines);
            assert_eq!(remote(&config, &headers, &peer("10.0.0.1:5")), *wanted, "{id}");
            let stranger = remote(&config, &headers, &peer("192.0.2.9:6"));
            assert_eq!(stranger, "192.0.2.9:6", "{id} from anybody");
        }
    }

    #[test]
    fn our_origin_is_what_the_nearest_trusted_word_says() {
        let own = |flags: &[&str], lines: &[(&'static str, &str)], from: &str| {
            let mut all = vec![("host", "relay:8080")];
            all.extend(lines);
            let origin = own_origin(&config(flags), &headers(&all), &peer(from));
            origin.map_or_else(|| "nothing".to_owned(), |origin| origin.to_string())
        };
        let proxy: &[&str] = &["--trusted-proxy", "10.0.0.1"];
        let rows: &[(&str, Lines<'_>, &str)] = &[
            ("none", &[], "http://relay:8080"),
            ("both", &[(PROTO, "https"), (HOST, "term.example")], "https://term.example:443"),
            ("port", &[(PROTO, "https"), (HOST, "Term.example:8443")], "https://term.example:8443"),
            ("host alone", &[(HOST, "term.example")], "http://term.example:80"),
            ("scheme alone", &[(PROTO, "https")], "https://relay:8080"),
            ("WebSocket", &[(PROTO, "wss"), (HOST, "t")], "https://t:443"),
            ("list", &[(PROTO, "http, https"), (HOST, "evil, good")], "https://good:443"),
            ("lines", &[(HOST, "evil"), (HOST, "good")], "http://good:80"),
            ("strange scheme", &[(PROTO, "file")], "nothing"),
            ("upper case", &[(PROTO, "HTTPS")], "nothing"),
            ("empty scheme", &[(PROTO, "")], "nothing"),
            ("empty host", &[(HOST, "")], "nothing"),
            ("ends with a comma", &[(HOST, "good,")], "nothing"),
            ("path", &[(HOST, "good/x")], "nothing"),
            ("user", &[(HOST, "a@good")], "nothing"),
            ("not text", &[(HOST, "g\u{f6}d")], "nothing"),
        ];
        for (id, lines, wanted) in rows {
            assert_eq!(own(proxy, lines, "10.0.0.1:5"), *wanted, "O8 {id}");
            let stranger = own(proxy, lines, "10.0.0.2:5");
            assert_eq!(stranger, "http://relay:8080", "O8 {id} from anybody");
            let flags = [proxy, &["--public-url", "https://said.example/x"]].concat();
            assert_eq!(own(&flags, lines, "10.0.0.1:5"), "https://said.example:443", "O8 {id}");
        }
    }
}
