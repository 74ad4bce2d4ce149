//! C7: SIGHUP reads clusters and certificates again; what is broken changes nothing.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::sync::Arc;

use common::{Relay, Start, cluster, folder, pipes, short, within};
use fake_cluster::Behaviour;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const RELOADED: &str = "podwire_config_reload_success";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_again_counts_from_the_next_session_on() {
    let (first, second) =
        (cluster(Behaviour::default()).await, cluster(Behaviour::default()).await);
    let relay = Start::flags(&["--admin-listen=127.0.0.1:0"]).before(&first).await;
    let kubeconfig = relay.folder().join("kubeconfig");
    let mut living = relay.v1(&short(&["cat"], "&tty=false")).await;
    living.message("ready").await;
    assert!((relay.metric(RELOADED).await - 1.0).abs() < f64::EPSILON);

    for (number, broken) in ["{", "", "clusters: [", "{\"clusters\":7}"].into_iter().enumerate() {
        std::fs::write(&kubeconfig, broken).unwrap();
        relay.reload().await;
        let line = relay.until_logged(" configuration unchanged ", number + 1).await;
        assert!(line.contains("error") && line.contains("kubeconfig"), "C7 {broken}: {line}");
        relay.until_metric(RELOADED, 0.0).await;
        relay.v1(&pipes("exit 3")).await.assert_exit("exit", Some(3), 1000, "C7").await;
    }
    assert_eq!(first.sessions().len(), 5, "the old clusters stay");

    std::fs::write(&kubeconfig, second.kubeconfig()).unwrap();
    relay.reload().await;
    relay.until_logged(" configuration read again ", 1).await;
    relay.until_metric(RELOADED, 1.0).await;
    relay.v1(&pipes("exit 4")).await.assert_exit("exit", Some(4), 1000, "C7").await;
    assert_eq!(second.sessions().len(), 1, "the new one is asked");
    living.bytes(b"still here\n").await;
    living.until_output("still here").await;
}

/// Whether this is the certificate that a browser sees now.
async fn shows(relay: &Relay, certificate: &CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(relay.addr()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    Box::pin(within("a handshake", connecting)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_shown_to_the_next_browser() {
    let cluster = cluster(Behaviour::default()).await;
    let files = folder();
    let (cert, key) = (files.join("cert.pem"), files.join("key.pem"));
    let renew = || {
        let (_, certified) = common::tls();
        std::fs::write(&cert, certified.cert.pem()).unwrap();
        std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
        certified.cert.der().clone()
    };
    let old = renew();
    let flags = [format!("--tls-cert={}", cert.display()), format!("--tls-key={}", key.display())];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let relay = Start::flags(&flags).before(&cluster).await;
    assert!(shows(&relay, &old).await);
    let new = renew();
    assert!(shows(&relay, &old).await, "nobody told it to");
    relay.reload().await;
    relay.until_logged(" configuration read again ", 1).await;
    assert!(shows(&relay, &new).await && !shows(&relay, &old).await);
    std::fs::write(&key, "nonsense").unwrap();
    relay.reload().await;
    let line = relay.until_logged(" configuration unchanged ", 1).await;
    assert!(line.contains("--tls-key"), "C7: {line}");
    assert!(shows(&relay, &new).await && !shows(&relay, &old).await);
    let _ = std::fs::remove_dir_all(files);
}
