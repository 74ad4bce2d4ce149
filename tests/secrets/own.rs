//! What the relay has of its own: tokens, keys, passwords of proxies, and what plugins say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fake_cluster::{Behaviour, FakeCluster, misbehaviour};
use serde_json::{Value, json};

use crate::common::{Start, cluster, folder, pipes};
use crate::leak::{
    assert_clean, assert_clean_answer, assert_clean_page, assert_clean_relay, secret,
};

const VERSION: &str = "client.authentication.k8s.io/v1";

/// The cluster's kubeconfig with another user, and with these fields of the cluster.
fn kubeconfig(cluster: &FakeCluster, user: &Value, fields: &Value) -> String {
    let mut text: Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
    text["users"][0]["user"] = user.clone();
    for (name, value) in fields.as_object().unwrap() {
        text["clusters"][0]["cluster"][name] = value.clone();
    }
    text.to_string()
}

/// A plugin with these words on stdout, a secret on stderr, and this exit code.
fn plugin(folder: &Path, name: &str, says: &str, code: u8) -> Value {
    let path = folder.join(name);
    let complaint = secret("stderr");
    let script =
        format!("#!/bin/sh\necho 'token is {complaint}' >&2\ncat <<'E'\n{says}\nE\nexit {code}\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    json!({"exec": {
        "apiVersion": VERSION, "command": path, "interactiveMode": "Never",
        "args": ["--password", secret("argument")],
        "env": [{"name": "PASSWORD", "value": secret("environment")}],
    }})
}

