//! Rows about users, and about the plugins that they may have.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::common::tls;
use crate::{SECRET, assert_told, exec, user};

#[test]
fn a_user_who_cannot_be_shown_is_told() {
    let provider = |name: &str| {
        user(&format!("auth-provider: {{name: {name}, config: {{id-token: {SECRET}}}}}"))
    };
    let token = |text: &str| user(&format!("token: {text}"));
    assert_told(&[
        (
            "C5 auth-provider gcp",
            &[],
            provider("gcp"),
            "users[u].user.auth-provider exists no more",
            "gke-gcloud-auth-plugin",
        ),
        (
            "C5 auth-provider azure",
            &[],
            provider("azure"),
            "users[u].user.auth-provider exists no more",
            "kubelogin convert-kubeconfig",
        ),
        (
            "C5 auth-provider oidc",
            &[],
            provider("oidc"),
            "users[u].user.auth-provider exists no more",
            "kubectl oidc-login",
        ),
        (
            "C5 auth-provider",
            &[],
            provider("x"),
            "users[u].user.auth-provider exists no more",
            "exec plugin",
        ),
        (
            "a password",
            &[],
            user(&format!("username: {SECRET}, password: {SECRET}")),
            "users[u].user.username is understood by no cluster",
            "use a token",
        ),
        (
            "as",
            &[],
            user("token: t, as: somebody"),
            "users[u].user.as is not supported",
            "kubectl config set-credentials u --token",
        ),
        (
            "as-groups",
            &[],
            user("token: t, as-groups: [a]"),
            "users[u].user.as-groups is not supported",
            "kubectl create token",
        ),
        (
            "an odd token",
            &[],
            token(&format!("\"{SECRET}\\n{SECRET}\"")),
            "users[u].user.token has characters",
            "nothing else",
        ),
        (
            "a token of blanks",
            &[],
            token("'  '"),
            "users[u].user.token has characters",
            "nothing else",
        ),
        (
            "a token that is a list",
            &[],
            token(&format!("[{SECRET}]")),
            "users[u].user.token must be text",
            "in quotes",
        ),
    ]);
}

#[test]
fn a_certificate_that_cannot_be_shown_is_told() {
    let (_, certified) = tls();
    let (_, other) = tls();
    let chain = STANDARD.encode(certified.cert.pem());
    let key = STANDARD.encode(certified.signing_key.serialize_pem());
    let wrong = STANDARD.encode(other.signing_key.serialize_pem());
    let both = |chain: &str, key: &str| {
        user(&format!("client-certificate-data: '{chain}', client-key-data: '{key}'"))
    };
    let certificate = "kubectl config set-credentials u --embed-certs";
    assert_told(&[
        (
            "C5 bad base64",
            &[],
            both(&chain, "!"),
            "users[u].user.client-key-data is not base64",
            "base64 -w0",
        ),
        (
            "no key in PEM",
            &[],
            both(&chain, &chain),
            "users[u].user.client-key-data holds no private key",
            certificate,
        ),
        (
            "no certificate in PEM",
            &[],
            both(&key, &key),
            "users[u].user.client-certificate-data holds no certificate",
            certificate,
        ),
        (
            "another key",
            &[],
            both(&chain, &wrong),
            "users[u].user.client-key-data is not the key of the certificate",
            certificate,
        ),
        (
            "no key",
            &[],
            user(&format!("client-certificate-data: {chain}")),
            "users[u].user.client-key or client-key-data is missing",
            certificate,
        ),
        (
            "no certificate",
            &[],
            user("client-key: x"),
            "users[u].user.client-certificate or client-certificate-data is missing",
            certificate,
        ),
        (
            "no file",
            &[],
            user(&format!("client-certificate-data: {chain}, client-key: gone")),
            "users[u].user.client-key (/",
            certificate,
        ),
    ]);
}

#[test]
fn a_plugin_that_may_not_or_cannot_be_run_is_told() {
    let allowed: &[&str] = &["--allow-exec-plugin=aws,/nowhere/aws"];
    assert_told(&[
        (
            "C5 exec plugin while denied",
            &[],
            exec("command: aws"),
            "users[u].user.exec.command (aws) may not be run",
            "--allow-exec-plugin=aws",
        ),
        (
            "another one is allowed",
            &["--allow-exec-plugin=aw"],
            exec("command: aws"),
            "users[u].user.exec.command (aws) may not be run",
            "--allow-exec-plugin=aws",
        ),
        (
            "the same name elsewhere",
            allowed,
            exec("command: /tmp/aws"),
            "users[u].user.exec.command (/tmp/aws) may not be run",
            "--allow-exec-plugin=/tmp/aws",
        ),
        (
            "a path that is written in another way, and allowed",
            &["--allow-exec-plugin=/nowhere/./x//aws"],
            exec("command: /nowhere/x/aws"),
            "users[u].user.exec.command (/nowhere/x/aws) is not a program",
            "install it",
        ),
        (
            "not installed",
            allowed,
            exec("command: aws"),
            "users[u].user.exec.command (aws) is not in $PATH",
            "install it",
        ),
        (
            "not installed, with a hint",
            allowed,
            exec("command: aws, installHint: \"Get it\\nat x.example\""),
            "users[u].user.exec.command (aws) is not in $PATH",
            "Get it at x.example",
        ),
        (
            "not there",
            allowed,
            exec("command: /nowhere/aws"),
            "users[u].user.exec.command (/nowhere/aws) is not a program",
            "install it",
        ),
        (
            "no command",
            allowed,
            exec(""),
            "users[u].user.exec.command is missing",
            "name the program",
        ),
        (
            "no fields",
            allowed,
            user("exec: aws"),
            "users[u].user.exec must have fields",
            "each on a line",
        ),
    ]);
}

#[test]
fn a_plugin_that_is_not_described_as_it_should_is_told() {
    // It must be there, or nothing else is looked at.
    let sh: &[&str] = &["--allow-exec-plugin=/bin/sh"];
    let old = "client.authentication.k8s.io/v1alpha1";
    let cut = |text: String, field: &str| text.replace(field, "");
    assert_told(&[
        (
            "an old version",
            sh,
            exec("command: /bin/sh").replace("client.authentication.k8s.io/v1", old),
            "users[u].user.exec.apiVersion must be client.authentication.k8s.io/v1 or",
            "newer one",
        ),
        (
            "no version",
            sh,
            cut(exec("command: /bin/sh"), "apiVersion: client.authentication.k8s.io/v1, "),
            "users[u].user.exec.apiVersion must be",
            "newer one",
        ),
        (
            "asks somebody",
            sh,
            exec("command: /bin/sh").replace("Never", "Always"),
            "users[u].user.exec.interactiveMode is Always",
            "needs nobody",
        ),
        (
            "says nothing about it",
            sh,
            cut(exec("command: /bin/sh"), "interactiveMode: Never, "),
            "users[u].user.exec.interactiveMode must be Never",
            "IfAvailable",
        ),
        (
            "no arguments",
            sh,
            exec("command: /bin/sh, args: -c"),
            "users[u].user.exec.args must be a list",
            "dash",
        ),
        (
            "an argument that is none",
            sh,
            exec("command: /bin/sh, args: [[a]]"),
            "users[u].user.exec.args[0] must be text",
            "in quotes",
        ),
        (
            "no variable",
            sh,
            exec(&format!("command: /bin/sh, env: [{{value: {SECRET}}}]")),
            "users[u].user.exec.env[0].name must be",
            "name of a variable",
        ),
    ]);
}
