//! Programs that say the relay's own credential: what they are given, what they may say, how long
//! it is kept, and what is said of those that do not do their part.
//!
//! C6 of the project's list of bad inputs, row by row. The plugins are little shell scripts.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::future::poll_fn;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::{Relay, Start, cluster, eventually, folder, pipes, tls, within};
use fake_cluster::{Behaviour, FakeCluster};
use podwire::{Choice, Clusters, Ending, Identity, Kind, Own, Target};
use serde_json::{Value, json};

const V1: &str = "client.authentication.k8s.io/v1";

/// A plugin and its folder, where it leaves `runs`: a line for each time that it was run.
struct Plugin {
    folder: PathBuf,
}

impl Plugin {
    /// The script runs in the plugin's folder.
    fn new(script: &str) -> Self {
        let it = Self { folder: folder() };
        it.set(script);
        it
    }

    fn set(&self, script: &str) {
        let folder = self.folder.display();
        let text = format!("#!/bin/bash\ncd {folder}\necho run >> runs\n{script}\n");
        // Written beside and moved: a program that is being written cannot be run.
        let new = self.folder.join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::rename(&new, self.path()).unwrap();
    }

    /// It says what is in its file `answer`.
    fn saying(answer: &Value) -> Self {
        let it = Self::new("cat answer");
        it.says(answer);
        it
    }

    fn says(&self, answer: &Value) {
        std::fs::write(self.folder.join("answer"), answer.to_string()).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.folder.join("plugin")
    }

    fn left(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.join(file)).unwrap_or_default()
    }

    fn runs(&self) -> usize {
        self.left("runs").lines().count()
    }
}

fn answer(status: &Value) -> Value {
    json!({"kind": "ExecCredential", "apiVersion": V1, "status": status})
}

