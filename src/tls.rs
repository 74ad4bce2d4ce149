//! TLS towards API servers: whom it trusts, and what it shows.
//!
//! What it must never know: requests, sessions, where clusters are described.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::credential::{Certificate, certificates, read};
use crate::proto::ending::{Ending, Kind};

/// How an API server is verified. Cheap to clone; clones share their configurations and with them
/// the session tickets.
#[derive(Clone)]
pub struct Tls(Arc<Trust>);

enum Trust {
    /// As it is, whatever is to be shown: the caller's own affair.
    Fixed(Arc<ClientConfig>),
    /// By these authorities, or by none.
    Known(Mutex<Known>),
    /// By those in a file that somebody rotates.
    File(PathBuf, Mutex<FromFile>),
}

/// What was made of authorities. It holds until they or our own certificate change.
struct Known {
    /// None: whoever answers is believed.
    roots: Option<Arc<RootCertStore>>,
    /// The configuration that shows nothing.
    plain: Option<Arc<ClientConfig>>,
    /// The one that shows a certificate of ours.
    own: Option<(Arc<Certificate>, Arc<ClientConfig>)>,
    /// The one for a proxy.
    proxy: Option<Arc<ClientConfig>>,
}

struct FromFile {
    pem: Vec<u8>,
    known: Known,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl fmt::Display for Tls {
    /// Whom it trusts, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = match self.0.as_ref() {
            Trust::Fixed(_) => return f.write_str("a configuration of its own"),
            Trust::Known(known) => locked(known).roots.clone(),
            Trust::File(_, file) => locked(file).known.roots.clone(),
        };
        match roots {
            Some(roots) => f.write_str(&crate::check::authorities(&roots)),
            None => f.write_str("nobody (insecure-skip-tls-verify)"),
        }
    }
}

impl From<Arc<ClientConfig>> for Tls {
    /// A configuration of one's own. It must offer no ALPN protocol, or `http/1.1` only, and no
    /// client certificate: that of a [`Credential`](crate::Credential) is not put into it either.
    fn from(config: Arc<ClientConfig>) -> Self {
        Self(Arc::new(Trust::Fixed(config)))
    }
}

impl Tls {
    /// Trusts these authorities and no others.
    pub(crate) fn roots(roots: impl Into<Arc<RootCertStore>>) -> Self {
        Self(Arc::new(Trust::Known(Mutex::new(Known::new(Some(roots.into()))))))
    }

    /// Trusts whoever answers: somebody asked for it in so many words.
    pub(crate) fn blind() -> Self {
        Self(Arc::new(Trust::Known(Mutex::new(Known::new(None)))))
    }

    /// Trusts the authorities in a file. It is looked at for each session, so that a rotation takes
    /// effect at once; while it makes no sense, those that it had before are trusted.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, in half a sentence.
    pub(crate) fn file(path: PathBuf) -> Result<Self, String> {
        let pem = read(&path).map_err(|error| format!("cannot be read: {error}"))?;
        let known = Known::new(Some(authorities(&pem)?.into()));
        Ok(Self(Arc::new(Trust::File(path, Mutex::new(FromFile { pem, known })))))
    }

    /// The configuration that shows this certificate, or none. As long as nothing changes it is the
    /// same one, and with it are the session tickets.
    pub(crate) fn config(
        &self,
        certificate: Option<&Arc<Certificate>>,
    ) -> Result<Arc<ClientConfig>, Ending> {
        let config = match self.0.as_ref() {
            Trust::Fixed(config) => Ok(Arc::clone(config)),
            Trust::Known(known) => locked(known).config(certificate),
            Trust::File(path, file) => {
                let mut file = locked(file);
                match read(path) {
                    Ok(pem) if pem == file.pem => {}
                    Ok(pem) => match authorities(&pem) {
                        Ok(roots) => {
                            *file = FromFile { pem, known: Known::new(Some(roots.into())) };
                        }
                        Err(why) => log::debug!(why; "earlier authorities are trusted"),
                    },
                    Err(error) => log::debug!(error:%; "earlier authorities are trusted"),
                }
                file.known.config(certificate)
            }
        };
        config.map_err(|error| {
            let message = format!("the relay's own credential: no TLS with it: {error}");
            Ending::new(Kind::ClusterProtocol, message)
        })
    }

