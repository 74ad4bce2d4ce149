//! Set-ups that do not work, as tables.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fake_cluster::{Behaviour, FakeCluster, Image, Options, Rights, Script, Step};
use serde_json::{Value, json};

use crate::said::{POD, script, set_server};

/// A set-up that does not work.
pub struct Row {
    pub name: &'static str,
    pub behaviour: fn() -> Behaviour,
    /// What is different about the kubeconfig, or the cluster.
    pub change: fn(&FakeCluster, &mut Value),
    pub flags: &'static [&'static str],
    pub variables: &'static [(&'static str, &'static str)],
    /// The step that fails first, and the program's exit code.
    pub step: &'static str,
    pub code: i32,
    /// What stands in the answer and helps.
    pub words: &'static [&'static str],
}

/// What a row is if it does not say so.
const USUAL: Row = Row {
    name: "",
    behaviour: Behaviour::default,
    change: |_, _| {},
    flags: &POD,
    variables: &[],
    step: "",
    code: 1,
    words: &[],
};

fn set_token(file: &mut Value, token: &str) {
    file["users"][0]["user"] = json!({"token": token});
}

fn forget_namespaces(file: &mut Value) {
    for context in file["contexts"].as_array_mut().unwrap() {
        context["context"].as_object_mut().unwrap().remove("namespace");
    }
}

/// A token that says when it expires, as a number of seconds from now.
fn jwt(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.sig", part(json!({"alg": "none"})), part(json!({"exp": now + seconds})))
}

/// What an API server says of a request without `Upgrade`.
fn stripped() -> Behaviour {
    let body = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Upgrade request required","reason":"BadRequest","code":400}"#;
    Behaviour::scripted(Script::answer(format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )))
}

pub fn table_of_reaching() -> Vec<Row> {
    vec![
        Row {
            name: "a server's name that does not resolve",
            change: |_, file| set_server(file, "server", "https://no-such-name.invalid:6443"),
            step: "DNS",
            words: &["no-such-name.invalid", "VPN", "kubectl config view --minify"],
            ..USUAL
        },
        Row {
            name: "a port that is closed",
            change: |_, file| set_server(file, "server", "https://127.0.0.1:1"),
            step: "TCP",
            words: &["127.0.0.1:1: Connection refused", "nothing listens on that port"],
            ..USUAL
        },
        Row {
            name: "another cluster's authority",
            change: |_, file| {
                let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
                let pem = other.cert.pem();
                let data = STANDARD.encode(pem);
                set_server(file, "certificate-authority-data", &data);
            },
            step: "TLS",
            words: &[
                "not signed by an authority that is trusted",
                "trusted is CN=rcgen self signed cert",
                "issued by CN=fake-cluster-ca",
                "get a new kubeconfig",
            ],
            ..USUAL
        },
        Row {
            name: "the authority of a cluster that was made anew",
            change: |_, file| {
                let before = FakeCluster::bind(Options::default()).unwrap().kubeconfig();
                let before: Value = serde_json::from_str(&before).unwrap();
                file["clusters"][0]["cluster"]["certificate-authority-data"] =
                    before["clusters"][0]["cluster"]["certificate-authority-data"].clone();
            },
            step: "TLS",
            words: &["trusted is CN=fake-cluster-ca", "the issuer's name, too, but not its key"],
            ..USUAL
        },
        Row {
            name: "a certificate for other names",
            change: |_, file| set_server(file, "tls-server-name", "api.example"),
            step: "TLS",
            words: &["is not for api.example", "set tls-server-name", "kubernetes.default.svc"],
            ..USUAL
        },
        Row {
            name: "something that takes connections and says nothing",
            behaviour: || Behaviour {
                before_tls: Some(Script::new([Step::Hang])),
                ..Behaviour::default()
            },
            flags: &["--connect-timeout=1s"],
            step: "TLS",
            words: &["no answer within 1s", "does not speak TLS"],
            ..USUAL
        },
        Row {
            name: "something that closes connections",
            behaviour: || Behaviour {
                before_tls: Some(Script::new([Step::Close])),
                ..Behaviour::default()
            },
            step: "TLS",
            words: &["the connection ended in the handshake", "balancer"],
            ..USUAL
        },
    ]
}

