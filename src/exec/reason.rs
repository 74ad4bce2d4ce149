//! Why there is no connection, in words for an operator. No word of it is a secret's.

use std::error::Error;
use std::fmt::Display;
use std::io;

use rustls::{AlertDescription, CertificateError};

use crate::proto::ending::{Ending, Kind};

/// What the peer is called that is not a proxy.
pub(super) const CLUSTER: &str = "the cluster";

/// How many of a certificate's names are told to somebody who expected another one.
const NAMES_MAX: usize = 5;

/// A peer that does not do something.
pub(super) fn late(peer: &dyn Display, what: &str) -> Ending {
    Ending::new(Kind::ClusterTimeout, format!("{peer} did not {what}"))
}

/// A peer that there is no connection to.
pub(super) fn unreachable(peer: &dyn Display, why: &dyn Display) -> Ending {
    Ending::new(Kind::ClusterUnreachable, format!("cannot reach {peer}: {why}"))
}

/// Why a name has no address.
pub(super) fn name_reason(host: &str, error: &io::Error) -> String {
    // The system has no numbers for these that the standard library would pass on.
    let text = error.to_string();
    let words = text.rsplit(": ").next().unwrap_or_default();
    if words.starts_with("Temporary failure") || words.starts_with("Try again") {
        format!("{host} cannot be looked up: {words}")
    } else {
        format!("no such name: {host}")
    }
}

/// Why a connection is of no use: the innermost cause, which is the one that says something.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    if let Some(tls) = tls_error(error) {
        return format!("tls: {}", tls_words(tls));
    }
    let mut cause = error;
    loop {
        // rustls has an address of its documentation to say about it.
        let io = cause.downcast_ref::<io::Error>();
        if io.is_some_and(|it| it.kind() == io::ErrorKind::UnexpectedEof) {
            return "the connection ended too early".to_owned();
        }
        match cause.source() {
            None => return cause.to_string(),
            Some(inner) => cause = inner,
        }
    }
}

/// Why a handshake of TLS failed.
pub(super) fn tls_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "tls: the connection ended in the handshake".to_owned(),
        _ if tls_error(error).is_none() => format!("tls: {error}"),
        _ => reason(error),
    }
}

pub(super) fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // What an I/O error holds is not its source, but has the same source.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

fn tls_words(error: &rustls::Error) -> String {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    let words = match error {
        InvalidCertificate(why) => return certificate_words(why),
        InvalidMessage(_) => "what listens there does not speak TLS",
        AlertReceived(AlertDescription::CertificateRequired) => "a client certificate is required",
        AlertReceived(
            alert @ (AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate),
        ) => return format!("our certificate is refused, or one is required ({alert:?})"),
        AlertReceived(AlertDescription::NoApplicationProtocol) => "HTTP/1.1 is not spoken there",
        _ => return error.to_string(),
    };
    words.to_owned()
}

fn certificate_words(why: &CertificateError) -> String {
    use CertificateError as Why;
    match why {
        Why::Expired | Why::ExpiredContext { .. } => "the certificate has expired".to_owned(),
        Why::NotValidYet | Why::NotValidYetContext { .. } => {
            "the certificate is not valid yet".to_owned()
        }
        Why::UnknownIssuer => "the certificate is by an unknown authority".to_owned(),
        // A cluster that was made anew has the same names and other keys.
        Why::BadSignature => "the certificate is by an unknown authority, which has the name of \
                              one that is trusted"
            .to_owned(),
        Why::NotValidForName => "the certificate is not valid for this name".to_owned(),
        Why::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            let others = presented.len().saturating_sub(NAMES_MAX);
            let names: Vec<&str> = presented.iter().take(NAMES_MAX).map(|it| plain(it)).collect();
            let names = names.join(", ");
            let more = if others > 0 { format!(" and {others} more") } else { String::new() };
            match presented.len() {
                0 => format!("the certificate is not valid for {expected}, nor for any name"),
                _ => format!("the certificate is not valid for {expected}, only for {names}{more}"),
            }
        }
        _ => format!("the certificate is not valid: {why}"),
    }
}

/// A name of a certificate, which comes as `DnsName("a.example")` or `IpAddress(10.0.0.1)`.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, rest)| rest.trim_end_matches(')'));
    inner.trim_matches('"')
}