    /// The configuration for a proxy on the way, which is shown no certificate of ours. Its own may
    /// be by an authority of the cluster's or of this machine.
    pub(crate) fn for_proxy(&self) -> Result<Arc<ClientConfig>, Ending> {
        let config = match self.0.as_ref() {
            Trust::Fixed(config) => Ok(Arc::clone(config)),
            Trust::Known(known) => locked(known).for_proxy(),
            Trust::File(_, file) => locked(file).known.for_proxy(),
        };
        config.map_err(|error| {
            Ending::new(Kind::Internal, format!("no TLS towards the proxy: {error}"))
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    fn new(roots: Option<Arc<RootCertStore>>) -> Self {
        Self { roots, plain: None, own: None, proxy: None }
    }

    fn config(
        &mut self,
        certificate: Option<&Arc<Certificate>>,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let kept = match certificate {
            None => self.plain.as_ref(),
            Some(certificate) => {
                let same = self.own.as_ref().filter(|(own, _)| Arc::ptr_eq(own, certificate));
                same.map(|(_, config)| config)
            }
        };
        if let Some(config) = kept {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.build(certificate.map(AsRef::as_ref))?);
        match certificate {
            None => self.plain = Some(Arc::clone(&config)),
            Some(it) => self.own = Some((Arc::clone(it), Arc::clone(&config))),
        }
        Ok(config)
    }

    fn for_proxy(&mut self) -> Result<Arc<ClientConfig>, rustls::Error> {
        if let Some(kept) = &self.proxy {
            return Ok(Arc::clone(kept));
        }
        let roots = self.roots.as_ref().map(|ours| {
            let mut roots = of_this_machine();
            roots.extend(ours.roots.iter().cloned());
            Arc::new(roots)
        });
        let config = Arc::new(Self::new(roots).build(None)?);
        self.proxy = Some(Arc::clone(&config));
        Ok(config)
    }

    /// No ALPN protocol is offered: the upgrade needs HTTP/1.1, which is what a server takes then.
    fn build(&self, certificate: Option<&Certificate>) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let config = match &self.roots {
            Some(roots) => config.with_root_certificates(Arc::clone(roots)),
            None => config.dangerous().with_custom_certificate_verifier(Arc::new(Blind(provider))),
        };
        match certificate {
            None => Ok(config.with_no_client_auth()),
            Some(it) => config.with_client_auth_cert(it.chain.clone(), it.key.clone_key()),
        }
    }
}

/// The authorities of a PEM text.
///
/// # Errors
///
/// What is wrong with it, in half a sentence.
pub(crate) fn authorities(pem: &[u8]) -> Result<RootCertStore, &'static str> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|_| "holds a broken certificate")?;
    }
    Ok(roots)
}

/// The authorities that this machine trusts.
pub(crate) fn of_this_machine() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Some machines have a broken one among many; who was signed by it is not believed.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Believes any certificate whose key its bearer has.
#[derive(Debug)]
struct Blind(Arc<CryptoProvider>);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified() -> (String, String) {
        let it = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
        (it.cert.pem(), it.signing_key.serialize_pem())
    }

    /// With them are the session tickets.
    #[test]
    fn configurations_are_the_same_until_something_changes() {
        let name = format!("podwire-tls-{}", std::process::id());
        let file = std::env::temp_dir().join(name);
        let (first, _) = certified();
        std::fs::write(&file, &first).unwrap();
        let own = || {
            let (chain, key) = certified();
            Arc::new(Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
        };
        let (one, two) = (own(), own());
        for tls in [Tls::file(file.clone()).unwrap(), Tls::blind(), Tls::roots(of_this_machine())] {
            let plain = tls.config(None).unwrap();
            let with_one = tls.clone().config(Some(&one)).unwrap();
            assert!(Arc::ptr_eq(&plain, &tls.clone().config(None).unwrap()));
            assert!(Arc::ptr_eq(&with_one, &tls.config(Some(&one)).unwrap()));
            assert!(!plain.client_auth_cert_resolver.has_certs());
            assert!(!Arc::ptr_eq(&with_one, &tls.config(Some(&two)).unwrap()));
            assert!(Arc::ptr_eq(&plain, &tls.config(None).unwrap()));
        }
        let tls = Tls::file(file.clone()).unwrap();
        let before = tls.config(None).unwrap();
        for broken in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"]
        {
            std::fs::write(&file, broken).unwrap();
            assert!(Arc::ptr_eq(&before, &tls.config(None).unwrap()), "{broken}");
        }
        std::fs::write(&file, certified().0).unwrap();
        assert!(!Arc::ptr_eq(&before, &tls.config(None).unwrap()));
        std::fs::remove_file(file).unwrap();
        assert!(tls.config(None).is_ok());
    }
}
