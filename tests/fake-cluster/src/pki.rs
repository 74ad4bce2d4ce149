//! The cluster's own certificates: a CA, the server's certificate and admin's client certificate.
//! Every start makes new ones; nothing outside this module sees a private key except as PEM.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

/// A certificate with its key, both PEM, as a kubeconfig's `client-certificate-data` and
/// `client-key-data` want them before base64.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The certificate, signed by the cluster's CA.
    pub certificate_pem: String,
    /// Its private key, PKCS#8.
    pub key_pem: String,
}

impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ClientIdentity")
    }
}

/// What a cluster needs for TLS.
pub(crate) struct Pki {
    pub(crate) ca_pem: String,
    pub(crate) admin: ClientIdentity,
    pub(crate) acceptor: TlsAcceptor,
    admin_der: CertificateDer<'static>,
}

impl Pki {
    pub(crate) fn new(offer_h2: bool) -> io::Result<Pki> {
        make(offer_h2).map_err(io::Error::other)
    }

    /// The user a client certificate stands for. The only one ever signed is admin's, so
    /// comparing the bytes is the whole of reading it.
    pub(crate) fn user_of(&self, certificates: Option<&[CertificateDer<'_>]>) -> Option<&str> {
        certificates?.first().filter(|given| **given == self.admin_der).map(|_| "admin")
    }
}

fn make(offer_h2: bool) -> Result<Pki, Box<dyn std::error::Error + Send + Sync>> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "fake-cluster-ca");
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let mut server = CertificateParams::default();
    server.distinguished_name.push(DnType::CommonName, "fake-cluster");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.subject_alt_names = vec![
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        SanType::DnsName("localhost".try_into()?),
        SanType::DnsName("kubernetes.default.svc".try_into()?),
    ];
    let server_key = KeyPair::generate()?;
    let server = server.signed_by(&server_key, &ca)?;

    let mut admin = CertificateParams::default();
    admin.distinguished_name.push(DnType::CommonName, "admin");
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let admin_key = KeyPair::generate()?;
    let admin = admin.signed_by(&admin_key, &ca)?;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone())?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![server.der().clone(), ca.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der())),
        )?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if offer_h2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }

    Ok(Pki {
        ca_pem: ca.pem(),
        admin: ClientIdentity { certificate_pem: admin.pem(), key_pem: admin_key.serialize_pem() },
        acceptor: TlsAcceptor::from(Arc::new(config)),
        admin_der: admin.der().clone(),
    })
}