/// A time as plugins write it.
fn in_seconds(seconds: i64) -> String {
    let format = ["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("{seconds:+} seconds")];
    let output = std::process::Command::new("date").args(format).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A kubeconfig whose user is this plugin, and more fields of `exec`.
fn kubeconfig(cluster: &FakeCluster, plugin: &Plugin, more: &Value) -> String {
    let mut config: Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
    let mut exec = json!({
        "apiVersion": V1,
        "command": plugin.path(),
        "interactiveMode": "IfAvailable",
    });
    for (name, value) in more.as_object().unwrap() {
        exec[name] = value.clone();
    }
    config["users"] = json!([{"name": "admin", "user": {"exec": exec}}]);
    config.to_string()
}

fn clusters(cluster: &FakeCluster, plugin: &Plugin, more: &Value) -> Clusters {
    let path = plugin.folder.join("config");
    std::fs::write(&path, kubeconfig(cluster, plugin, more)).unwrap();
    let plugins = [plugin.path().to_str().unwrap().to_owned()];
    let (kubeconfig, own) = (Some(path.as_path()), Own::Included);
    Clusters::find(&Choice { kubeconfig, own, plugins: &plugins, ..Choice::default() }).unwrap()
}

async fn relay(cluster: &FakeCluster, plugin: &Plugin, more: &Value) -> Relay {
    let kubeconfig = Some(kubeconfig(cluster, plugin, more));
    let flag = format!("--allow-exec-plugin={}", plugin.path().display());
    Start { kubeconfig, ..Start::flags(&[&flag]) }.before(cluster).await
}

async fn open(clusters: &Clusters) -> Result<(), Ending> {
    let mut target = Target::new("demo", "shell");
    target.container = Some("main".to_owned());
    let opened = clusters.default().open(&target, &Identity::Own);
    within("an answer", opened).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_plugin_says_is_shown_and_kept_until_it_ends() {
    let cluster = cluster(Behaviour::default()).await;
    let identity = cluster.client_identity();
    let (chain, key) = (&identity.certificate_pem, &identity.key_pem);
    let token = cluster.token("admin");
    let rows = [
        ("a token", json!({"token": token}), 1),
        (
            "a token for an hour",
            json!({"token": token, "expirationTimestamp": in_seconds(3600)}),
            1,
        ),
        // It is fetched a minute before its end.
        ("a token for 50 s", json!({"token": token, "expirationTimestamp": in_seconds(50)}), 3),
        ("a certificate", json!({"clientCertificateData": chain, "clientKeyData": key}), 1),
        ("both", json!({"clientCertificateData": chain, "clientKeyData": key, "token": token}), 1),
    ];
    for (id, status, runs) in rows {
        let plugin = Plugin::saying(&answer(&status));
        let clusters = clusters(&cluster, &plugin, &json!({}));
        assert_eq!(plugin.runs(), 0, "{id}: not before it is needed");
        for _ in 0..3 {
            open(&clusters).await.unwrap_or_else(|ending| panic!("{id}: {ending:?}"));
        }
        assert_eq!(plugin.runs(), runs, "{id}");
    }
    // What it says next to nothing is shown while it lasts.
    let plugin =
        Plugin::saying(&answer(&json!({"token": token, "expirationTimestamp": in_seconds(50)})));
    let clusters = clusters(&cluster, &plugin, &json!({}));
    open(&clusters).await.unwrap();
    plugin.set("exit 1");
    open(&clusters).await.unwrap();
    assert_eq!(plugin.runs(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_does_not_do_its_part_is_told() {
    let cluster = cluster(Behaviour::default()).await;
    let (_, one) = tls();
    let (_, other) = tls();
    let (chain, wrong) = (one.cert.pem(), other.signing_key.serialize_pem());
    let with = |status: &Value| answer(status).to_string();
    let say = |text: &str| format!("cat <<'END'\n{text}\nEND");
    let token = json!({"token": "s3cr3t"});
    let expired = json!({"token": "s3cr3t", "expirationTimestamp": in_seconds(-5)});
    let old = with(&token).replace("/v1", "/v1beta1");
    let rows = [
        ("C6 exit 1", say(&with(&token)) + "\nexit 1", "ended with exit code 1"),
        ("C6 exit 127", "nosuchprogram".to_owned(), "ended with exit code 127"),
        ("C6 killed", "kill -9 $$".to_owned(), "was killed"),
        ("C6 10 MiB", "head -c 10485760 /dev/zero".to_owned(), "says more than 1 MiB"),
        ("C6 endless", "yes s3cr3t".to_owned(), "says more than 1 MiB"),
        ("C6 wrong apiVersion", say(&old), "answers with another apiVersion than"),
        (
            "C6 cert without key",
            say(&with(&json!({"clientCertificateData": chain}))),
            "one of certificate and key alone",
        ),
        (
            "C6 key without cert",
            say(&with(&json!({"clientKeyData": wrong, "token": "s3cr3t"}))),
            "one of certificate and key alone",
        ),
        (
            "C6 wrong key",
            say(&with(&json!({"clientCertificateData": chain, "clientKeyData": wrong}))),
            "clientKeyData is not the key",
        ),
        (
            "C6 no certificate",
            say(&with(&json!({"clientCertificateData": "s3cr3t", "clientKeyData": wrong}))),
            "clientCertificateData holds no certificate",
        ),
        ("C6 expired stamp", say(&with(&expired)), "has expired already"),
        (
            "C6 odd stamp",
            say(&with(&json!({"token": "s3cr3t", "expirationTimestamp": "s3cr3t"}))),
            "malformed expirationTimestamp",
        ),
        ("C6 nothing", String::new(), "does not answer with an ExecCredential"),
        ("C6 no JSON", say("s3cr3t"), "does not answer with an ExecCredential"),
        (
            "C6 another kind",
            say(&with(&token).replace("ExecCredential", "Secret")),
            "does not answer with an ExecCredential",
        ),
        (
            "C6 no status",
            say(&json!({"kind": "ExecCredential", "apiVersion": V1}).to_string()),
            "without a status",
        ),
        ("C6 an empty status", say(&with(&json!({}))), "neither a token nor a certificate"),
        (
            "C6 an odd token",
            say(&with(&json!({"token": "s3cr3t\n"})).replace("\\n", "\\n\\u0000x")),
            "a token of odd characters",
        ),
        ("C6 a number", say(&with(&json!({"token": 7}))), "does not answer with an ExecCredential"),
    ];
    let plugin = Plugin::new("");
    let relay = relay(&cluster, &plugin, &json!({})).await;
    for (id, script, words) in rows {
        plugin.set(&script);
        let (exit, close) = relay.v1(&pipes("true")).await.exit().await;
        assert_eq!((&exit["kind"], close.code), (&json!("cluster_protocol"), 4502), "{id}: {exit}");
        let sentence = exit["message"].as_str().unwrap();
        let start = "the relay's own credential: the plugin plugin ";
        assert!(sentence.starts_with(start) && sentence.contains(words), "{id}: {sentence}");
        assert!(!sentence.contains("s3cr3t"), "{id}: {sentence}");
    }
    assert_eq!(cluster.requests().len(), 0, "nobody is shown instead");
    assert_eq!(relay.logged("s3cr3t"), 0, "{}", relay.log());

    // It complains for as long as it likes, and nobody repeats it.
    plugin.set("echo s3cr3t >&2; head -c 10485760 /dev/zero >&2; exit 2");
    relay.v1(&pipes("true")).await.exit().await;
    let line = relay.until_logged("a plugin complains", 1).await;
    assert!(line.contains(" debug ") && line.contains("plugin=plugin"), "{line}");
    assert_eq!(relay.logged("s3cr3t"), 0, "{}", relay.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_is_given_what_it_needs_and_nothing_else() {
    let cluster = cluster(Behaviour::default()).await;
    let token = cluster.token("admin");
    let plugin = Plugin::saying(&answer(&json!({"token": token})));
    plugin.set(
        "env -0 | sort -z | cut -z -d= -f1 | tr '\\0' ' ' > names; printf %s \"$OWN\" > own\n\
         printf '%s|' \"$@\" > arguments; readlink /proc/$$/fd/0 > stdin\n\
         printf %s \"$KUBERNETES_EXEC_INFO\" > info; cat answer",
    );
    let more = json!({
        "args": ["get-token", "--name", "a b", "0123"],
        "env": [{"name": "OWN", "value": "x=y z"}, {"name": "AWS_PROFILE", "value": "p"}],
        "provideClusterInfo": true,
    });
    let mut config: Value = serde_json::from_str(&kubeconfig(&cluster, &plugin, &more)).unwrap();
    config["clusters"][0]["cluster"]["extensions"] = json!([
        {"name": "other", "extension": {"a": "b"}},
        {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "me", "n": 1, "yes": true}},
    ]);
    config["clusters"][0]["cluster"]["tls-server-name"] = json!("localhost");
    let flag = format!("--allow-exec-plugin={}", plugin.path().display());
    let start = Start { kubeconfig: Some(config.to_string()), ..Start::flags(&[&flag]) };
    let relay = start.before(&cluster).await;
    relay.v1(&pipes("exit 3")).await.assert_exit("exit", Some(3), 1000, "a plugin").await;

    // OLDPWD, PWD, SHLVL and _ are the shell's own; our own environment was empty.
    let names = plugin.left("names");
    assert_eq!(names.trim_end(), "AWS_PROFILE KUBERNETES_EXEC_INFO OLDPWD OWN PWD SHLVL _");
    assert_eq!(plugin.left("own"), "x=y z");
    assert_eq!(plugin.left("arguments"), "get-token|--name|a b|0123|");
    assert_eq!(plugin.left("stdin").trim_end(), "/dev/null");
    let info: Value = serde_json::from_str(&plugin.left("info")).unwrap();
    let authority = &config["clusters"][0]["cluster"]["certificate-authority-data"];
    assert_eq!(
        info,
        json!({"kind": "ExecCredential", "apiVersion": V1, "spec": {"interactive": false, "cluster": {
            "server": cluster.url(),
            "tls-server-name": "localhost",
            "certificate-authority-data": authority,
            "config": {"audience": "me", "n": 1, "yes": true},
        }}}),
    );
}

/// Only in a process of its own can the environment be known.
#[test]
fn a_plugin_is_found_in_path_and_not_told_our_secrets() {
    let folder = folder();
    let plugin = Plugin::new("env | cut -d= -f1 | sort | tr '\\n' ' ' > names; exit 1");
    let name = "podwire-test-plugin";
    std::fs::rename(plugin.path(), plugin.folder.join(name)).unwrap();
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": name,
        // Where it is looked for is not the kubeconfig's to say.
        "env": [{"name": "PATH", "value": "/usr/bin:/bin"}],
    });
    let config = json!({
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"exec": exec}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    let file = folder.join("config");
    std::fs::write(&file, config.to_string()).unwrap();
    let run = |path: &Path| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_podwire"))
            .args(["check", "--allow-exec-plugin", name, "--kubeconfig"])
            .arg(&file)
            .env_clear()
            .env("PATH", path)
            .envs([("HOME", "/h"), ("LANG", "C"), ("AWS_SECRET_ACCESS_KEY", "s3cr3t")])
            .envs([("HTTPS_PROXY", "http://p:1"), ("LD_DEBUG_OUTPUT", "/nowhere/x")])
            .output()
            .unwrap();
        output.status.code()
    };
    assert_eq!(run(&plugin.folder), Some(1), "it is run, and fails");
    assert_eq!(
        plugin.left("names").trim_end(),
        "HOME HTTPS_PROXY KUBERNETES_EXEC_INFO LANG OLDPWD PATH PWD SHLVL _"
    );
    assert_eq!(run(Path::new("/usr/bin")), Some(2), "it is not there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_runs_once_for_all_who_wait_and_they_share_what_comes_of_it() {
    let cluster = cluster(Behaviour::default()).await;
    let plugin = Plugin::saying(&answer(&json!({"token": cluster.token("admin")})));
    let wait = "until [ -e go ]; do sleep 0.02; done";
    // All of them ask before the plugin can have begun.
    let all = async |clusters: &Clusters| {
        let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(open(clusters))).collect();
        let mut endings: Vec<_> = (0..10).map(|_| None).collect();
        let asking = poll_fn(|cx| {
            for (one, ending) in waiting.iter_mut().zip(&mut endings) {
                if ending.is_none()
                    && let Poll::Ready(result) = one.as_mut().poll(cx)
                {
                    *ending = Some(result);
                }
            }
            if endings.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
        });
        let letting_go = async {
            eventually("it runs", || plugin.left("state") == "running").await;
            std::fs::write(plugin.folder.join("go"), "").unwrap();
        };
        tokio::join!(asking, letting_go);
        for file in ["state", "go"] {
            std::fs::remove_file(plugin.folder.join(file)).unwrap();
        }
        endings.into_iter().flatten().collect::<Vec<_>>()
    };
    let clusters = clusters(&cluster, &plugin, &json!({}));
    plugin.set(&format!("printf running > state; {wait}; exit 7"));
    let endings = all(&clusters).await;
    for ending in &endings {
        let ending = ending.as_ref().unwrap_err();
        assert_eq!(ending.kind, Kind::ClusterProtocol);
        assert!(ending.message.contains("ended with exit code 7;"), "{ending:?}");
    }
    assert_eq!(plugin.runs(), 1, "who waited shares the failure");
    plugin.set(&format!("printf running > state; {wait}; cat answer"));
    assert!(all(&clusters).await.iter().all(Result::is_ok));
    assert_eq!(plugin.runs(), 2, "who comes later asks again, once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_runs_again_when_its_token_is_refused() {
    let cluster = cluster(Behaviour::default()).await;
    let plugin = Plugin::saying(&answer(&json!({"token": cluster.token("admin")})));
    let relay = relay(&cluster, &plugin, &json!({})).await;
    let works = async || {
        relay.v1(&pipes("exit 3")).await.assert_exit("exit", Some(3), 1000, "a session").await;
    };
    works().await;
    cluster.set_token("admin", "second");
    plugin.says(&answer(&json!({"token": "second"})));
    works().await;
    assert_eq!(plugin.runs(), 2, "S6 once more");
    works().await;
    assert_eq!(plugin.runs(), 2, "and kept");
    cluster.set_token("admin", "third");
    for runs in 3..5 {
        let (exit, _) = relay.v1(&pipes("true")).await.exit().await;
        assert_eq!(exit["kind"], "cluster_protocol", "S6 it says the same: {exit}");
        assert_eq!(plugin.runs(), runs);
    }
}

/// The one thing that takes its time: what hangs is killed with everything that it has started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_hangs_or_is_not_waited_for_is_killed_with_its_children() {
    let cluster = cluster(Behaviour::default()).await;
    let plugin = Plugin::new("sleep 1000 & echo $! > child; echo $$ > parent; sleep 1000");
    let clusters = clusters(&cluster, &plugin, &json!({}));
    let is_alive = |file: &str| {
        let text = plugin.left(file);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", text.trim()));
        // A zombie is what nobody in a container without an init has asked for yet.
        text.ends_with('\n') && stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    let begun = Instant::now();
    let gone = tokio::spawn({
        let clusters = clusters.clone();
        async move { open(&clusters).await }
    });
    eventually("it runs", || is_alive("child") && is_alive("parent")).await;
    gone.abort();
    eventually("it is gone", || !is_alive("child") && !is_alive("parent")).await;
    assert!(begun.elapsed() < Duration::from_secs(25), "at once");

    let begun = Instant::now();
    let ending = open(&clusters).await.unwrap_err();
    assert_eq!(ending.kind, Kind::ClusterProtocol, "C6 hangs: {ending:?}");
    assert!(ending.message.contains("did not end within 30 s"), "C6 hangs: {ending:?}");
    assert!(begun.elapsed() >= Duration::from_secs(30));
    eventually("it is gone", || !is_alive("child") && !is_alive("parent")).await;
}
