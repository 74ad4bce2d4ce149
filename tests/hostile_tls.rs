//! Clusters whose TLS is not what it should be: each reason has its words.
//!
//! The ids are those of the project's list of bad inputs.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::within;
use podwire::{Clusters, Ending, Identity, Kind, Own, Target};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server, as far as it differs from a good one.
struct Server {
    certificate: CertificateParams,
    versions: Vec<&'static SupportedProtocolVersion>,
    wants_certificate: bool,
    alpn: &'static [&'static [u8]],
    /// What it says to whatever it hears.
    says: &'static [u8],
}

impl Default for Server {
    fn default() -> Self {
        let mut certificate = CertificateParams::default();
        certificate.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        let versions = vec![&TLS13, &TLS12];
        Self { certificate, versions, wants_certificate: false, alpn: &[], says: b"" }
    }
}

impl Server {
    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut server = Self::default();
        change(&mut server.certificate);
        server
    }

    fn named(names: &[&str]) -> Self {
        let dns = |name: &&str| SanType::DnsName((*name).try_into().unwrap());
        Self::with(|it| it.subject_alt_names = names.iter().map(dns).collect())
    }

    /// Starts it, with a certificate that this authority has signed.
    async fn start(self, issuer: &Issuer) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let certificate = self.certificate.signed_by(&key, issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier =
            if self.wants_certificate { verifier } else { verifier.allow_unauthenticated() };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = self.alpn.iter().map(|it| it.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(mut tls) = acceptor.accept(tcp).await else { return };
            let mut buffer = [0; 4096];
            while tls.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                let _ = tls.write_all(self.says).await;
                let _ = tls.flush().await;
            }
        });
        address
    }
}

/// Asks a cluster there that should have a certificate of this authority.
async fn refused(url: &str, issuer: &Issuer) -> Ending {
    let authority = STANDARD.encode(issuer.pem());
    let text = serde_json::json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {
            "server": url, "certificate-authority-data": authority,
        }}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    })
    .to_string();
    let clusters =
        Clusters::parse(text.as_bytes(), Path::new("."), None, &[], Own::Included).unwrap();
    let target = Target::new("demo", "shell");
    match within("an ending", clusters.default().open(&target, &Identity::Own)).await {
        Err(ending) => ending,
        Ok(_) => panic!("a session"),
    }
}

#[tokio::test]
async fn each_reason_not_to_trust_a_cluster_has_its_words() {
    let ours = authority("ours");
    let wrong = "tls: the certificate is not valid for 127.0.0.1";
    let required = "a client certificate is required";
    let rows: Vec<(&str, Server, String)> = vec![
        (
            "S12 expired",
            Server::with(|it| it.not_after = date_time_ymd(2020, 1, 1)),
            "tls: the certificate has expired".to_owned(),
        ),
        (
            "S12 not yet",
            Server::with(|it| it.not_before = date_time_ymd(4000, 1, 1)),
            "tls: the certificate is not valid yet".to_owned(),
        ),
        (
            "S12 wrong name",
            Server::named(&["kubernetes", "kubernetes.default"]),
            format!("{wrong}, only for kubernetes, kubernetes.default"),
        ),
        (
            "S12 many names",
            Server::named(&["a.b", "b.b", "c.b", "d.b", "e.b", "f.b", "g.b"]),
            format!("{wrong}, only for a.b, b.b, c.b, d.b, e.b and 2 more"),
        ),
        (
            "S12 wrong address",
            Server::with(|it| {
                it.subject_alt_names = vec![SanType::IpAddress([10, 0, 0, 1].into())];
            }),
            format!("{wrong}, only for 10.0.0.1"),
        ),
        ("S12 IP without SAN", Server::with(|it| it.subject_alt_names.clear()), wrong.to_owned()),
        (
            "S12 client certificate required",
            Server { wants_certificate: true, ..Server::default() },
            format!("tls: {required}"),
        ),
        (
            "S12 client certificate required, TLS 1.2",
            Server { wants_certificate: true, versions: vec![&TLS12], ..Server::default() },
            "certificate".to_owned(),
        ),
    ];
    for (id, server, words) in rows {
        let address = server.start(&ours).await;
        let ending = refused(&format!("https://{address}"), &ours).await;
        assert_eq!(ending.kind, Kind::ClusterUnreachable, "{id}: {ending:?}");
        let expected = "cannot reach the cluster: tls: ";
        assert!(ending.message.starts_with(expected), "{id}: {ending:?}");
        assert!(ending.message.contains(&words), "{id}: {ending:?}");
    }
    let address = Server::default().start(&authority("theirs")).await;
    let ending = refused(&format!("https://{address}"), &ours).await;
    let words = "cannot reach the cluster: tls: the certificate is by an unknown authority";
    assert_eq!(ending.message, words, "S12 unknown CA");
}

/// An empty SETTINGS frame of HTTP/2, with which every server begins.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

#[tokio::test]
async fn a_server_that_speaks_something_else_is_named() {
    let ours = authority("ours");
    let protocol = Kind::ClusterProtocol;
    let rows = [
        (
            "S13 h2 by ALPN",
            Server { alpn: &[b"h2"], says: SETTINGS, ..Server::default() },
            protocol,
            "HTTP/1.1",
        ),
        ("S13 h2", Server { says: SETTINGS, ..Server::default() }, protocol, "HTTP/1.1"),
    ];
    for (id, server, kind, words) in rows {
        let address = server.start(&ours).await;
        let ending = refused(&format!("https://{address}"), &ours).await;
        assert_eq!(ending.kind, kind, "{id}: {ending:?}");
        assert!(ending.message.contains(words), "{id}: {ending:?}");
    }
}

#[tokio::test]
async fn a_server_without_tls_or_name_is_named() {
    let ours = authority("ours");
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = plain.accept().await.unwrap();
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    });
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rows = [
        (
            "S13 plain HTTP",
            format!("https://{address}"),
            "tls: what listens there does not speak TLS",
        ),
        ("S11 nobody listens", format!("https://{gone}"), "refused"),
        ("S17 NXDOMAIN", "https://nobody.invalid:6443".to_owned(), "nobody.invalid"),
    ];
    for (id, url, words) in rows {
        let ending = refused(&url, &ours).await;
        assert_eq!(ending.kind, Kind::ClusterUnreachable, "{id}: {ending:?}");
        assert!(ending.message.starts_with("cannot reach the cluster: "), "{id}: {ending:?}");
        assert!(ending.message.contains(words), "{id}: {ending:?}");
    }
}