pub fn table_of_credentials() -> Vec<Row> {
    vec![
        Row {
            name: "a token that is not known",
            change: |_, file| set_token(file, "s3cr3t-of-another-cluster"),
            step: "token",
            words: &["does not accept the kubeconfig's credential (401", "of another cluster"],
            ..USUAL
        },
        Row {
            name: "a token that has expired",
            change: |_, file| set_token(file, &jwt(-7300)),
            step: "token",
            words: &["it expired 2 hours ago", "kubectl create token"],
            ..USUAL
        },
        Row {
            name: "a token of another cluster",
            change: |_, file| set_token(file, &jwt(7300)),
            step: "token",
            words: &["good for 2 hours more", "another audience"],
            ..USUAL
        },
        Row {
            name: "a wrong token in the variable",
            variables: &[("PODWIRE_TOKEN", "s3cr3t-in-the-variable")],
            step: "token",
            words: &["does not accept the token in $PODWIRE_TOKEN (401"],
            ..USUAL
        },
        Row {
            name: "nobody",
            change: |_, file| file["users"][0]["user"] = json!({}),
            step: "token",
            words: &["you are system:anonymous", "set $PODWIRE_TOKEN"],
            ..USUAL
        },
        Row {
            name: "a token file that is not there",
            change: |_, file| file["users"][0]["user"] = json!({"tokenFile": "/nowhere/token"}),
            step: "token",
            words: &["/nowhere/token"],
            ..USUAL
        },
        Row {
            name: "an API server that does not answer",
            behaviour: || Behaviour {
                after_tls: Some(Script::new([Step::Hang])),
                ..Behaviour::default()
            },
            flags: &["--response-timeout=1s"],
            step: "token",
            words: &["did not answer in time", "--response-timeout"],
            ..USUAL
        },
        Row {
            name: "nobody's rights",
            flags: &["--context=demo-nobody", "--namespace=demo", "--pod=shell"],
            step: "RBAC get",
            words: &[
                "user nobody may not get pods/exec of shell in the namespace demo",
                "user nobody may not create",
                "round trip skipped needs RBAC",
                "kubectl apply -f - <<'END'",
                "kind: RoleBinding",
                "name: \"nobody\"",
                "verbs: [\"get\", \"create\"]",
            ],
            ..USUAL
        },
        Row {
            name: "the rights that kubectl needed before",
            change: |cluster, _| {
                cluster.set_rights("nobody", Rights::of(&[("create", "pods/exec")]));
            },
            flags: &["--context=demo-nobody", "--namespace=demo", "--pod=shell"],
            step: "RBAC get",
            words: &["a WebSocket is a GET", "Failed: RBAC get."],
            ..USUAL
        },
        Row {
            name: "the rights that were enough before 1.35",
            change: |cluster, _| {
                cluster.set_rights("nobody", Rights::of(&[("get", "pods/exec")]));
            },
            flags: &["--context=demo-nobody", "--namespace=demo", "--pod=shell"],
            step: "RBAC create",
            words: &["1.35 and later ask for this verb", "kind: Role", "Failed: RBAC create."],
            ..USUAL
        },
        Row {
            name: "no namespace that one has rights in",
            change: |_, file| forget_namespaces(file),
            flags: &["--context=demo-nobody"],
            step: "RBAC get",
            words: &["in the namespace default", "name it with --namespace"],
            ..USUAL
        },
    ]
}

pub fn table_of_upgrades() -> Vec<Row> {
    vec![
        Row {
            name: "a gateway's path that leads nowhere",
            change: |cluster, file| {
                set_server(file, "server", &format!("{}/k8s/clusters/c-1", cluster.url()));
            },
            step: "version",
            words: &[
                "token ok it was not refused",
                "likely: the path in clusters[fake].cluster.server is wrong",
                "round trip skipped needs version",
            ],
            ..USUAL
        },
        Row {
            name: "a proxy that strips Upgrade",
            behaviour: stripped,
            step: "subprotocol",
            words: &["400 Upgrade request required", "nginx: proxy_http_version 1.1", "Envoy"],
            ..USUAL
        },
        Row {
            name: "a proxy that drops the subprotocol",
            behaviour: || script("empty-subprotocol"),
            step: "subprotocol",
            words: &["chose no subprotocol", "Sec-WebSocket-Protocol"],
            ..USUAL
        },
        Row {
            name: "a server that knows no subprotocol of ours",
            behaviour: || script("403-empty"),
            step: "subprotocol",
            words: &["knows none of the subprotocols"],
            ..USUAL
        },
        Row {
            name: "a login page",
            behaviour: || script("redirect"),
            step: "subprotocol",
            words: &["302", "login page"],
            ..USUAL
        },
        Row {
            name: "a gateway that lost its backend",
            behaviour: || script("502-html"),
            step: "round trip",
            words: &["502 Bad Gateway", "balancer or gateway"],
            ..USUAL
        },
        Row {
            name: "a webhook that refuses",
            behaviour: || script("403-status"),
            step: "round trip",
            words: &["admission webhook", "validatingwebhookconfigurations"],
            ..USUAL
        },
        Row {
            name: "words that would drive a terminal",
            behaviour: || script("500-text"),
            step: "round trip",
            words: &["bad\\u{1b}[31m\\u{7}thing"],
            ..USUAL
        },
    ]
}

