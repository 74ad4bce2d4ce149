//! What people ask about a certificate: whose, by whom, for which names, until when.
//!
//! It reads the few fields of X.509 (RFC 5280 section 4.1) that are shown, of a certificate that
//! somebody else verifies. Whatever the bytes are, it ends; what it does not know it leaves out.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

/// The names that are shown of one certificate: some have hundreds.
const NAMES_MAX: usize = 12;

/// The authorities that are named. More have no kubeconfig of a cluster's, but systems.
const AUTHORITIES_MAX: usize = 4;

/// The facts of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Whose it is, such as `CN=kube-apiserver`.
    pub(crate) subject: String,
    /// Who signed it.
    pub(crate) issuer: String,
    /// The hosts that it is for; at most [`NAMES_MAX`], and a last one that says how many more.
    pub(crate) names: Vec<String>,
    pub(crate) not_before: Option<SystemTime>,
    pub(crate) not_after: Option<SystemTime>,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const OCTETS: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// 2.5.4.3, 2.5.4.10 and 2.5.29.17.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// DER, value after value.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value: its tag and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            // More than four bytes of length no certificate has.
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let (digits, behind) = rest.split_at_checked(count)?;
            rest = behind;
            digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit))
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, which must have this tag.
    fn of(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }

    /// The contents of all values with this tag.
    fn all(mut self, wanted: u8) -> impl Iterator<Item = &'a [u8]> {
        std::iter::from_fn(move || self.next())
            .filter(move |(tag, _)| *tag == wanted)
            .map(|(_, content)| content)
    }
}

impl Certificate {
    /// Reads a certificate in DER.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let mut outer = Der(Der(der).of(SEQUENCE)?);
        let mut fields = Der(outer.of(SEQUENCE)?);
        if fields.0.first() == Some(&VERSION) {
            fields.next()?;
        }
        let (_serial, _algorithm) = (fields.next()?, fields.next()?);
        let issuer = name(fields.of(SEQUENCE)?);
        let mut validity = Der(fields.of(SEQUENCE)?);
        let (not_before, not_after) = (time(validity.next()?), time(validity.next()?));
        let subject = name(fields.of(SEQUENCE)?);
        let names = fields.all(EXTENSIONS).next().map(alternative_names).unwrap_or_default();
        Some(Self { subject, issuer, names, not_before, not_after })
    }

    /// In one sentence, without when it expires.
    pub(crate) fn sentence(&self) -> String {
        let names = match self.names.as_slice() {
            [] => String::new(),
            names => format!(" for {}", names.join(", ")),
        };
        format!("{}, issued by {}{names}", self.subject, self.issuer)
    }

    /// Until when, seen from now.
    pub(crate) fn until(&self, now: SystemTime) -> String {
        let Some(at) = self.not_after else { return "until an unknown time".to_owned() };
        let day = humantime::format_rfc3339_seconds(at).to_string();
        match at.duration_since(now) {
            Ok(left) => format!("valid until {day} ({} left)", span(left)),
            Err(past) => format!("expired {day} ({} ago)", span(past.duration())),
        }
    }
}

/// The content of a name that stands by itself, such as an authority's subject.
pub(crate) fn name(content: &[u8]) -> String {
    let mut text = String::new();
    for set in Der(content).all(SET) {
        for pair in Der(set).all(SEQUENCE) {
            let mut pair = Der(pair);
            let (Some((_, kind)), Some((_, value))) = (pair.next(), pair.next()) else { continue };
            let kind = match kind {
                COMMON_NAME => "CN",
                ORGANIZATION => "O",
                _ => continue,
            };
            let gap = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{gap}{kind}={}", String::from_utf8_lossy(value));
        }
    }
    if text.is_empty() { "somebody without a name".to_owned() } else { text }
}

/// The names of the authorities that are trusted.
pub(crate) fn authorities(roots: &rustls::RootCertStore) -> String {
    let names: Vec<String> = roots.roots.iter().map(|root| name(&root.subject)).collect();
    match names.as_slice() {
        [] => "no authority at all".to_owned(),
        names if names.len() <= AUTHORITIES_MAX => names.join("; "),
        names => format!("{} authorities, as of a system", names.len()),
    }
}

