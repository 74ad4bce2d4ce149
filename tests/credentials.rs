//! Credentials and authorities that somebody replaces while the relay runs.
//!
//! S16 of the project's list of bad inputs row by row, S6 for what is our own, and a pod's service
//! account. Plugins are in `plugins.rs`.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs::write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Relay, Start, cluster, folder, pipes, session, tls, within};
use fake_cluster::{Behaviour, FakeCluster, Gate, Options, Script, Step};
use podwire::{Clusters, Identity, Kind, Own, Target};
use serde_json::{Value, json};

/// A relay whose kubeconfig has these fields for its user and its cluster; of the latter only the
/// server stays.
async fn relay(cluster: &FakeCluster, user: &Value, other: Option<&Value>) -> Relay {
    let mut config: Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
    config["users"] = json!([{"name": "admin", "user": user}]);
    if let Some(other) = other {
        config["clusters"][0]["cluster"] = other.clone();
        config["clusters"][0]["cluster"]["server"] = json!(cluster.url());
    }
    let kubeconfig = Some(config.to_string());
    Start { kubeconfig, ..Start::default() }.before(cluster).await
}

async fn assert_works(relay: &Relay, what: &str) {
    relay.v1(&pipes("exit 3")).await.assert_exit("exit", Some(3), 1000, what).await;
}

/// Asserts the ending of a session that does not begin, and words of its sentence.
async fn assert_fails(relay: &Relay, kind: &str, words: &str, what: &str) {
    let (exit, close) = relay.v1(&pipes("true")).await.exit().await;
    assert_eq!((&exit["kind"], close.code), (&json!(kind), 4502), "{what}: {exit}");
    assert!(exit["message"].as_str().unwrap().contains(words), "{what}: {exit}");
}

