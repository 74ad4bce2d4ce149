//! Kubeconfigs that are wrong: the program ends with code 2 and one line that names the file, the
//! field in kubectl's words, and what to type instead, and that never has a value.
//!
//! C5 of the project's list of bad inputs, row by row.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod users;

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::folder;
use podwire::{Clusters, Own};

/// Stands wherever a secret may stand.
const SECRET: &str = "s3cr3t";

fn yaml(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nclusters:\n- name: c\n  cluster: {{{cluster}}}\n\
         users:\n- name: u\n  user: {{{user}}}\n\
         contexts:\n- name: x\n  context: {{cluster: c, user: u}}\ncurrent-context: x\n"
    )
}

/// The user's fields, at a cluster with nothing wrong about it.
fn user(fields: &str) -> String {
    yaml("server: 'http://127.0.0.1:1'", fields)
}

/// The cluster's fields, for nobody.
fn cluster(fields: &str) -> String {
    yaml(fields, "")
}

fn exec(fields: &str) -> String {
    user(&format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, {fields}}}"
    ))
}

fn run(flags: &[&str], kubeconfig: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_podwire"))
        .args(["--auth=own", "--listen=127.0.0.1:0", "--admin-listen=off", "--kubeconfig"])
        .arg(kubeconfig)
        .args(flags)
        .env_clear()
        .env("PATH", "/nowhere")
        .env("SSL_CERT_FILE", "/dev/null")
        .output()
        .unwrap()
}

