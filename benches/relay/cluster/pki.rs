//! The synthetic cluster's certificates and the kubeconfig that knows them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;

use crate::wire::at;

/// The token that the kubeconfig carries and every request must. It opens nothing but this.
pub(super) const TOKEN: &str = "bench-token";

/// Makes an authority and a server certificate (ECDSA on P-256, rcgen's default and most
/// clusters'), writes the authority to `dir` and gives what the listener needs.
pub(super) fn make(dir: &Path, listen: IpAddr) -> Result<(ServerConfig, String), String> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "bench-cluster-ca");
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(at("key"))?;
    let ca = CertifiedIssuer::self_signed(ca, key).map_err(at("authority"))?;

    let mut server = CertificateParams::default();
    server.distinguished_name.push(DnType::CommonName, "bench-cluster");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.subject_alt_names = vec![
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(listen),
        SanType::DnsName("localhost".try_into().map_err(at("name"))?),
    ];
    let key = KeyPair::generate().map_err(at("key"))?;
    let server = server.signed_by(&key, &ca).map_err(at("certificate"))?;

    fs::write(dir.join("ca.pem"), ca.pem()).map_err(at("ca.pem"))?;

    // One suite, so that every relay is measured with the same: the one that Go's servers choose
    // wherever the processor has AES. The session's keys are taken over after the handshake.
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(at("TLS"))?
        .with_no_client_auth()
        .with_single_cert(
            vec![server.der().clone(), ca.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .map_err(at("TLS"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // As Go's servers do it: one ticket for each connection, and no state kept for it.
    config.ticketer = ring::Ticketer::new().map_err(at("tickets"))?;
    config.send_tls13_tickets = 1;
    config.enable_secret_extraction = true;
    Ok((config, ca.pem()))
}

/// Writes the kubeconfig, once the port is known.
pub(super) fn kubeconfig(dir: &Path, ca_pem: &str, address: SocketAddr) -> Result<(), String> {
    // Who listens everywhere is met at this machine's own address.
    let everywhere = address.ip().is_unspecified();
    let ip = if everywhere { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    let address = SocketAddr::new(ip, address.port());
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {
            "server": format!("https://{address}"),
            "certificate-authority-data": STANDARD.encode(ca_pem),
        }}],
        "users": [{"name": "bench", "user": {"token": TOKEN}}],
        "contexts": [{"name": "bench", "context": {
            "cluster": "bench", "user": "bench", "namespace": "bench",
        }}],
    });
    fs::write(dir.join("kubeconfig.json"), format!("{kubeconfig:#}\n")).map_err(at("kubeconfig"))
}
