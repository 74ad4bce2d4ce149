//! Access that is lost while a session lasts: the right, the token, whoever could say so. The
//! session ends in time, says why, and leaves nothing behind.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
#[path = "hangup/processes.rs"]
mod processes;

use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{Authorizer, Browser, Relay, Start, cluster, eventually, session, terminal, within};
use fake_cluster::{Behaviour, FakeCluster, Rights, Script, Step};
use processes::Left;
use serde_json::json;

const RECHECK: Duration = Duration::from_secs(2);
/// What the contract allows besides.
const SLACK: Duration = Duration::from_secs(1);
const FLAGS: [&str; 4] = ["--recheck=2s", "--hangup-grace=2s", "--shells=bash,sh", "--ping=1s"];

const EXECER: &str = "/exec?namespace=demo&pod=shell&container=main";

/// A session of this user with a shell in it, under `passthrough`.
async fn opened(relay: &Relay, token: &str) -> (Browser, Left) {
    opened_at(relay, token, EXECER).await
}

async fn opened_at(relay: &Relay, token: &str, target: &str) -> (Browser, Left) {
    let authorization = format!("Bearer {token}");
    let headers =
        [("sec-websocket-protocol", "podwire.v1"), ("authorization", authorization.as_str())];
    let mut browser = relay.browser(target, &headers).await;
    let ready = browser.message("ready").await;
    let left = Left::of(ready["session"].as_str().unwrap(), "nothing else has this argument");
    browser.input("echo rea''dy\r").await;
    browser.until_output("ready").await;
    (browser, left)
}

