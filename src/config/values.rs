//! The value of every flag, and the small parsers from text to what it means.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderName;
use ipnet::IpNet;

use super::flags;
use super::{Auth, Hangup, Listen, LogFormat, Proxy};
use crate::origin::Origin;

/// The value of every flag, whatever it comes from. Lists are joined by commas.
pub(super) struct Values(BTreeMap<&'static str, String>);

impl Values {
    pub(super) fn new(
        mut given: BTreeMap<&str, Vec<String>>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for flag in flags::all() {
            let value = match given.remove(flag.name) {
                Some(all) if all.len() > 1 && !flag.is_list() => {
                    return Err(format!("--{} is given twice; once is enough", flag.name));
                }
                Some(all) => all.join(","),
                None => {
                    let variable = environment(&flags::variable(flag.name));
                    variable.unwrap_or_else(|| flag.default.into())
                }
            };
            values.insert(flag.name, value);
        }
        Ok(Self(values))
    }

    /// The settings in the form in which they can be typed. No flag holds a secret.
    pub(super) fn print(&self) -> String {
        flags::all().fold(String::new(), |mut text, flag| {
            let value = self.text(flag.name);
            // Some put a key into the address of an authorizer.
            let shown = match value.split_once('?') {
                Some((address, _)) if flag.name == "authorize-url" => format!("{address}?…"),
                _ => value.to_owned(),
            };
            let _ = writeln!(text, "--{}={shown}", flag.name);
            text
        })
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn optional(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let items = self.text(name).split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    }

    pub(super) fn read<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        let text = self.text(name);
        read(text).map_err(|error| format!("--{name} {}: {error}", shown(text)))
    }

    /// A value that can be `off`.
    pub(super) fn read_or_off<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let read = |text: &str| match text {
            "off" => Ok(None),
            text => read(text).map(Some).map_err(|error| format!("{error}, nor off")),
        };
        self.read(name, read)
    }

    pub(super) fn read_list<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let all = self.list(name);
        let read = |item: &String| {
            read(item).map_err(|error| {
                // A comma may be part of a password.
                let is_cut = !item.contains('@') && self.text(name).contains('@');
                let shown = if is_cut { "…" } else { shown(item) };
                format!("--{name} {}", error.replace(item, shown))
            })
        };
        all.iter().map(read).collect()
    }

    pub(super) fn count(
        &self,
        name: &str,
        allowed: RangeInclusive<usize>,
    ) -> Result<usize, String> {
        self.read(name, |text| {
            let number = text.parse().ok().filter(|number| allowed.contains(number));
            let (least, most) = (allowed.start(), allowed.end());
            number.ok_or_else(|| format!("not a number from {least} to {most}"))
        })
    }

    /// A size for which there are narrower bounds than for any; `words` says them.
    pub(super) fn size(
        &self,
        name: &str,
        allowed: RangeInclusive<usize>,
        words: &str,
    ) -> Result<usize, String> {
        self.read(name, |text| bounded(size(text)?, &allowed, words))
    }

    /// A time for which there are narrower bounds than for any, in seconds; `words` says them.
    pub(super) fn time(
        &self,
        name: &str,
        allowed: RangeInclusive<u64>,
        words: &str,
    ) -> Result<Duration, String> {
        let (least, most) = (*allowed.start(), *allowed.end());
        let allowed = Duration::from_secs(least)..=Duration::from_secs(most);
        self.read(name, |text| {
            // Only where there may be no wait at all is zero a time.
            let given = if text == "0s" { Duration::ZERO } else { duration(text)? };
            bounded(given, &allowed, words)
        })
    }
}

/// What may be repeated of a value: what stands before the host of an address may be a password.
fn shown(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, host)| host)
}

/// The value, if it is within bounds; `words` says them.
pub(super) fn bounded<T: PartialOrd>(
    value: T,
    allowed: &RangeInclusive<T>,
    words: &str,
) -> Result<T, String> {
    if allowed.contains(&value) { Ok(value) } else { Err(format!("must be {words}")) }
}

pub(super) fn listen(text: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Listen::Unix(path.into()));
    }
    let parsed = text.replace("localhost:", "127.0.0.1:").parse();
    parsed.map(Listen::Tcp).map_err(|_| "not an address such as 127.0.0.1:8080".to_owned())
}

/// An origin that pages may have.
pub(super) fn origin(text: &str) -> Result<Origin, String> {
    Origin::parse(text).map_err(|error| format!("{text}: {error}"))
}

/// An origin, if any; a path behind it is what `--base-path` says.
pub(super) fn public_url(text: &str) -> Result<Option<Origin>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let end = text.match_indices('/').nth(2).map_or(text.len(), |(at, _)| at);
    Origin::parse(&text[..end]).map(Some)
}

