//! `--auth passthrough`: the caller's own token, from wherever a caller may bring one.
//!
//! What it must never know: what is asked for, sockets.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};

use super::{Asked, Granted, User};
use crate::accept::{BEARER_SUBPROTOCOL, offered};
use crate::config::Config;
use crate::credential::{Identity, Token};
use crate::proto::ending::{Ending, Kind};
use crate::route::Query;

/// What people call a token in an address.
const USUAL_PARAMETERS: [&str; 2] = ["token", "access_token"];

/// The rights of the caller's token.
pub(super) fn granted(asked: &Asked<'_>) -> Result<Granted, Ending> {
    let token = token(asked)?;
    Ok(Granted {
        user: Some(User::Token(token.clone())),
        expires: token.expires(),
        identity: Identity::Token(token),
        ..Granted::default()
    })
}

/// The caller's token. It may come in several ways at once, but then it is the same: somebody on
/// the way may have looked at the other one.
fn token(asked: &Asked<'_>) -> Result<Token, Ending> {
    let headers = asked.headers;
    not_alone(headers)?;
    // No page can have a token that is not its own, so any origin may bring one in these two ways.
    // In the others a browser, or a gateway, adds what it has to any page's request.
    let brought = [subprotocol(headers)?, parameter(asked)?];
    if brought.iter().any(Option::is_some) {
        asked.any_origin()?;
    } else {
        asked.same_origin()?;
    }
    let added = [authorization(headers)?, cookie(asked)?];
    let mut tokens = brought.into_iter().chain(added).flatten();
    let token = tokens.next().ok_or_else(|| unauthorized(no_token(asked)))?;
    if tokens.any(|other| other != token) {
        return Err(unauthorized("the request has two different tokens; bring one"));
    }
    Ok(token)
}

fn unauthorized(message: impl Into<std::borrow::Cow<'static, str>>) -> Ending {
    Ending::new(Kind::Unauthorized, message)
}

/// A bearer subprotocol is never chosen, so a browser that offers nothing else would fail the
/// handshake after a session was opened for it. Kubernetes refuses it, too.
pub(super) fn not_alone(headers: &HeaderMap) -> Result<(), Ending> {
    let mut names = offered(headers).peekable();
    if names.peek().is_none() || names.any(|name| !name.starts_with(BEARER_SUBPROTOCOL)) {
        return Ok(());
    }
    Err(unauthorized("a bearer subprotocol needs another one beside it, such as podwire.v1"))
}

/// The token among the offered subprotocols, by Kubernetes' rules: exactly one, base64url without
/// padding.
fn subprotocol(headers: &HeaderMap) -> Result<Option<Token>, Ending> {
    let mut tokens = offered(headers).filter_map(|name| name.strip_prefix(BEARER_SUBPROTOCOL));
    let Some(encoded) = tokens.next() else { return Ok(None) };
    if tokens.next().is_some() {
        return Err(unauthorized("two bearer subprotocols are offered"));
    }
    let decoded = URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|it| String::from_utf8(it).ok());
    let token = decoded.and_then(|text| Token::new(&text));
    token.map(Some).ok_or_else(|| unauthorized("the bearer subprotocol is not base64url"))
}

/// The token in the address, where that was asked for.
fn parameter(asked: &Asked<'_>) -> Result<Option<Token>, Ending> {
    let Some(name) = &asked.config.token_query else { return Ok(None) };
    // What cannot be read at all is refused for that by whoever looks at the rest of it.
    let Ok(query) = Query::parse(asked.uri.query().unwrap_or_default()) else { return Ok(None) };
    match query.one(&[name]) {
        Err(_) => Err(unauthorized(format!("two parameters {name}"))),
        Ok(None) => Ok(None),
        Ok(Some(text)) => match Token::new(text) {
            None => Err(unauthorized(format!("the parameter {name} holds no token"))),
            token => Ok(token),
        },
    }
}

fn authorization(headers: &HeaderMap) -> Result<Option<Token>, Ending> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let header = values.next().and_then(|value| value.to_str().ok());
    if values.next().is_some() {
        // Somebody on the way may have looked at the other.
        return Err(unauthorized("two Authorization headers"));
    }
    Ok(header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Token::new(token)).flatten()
    }))
}

/// The token in the cookie that may hold one (RFC 6265 section 4.2.1). Two of the name may be of
/// two paths or hosts, one of them somebody else's.
fn cookie(asked: &Asked<'_>) -> Result<Option<Token>, Ending> {
    let Some(name) = &asked.config.token_cookie else { return Ok(None) };
    // Other cookies may have any bytes in them.
    let lines = asked.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    let mut values =
        pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(unauthorized(format!("two cookies {name}")));
    }
    let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match quoted.unwrap_or(value) {
        // Some set it so to log out.
        b"" => Ok(None),
        value => match std::str::from_utf8(value).ok().and_then(Token::new) {
            None => Err(unauthorized(format!("the cookie {name} holds no token"))),
            token => Ok(token),
        },
    }
}

/// The four ways to bring a token.
fn no_token(asked: &Asked<'_>) -> String {
    let Config { token_cookie, token_query, .. } = asked.config;
    let way = |name: &Option<String>, what: &str, flag: &str| match name {
        Some(name) => format!("in the {what} {name}"),
        None => format!("in a {what} (not read without {flag})"),
    };
    let cookie = way(token_cookie, "cookie", "--token-cookie");
    let parameter = way(token_query, "parameter", "--token-query");
    let ignored = if is_in_address(asked) { "; the one in the address was not read" } else { "" };
    format!(
        "a bearer token is needed: in the Authorization header, as the subprotocol \
         {BEARER_SUBPROTOCOL}TOKEN, {cookie} or {parameter}{ignored}"
    )
}

/// Whether a token seems to stand in the address, where nobody reads it.
pub(super) fn is_in_address(asked: &Asked<'_>) -> bool {
    let Ok(query) = Query::parse(asked.uri.query().unwrap_or_default()) else { return false };
    let is_read = |name: &str| asked.config.token_query.as_deref() == Some(name);
    let mut names = USUAL_PARAMETERS.into_iter().filter(|name| !is_read(name));
    names.any(|name| !matches!(query.one(&[name]), Ok(None)))
}