/// The credentials that a relay can have: an id, a kubeconfig's user, and what is added to the
/// cluster beside it.
fn credentials(cluster: &FakeCluster, folder: &Path) -> Vec<(&'static str, Value, Value)> {
    let token = cluster.token("admin");
    let file = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        json!({"tokenFile": folder.join(name)})
    };
    let answer = |status: &Value| {
        json!({"apiVersion": VERSION, "kind": "ExecCredential", "status": status}).to_string()
    };
    let identity = cluster.client_identity();
    let certificate = json!({
        "client-certificate-data": STANDARD.encode(&identity.certificate_pem),
        "client-key-data": STANDARD.encode(&identity.key_pem),
    });
    let in_plugin = json!({
        "clientCertificateData": identity.certificate_pem, "clientKeyData": identity.key_pem,
    });
    let proxy = |login: &str| json!({"proxy-url": format!("http://{login}@127.0.0.1:1")});
    let password = secret("password");
    let good = json!({"token": token});
    vec![
        ("L2 token", good.clone(), json!({})),
        ("L2 another's token", json!({"token": secret("wrong")}), json!({})),
        ("L2 token file", file("token", &token), json!({})),
        ("L2 odd token file", file("odd", &format!("{token}\n{token}")), json!({})),
        ("L2 certificate", certificate, json!({})),
        ("L2 proxy", good.clone(), proxy(&format!("user:{password}"))),
        ("L2 proxy, encoded", good.clone(), proxy(&format!("user:{password}%21"))),
        ("L2 proxy, user alone", good, proxy(&password)),
        ("L2 plugin", plugin(folder, "good", &answer(&json!({"token": token})), 0), json!({})),
        ("L2 plugin's key", plugin(folder, "key", &answer(&in_plugin), 0), json!({})),
        (
            "L2 plugin fails",
            plugin(folder, "fails", &answer(&json!({"token": token})), 1),
            json!({}),
        ),
        ("L2 plugin, no JSON", plugin(folder, "text", &token, 0), json!({})),
        ("L2 plugin, no status", plugin(folder, "list", &json!([token]).to_string(), 0), json!({})),
        (
            "L2 plugin, odd token",
            plugin(folder, "control", &answer(&json!({"token": format!("{token}\u{1}")})), 0),
            json!({}),
        ),
        (
            "L2 plugin, no key",
            plugin(folder, "half", &answer(&json!({"clientKeyData": token})), 0),
            json!({}),
        ),
        (
            "L2 plugin, no time",
            plugin(
                folder,
                "time",
                &answer(&json!({"token": token, "expirationTimestamp": token})),
                0,
            ),
            json!({}),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_its_own_before_every_cluster() {
    let cluster = cluster(Behaviour::default()).await;
    cluster.set_token("admin", &secret("own"));
    let folder = folder();
    // A line of the key, which is not by chance somewhere else.
    let key = cluster.client_identity().key_pem.lines().nth(1).unwrap().to_owned();
    for (format, (id, user, fields)) in
        ["text", "json"].iter().cycle().zip(credentials(&cluster, &folder))
    {
        let flags = ["--log-level=trace", "--log-format", format, "--admin-listen=127.0.0.1:0"];
        let mut start = Start::flags(&flags);
        if let Some(command) = user["exec"]["command"].as_str() {
            start = start.and(&["--allow-exec-plugin", command]);
        }
        start.kubeconfig = Some(kubeconfig(&cluster, &user, &fields));
        let relay = start.before(&cluster).await;
        let named = |name| Behaviour::scripted(misbehaviour::named(name).unwrap());
        for behaviour in [Behaviour::default(), named("401"), named("500-text"), named("reset")] {
            cluster.set_behaviour(behaviour);
            assert_clean_answer(id, &relay.ask(&pipes("true"), "").await);
            let mut page = relay.v1(&pipes("true")).await;
            page.ended().await;
            assert_clean_page(id, &page);
            let all = format!("{:?} {:?}", page.messages, page.close);
            assert!(!all.contains(&key), "{id}: {all}");
        }
        assert_clean_relay(id, &relay).await;
        assert!(!relay.log().contains(&key), "{id}: {}", relay.log());
        assert!(relay.logged("session ") >= 6, "{id}: {}", relay.log());
    }
}

/// Kubeconfigs that are wrong, or odd and good, each beside a secret.
fn wrong() -> Vec<(&'static str, String)> {
    let word = secret("wrong");
    let with = |server: &str, cluster: &str, user: &str| {
        format!(
            "current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters:\n- name: a\n  cluster:\n    server: \"{server}\"\n    {cluster}\n\
             users:\n- name: a\n  user:\n    {user}\n"
        )
    };
    let user = |user: &str| with("http://127.0.0.1:1", "", user);
    let cluster = |cluster: &str| with("http://127.0.0.1:1", cluster, "token: x");
    let server = |server: &str| with(server, "insecure-skip-tls-verify: true", "token: x");
    let key = |text: &str| {
        let data = STANDARD.encode(text);
        user(&format!("client-certificate-data: {data}\n    client-key-data: {data}"))
    };
    vec![
        ("L2 half", user(&format!("{{token: {word}"))),
        ("L2 tab", user(&format!("token: {word}\n\t- {word}"))),
        ("L2 text", format!("users: {word}\n{}", user("").split("users:").next().unwrap())),
        ("L2 nothing else", word.clone()),
        ("L2 JSON", format!("{{\"users\": [\"{word}\"")),
        ("L2 list", user(&format!("token: [{word}]"))),
        ("L2 map", user(&format!("token: {{{word}: {word}}}"))),
        ("L2 odd token", user(&format!("token: \"{word}\\x01\""))),
        ("L2 alias", user(&format!("token: *{word}"))),
        ("L2 twice", user(&format!("token: {word}\n    token: {word}"))),
        ("L2 good tag", user(&format!("token: !!{word} {word}"))),
        ("L2 no base64", user(&format!("client-key-data: {word}!"))),
        ("L2 key alone", user(&format!("client-key-data: {}", STANDARD.encode(&word)))),
        ("L2 no PEM", key(&word)),
        (
            "L2 no key",
            key(&format!("-----BEGIN PRIVATE KEY-----\n{word}\n-----END PRIVATE KEY-----\n")),
        ),
        ("L2 cut key", key(&format!("-----BEGIN PRIVATE KEY-----\n{}", STANDARD.encode(&word)))),
        ("L2 password", user(&format!("username: a\n    password: {word}"))),
        ("L2 provider", user(&format!("auth-provider: {{name: gcp, config: {{t: {word}}}}}"))),
        (
            "L2 plugin",
            user(&format!("exec: {{apiVersion: {VERSION}, command: x, args: [{word}]}}")),
        ),
        ("L2 plugin's args", user(&format!("exec: {{command: sh, args: {word}}}"))),
        ("L2 plugin's env", user(&format!("exec: {{command: sh, env: [{word}]}}"))),
        ("L2 proxy", cluster(&format!("proxy-url: nope://u:{word}@h"))),
        ("L2 proxy without a host", cluster(&format!("proxy-url: http://u:{word}@"))),
        ("L2 proxy's port", cluster(&format!("proxy-url: http://u:{word}@h:99999"))),
        ("L2 good proxy with a space", cluster(&format!("proxy-url: \"http://u:{word} @h\""))),
        ("L2 good proxy with a path", cluster(&format!("proxy-url: http://u:{word}@h/path?x"))),
        ("L2 good proxy with a percent", cluster(&format!("proxy-url: http://u:{word}%zz@h"))),
        ("L2 proxy, no scheme", cluster(&format!("proxy-url: u:{word}@h:1"))),
        ("L2 server", server(&format!("https://u:{word}@h"))),
        ("L2 server without a host", server(&format!("https://u:{word}@"))),
        ("L2 server, http", server(&format!("http://u:{word}@10.0.0.1"))),
        ("L2 server, no scheme", server(&format!("u:{word}@h"))),
    ]
}

fn podwire(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwire"));
    let environment = environment.iter().copied();
    let output = command.args(arguments).env_clear().envs(environment).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn settings_that_are_wrong_beside_a_secret() {
    let folder = folder();
    let mut accepted = Vec::new();
    for (number, (id, text)) in wrong().into_iter().enumerate() {
        let path = folder.join(format!("{number}"));
        fs::write(&path, &text).unwrap();
        let path = path.to_str().unwrap();
        for command in ["serve", "check"] {
            // What is not wrong must not serve for ever.
            let (listen, level) = ("--listen=unix:/nowhere/x", "--log-level=trace");
            let arguments =
                [command, "--auth=own", "--admin-listen=off", listen, level, "--kubeconfig", path];
            let (code, said) = podwire(&arguments, &[]);
            assert_clean(&format!("{id}, {command}"), &said);
            if code != Some(2) && !id.starts_with("L2 good") {
                accepted.push((id, command, code, said));
            }
        }
    }
    assert!(accepted.is_empty(), "{accepted:#?}");
}

#[test]
fn flags_and_variables_beside_a_secret() {
    let word = secret("flag");
    let folder = folder();
    let path = folder.join("kubeconfig");
    let text = "{clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1', \
                insecure-skip-tls-verify: true}}], current-context: a, \
                contexts: [{name: a, context: {cluster: a}}]}";
    fs::write(&path, text).unwrap();
    let kubeconfig = format!("--kubeconfig={}", path.display());
    let hook = |url: &str| format!("--auth=hook --authorize-url={url}");
    let rows = [
        ("L2 a password", hook(&format!("https://u:{word}@h/")), ""),
        ("L2 no host", hook(&format!("https://u:{word}@")), ""),
        ("L2 no scheme", hook(&format!("u:{word}@h")), ""),
        ("L2 a proxy", "--auth=own".to_owned(), "HTTPS_PROXY=nope://u:WORD@h"),
        ("L2 a proxy's port", "--auth=own".to_owned(), "https_proxy=http://u:WORD@h:99999"),
        ("L2 a good proxy", "--auth=own".to_owned(), "HTTPS_PROXY=http://u:WORD@127.0.0.1:1"),
        ("L2 the token of a check", "--auth=own".to_owned(), "PODWIRE_TOKEN=WORD"),
        ("L2 an odd token of a check", "--auth=own".to_owned(), "PODWIRE_TOKEN=WORD\u{1}"),
    ];
    for (id, flags, variable) in rows {
        for more in [&["serve", "--listen=unix:/nowhere/x"][..], &["check"], &["--print-config"]] {
            let flags: Vec<&str> = more.iter().copied().chain(flags.split(' ')).collect();
            let flags = [&flags[..], &["--log-level=trace", "--admin-listen=off", &kubeconfig]];
            let variable = variable.replace("WORD", &word);
            let environment: Vec<_> = variable.split_once('=').into_iter().collect();
            let (_, said) = podwire(&flags.concat(), &environment);
            assert_clean(&format!("{id}, {more:?}"), &said);
            assert!(!said.is_empty(), "{id}");
        }
    }
}
