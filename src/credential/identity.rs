//! Whose rights a request to a cluster has.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::HeaderValue;
use serde::Deserialize;

use crate::proto::ending::{Ending, Kind};

/// A bearer token. It prints as nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

/// The shortest token that is looked for in what others say.
const SECRET_MIN: usize = 8;

impl Token {
    /// Takes a token as it stands in a file or a header, without surrounding white space. Nothing
    /// if it is empty or could not stand in a header.
    pub fn new(token: &str) -> Option<Self> {
        let token = token.trim();
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        (!token.is_empty()).then_some(Self(value))
    }

    /// The value of an `Authorization` header; hyper does not print it either.
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.0
    }

    /// A sentence without the token: a server may say again what it was told.
    pub(crate) fn taken_out_of(&self, sentence: &str) -> String {
        let token = self.0.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        match token {
            // Nothing that short is a secret, and words would be full of it.
            Some(token) if token.len() >= SECRET_MIN => sentence.replace(token, "(the token)"),
            _ => sentence.to_owned(),
        }
    }

    /// When the token expires by its own word, if it is a JWT (RFC 7519 section 4.1.4). Nobody
    /// verifies it here: whoever forges a time only ends a session of their own.
    pub(crate) fn expires(&self) -> Option<SystemTime> {
        #[derive(Deserialize)]
        struct Claims {
            exp: f64,
        }
        let token = self.0.to_str().ok()?.strip_prefix("Bearer ")?;
        let payload = token.split('.').nth(1)?;
        let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        let claims: Claims = serde_json::from_slice(&payload).ok()?;
        let since = Duration::try_from_secs_f64(claims.exp).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(since)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Whose rights a request to a cluster has.
#[derive(Clone, Debug, Default)]
pub enum Identity {
    /// The connector's own.
    #[default]
    Own,
    /// Those of whoever the token stands for. Nothing of the connector's own is shown beside it.
    Token(Token),
    /// Somebody's whom the connector's own identity stands in for.
    Impersonated(Arc<Impersonated>),
}

/// A user and groups, by the headers of `k8s.io/client-go/transport` (`ImpersonationConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonated {
    pub(crate) user: HeaderValue,
    pub(crate) groups: Vec<HeaderValue>,
}

impl Impersonated {
    /// A user who is no part of Kubernetes itself.
    ///
    /// # Errors
    ///
    /// A name is empty, longer than 1 KiB, has characters that do not belong into a header, or
    /// begins with `system:`.
    pub fn new<'a>(user: &str, groups: impl IntoIterator<Item = &'a str>) -> Result<Self, Ending> {
        let groups =
            groups.into_iter().map(|group| name_of("group", group)).collect::<Result<_, _>>()?;
        Ok(Self { user: name_of("user", user)?, groups })
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        // It was made of visible ASCII.
        self.user.to_str().unwrap_or_default()
    }
}

/// The longest name of a user or a group.
const NAME_MAX: usize = 1024;

fn name_of(what: &str, name: &str) -> Result<HeaderValue, Ending> {
    if name.is_empty() {
        return Err(Ending::new(Kind::Unauthorized, format!("the {what}'s name is empty")));
    }
    if name.starts_with("system:") {
        // Whoever is one of these is Kubernetes itself, or all of its administrators.
        let message = format!("a {what} whose name begins with system: is not impersonated");
        return Err(Ending::new(Kind::Forbidden, message));
    }
    let odd = |byte: u8| !(byte == b' ' || byte.is_ascii_graphic());
    if name.len() > NAME_MAX || name.bytes().any(odd) || name.trim() != name {
        let message = format!("the {what}'s name is too long or has odd characters");
        return Err(Ending::new(Kind::BadRequest, message));
    }
    HeaderValue::from_str(name)
        .map_err(|_| Ending::new(Kind::BadRequest, format!("the {what}'s name has odd characters")))
}
