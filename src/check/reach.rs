//! From a name to a server that has proved who it is: DNS or a proxy, TCP, TLS, ALPN.

use std::time::{Duration, SystemTime};

use rustls::ProtocolVersion;

use super::certificate::Certificate;
use super::reasons;
use super::{Printed, Subject};
use crate::exec::{Fault, Handshake, Tried};

/// Goes as far as it can. An error is the step that the others need.
pub(super) async fn go(report: &mut Printed, subject: &Subject<'_>) -> Result<(), &'static str> {
    let connector = &subject.connector;
    let proxy = connector.proxy();
    let (host, port) = match &proxy {
        Some((host, port)) => (host.as_str(), *port),
        None => connector.host_and_port(),
    };
    let setting = proxy.as_ref().map(|_| setting(subject));
    let what = if proxy.is_some() { "the proxy" } else { "the server" };
    let addresses = match connector.look_up(host, port).await {
        Ok(addresses) if !addresses.is_empty() => addresses,
        found => {
            let why = found.err();
            report.failed("DNS", &reasons::no_name(setting, host, why.as_ref()));
            report.skipped(&["TCP", "TLS", "ALPN"], "DNS");
            return Err("DNS");
        }
    };
    let list: Vec<String> = addresses.iter().map(|it| it.ip().to_string()).collect();
    let list = list.join(", ");
    if host.parse::<std::net::IpAddr>().is_ok() {
        report.ok("DNS", &format!("{what} is {host}, so there is no name to look up"));
    } else {
        report.ok("DNS", &format!("{what}, {host}, is {list}"));
    }
    let tried = connector.dial_all(&addresses).await;
    tcp(report, what, &tried, setting)?;
    tls(report, subject, setting).await
}

/// Where the proxy that is used is set.
fn setting(subject: &Subject<'_>) -> &'static str {
    match (subject.about.has_proxy_of_environment, subject.connector.is_tls()) {
        (false, _) => reasons::PROXY_URL,
        (true, true) => "HTTPS_PROXY",
        (true, false) => "HTTP_PROXY",
    }
}

fn tcp(
    report: &mut Printed,
    what: &str,
    tried: &[Tried],
    proxy: Option<&str>,
) -> Result<(), &'static str> {
    let mut failures = Vec::new();
    let mut first = None;
    for Tried { address, result } in tried {
        match result {
            Ok(time) if first.is_none() => first = Some((address, *time)),
            Ok(_) => {}
            Err(fault) => failures.push((*address, fault)),
        }
    }
    let Some((address, time)) = first else {
        report.failed("TCP", &reasons::no_connection(what, &failures, proxy));
        report.skipped(&["TLS", "ALPN"], "TCP");
        return Err("TCP");
    };
    let way = if proxy.is_some() { "the proxy" } else { "the server itself, no proxy" };
    report.ok("TCP", &format!("{address} in {} ({way})", milliseconds(time)));
    for (address, fault) in failures {
        report.note(&format!("but {address}: {fault}; sessions lose time with it"));
    }
    Ok(())
}

async fn tls(
    report: &mut Printed,
    subject: &Subject<'_>,
    proxy: Option<&str>,
) -> Result<(), &'static str> {
    let connector = &subject.connector;
    let shaken = connector.handshake(&subject.identity).await;
    if let Err(Fault::Way(why)) = &shaken {
        // It was there a moment ago if there is no proxy.
        let step = if proxy.is_some() { "proxy" } else { "TCP" };
        report.failed(step, &reasons::no_way(why, proxy.unwrap_or(reasons::PROXY_URL)));
        report.skipped(&["TLS", "ALPN"], step);
        return Err(step);
    }
    if let Some((host, port)) = connector.proxy() {
        let (to, at) = connector.host_and_port();
        report.ok("proxy", &format!("{host}:{port} connects to {to}:{at}"));
    }
    if !connector.is_tls() {
        report.untried("TLS", "the server's address is http, which is allowed on loopback only");
        report.untried("ALPN", "is a part of TLS");
        return Ok(());
    }
    // Even where it is not to be trusted it is good to know who it is.
    let looked = match &shaken {
        Err(Fault::Late(_)) => None,
        _ => connector.look().await.ok(),
    };
    let shown = looked.as_ref().and_then(|it| it.chain.first());
    let shown = shown.and_then(|certificate| Certificate::read(certificate));
    let (name, now) = (connector.verified_name(), SystemTime::now());
    let result = match shaken {
        Ok(handshake) => {
            trusted(report, subject, &handshake, shown.as_ref(), now);
            Ok(())
        }
        Err(fault) => {
            let authorities = connector.authorities();
            let trouble = reasons::tls(&fault, &name, &authorities, shown.as_ref(), now);
            report.failed("TLS", &trouble);
            Err("TLS")
        }
    };
    match looked {
        Some(handshake) => report.ok("ALPN", &alpn(handshake.alpn.as_deref())),
        None => report.skipped(&["ALPN"], "TLS"),
    }
    result
}

fn trusted(
    report: &mut Printed,
    subject: &Subject<'_>,
    handshake: &Handshake,
    shown: Option<&Certificate>,
    now: SystemTime,
) {
    let connector = &subject.connector;
    let version = match handshake.version {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS",
    };
    let time = milliseconds(handshake.time);
    let name = connector.verified_name();
    let authorities = connector.authorities();
    report.ok("TLS", &format!("{version} in {time}; {name} verified by {authorities}"));
    if let Some(certificate) = shown {
        report.note(&format!("certificate of {}", certificate.sentence()));
        report.note(&certificate.until(now));
    }
}

fn alpn(chosen: Option<&[u8]>) -> String {
    match chosen {
        Some(b"h2") => "offered both, the server takes h2; the relay does not offer it, because a \
                        WebSocket needs HTTP/1.1"
            .to_owned(),
        Some(b"http/1.1") => "offered both, the server takes http/1.1".to_owned(),
        Some(_) => "the server takes a protocol that nobody offered".to_owned(),
        None => "the server chooses no protocol, so it is HTTP/1.1".to_owned(),
    }
}

/// Milliseconds, or seconds where those are many.
pub(super) fn milliseconds(time: Duration) -> String {
    match time.as_millis() {
        0 => "under 1 ms".to_owned(),
        short @ 1..10_000 => format!("{short} ms"),
        _ => format!("{} s", time.as_secs()),
    }
}