pub(super) fn base_path(text: &str) -> Result<String, String> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "-._~/".contains(c));
    if !text.starts_with('/') || text.contains(odd) || text.contains("//") {
        return Err("not a path such as /terminal".to_owned());
    }
    Ok(format!("{}/", text.trim_end_matches('/')))
}

/// One mode, and whether tickets are given out for it.
pub(super) fn auth(text: &str) -> Result<(Auth, bool), String> {
    let is_ticket = |word: &&str| *word == "ticket";
    let words = || text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let modes: Vec<&str> = words().filter(|word| !is_ticket(word)).collect();
    let mode = match modes.as_slice() {
        ["passthrough"] => Auth::Passthrough,
        ["own"] => Auth::Own,
        ["headers"] => Auth::Headers,
        ["hook"] => Auth::Hook,
        [] if text.contains("ticket") => {
            return Err("ticket needs a mode beside it, such as passthrough,ticket".to_owned());
        }
        _ => {
            return Err("must be passthrough, own, headers or hook; or one with ,ticket".to_owned());
        }
    };
    Ok((mode, words().any(|word| is_ticket(&word))))
}

impl fmt::Display for Auth {
    /// As its flag takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passthrough => "passthrough",
            Self::Own => "own",
            Self::Headers => "headers",
            Self::Hook => "hook",
        })
    }
}

/// An address, a network as `10.0.0.0/8`, or `unix`.
pub(super) fn proxy(text: &str) -> Result<Proxy, String> {
    if text == "unix" {
        return Ok(Proxy::Unix);
    }
    let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
    match network {
        Ok(network) => Ok(Proxy::Net(network)),
        Err(_) => Err(format!("{text}: not a network such as 10.0.0.0/8, an address, or unix")),
    }
}

/// The name of a header, a cookie or a parameter (a token of RFC 9110 section 5.6.2).
pub(super) fn name(text: &str) -> Result<Option<HeaderName>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let name = HeaderName::try_from(text).map(Some);
    name.map_err(|_| "not a name such as X-Forwarded-User".to_owned())
}

/// The two headers of a login proxy, for the user and the groups.
pub(super) fn preset(text: &str) -> Result<Option<(HeaderName, HeaderName)>, String> {
    let pair =
        |user, groups| Ok(Some((HeaderName::from_static(user), HeaderName::from_static(groups))));
    match text {
        "" => Ok(None),
        "oauth2-proxy" => pair("x-forwarded-user", "x-forwarded-groups"),
        "auth-request" => pair("x-auth-request-user", "x-auth-request-groups"),
        "remote-user" => pair("remote-user", "remote-groups"),
        _ => Err("must be oauth2-proxy, auth-request or remote-user".to_owned()),
    }
}

/// Where somebody is asked.
pub(super) fn url(text: &str) -> Result<Option<Uri>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let url = text.parse().ok().filter(|url: &Uri| {
        let has_user = url.authority().is_some_and(|it| it.as_str().contains('@'));
        matches!(url.scheme_str(), Some("http" | "https")) && !has_user
    });
    url.map(Some).ok_or_else(|| "not an address such as http://127.0.0.1:9000/authorize".to_owned())
}

pub(super) fn hangup(text: &str) -> Result<Hangup, String> {
    match text {
        "signal" => Ok(Hangup::Signal),
        "keys" => Ok(Hangup::Keys),
        "none" => Ok(Hangup::None),
        _ => Err("must be signal, keys or none".to_owned()),
    }
}

impl fmt::Display for Hangup {
    /// As its flag takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signal => "signal",
            Self::Keys => "keys",
            Self::None => "none",
        })
    }
}

/// A shell's name goes into a script, so it consists of harmless characters.
pub(super) fn shell(text: &str) -> Result<String, String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
    if text.chars().all(harmless) && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err(format!("{text}: not a shell's name such as bash or /busybox/sh"))
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

pub(super) fn log_level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| "must be error, warn, info, debug or trace".to_owned())
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".to_owned()),
    }
}

/// `20s`, `5m`, `12h`; not zero.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = [("s", 1), ("m", 60), ("h", 3600)].into_iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(factor).filter(|seconds| (1..=365 * 86_400).contains(seconds))
    });
    seconds.map(Duration::from_secs).ok_or_else(|| "not a time such as 20s, 5m or 12h".to_owned())
}

/// `512B`, `64KiB`, `1MiB`; at least 1 KiB and at most 1 GiB.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
    let bytes = units.into_iter().find_map(|(unit, factor)| {
        let number: usize = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(factor).filter(|bytes| (1 << 10..=1 << 30).contains(bytes))
    });
    bytes.ok_or_else(|| "not a size such as 64KiB or 1MiB".to_owned())
}