/// The tokens that the cluster was shown from this request on.
fn shown(cluster: &FakeCluster, from: usize) -> Vec<String> {
    let requests = cluster.requests();
    let tokens = requests[from..].iter().map(|request| {
        let header = request.header("authorization").unwrap_or("none");
        header.trim_start_matches("Bearer ").to_owned()
    });
    tokens.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_file_is_read_for_each_session_and_the_last_good_token_stands_in() {
    let cluster = cluster(Behaviour::default()).await;
    let folder = folder();
    let file = folder.join("token");
    let relay = relay(&cluster, &json!({"tokenFile": &file}), None).await;
    assert!(relay.logged("users[admin].user.tokenFile is of no use: no token") == 1);

    let protocol = "cluster_protocol";
    let own = "the relay's own credential: no token in ";
    assert_fails(&relay, protocol, own, "S16 missing from the start").await;
    for (id, text) in [
        ("S16 empty from the start", String::new()),
        ("S16 nothing but blanks", " \r\n".to_owned()),
        ("S16 1 MiB", "x".repeat(1024 * 1024)),
        ("S16 two lines", "one\ntwo".to_owned()),
    ] {
        write(&file, text).unwrap();
        assert_fails(&relay, protocol, own, id).await;
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_fails(&relay, protocol, own, "S16 a folder").await;
    std::fs::remove_dir(&file).unwrap();
    assert_eq!(cluster.requests().len(), 0, "never an empty bearer, and nobody instead");

    write(&file, format!("\n{}\r\n", cluster.token("admin"))).unwrap();
    assert_works(&relay, "S16 with newline").await;
    cluster.set_token("admin", "second");
    write(&file, "second").unwrap();
    let before = cluster.requests().len();
    assert_works(&relay, "S16 rotated in mid-run").await;
    assert_eq!(shown(&cluster, before), ["second"]);
    for (id, text) in [("S16 empty", ""), ("S16 blank", "\n"), ("S16 odd", "a\u{1}b")] {
        write(&file, text).unwrap();
        assert_works(&relay, id).await;
    }
    std::fs::remove_file(&file).unwrap();
    assert_works(&relay, "S16 missing").await;

    // The cluster knows it no more: then it stands in for nothing.
    cluster.set_token("admin", "third");
    let refused = "the cluster refuses the relay's own credential";
    assert_fails(&relay, protocol, refused, "S6 without a fresh token").await;
    assert_fails(&relay, protocol, own, "S6 what was refused is forgotten").await;
    write(&file, "third").unwrap();
    assert_works(&relay, "S16 it is back").await;
    assert_eq!(relay.logged("third") + relay.logged("second"), 0, "{}", relay.log());
}

/// The file changes between the request and its answer, as it does with the kubelet's last token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_tried_once_more_if_there_is_a_fresh_one() {
    let cluster = cluster(Behaviour::default()).await;
    let file = folder().join("token");
    let first = cluster.token("admin");
    write(&file, &first).unwrap();
    let relay = relay(&cluster, &json!({"tokenFile": &file}), None).await;
    let refusal = || {
        let gate = Gate::new();
        let text = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
        let steps = [Step::Wait(gate.clone()), Step::Send(text.into()), Step::Close];
        cluster.script_next(Script::new(steps));
        gate
    };

    let gate = refusal();
    let rotation = async {
        session(&cluster, 0).await;
        write(&file, "fresh").unwrap();
        cluster.set_token("admin", "fresh");
        gate.open();
    };
    let script = pipes("exit 3");
    let (mut browser, ()) = tokio::join!(relay.v1(&script), rotation);
    browser.assert_exit("exit", Some(3), 1000, "S6 with a fresh token").await;
    assert_eq!(shown(&cluster, 0), [first, "fresh".to_owned()], "S6 one retry");

    for (id, requests) in [("S6 the same token", 1), ("S6 fresh and refused, too", 2)] {
        let before = cluster.requests().len();
        let gate = refusal();
        let rotation = async {
            session(&cluster, before).await;
            if requests == 2 {
                write(&file, "fresher").unwrap();
            }
            gate.open();
        };
        let (mut browser, ()) = tokio::join!(relay.v1(&script), rotation);
        let (exit, close) = browser.exit().await;
        assert_eq!((&exit["kind"], close.code), (&json!("cluster_protocol"), 4502), "{id}: {exit}");
        assert_eq!(shown(&cluster, before).len(), requests, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_shown_once_it_fits_its_key() {
    let cluster = cluster(Behaviour::default()).await;
    let (_, stranger) = tls();
    let admin = cluster.client_identity();
    let folder = folder();
    let (chain, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    write(&chain, stranger.cert.pem()).unwrap();
    write(&key, stranger.signing_key.serialize_pem()).unwrap();
    let user = json!({"client-certificate": &chain, "client-key": &key});
    let relay = relay(&cluster, &user, None).await;
    assert_fails(&relay, "cluster_unreachable", "tls", "a stranger's").await;
    write(&key, &admin.key_pem).unwrap();
    assert_fails(&relay, "cluster_unreachable", "tls", "the key alone is not taken").await;
    write(&chain, &admin.certificate_pem).unwrap();
    assert_works(&relay, "both").await;
    for text in ["", "nonsense"] {
        write(&chain, text).unwrap();
        assert_works(&relay, "the last good one stands in").await;
    }
    std::fs::remove_file(&key).unwrap();
    assert_works(&relay, "the last good one stands in").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_authority_is_trusted_and_a_broken_one_changes_nothing() {
    let (cluster, stranger) =
        (cluster(Behaviour::default()).await, cluster(Behaviour::default()).await);
    let file = folder().join("ca.crt");
    write(&file, stranger.ca_pem()).unwrap();
    let token = json!({"token": cluster.token("admin")});
    let relay = relay(&cluster, &token, Some(&json!({"certificate-authority": &file}))).await;
    assert_fails(&relay, "cluster_unreachable", "tls", "another one's authority").await;
    write(&file, [stranger.ca_pem(), cluster.ca_pem()].concat()).unwrap();
    assert_works(&relay, "both").await;
    write(&file, cluster.ca_pem()).unwrap();
    assert_works(&relay, "the new one").await;
    for text in ["", "nonsense"] {
        write(&file, text).unwrap();
        assert_works(&relay, "the last good one stays").await;
    }
    std::fs::remove_file(&file).unwrap();
    assert_works(&relay, "the last good one stays").await;
    write(&file, stranger.ca_pem()).unwrap();
    assert_fails(&relay, "cluster_unreachable", "tls", "what is trusted no more").await;
}

/// What the kubelet mounts: files behind links that are replaced.
fn mount(folder: &Path, version: &str, token: &str, authority: &str) {
    use std::os::unix::fs::symlink;
    let data = folder.join(version);
    std::fs::create_dir(&data).unwrap();
    write(data.join("token"), token).unwrap();
    write(data.join("ca.crt"), authority).unwrap();
    let link = folder.join("..new");
    symlink(version, &link).unwrap();
    std::fs::rename(&link, folder.join("..data")).unwrap();
    for name in ["token", "ca.crt"] {
        // They are there from the first time on.
        let _ = symlink(format!("..data/{name}"), folder.join(name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_uses_its_service_account_as_it_rotates() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let options = || Options { listen: listen.parse().unwrap(), ..Options::default() };
        let cluster = FakeCluster::start(options()).await.unwrap();
        let stranger = FakeCluster::start(options()).await.unwrap();
        let folder = folder();
        let (host, port) = (cluster.addr().ip().to_string(), cluster.addr().port().to_string());
        let parse = |own| Clusters::of_service_account(&host, &port, &folder, own);
        let error = parse(Own::Included).unwrap_err();
        assert!(error.contains("/ca.crt cannot be read"), "{error}");
        assert!(error.contains("automountServiceAccountToken"), "{error}");

        mount(&folder, "..1", &cluster.token("execer"), cluster.ca_pem());
        let clusters = parse(Own::Included).unwrap();
        assert!(clusters.warnings().is_empty() && clusters.source().contains(&cluster.url()));
        assert_eq!(clusters.names().collect::<Vec<_>>(), ["in-cluster"]);
        let open = async || {
            let mut target = Target::new("demo", "shell");
            target.container = Some("main".to_owned());
            let opened = clusters.default().open(&target, &Identity::Own);
            within("an answer", opened).await.map(drop)
        };
        open().await.unwrap();
        cluster.set_token("execer", "second");
        mount(&folder, "..2", "second", cluster.ca_pem());
        open().await.unwrap();
        mount(&folder, "..3", "second", stranger.ca_pem());
        assert_eq!(open().await.unwrap_err().kind, Kind::ClusterUnreachable);
        mount(&folder, "..4", "", cluster.ca_pem());
        open().await.unwrap();
        assert_eq!(shown(&cluster, 1), ["second", "second"]);
        assert_eq!(parse(Own::Included).unwrap().warnings().len(), 1);
        // Where callers bring their tokens its own is shown to nobody.
        let clusters = parse(Own::Excluded).unwrap();
        assert!(clusters.warnings().is_empty());
        let target = Target::new("demo", "shell");
        let opened = clusters.default().open(&target, &Identity::Own).await;
        assert_eq!(opened.map(drop).unwrap_err().kind, Kind::Forbidden);
        assert!(shown(&cluster, 3).iter().all(|token| token == "none"));
    }
}

/// A server that is rotated to another authority is trusted again without a restart, and nobody
/// else's data is: `data` beside a file wins for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_in_place_never_changes() {
    let cluster = cluster(Behaviour::default()).await;
    let file = folder().join("ca.crt");
    write(&file, "nonsense").unwrap();
    let data = STANDARD.encode(cluster.ca_pem());
    let fields = json!({"certificate-authority-data": data, "certificate-authority": &file});
    let relay = relay(&cluster, &json!({"token": cluster.token("admin")}), Some(&fields)).await;
    assert_works(&relay, "data").await;
    std::fs::remove_file(&file).unwrap();
    assert_works(&relay, "data").await;
}