/// Eight years, five days, seven hours or nine minutes: exact enough for something that is over.
pub(crate) fn span(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    match minutes {
        0..2 => format!("{} s", time.as_secs()),
        2..120 => format!("{minutes} minutes"),
        120..2880 => format!("{} hours", minutes / 60),
        2880..2_628_000 => format!("{} days", minutes / 1440),
        _ => format!("{} years", minutes / 525_600),
    }
}

/// `YYMMDDHHMMSSZ` up to 2049, `YYYYMMDDHHMMSSZ` from then on (RFC 5280 section 4.1.2.5).
fn time((tag, text): (u8, &[u8])) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        UTC_TIME => {
            let century = if text.get(..2)? < "50" { "20" } else { "19" };
            format!("{century}{text}")
        }
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let part = |range: std::ops::Range<usize>| text.get(range);
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, second) = (part(8..10)?, part(10..12)?, part(12..14)?);
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    humantime::parse_rfc3339(&text).ok()
}

fn alternative_names(extensions: &[u8]) -> Vec<String> {
    let list = Der(extensions).of(SEQUENCE).unwrap_or_default();
    let value = Der(list).all(SEQUENCE).find_map(|extension| {
        let mut extension = Der(extension);
        let (_, kind) = extension.next()?;
        // Whether it is critical may stand in between.
        (kind == ALTERNATIVE_NAMES).then(|| extension.all(OCTETS).next()).flatten()
    });
    let mut values = Der(Der(value.unwrap_or_default()).of(SEQUENCE).unwrap_or_default());
    let mut names = Vec::new();
    let mut more = 0_usize;
    while let Some((tag, value)) = values.next() {
        let name = match tag {
            DNS_NAME => String::from_utf8_lossy(value).into_owned(),
            IP_ADDRESS => match (<[u8; 4]>::try_from(value), <[u8; 16]>::try_from(value)) {
                (Ok(four), _) => Ipv4Addr::from(four).to_string(),
                (_, Ok(six)) => Ipv6Addr::from(six).to_string(),
                _ => continue,
            },
            _ => continue,
        };
        if names.len() < NAMES_MAX {
            names.push(name);
        } else {
            more += 1;
        }
    }
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn made() -> Vec<u8> {
        let names = ["kubernetes", "kubernetes.default.svc", "10.96.0.1", "::1"];
        let mut params = CertificateParams::new(names.map(str::to_owned).to_vec()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.distinguished_name.push(DnType::OrganizationName, "team\u{e4}");
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2055, 1, 2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_facts_of_a_certificate_are_read() {
        let read = Certificate::read(&made()).unwrap();
        assert!(read.subject.contains("CN=kube-apiserver"), "{read:?}");
        assert!(read.subject.contains("O=team\u{e4}"), "{read:?}");
        assert_eq!(read.issuer, read.subject);
        assert_eq!(read.names, ["kubernetes", "kubernetes.default.svc", "10.96.0.1", "::1"]);
        let at = |time: Option<SystemTime>| humantime::format_rfc3339_seconds(time.unwrap());
        assert_eq!(at(read.not_before).to_string(), "2020-02-29T00:00:00Z");
        assert_eq!(at(read.not_after).to_string(), "2055-01-02T00:00:00Z");
        let day = Duration::from_hours(24);
        let after = read.not_after.unwrap();
        assert_eq!(read.until(after - 3 * day), "valid until 2055-01-02T00:00:00Z (3 days left)");
        assert_eq!(read.until(after + day / 24 * 5), "expired 2055-01-02T00:00:00Z (5 hours ago)");
    }

    #[test]
    fn broken_certificates_end_the_reading() {
        let whole = made();
        for length in 0..whole.len() {
            let _ = Certificate::read(&whole[..length]);
        }
        for at in 0..whole.len() {
            for value in [0x00, 0x7f, 0x80, 0x84, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                let _ = Certificate::read(&broken);
            }
        }
        assert_eq!(Certificate::read(b"not a certificate"), None);
    }
}
