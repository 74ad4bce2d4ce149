//! TLS towards API servers: whom it trusts, and what it shows.
//!
//! What it must never know: requests, sessions, where clusters are described.

use std::fmt;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use crate::credential::Certificate;
use crate::proto::ending::{Ending, Kind};

/// How an API server is verified. Cheap to clone; clones share their configurations and with them
/// the session tickets.
#[derive(Clone)]
pub struct Tls(Trust);

#[derive(Clone)]
enum Trust {
    /// As it is, whatever is to be shown: the caller's own affair.
    Fixed(Arc<ClientConfig>),
    /// These authorities.
    Roots(Arc<RootCertStore>),
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl fmt::Display for Tls {
    /// Whom it trusts, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Trust::Fixed(_) => f.write_str("a configuration of its own"),
            Trust::Roots(roots) => f.write_str(&crate::check::authorities(roots)),
        }
    }
}

impl From<Arc<ClientConfig>> for Tls {
    /// A configuration of one's own. It must offer no ALPN protocol, or `http/1.1` only, and no
    /// client certificate: that of a [`Credential`](crate::Credential) is not put into it either.
    fn from(config: Arc<ClientConfig>) -> Self {
        Self(Trust::Fixed(config))
    }
}

impl Tls {
    /// Trusts these authorities and no others.
    pub(crate) fn roots(roots: RootCertStore) -> Self {
        Self(Trust::Roots(Arc::new(roots)))
    }

    /// The configuration that shows this certificate, or none.
    pub(crate) fn config(
        &self,
        certificate: Option<&Arc<Certificate>>,
    ) -> Result<Arc<ClientConfig>, Ending> {
        let roots = match &self.0 {
            Trust::Fixed(config) => return Ok(Arc::clone(config)),
            Trust::Roots(roots) => Arc::clone(roots),
        };
        let wrong = |error: rustls::Error| {
            Ending::new(Kind::ClusterProtocol, format!("no TLS with this credential: {error}"))
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .with_root_certificates(roots);
        let config = match certificate {
            None => config.with_no_client_auth(),
            Some(it) => {
                config.with_client_auth_cert(it.chain.clone(), it.key.clone_key()).map_err(wrong)?
            }
        };
        Ok(Arc::new(config))
    }
}
