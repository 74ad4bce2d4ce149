//! What may be asked before there is a session: the containers of a pod, and what kubectl asks first.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Answer, Relay, Start, cluster};
use fake_cluster::Behaviour;
use serde_json::json;

const SHELL: &str = "/api/v1/namespaces/demo/pods/shell";

async fn get(relay: &Relay, path: &str, headers: &str) -> Answer {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    relay.http(request).await.unwrap()
}

/// Exactly this and nothing else of all that the cluster tells.
#[tokio::test]
async fn a_pod_is_told_by_its_containers_and_nothing_else() {
    let behaviour = Behaviour { default_container: Some("side".into()), ..Behaviour::default() };
    let cluster = cluster(behaviour).await;
    let relay = Relay::start(&cluster).await;
    for path in [SHELL.to_owned(), format!("{SHELL}?timeout=32s")] {
        let answer = get(&relay, &path, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        // Three fields are there only because Kubernetes' own clients insist on them.
        let told = |name| json!({"name": name, "ready": true, "image": "", "imageID": "", "restartCount": 0});
        let expected = json!({"kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "shell", "namespace": "demo",
                "annotations": {"kubectl.kubernetes.io/default-container": "side"}},
            "spec": {"containers": [{"name": "main"}, {"name": "side"}]},
            "status": {"phase": "Running", "containerStatuses": [told("main"), told("side")]}});
        assert_eq!(answer.json(), expected);
    }
    let done = get(&relay, "/api/v1/namespaces/demo/pods/done", "").await.json();
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(done["metadata"]["annotations"], json!({}));
}

/// Nobody reads with other rights than a session would have.
#[tokio::test]
async fn a_pod_is_read_with_the_callers_own_rights() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::passthrough().before(&cluster).await;
    for (user, status) in [("admin", 200), ("execer", 403), ("nobody", 403)] {
        let token = format!("Authorization: Bearer {}\r\n", cluster.token(user));
        let answer = get(&relay, SHELL, &token).await;
        assert_eq!(answer.status, status, "{user}: {answer:?}");
    }
    get(&relay, SHELL, "").await.assert_refusal(401, "unauthorized", "no token");
    let wrong = get(&relay, SHELL, "Authorization: Bearer wrong\r\n").await;
    assert_eq!((wrong.status, &wrong.json()["reason"]), (401, &json!("Unauthorized")));
}

#[tokio::test]
async fn what_is_not_there_or_no_name_is_refused_as_a_session_is() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Relay::start(&cluster).await;
    let rows = [
        ("/clusters/none/api/v1/namespaces/demo/pods/shell", 404, "not_found"),
        ("/clusters/none/api", 404, "not_found"),
        ("/clusters/none/api/v1", 404, "not_found"),
        ("/api/v1/namespaces/%2e%2e/pods/shell", 400, "bad_request"),
        ("/api/v1/namespaces/demo/pods/shell%2fexec", 400, "bad_request"),
        ("/api/v1/namespaces/demo/pods/", 400, "bad_request"),
        ("/api/v1/namespaces/demo/pods", 404, "not_found"),
        ("/api/v1/namespaces/demo/pods/shell/log", 404, "not_found"),
    ];
    for (path, status, kind) in rows {
        get(&relay, path, "").await.assert_refusal(status, kind, path);
    }
    // What the API server says of a pod is passed on as it is.
    let none = get(&relay, "/api/v1/namespaces/demo/pods/none", "").await;
    assert_eq!((none.status, &none.json()["details"]["name"]), (404, &json!("none")));
    let foreign = get(&relay, SHELL, "Origin: https://elsewhere.example\r\n").await;
    foreign.assert_refusal(403, "forbidden", "a foreign page");
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 200)] {
        for path in [SHELL, "/api"] {
            // What a page asks for as an image has no origin.
            let answer = get(&relay, path, &format!("Sec-Fetch-Site: {site}\r\n")).await;
            assert_eq!(answer.status, status, "{site}: {path}");
        }
    }
    let request = format!("POST {SHELL} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    let posted = relay.http(request).await.unwrap();
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
}

/// kubectl asks there once a pod was not found, and shows what it hears if it is a 404.
#[tokio::test]
async fn a_namespace_is_nothing_that_is_told() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Relay::start(&cluster).await;
    for path in ["/api/v1/namespaces/demo", "/clusters/demo/api/v1/namespaces/demo"] {
        get(&relay, path, "").await.assert_refusal(403, "forbidden", path);
    }
    let relay = Start::passthrough().before(&cluster).await;
    let answer = get(&relay, "/api/v1/namespaces/demo", "").await;
    answer.assert_refusal(401, "unauthorized", "no token");
    assert_eq!(cluster.connections(), 0, "nobody asked the cluster");
}

/// What a pod's own answer is made of stays with the cluster, and so does what else there is.
#[tokio::test]
async fn discovery_knows_pods_and_nothing_else() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Relay::start(&cluster).await;
    for prefix in ["", "/clusters/demo"] {
        let versions = get(&relay, &format!("{prefix}/api?timeout=32s"), "").await.json();
        assert_eq!(versions["versions"], json!(["v1"]));
        let groups = get(&relay, &format!("{prefix}/apis"), "").await.json();
        assert_eq!((&groups["kind"], &groups["groups"]), (&json!("APIGroupList"), &json!([])));
        let resources = get(&relay, &format!("{prefix}/api/v1"), "").await.json();
        let names: Vec<_> =
            resources["resources"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["pods", "pods/attach", "pods/exec"]);
    }
}
