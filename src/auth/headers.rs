//! `--auth headers`: a gateway that has logged somebody in says who it is, and the relay stands in
//! for that user.
//!
//! It fails closed: without a user there is no session, and never one with the relay's own rights.
//! What it must never know: what is asked for, sockets.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Asked, Granted, User, forwarded, passthrough};
use crate::credential::{Identity, Impersonated};
use crate::proto::ending::{Ending, Kind};

/// The most groups of a user. Each becomes a header, and login servers put two hundred into a
/// token at most before they leave the list out.
const GROUPS_MAX: usize = 500;

/// Whoever the gateway names.
pub(super) fn granted(asked: &Asked<'_>) -> Result<Granted, Ending> {
    let Asked { config, headers, remote, .. } = asked;
    passthrough::not_alone(headers)?;
    if !forwarded::is_trusted(config, remote) {
        let message = "only a --trusted-proxy can say who somebody is";
        return Err(Ending::new(Kind::Unauthorized, message));
    }
    // The gateway puts its headers into whatever a browser was made to send.
    asked.same_origin()?;
    let missing = || Ending::new(Kind::Unauthorized, "the gateway named no user");
    let user = user(headers, config.user_header.as_ref().ok_or_else(missing)?)?;
    let groups = match &config.groups_header {
        Some(name) => groups(headers, name)?,
        None => Vec::new(),
    };
    let impersonated = Impersonated::new(user, groups)?;
    Ok(Granted {
        user: Some(User::Name(impersonated.user().into())),
        identity: Identity::Impersonated(impersonated.into()),
        ..Granted::default()
    })
}

/// The user: of two, one may be the caller's own.
fn user<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Ending> {
    let refused =
        |what: &str| Ending::new(Kind::Unauthorized, format!("the gateway sent {what} {name}"));
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(refused("no")),
        (Some(_), Some(_)) => Err(refused("more than one")),
        (Some(value), None) if value.is_empty() => Err(refused("an empty")),
        (Some(value), None) => text(value, name),
    }
}

/// The groups, with commas between them, over all lines. There are none of no name.
fn groups<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Vec<&'a str>, Ending> {
    let mut groups = Vec::new();
    for line in headers.get_all(name) {
        let names = text(line, name)?.split(',').map(str::trim);
        groups.extend(names.filter(|name| !name.is_empty()));
    }
    if groups.len() > GROUPS_MAX {
        let message = format!("more than {GROUPS_MAX} groups in {name}");
        return Err(Ending::new(Kind::BadRequest, message));
    }
    Ok(groups)
}

fn text<'a>(value: &'a HeaderValue, name: &HeaderName) -> Result<&'a str, Ending> {
    // Most of what is left is refused as odd; here it is only made sure that it is text.
    std::str::from_utf8(value.as_bytes())
        .map_err(|_| Ending::new(Kind::BadRequest, format!("{name} is not text")))
}