/// A token that says when it expires, and nothing else.
fn jwt(name: &str, expires_in: Duration) -> String {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + expires_in;
    let claims = format!(r#"{{"sub":"{name}","exp":{}}}"#, at.as_secs_f64());
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

async fn before(cluster: &FakeCluster) -> Relay {
    Start::passthrough().and(&FLAGS).before(cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_withdrawn_ends_the_session_and_its_process() {
    type Withdraw = fn(&FakeCluster);
    let rows: [(&str, Withdraw, &str); 4] = [
        ("both verbs", |it| it.set_rights("execer", Rights::none()), "the right to exec"),
        (
            "one verb, on a server that wants both",
            |it| it.set_rights("execer", Rights::of(&[("get", "pods/exec")])),
            "the right to exec",
        ),
        (
            "the other verb",
            |it| it.set_rights("execer", Rights::of(&[("create", "pods/exec")])),
            "the right to exec",
        ),
        ("the token", |it| it.set_token("execer", "another"), "does not accept the credential"),
    ];
    for (what, withdraw, says) in rows {
        let cluster = cluster(Behaviour::default()).await;
        let relay = before(&cluster).await;
        let (mut browser, left) = opened(&relay, &cluster.token("execer")).await;
        withdraw(&cluster);
        let withdrawn = Instant::now();
        let exit = browser.message("exit").await;
        let after = withdrawn.elapsed();
        assert!(after < RECHECK + SLACK, "{what}: only after {after:?}");
        assert_eq!(exit["kind"], "revoked", "{what}: {exit}");
        assert_eq!(exit["retry"], false, "{what}");
        assert!(exit["message"].as_str().unwrap().contains(says), "{what}: {exit}");
        assert_eq!(browser.closed().await.code, 4403, "{what}");
        left.until_gone(what, &[]).await;
        let end = relay.until_logged(" session end ", 1).await;
        assert!(end.contains("kind=revoked"), "{what}: {end}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_token() {
    let cluster = cluster(Behaviour::default()).await;
    let token = jwt("execer", Duration::from_secs(3));
    cluster.set_token("execer", &token);
    // Nobody is asked: the token itself says it.
    let relay = Start::passthrough().and(&["--recheck=off"]).before(&cluster).await;
    let expires = Instant::now() + Duration::from_secs(3);
    let (mut browser, left) = opened(&relay, &token).await;
    let exit = browser.message("exit").await;
    let late = Instant::now().saturating_duration_since(expires);
    assert_eq!(exit["kind"], "revoked", "{exit}");
    assert!(exit["message"].as_str().unwrap().contains("expired"), "{exit}");
    assert!(late < SLACK, "only {late:?} after it expired");
    left.until_gone("the shell", &[]).await;
    // One that has expired already opens a session only if the cluster takes it.
    let reviews = |it: &fake_cluster::Request| it.path().contains("selfsubjectaccessreviews");
    assert!(!cluster.requests().iter().any(reviews), "nobody was asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_verb_is_enough_for_a_server_that_wants_one() {
    let mut behaviour = Behaviour::api_server_mode();
    behaviour.minor = 34;
    let cluster = cluster(behaviour).await;
    cluster.set_rights("execer", Rights::of(&[("get", "pods/exec")]));
    let relay = before(&cluster).await;
    let (mut browser, _left) = opened(&relay, &cluster.token("execer")).await;
    let version = cluster.request(|request| request.path() == "/version");
    within("a look at the version", version).await;
    browser.input("exit 5\r").await;
    browser.assert_exit("exit", Some(5), 1000, "a living session").await;
}

/// What cannot be found out ends a session only after a while, and not if it can be found out again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_with_looking_has_a_grace() {
    let cluster = cluster(Behaviour::default()).await;
    let flags = ["--recheck=1s", "--recheck-grace=3s", "--hangup-grace=2s"];
    let relay = Start::passthrough().and(&flags).before(&cluster).await;
    let (mut browser, left) = opened(&relay, &cluster.token("execer")).await;
    let cut = Behaviour { before_tls: Some(Script::new([Step::Reset])), ..Behaviour::default() };
    cluster.set_behaviour(cut.clone());
    relay.until_logged(" access not checked ", 1).await;
    cluster.set_behaviour(Behaviour::default());
    let asked = cluster.requests().len();
    eventually("somebody asks again", || cluster.requests().len() >= asked + 2).await;
    browser.input("echo al''ive\r").await;
    browser.until_output("alive").await;
    cluster.set_behaviour(cut);
    let exit = browser.message("exit").await;
    assert_eq!(exit["kind"], "revoked", "{exit}");
    assert!(exit["message"].as_str().unwrap().contains("could not be checked"), "{exit}");
    assert!(relay.logged(" access not checked ") >= 3, "{}", relay.log());
    cluster.set_behaviour(Behaviour::default());
    left.until_gone("the shell", &[]).await;
}

/// Whose identity it is: the relay's own, too, and for attaching the other subresource.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_identity_and_both_verbs_are_looked_at() {
    let cluster = cluster(Behaviour::default()).await;
    let own = Start::flags(&["--recheck=1s"]).before(&cluster).await;
    let mut browser = own.v1(&terminal("sleep 1000")).await;
    session(&cluster, 0).await;
    cluster.set_rights("admin", Rights::none());
    let exit = browser.message("exit").await;
    assert_eq!(exit["kind"], "revoked", "{exit}");
    cluster.set_rights("admin", Rights::all());

    cluster.set_rights("execer", Rights::attach());
    let relay = before(&cluster).await;
    let target =
        "/api/v1/namespaces/demo/pods/shell/attach?container=main&tty=true&stdin=true&stdout=true";
    let authorization = format!("Bearer {}", cluster.token("execer"));
    let headers =
        [("sec-websocket-protocol", "podwire.v1"), ("authorization", authorization.as_str())];
    let mut browser = relay.browser(target, &headers).await;
    browser.message("ready").await;
    cluster.set_rights("execer", Rights::exec());
    let exit = browser.message("exit").await;
    assert_eq!(exit["kind"], "revoked", "{exit}");
    assert!(exit["message"].as_str().unwrap().contains("the right to attach"), "{exit}");
}

/// What the hook says counts, while it lasts as well as before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorizer_that_says_no_ends_the_session() {
    type Change = fn(&Authorizer, &FakeCluster);
    let rows: [(&str, Change, &str); 7] = [
        // What gateways answer to whoever has logged out.
        ("to the login", |hook, _| hook.refuse(302), "does not allow this any more"),
        ("gone", |hook, _| hook.refuse(404), "does not allow this any more"),
        ("refused", |hook, _| hook.refuse(403), "does not allow this any more"),
        ("logged out", |hook, _| hook.refuse(401), "does not allow this any more"),
        (
            "another user",
            |hook, _| hook.allow(json!({"user": "admin", "groups": ["dev"]})),
            "something else",
        ),
        (
            "read only",
            |hook, _| {
                hook.allow(json!({"user": "execer", "groups": ["dev"], "readOnly": true}));
            },
            "something else",
        ),
        ("the right", |_, it| it.set_rights("execer", Rights::none()), "the right to exec"),
    ];
    for (what, change, says) in rows {
        let cluster = cluster(Behaviour::default()).await;
        cluster.set_rights("group:dev", Rights::none());
        let hook = Authorizer::start().await;
        hook.allow(json!({"user": "execer", "groups": ["dev"]}));
        let relay = hook.before(&cluster, &FLAGS).await;
        let (mut browser, left) = opened(&relay, "nobody reads this").await;
        if what != "the right" {
            // A program that minds no keys: the rights for the signal are there.
            browser.input("trap '' INT; sleep 4321 &\r").await;
            left.until_runs("sleep 4321").await;
        }
        hook.asked(2).await;
        change(&hook, &cluster);
        let changed = Instant::now();
        let exit = browser.message("exit").await;
        assert!(changed.elapsed() < RECHECK + SLACK, "{what}: after {:?}", changed.elapsed());
        assert_eq!(exit["kind"], "revoked", "{what}: {exit}");
        assert!(exit["message"].as_str().unwrap().contains(says), "{what}: {exit}");
        assert_eq!(browser.closed().await.code, 4403, "{what}");
        left.until_gone(what, &[]).await;
    }
}

/// Somebody whom a gateway names loses what the cluster gives to a group of theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_a_gateways_loses_a_groups_right() {
    let cluster = cluster(Behaviour::default()).await;
    cluster.set_rights("group:dev", Rights::exec());
    let flags = ["--headers-preset=remote-user", "--trusted-proxy=127.0.0.1"];
    let start = Start { auth: "headers", ..Start::flags(&flags) }.and(&FLAGS);
    let relay = start.before(&cluster).await;
    let headers = [
        ("sec-websocket-protocol", "podwire.v1"),
        ("remote-user", "jane"),
        ("remote-groups", "ops,dev"),
    ];
    let mut browser = relay.browser(EXECER, &headers).await;
    browser.message("ready").await;
    cluster.set_rights("group:dev", Rights::none());
    let withdrawn = Instant::now();
    let exit = browser.message("exit").await;
    assert!(withdrawn.elapsed() < RECHECK + SLACK, "after {:?}", withdrawn.elapsed());
    assert_eq!(exit["kind"], "revoked", "{exit}");
}

/// What an operator takes out of the configuration ends, and what is in it counts as it is now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_follow_what_is_read_again() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--recheck=1s"]).before(&cluster).await;
    let kubeconfig = relay.folder().join("kubeconfig");
    let mut browser = relay.v1(&terminal("sleep 1000")).await;
    browser.message("ready").await;
    // A new token, and the old one is withdrawn.
    let asked = cluster.requests().len();
    cluster.set_token("admin", "a-newer-token");
    std::fs::write(&kubeconfig, cluster.kubeconfig()).unwrap();
    relay.reload().await;
    relay.until_logged(" configuration read again ", 1).await;
    let is_new = |it: &fake_cluster::Request| {
        it.header("authorization") == Some("Bearer a-newer-token") && it.path().contains("review")
    };
    eventually("a look with it", || cluster.requests()[asked..].iter().any(is_new)).await;
    assert_eq!(relay.logged(" session end "), 0, "{}", relay.log());
    // The whole context is taken out.
    let other = cluster.kubeconfig().replace("\"demo\"", "\"other\"");
    std::fs::write(&kubeconfig, other).unwrap();
    relay.reload().await;
    let exit = browser.message("exit").await;
    assert_eq!(exit["kind"], "revoked", "{exit}");
    assert!(exit["message"].as_str().unwrap().contains("not configured any more"), "{exit}");
}