/// What is wrong, the flags, the file, the field, what to type.
type Row = (&'static str, &'static [&'static str], String, &'static str, &'static str);

fn assert_told(rows: &[Row]) {
    let folder = folder();
    for (id, flags, text, field, remedy) in rows {
        let file = folder.join("config");
        std::fs::write(&file, text).unwrap();
        let output = run(flags, &file);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{id}: {said}");
        assert!(output.stdout.is_empty(), "{id}: it is not ready");
        assert_eq!(said.lines().count(), 1, "{id}: {said}");
        let start = format!("podwire: {}: {field}", file.display());
        assert!(said.starts_with(&start), "{id}: {said}");
        assert!(said.contains(remedy), "{id}: {said}");
        assert!(!said.contains(SECRET), "{id}: {said}");
        assert!(said.len() < 600, "{id}: {said}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_makes_no_sense_is_told_by_its_place() {
    let good = user(&format!("token: {SECRET}"));
    let long = format!("{good}# {}", "x".repeat(1024 * 1024));
    let bomb = format!("{good}x: {}", "[".repeat(100_000));
    let view = "kubectl config view";
    assert_told(&[
        ("C5 no YAML", &[], good.replace("user: {token", "user: [token"), "line ", view),
        (
            "C5 two documents",
            &[],
            format!("{good}---\n{good}"),
            "line 12, column 1: a second",
            "file of its own",
        ),
        ("C5 empty", &[], String::new(), "no contexts", view),
        ("C5 comments", &[], "# nothing\n".to_owned(), "no contexts", view),
        ("no kubeconfig", &[], SECRET.to_owned(), "not a kubeconfig", view),
        ("no list", &[], format!("users: {SECRET}"), "users must be a list", "dash"),
        ("no text", &[], format!("{good}\0\u{1}"), "line 12", view),
        (
            "a field twice",
            &[],
            user("token: a, token: b"),
            "line 7, column 20: a field stands there twice",
            view,
        ),
        (
            "a user twice",
            &[],
            good.replace("users:", "users:\n- name: u\n  user: {}"),
            "users[u] stands there twice",
            "delete or rename",
        ),
        (
            "too long",
            &[],
            long,
            "longer than 1 MiB",
            "kubectl config view --raw --flatten --minify",
        ),
        ("too deep", &[], bomb, "line 12, column ", view),
    ]);
}

#[test]
fn a_name_that_leads_nowhere_is_told_with_those_that_do() {
    let good = user("token: t");
    let others = good.replace("contexts:", "contexts:\n- name: b\n  context: {cluster: c}");
    let nameless = others.replace("current-context: x\n", "");
    let alone = good.replace("context: {cluster: c, user: u}", "context: {user: u}");
    let cluster = "kubectl config set-context x --cluster=CLUSTER";
    assert_told(&[
        (
            "C5 missing context",
            &["--context=no\u{1b}pe"],
            others.clone(),
            "no context no\\u{1b}pe; it has: b, x;",
            "--context",
        ),
        (
            "missing context in --clusters",
            &["--clusters=nope"],
            others,
            "no context nope; it has: b, x;",
            "--context",
        ),
        ("no current-context", &[], nameless, "no current-context; it has: b, x;", "--context"),
        (
            "C5 missing cluster",
            &[],
            good.replace("{cluster: c,", "{cluster: d,"),
            "contexts[x].context.cluster names d, which is not among the clusters (it has: c)",
            cluster,
        ),
        ("no cluster", &[], alone, "contexts[x].context.cluster is missing", cluster),
    ]);
}

#[test]
fn a_cluster_that_cannot_be_dialled_is_told() {
    let embed = "--embed-certs --certificate-authority=FILE";
    let field =
        |name: &str, value: &str| cluster(&format!("server: 'https://x', {name}: '{value}'"));
    let data = "certificate-authority-data";
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let rows: Vec<Row> = vec![
        (
            "no authority at all",
            &[],
            cluster("server: 'https://x'"),
            "clusters[c].cluster.certificate-authority-data is missing",
            embed,
        ),
        (
            "C5 bad base64",
            &[],
            field(data, "a b !"),
            "clusters[c].cluster.certificate-authority-data is not base64",
            "base64 -w0",
        ),
        (
            "no PEM",
            &[],
            field(data, "AAAA"),
            "clusters[c].cluster.certificate-authority-data holds no certificate",
            embed,
        ),
        (
            "broken PEM",
            &[],
            field(data, &STANDARD.encode(broken)),
            "clusters[c].cluster.certificate-authority-data holds a broken certificate",
            embed,
        ),
        (
            "C5 no CA at a relative path",
            &[],
            field("certificate-authority", "no/ca.crt"),
            "clusters[c].cluster.certificate-authority (/",
            embed,
        ),
        (
            "a folder",
            &[],
            field("certificate-authority", "/"),
            "clusters[c].cluster.certificate-authority (/) cannot be read: not a file",
            embed,
        ),
        (
            "blind and not",
            &[],
            cluster(
                "server: 'https://x', insecure-skip-tls-verify: true, certificate-authority: x",
            ),
            "clusters[c].cluster.insecure-skip-tls-verify makes no sense",
            "delete one",
        ),
        (
            "neither true nor false",
            &[],
            field("insecure-skip-tls-verify", "maybe"),
            "clusters[c].cluster.insecure-skip-tls-verify must be true or false",
            "true or false",
        ),
        (
            "no proxy",
            &[],
            cluster(&format!("server: 'http://127.0.0.1', proxy-url: 'ftp://{SECRET}@x'")),
            "clusters[c].cluster.proxy-url is of no use",
            "socks5://HOST:PORT",
        ),
        (
            "no name",
            &[],
            cluster("server: 'http://127.0.0.1', tls-server-name: 'a b'"),
            "clusters[c].cluster.tls-server-name is not a name",
            "that the certificate has",
        ),
        (
            "no text",
            &[],
            cluster("server: [a]"),
            "clusters[c].cluster.server must be text",
            "on one line",
        ),
        (
            "no fields",
            &[],
            cluster("").replace("cluster: {}", "cluster: [a]"),
            "clusters[c].cluster must have fields",
            "each on a line",
        ),
    ];
    assert_told(&rows);
}

#[test]
fn an_address_that_is_none_is_told() {
    let server = "kubectl config set-cluster c --server=https://HOST:6443";
    let login = format!("'https://{SECRET}:{SECRET}@x'");
    let mut rows: Vec<Row> = Vec::new();
    for (id, value, what) in [
        ("no server", "", "is missing"),
        ("no scheme", "x:6443", "is not an address"),
        ("another scheme", "'ftp://x'", "does not begin with https"),
        ("http elsewhere", "'http://10.0.0.1:8080'", "is http, which only this machine"),
        ("http by name", "'http://localhost.example'", "is http, which only this machine"),
        ("a login", &login, "has a user's name or password"),
        ("a query", "'https://x/?y'", "has a question mark"),
        ("nonsense", "'https://['", "is not an address"),
    ] {
        let text = cluster(&format!("server: {value}"));
        rows.push((
            id,
            &[],
            text,
            Box::leak(format!("clusters[c].cluster.server {what}").into()),
            server,
        ));
    }
    assert_told(&rows);
}

/// What is wrong about users is nobody's business where callers bring their tokens.
#[test]
fn users_are_not_looked_at_under_passthrough() {
    for fields in ["exec: {command: x}", "token: [a]", "client-key-data: '!'", "auth-provider: {}"]
    {
        let text = user(fields);
        let parse = |own| Clusters::parse(text.as_bytes(), Path::new("."), None, &[], own);
        assert!(parse(Own::Excluded).is_ok() && parse(Own::Included).is_err(), "{fields}");
    }
}
