//! Secrets: the tokens that callers bring and those that are our own.
//!
//! Nothing in here can be printed. Our own are kept as `k8s.io/client-go` keeps them: what somebody
//! rotates is read anew for each session, and the last good one stands in while it cannot be read.
//! What all of it must never know: requests, sessions.

mod file;
mod identity;
mod plugin;
mod secret;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

pub(crate) use file::{CertificateFiles, Part, TokenFile, read};
pub use identity::{Identity, Impersonated, Token};
pub(crate) use plugin::{Plugin, VERSIONS, find_program};
pub(crate) use secret::Secret;

use crate::proto::ending::{Ending, Kind};

/// A certificate chain with its private key. It prints as nothing.
pub struct Certificate {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

/// What is wrong with a certificate or its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    Certificate(&'static str),
    Key(&'static str),
}

impl Certificate {
    /// A chain and its key, both PEM.
    pub(crate) fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Unfit> {
        let chain = certificates(chain).map_err(Unfit::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| Unfit::Key("holds no private key in PEM without a password"))?;
        let provider = rustls::crypto::ring::default_provider();
        match CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider) {
            Ok(_) => Ok(Self { chain, key }),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(Unfit::Key("is not the key of the certificate"))
            }
            Err(_) => Err(Unfit::Key("is a key or has a certificate of an unknown kind")),
        }
    }
}

/// The certificates in a PEM text, of which there is at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err("holds no certificate in PEM"),
        Err(_) => Err("holds a broken certificate"),
    }
}

/// What is shown to an API server at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) token: Option<Token>,
    pub(crate) certificate: Option<Arc<Certificate>>,
}

impl Shown {
    fn is(&self, other: &Self) -> bool {
        let same = match (&self.certificate, &other.certificate) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same && self.token == other.token
    }
}

/// The identity that a [`Connector`](crate::Connector) has of its own. Clones share what is kept of
/// it.
#[derive(Clone, Debug, Default)]
pub struct Credential {
    pub(crate) bearer: Bearer,
    pub(crate) proof: Proof,
}

/// Where a token of our own comes from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Bearer {
    #[default]
    None,
    /// A token that does not change.
    Token(Token),
    /// A file with a token that somebody rotates.
    File(Arc<TokenFile>),
    /// A program that says one, or a certificate, or both.
    Plugin(Arc<Plugin>),
}

/// Where a certificate of our own comes from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Proof {
    #[default]
    None,
    /// A certificate that does not change.
    Certificate(Arc<Certificate>),
    /// Files that somebody rotates.
    Files(Arc<CertificateFiles>),
}

impl From<Token> for Credential {
    /// A token that does not change.
    fn from(token: Token) -> Self {
        Self { bearer: Bearer::Token(token), proof: Proof::None }
    }
}

impl Credential {
    /// What to show now.
    ///
    /// # Errors
    ///
    /// There should be a credential, and none can be had: nothing is ever shown in its place.
    pub(crate) async fn show(&self) -> Result<Shown, Ending> {
        let token = match &self.bearer {
            Bearer::None => None,
            Bearer::Token(token) => Some(token.clone()),
            Bearer::File(file) => Some(file.show().map_err(|why| missing(&why))?),
            Bearer::Plugin(plugin) => {
                // Rare and large: boxed once, it is in nobody else's way.
                let running: Pin<Box<dyn Future<Output = _> + Send + '_>> = Box::pin(plugin.show());
                let mut shown = running.await.map_err(|why: String| missing(&why))?;
                if shown.certificate.is_none() {
                    shown.certificate = self.certificate();
                }
                return Ok(shown);
            }
        };
        Ok(Shown { token, certificate: self.certificate() })
    }

    fn certificate(&self) -> Option<Arc<Certificate>> {
        match &self.proof {
            Proof::None => None,
            Proof::Certificate(certificate) => Some(Arc::clone(certificate)),
            Proof::Files(files) => Some(files.show()),
        }
    }

    /// The cluster has refused what was shown, with a 401. Forgets what is kept of it, and says
    /// whether it makes sense to ask again with what [`Credential::show`] gives then.
    pub(crate) async fn refused(&self, shown: &Shown) -> bool {
        match &self.bearer {
            Bearer::None | Bearer::Token(_) => {}
            Bearer::File(file) => file.forget(),
            Bearer::Plugin(plugin) => plugin.forget(shown).await,
        }
        self.show().await.is_ok_and(|now| !now.is(shown))
    }
}

fn missing(why: &str) -> Ending {
    Ending::new(Kind::ClusterProtocol, format!("the relay's own credential: {why}"))
}