pub fn table_of_sessions() -> Vec<Row> {
    vec![
        Row {
            name: "a connection that is cut",
            behaviour: || script("reset"),
            step: "round trip",
            words: &["before it said how the process ended", "cuts WebSockets"],
            ..USUAL
        },
        Row {
            name: "a session that says nothing",
            behaviour: || script("silence-after-101"),
            flags: &["--namespace=demo", "--pod=shell", "--response-timeout=1s", "--hangup=none"],
            step: "round trip",
            words: &["did not end within 1s", "--response-timeout"],
            ..USUAL
        },
        Row {
            name: "no pod of that name",
            flags: &["--namespace=demo", "--pod=shel"],
            step: "round trip",
            words: &["pods \"shel\" not found", "kubectl get pods -n demo"],
            ..USUAL
        },
        Row {
            name: "no container of that name",
            flags: &["--namespace=demo", "--pod=shell", "--container=nope"],
            step: "round trip",
            words: &["container nope is not valid for pod shell", "--container"],
            ..USUAL
        },
        Row {
            name: "a pod that is over",
            flags: &["--namespace=demo", "--pod=done"],
            step: "round trip",
            words: &["container not found", "kubectl get pod done -n demo"],
            ..USUAL
        },
        Row {
            name: "a container without a shell",
            behaviour: || Behaviour::of_image(Image::Nothing),
            step: "round trip",
            words: &["no shell found; try: kubectl debug -it shell -n demo", "distroless"],
            ..USUAL
        },
        Row {
            name: "a node that cannot be reached",
            behaviour: || Behaviour { kubelet_down: true, ..Behaviour::default() },
            step: "round trip",
            words: &["error dialing backend", "port 10250", "kubectl get nodes"],
            ..USUAL
        },
        Row {
            name: "a status that lies",
            behaviour: || script("status-then-eof"),
            step: "round trip",
            words: &["was asked for exit code 42", "exit code 3"],
            ..USUAL
        },
    ]
}

pub fn table_of_configurations() -> Vec<Row> {
    let wrong = || Row { step: "config", code: 2, ..USUAL };
    vec![
        Row {
            name: "no such context",
            flags: &["--context=nope"],
            words: &["nope", "skipped needs config"],
            ..wrong()
        },
        Row {
            name: "no such cluster",
            flags: &["--cluster=nope"],
            words: &["no context nope", "name one with --cluster"],
            ..wrong()
        },
        Row {
            name: "a container without its pod",
            flags: &["--container=main"],
            words: &["--container needs --pod"],
            ..wrong()
        },
        Row {
            name: "a namespace that cannot be one",
            flags: &["--namespace=../kube-system", "--pod=shell"],
            words: &["the namespace is not a valid name"],
            ..wrong()
        },
        Row {
            name: "an empty variable",
            variables: &[("PODWIRE_TOKEN", "")],
            words: &["$PODWIRE_TOKEN is empty"],
            ..wrong()
        },
        Row {
            name: "an authority that is no certificate",
            change: |_, file| set_server(file, "certificate-authority-data", "czNjcjN0"),
            words: &["certificate-authority"],
            ..wrong()
        },
        Row {
            name: "what is served could not be",
            flags: &["--tls-cert=/nowhere/cert", "--tls-key=/nowhere/key"],
            words: &["--tls-cert"],
            ..wrong()
        },
    ]
}
