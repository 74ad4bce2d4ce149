//! `podwire check`: what it says of a good set-up, and of each of many broken ones.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
mod proxies;
mod rows;
mod said;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{cluster, folder, within};
use fake_cluster::{Behaviour, FakeCluster, Options};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rows::Row;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use said::{POD, STEPS, check, script, secrets, set_server};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_good_cluster_every_step_is_ok() {
    for (behaviour, subprotocol) in [
        (Behaviour::default(), "v5.channel.k8s.io"),
        (Behaviour::api_server_mode(), "v5.channel.k8s.io"),
        (Behaviour::only(&["v4.channel.k8s.io", "channel.k8s.io"]), "v4.channel.k8s.io"),
        (Behaviour::only(&["channel.k8s.io"]), "channel.k8s.io"),
    ] {
        let options = Options { behaviour, offer_h2: true, ..Options::default() };
        let cluster = FakeCluster::start(options).await.unwrap();
        let said = check(&cluster.kubeconfig(), &POD, &[]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        for step in STEPS {
            assert_eq!(said.state(step), "ok", "{step}: {said:?}");
        }
        assert!(said.text.starts_with("config ") && said.stderr.is_empty(), "{said:?}");
        assert!(said.line("subprotocol").ends_with(subprotocol), "{said:?}");
        assert!(said.line("round trip").contains("bash in demo/shell"), "{said:?}");
        let words = said.words();
        for expected in [
            "context demo at https://127.0.0.1:",
            "a token of user admin",
            "127.0.0.1 verified by CN=fake-cluster-ca",
            "CN=fake-cluster, issued by CN=fake-cluster-ca for 127.0.0.1",
            "the server takes h2",
            "you are admin, in the groups system:authenticated",
            "Kubernetes v1.36.2",
            "Everything works.",
        ] {
            assert!(words.contains(expected), "{expected}: {said:?}");
        }
        assert_eq!(words.contains("v4 has no end of input"), subprotocol.starts_with("v4"));
        assert_eq!(words.contains("no exit codes"), subprotocol == "channel.k8s.io");
        said.assert_harmless(&secrets(&cluster));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_of_a_check_is_gone_when_it_is_over() {
    let cluster = cluster(Behaviour::default()).await;
    let said = check(&cluster.kubeconfig(), &POD, &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let sessions = cluster.sessions();
    assert_eq!(sessions.len(), 2, "one without a container's name, and one with it");
    let code = sessions[1].until(|facts| facts.exit_code);
    assert_eq!(within("its process ends", code).await, 42);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_pod_nothing_is_started_and_nothing_fails() {
    let cluster = cluster(Behaviour::default()).await;
    let said = check(&cluster.kubeconfig(), &[], &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    for (step, state) in [("RBAC create", "ok"), ("subprotocol", "-"), ("round trip", "-")] {
        assert_eq!(said.state(step), state, "{step}: {said:?}");
    }
    assert!(said.words().contains("What was tried works."), "{said:?}");
    assert!(said.words().contains("in the namespace demo"), "the context's own: {said:?}");
    assert!(cluster.sessions().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_looked_for_in_the_contexts_namespace() {
    let cluster = cluster(Behaviour::default()).await;
    let said = check(&cluster.kubeconfig(), &["--pod=shell"], &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.line("round trip").contains("bash in demo/shell"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_credential_it_is_does_not_depend_on_auth() {
    let cluster = cluster(Behaviour::default()).await;
    let kubeconfig = cluster.kubeconfig();
    let (admin, execer) = (cluster.token("admin"), cluster.token("execer"));
    let flags = ["--namespace=demo", "--pod=shell", "--container=side"];
    for auth in ["--auth=own", "--auth=passthrough", "--auth=own,ticket"] {
        let said = check(&kubeconfig, &[&flags[..], &[auth]].concat(), &[]).await;
        assert_eq!(said.code, Some(0), "{auth}: {said:?}");
        assert!(said.words().contains("you are admin"), "{auth}: {said:?}");
        assert!(said.words().contains("sh in demo/shell, container side"), "{auth}: {said:?}");
        let token = [("PODWIRE_TOKEN", execer.as_str())];
        let said = check(&kubeconfig, &[&flags[..], &[auth]].concat(), &token).await;
        assert_eq!(said.code, Some(0), "{auth}: {said:?}");
        assert!(said.words().contains("the token in $PODWIRE_TOKEN"), "{auth}: {said:?}");
        assert!(said.words().contains("you are execer"), "{auth}: {said:?}");
        said.assert_harmless(&[admin.clone(), execer.clone()]);
    }
    let said = check(&kubeconfig, &["--cluster=demo-nobody"], &[]).await;
    assert!(said.words().contains("you are nobody"), "{said:?}");
    let said = check(&by_certificate(&cluster), &POD, &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.words().contains("client certificate is of CN=admin"), "{said:?}");
}

fn by_certificate(cluster: &FakeCluster) -> String {
    let mut file: Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
    let identity = cluster.client_identity();
    let base64 = |text: &str| STANDARD.encode(text);
    file["users"][0]["user"] = json!({
        "client-certificate-data": base64(&identity.certificate_pem),
        "client-key-data": base64(&identity.key_pem),
    });
    file.to_string()
}

async fn assert_rows(table: Vec<Row>) {
    for row in table {
        let cluster = cluster((row.behaviour)()).await;
        let mut file: Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
        (row.change)(&cluster, &mut file);
        let said = check(&file.to_string(), row.flags, row.variables).await;
        let name = row.name;
        assert_eq!(said.code, Some(row.code), "{name}: {said:?}");
        let first = said.text.lines().find(|line| line[13.min(line.len())..].starts_with("FAILED"));
        let first = first.unwrap_or_else(|| panic!("{name}: nothing failed: {said:?}"));
        assert!(first.starts_with(&format!("{:12} FAILED", row.step)), "{name}: {said:?}");
        let words = said.words();
        for expected in row.words {
            assert!(words.contains(expected), "{name}: {expected}: {}", said.text);
        }
        assert!(words.contains("Failed: "), "{name}: {said:?}");
        assert!(!words.contains("s3cr3t"), "{name}: {said:?}");
        // Every step is told of, whatever became of the others.
        for step in STEPS {
            said.line(step);
        }
        said.assert_harmless(&secrets(&cluster));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_cannot_be_reached_is_told_by_step_and_reason() {
    assert_rows(rows::table_of_reaching()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_is_not_enough_is_told_by_step_and_reason() {
    assert_rows(rows::table_of_credentials()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_does_not_work_is_told_by_step_and_reason() {
    assert_rows(rows::table_of_sessions()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_that_is_refused_is_told_by_step_and_reason() {
    assert_rows(rows::table_of_upgrades()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_configuration_ends_with_two() {
    assert_rows(rows::table_of_configurations()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_and_trusted_is_said() {
    let cluster = cluster(Behaviour::default()).await;
    let folder = folder();
    let token = folder.join("token");
    std::fs::write(&token, cluster.token("execer")).unwrap();
    let mut file: Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
    file["users"][0]["user"] = json!({"tokenFile": token});
    let server = file["clusters"][0]["cluster"].as_object_mut().unwrap();
    server.remove("certificate-authority-data");
    server.insert("insecure-skip-tls-verify".to_owned(), json!(true));
    let said = check(&file.to_string(), &["--namespace=demo"], &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let words = said.words();
    let token = format!("the token comes from {}", token.display());
    for expected in [&token, "verified by nobody (insecure-skip-tls-verify)", "warning: "] {
        assert!(words.contains(expected), "{expected}: {said:?}");
    }
    said.assert_harmless(&secrets(&cluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_is_told_from_tls() {
    let options = Options { tls: false, ..Options::default() };
    let cluster = FakeCluster::start(options).await.unwrap();
    let said = check(&cluster.kubeconfig(), &POD, &[]).await;
    assert_eq!((said.code, said.state("TLS")), (Some(0), "-"), "{said:?}");
    let mut file: Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
    set_server(&mut file, "server", &cluster.url().replace("http:", "https:"));
    let ca = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap().cert.pem();
    let data = STANDARD.encode(ca);
    set_server(&mut file, "certificate-authority-data", &data);
    let said = check(&file.to_string(), &POD, &[]).await;
    assert_eq!((said.code, said.state("TLS")), (Some(1), "FAILED"), "{said:?}");
    assert!(said.words().contains("does not speak TLS"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_starts_nothing_on_v5_is_told_of() {
    let cluster = cluster(Behaviour { cri_dockerd: true, ..Behaviour::default() }).await;
    let said = check(&cluster.kubeconfig(), &POD, &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.line("subprotocol").ends_with("v4.channel.k8s.io"), "{said:?}");
    assert!(said.words().contains("cri-dockerd"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_shell_is_found() {
    for (image, shell) in [
        ("sh", "sh"),
        ("ash", "ash"),
        ("no-sh:/busybox/sh", "/busybox/sh"),
        ("exit127:/busybox/sh", "/busybox/sh"),
        ("windows", "a shell of Windows"),
    ] {
        let cluster = cluster(Behaviour::of_image(image.parse().unwrap())).await;
        let said = check(&cluster.kubeconfig(), &POD, &[]).await;
        assert_eq!(said.code, Some(0), "{image}: {said:?}");
        let words = format!("{shell} in demo/shell");
        assert!(said.line("round trip").contains(&words), "{image}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_takes_no_longer_than_its_limits() {
    let cluster = cluster(script("silence")).await;
    let begun = std::time::Instant::now();
    let flags = ["--namespace=demo", "--pod=shell", "--response-timeout=1s"];
    let said = check(&cluster.kubeconfig(), &flags, &[]).await;
    assert_eq!((said.code, said.state("round trip")), (Some(1), "FAILED"), "{said:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{said:?}");
}

/// An authority that serves with its own certificate, as one made by hand does. kubectl takes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_signs_itself_is_told_from_a_wrong_one() {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let secret = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    let mut file: Value =
        serde_json::from_str(&cluster(Behaviour::default()).await.kubeconfig()).unwrap();
    set_server(&mut file, "server", &format!("https://{address}"));
    set_server(&mut file, "certificate-authority-data", &STANDARD.encode(certificate.pem()));
    let said = check(&file.to_string(), &[], &[]).await;
    assert_eq!((said.code, said.state("TLS")), (Some(1), "FAILED"), "{said:?}");
    assert!(said.words().contains("of an authority and not of a server"), "{said:?}");
    assert!(said.words().contains("basicConstraints CA:FALSE"), "{said:?}");
}
