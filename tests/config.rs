//! What a kubeconfig and the environment say about clusters, and what is refused instead of
//! being read as something weaker.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::{Command, Output};

use podwire::{Clusters, Own};
use serde_json::{Value, json};

/// A kubeconfig with one context, its user and whatever the user is.
fn kubeconfig(user: &Value) -> Value {
    json!({
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    })
}

fn parse(kubeconfig: &Value, own: Own) -> Result<Clusters, String> {
    Clusters::parse(kubeconfig.to_string().as_bytes(), Path::new("."), None, &[], own)
}

#[test]
fn a_user_that_is_not_understood_is_refused() {
    for (field, value) in [
        ("auth-provider", json!({"name": "x"})),
        ("username", json!("x")),
        ("password", json!("x")),
        ("as", json!("x")),
        ("as-uid", json!("x")),
        ("as-groups", json!(["x"])),
        ("as-user-extra", json!({"x": ["y"]})),
    ] {
        let file = kubeconfig(&json!({"token": "t", field: value}));
        let error = parse(&file, Own::Included).unwrap_err();
        assert!(error.starts_with(&format!("users[u].user.{field} ")), "{error}");
        assert!(parse(&file, Own::Excluded).is_ok(), "nobody looks at the users");
    }
}

#[test]
fn a_user_that_is_missing_is_nobody_as_for_kubectl_and_that_is_told() {
    let mut file = kubeconfig(&json!({"token": "t"}));
    file["contexts"][0]["context"]["user"] = json!("gone");
    let clusters = parse(&file, Own::Included).unwrap();
    let warning = "contexts[x].context.user names gone, who is not among the users";
    assert!(clusters.warnings()[0].starts_with(warning), "{:?}", clusters.warnings());
    assert!(clusters.source().ends_with("no credential"), "{}", clusters.source());
    assert!(parse(&file, Own::Excluded).unwrap().warnings().is_empty());
    file["contexts"][0]["context"]["user"] = json!("");
    let clusters = parse(&file, Own::Included).unwrap();
    assert!(clusters.warnings().is_empty(), "a context may name none");
}

#[test]
fn a_list_that_is_null_is_empty() {
    let mut file = kubeconfig(&json!({}));
    file["users"] = Value::Null;
    assert_eq!(parse(&file, Own::Included).unwrap().warnings().len(), 1);
    for (list, words) in [
        ("clusters", "contexts[x].context.cluster names c, which is not among"),
        ("contexts", "no context x; it has none"),
    ] {
        file[list] = Value::Null;
        let error = parse(&file, Own::Included).unwrap_err();
        assert!(error.starts_with(words), "{error}");
    }
}

#[test]
fn an_error_shows_no_value() {
    let files = [
        (kubeconfig(&json!("s3cr3t-token")), "users[u].user must have fields"),
        (kubeconfig(&json!({"token": ["s3cr3t-token"]})), "users[u].user.token must be text"),
        (kubeconfig(&json!({"token": "s3cr3t\n-token"})), "users[u].user.token has characters"),
        (kubeconfig(&json!({"exec": "s3cr3t-token"})), "users[u].user.exec must have fields"),
        (json!({"users": "s3cr3t-token"}), "users must be a list"),
        (json!({"users": ["s3cr3t-token"]}), "users[0] must have the fields name and user"),
        (json!("s3cr3t-token"), "not a kubeconfig; see: kubectl"),
    ];
    for (file, words) in files {
        let error = parse(&file, Own::Included).unwrap_err();
        assert!(error.starts_with(words) && !error.contains("s3cr3t"), "{error}");
    }
    let cut = &kubeconfig(&json!({"token": "s3cr3t-token"})).to_string()[..200];
    let error = Clusters::parse(cut.as_bytes(), Path::new("."), None, &[], Own::Included);
    let error = error.unwrap_err();
    assert!(error.starts_with("line 1, column ") && error.contains("kubectl"), "{error}");
    assert!(!error.contains("s3cr3t"), "{error}");
}

#[test]
fn a_closed_stdout_is_no_failure() {
    for argument in ["--help", "--version", "--print-config"] {
        // The pipe's reader is gone before the program begins.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_podwire"));
        let output = command.arg(argument).env_clear().stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{argument}: {output:?}");
        assert!(output.stderr.is_empty(), "{argument}: {output:?}");
    }
}

fn podwire(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwire"));
    let environment = environment.iter().copied();
    command.args(arguments).env_clear().envs(environment).output().unwrap()
}

/// Asserts that the program ends with code 2 and one line with these words.
fn assert_wrong(arguments: &[&str], environment: &[(&str, &str)], words: &str) {
    let output = podwire(arguments, environment);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(words) && said.lines().count() == 1, "{said}");
}

#[test]
fn where_clusters_are_looked_for() {
    let pod = [("KUBERNETES_SERVICE_HOST", "127.0.0.1"), ("KUBERNETES_SERVICE_PORT", "1")];
    let named = ("KUBECONFIG", "/nowhere/named");
    assert_wrong(&[], &[], "no kubeconfig: name one with --kubeconfig");
    assert_wrong(&[], &[("HOME", "/nowhere")], "/nowhere/.kube/config");
    assert_wrong(&[], &[named, ("HOME", "/nowhere")], "/nowhere/named");
    assert_wrong(&[], &[("KUBECONFIG", ":/nowhere/named:")], "/nowhere/named;");
    assert_wrong(&[], &[("KUBECONFIG", "/nowhere/a:/nowhere/b")], "/nowhere/a:/nowhere/b");
    assert_wrong(&["--kubeconfig=/nowhere/flag"], &[("KUBECONFIG", "/a:/b")], "/nowhere/flag");
    assert_wrong(&[], &[pod[0], pod[1], ("HOME", "/nowhere")], "serviceaccount/ca.crt");
    // A pod is known by more than one variable; what somebody means instead is named by a flag.
    assert_wrong(&[], &[pod[0], pod[1], named], "serviceaccount/ca.crt");
    assert_wrong(&["--context=x"], &pod, "need a kubeconfig");
    assert_wrong(&["--clusters=x"], &pod, "need a kubeconfig");
}

#[test]
fn a_port_of_operators_that_is_taken_is_named_by_its_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubeconfig-of-operators");
    std::fs::write(&file, kubeconfig(&json!({})).to_string()).unwrap();
    let file = file.to_str().unwrap();
    let (listen, admin) = ("--listen=127.0.0.1:0", format!("--admin-listen={address}"));
    let output = podwire(&[listen, "--kubeconfig", file, &admin], &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let words = format!("podwire: cannot listen on --admin-listen {address}: ");
    assert!(said.starts_with(&words) && said.lines().count() == 1, "{said}");
    assert!(output.stdout.is_empty(), "it is not ready");
}

#[test]
fn what_is_printed_can_be_typed_again() {
    let flags = ["--print-config", "--idle-timeout=off", "--max-head=64KiB", "--hangup=keys"];
    let first = podwire(&flags, &[("PODWIRE_LOG_FORMAT", "json")]);
    let text = String::from_utf8(first.stdout).unwrap();
    for line in ["--idle-timeout=off", "--max-head=64KiB", "--hangup=keys", "--log-format=json"] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    let again: Vec<&str> = text.lines().chain(["--print-config"]).collect();
    assert_eq!(String::from_utf8(podwire(&again, &[]).stdout).unwrap(), text);
}
