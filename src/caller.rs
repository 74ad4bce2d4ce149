//! Who asks, by the rules of `--auth`, and whether a foreign page may have made a browser ask.
//!
//! What it must never know: what is asked for, sockets.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{AUTHORIZATION, HeaderMap};

use crate::accept::offered;
use crate::config::{Auth, Config};
use crate::credential::Token;
use crate::origin;
use crate::proto::ending::{Ending, Kind};

/// How the token travels in a browser, which cannot set headers
/// (`k8s.io/apiserver/pkg/authentication/request/websocket`).
const BEARER_SUBPROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// The caller's token, or none where the relay's own identity is used.
pub(crate) fn token(config: &Config, headers: &HeaderMap) -> Result<Option<Token>, Ending> {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let same_origin = || origin::check(headers, scheme, &config.allow_origin);
    match config.auth {
        Auth::Own => same_origin().map(|()| None),
        Auth::Passthrough => {
            // No page can have a token that is not its own, so any origin may bring one this way.
            if let Some(token) = subprotocol_token(headers)? {
                return Ok(Some(token));
            }
            same_origin()?;
            let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let token = header.and_then(|value| {
                let (scheme, token) = value.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| Token::new(token)).flatten()
            });
            token.map(Some).ok_or_else(|| {
                Ending::new(
                    Kind::Unauthorized,
                    "a bearer token is needed: in the Authorization header, or as the subprotocol \
                     base64url.bearer.authorization.k8s.io.TOKEN",
                )
            })
        }
    }
}

/// The token among the offered subprotocols, by Kubernetes' rules: exactly one, base64url without
/// padding, and never alone.
fn subprotocol_token(headers: &HeaderMap) -> Result<Option<Token>, Ending> {
    let wrong = |message: &'static str| Ending::new(Kind::Unauthorized, message);
    let mut tokens = offered(headers).filter_map(|name| name.strip_prefix(BEARER_SUBPROTOCOL));
    let Some(encoded) = tokens.next() else { return Ok(None) };
    if tokens.next().is_some() {
        return Err(wrong("two bearer subprotocols are offered"));
    }
    if offered(headers).count() < 2 {
        return Err(wrong("a bearer subprotocol needs another one beside it, such as podwire.v1"));
    }
    let decoded = URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|it| String::from_utf8(it).ok());
    let token = decoded.and_then(|text| Token::new(&text));
    token.map(Some).ok_or_else(|| wrong("the bearer subprotocol is not base64url"))
}
