//! `--auth passthrough`: the caller's own token, from wherever a caller may bring one.
//!
//! What it must never know: what is asked for, sockets.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{AUTHORIZATION, HeaderMap};

use super::Asked;
use crate::accept::{BEARER_SUBPROTOCOL, offered};
use crate::credential::Token;
use crate::proto::ending::{Ending, Kind};

/// The caller's token.
pub(super) fn token(asked: &Asked<'_>) -> Result<Token, Ending> {
    let headers = asked.headers;
    not_alone(headers)?;
    // No page can have a token that is not its own, so any origin may bring one this way.
    if let Some(token) = subprotocol_token(headers)? {
        return Ok(token);
    }
    asked.same_origin()?;
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let header = values.next().and_then(|value| value.to_str().ok());
    if values.next().is_some() {
        // Somebody on the way may have looked at the other.
        return Err(Ending::new(Kind::Unauthorized, "two Authorization headers"));
    }
    let token = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Token::new(token)).flatten()
    });
    token.ok_or_else(|| {
        Ending::new(
            Kind::Unauthorized,
            "a bearer token is needed: in the Authorization header, or as the subprotocol \
             base64url.bearer.authorization.k8s.io.TOKEN",
        )
    })
}

/// A bearer subprotocol is never chosen, so a browser that offers nothing else would fail the
/// handshake after a session was opened for it. Kubernetes refuses it, too.
pub(super) fn not_alone(headers: &HeaderMap) -> Result<(), Ending> {
    let mut names = offered(headers).peekable();
    if names.peek().is_none() || names.any(|name| !name.starts_with(BEARER_SUBPROTOCOL)) {
        return Ok(());
    }
    let message = "a bearer subprotocol needs another one beside it, such as podwire.v1";
    Err(Ending::new(Kind::Unauthorized, message))
}

/// The token among the offered subprotocols, by Kubernetes' rules: exactly one, base64url without
/// padding.
fn subprotocol_token(headers: &HeaderMap) -> Result<Option<Token>, Ending> {
    let wrong = |message: &'static str| Ending::new(Kind::Unauthorized, message);
    let mut tokens = offered(headers).filter_map(|name| name.strip_prefix(BEARER_SUBPROTOCOL));
    let Some(encoded) = tokens.next() else { return Ok(None) };
    if tokens.next().is_some() {
        return Err(wrong("two bearer subprotocols are offered"));
    }
    let decoded = URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|it| String::from_utf8(it).ok());
    let token = decoded.and_then(|text| Token::new(&text));
    token.map(Some).ok_or_else(|| wrong("the bearer subprotocol is not base64url"))
}
