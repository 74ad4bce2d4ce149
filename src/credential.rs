//! Secrets: the tokens that callers bring and those that are our own.
//!
//! Nothing in here can be printed. What it must never know: requests, sessions.

use std::fmt;
use std::path::PathBuf;

use hyper::header::HeaderValue;

use crate::proto::ending::{Ending, Kind};

/// A bearer token. It prints as nothing.
#[derive(Clone)]
pub struct Token(HeaderValue);

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
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The identity that a [`Connector`](crate::Connector) has of its own, apart from a client certificate in its TLS
/// configuration.
#[derive(Clone, Debug, Default)]
pub enum Credential {
    /// No token.
    #[default]
    None,
    /// A token that does not change.
    Token(Token),
    /// A file with a token, read anew for each session because somebody rotates it.
    TokenFile(PathBuf),
}

impl Credential {
    pub(crate) fn token(&self) -> Result<Option<Token>, Ending> {
        match self {
            Self::None => Ok(None),
            Self::Token(token) => Ok(Some(token.clone())),
            Self::TokenFile(path) => {
                let token = std::fs::read_to_string(path).ok().and_then(|text| Token::new(&text));
                // An empty bearer would make the caller anonymous instead of refused.
                token.map(Some).ok_or_else(|| {
                    let message = format!("no token in {}", path.display());
                    Ending::new(Kind::ClusterProtocol, message)
                })
            }
        }
    }
}
