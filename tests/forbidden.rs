//! Who may not open a session hears which right is missing and what to type to grant it.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Start, cluster, within};
use fake_cluster::{Behaviour, Rights, Script, Step};

const EXEC: &str = "/exec?namespace=demo&pod=shell&container=main&command=id";
const ATTACH: &str = "/api/v1/namespaces/demo/pods/shell/attach?container=main&stdout=true";

/// A name, the rights, the address, and words of the refusal.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a [&'a str]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_which_verb_is_missing_and_what_to_type() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::passthrough().before(&cluster).await;
    let authorization = format!("Authorization: Bearer {}\r\n", cluster.token("nobody"));
    let (get, create) = (("get", "pods/exec"), ("create", "pods/exec"));
    let to_exec = "kubectl create role podwire-exec -n demo --verb=get,create --resource=pods/exec";
    let to_attach =
        "kubectl create role podwire-attach -n demo --verb=get,create --resource=pods/attach";
    let rows: [Row<'_>; 4] = [
        ("none", &[], EXEC, &["both are missing", to_exec, "--role=podwire-exec --user=nobody"]),
        // The server names neither the verb nor the user then (recording `rbac_get_only`).
        ("get only", &[get], EXEC, &["create is missing", to_exec, "--user=NAME"]),
        ("create only", &[create], EXEC, &["get is missing", to_exec, "--user=nobody"]),
        ("the other one's", &[get, create], ATTACH, &["both are missing", to_attach]),
    ];
    for (what, rights, target, says) in rows {
        cluster.set_rights("nobody", Rights::of(rights));
        let answer = relay.ask(target, &authorization).await;
        answer.assert_refusal(403, "forbidden", what);
        let json = answer.json();
        let message = json["message"].as_str().unwrap();
        for words in says {
            assert!(message.contains(words), "{what}: {message}");
        }
        assert!(message.starts_with("pods \"shell\" is forbidden"), "{what}: {message}");
    }
}

/// What the server says itself comes first, and is not held up by a cluster that reviews nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_review_the_refusal_is_told_all_the_same() {
    let body = r#"{"kind":"Status","message":"no shells on Sundays","code":403}"#;
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let refused = || Script::answer(answer.clone());
    let relay_of = async |cluster: &_| Start::flags(&["--error-timeout=1s"]).before(cluster).await;
    // A webhook's sentence, from a cluster in which the verbs are granted.
    let cluster = common::scripted(refused()).await;
    let relay = relay_of(&cluster).await;
    let answer = relay.ask(EXEC, "").await;
    answer.assert_refusal(403, "forbidden", "a webhook");
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("no shells on Sundays (exec itself is allowed"), "{message}");
    // And from one that answers nothing after that.
    cluster.script_next(refused());
    let hangs = Behaviour { before_tls: Some(Script::new([Step::Hang])), ..Behaviour::default() };
    let asked = relay.ask(EXEC, "");
    let hang = async {
        let seen = cluster.sessions().len();
        common::eventually("the request is seen", || cluster.sessions().len() > seen).await;
        cluster.set_behaviour(hangs);
    };
    let (answer, ()) = within("an answer", async { tokio::join!(asked, hang) }).await;
    answer.assert_refusal(403, "forbidden", "a cluster that hangs");
}

/// A server, or a proxy before it, may repeat what it was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_a_refusal_is_not_repeated() {
    let cluster = cluster(Behaviour::default()).await;
    let token = cluster.token("execer");
    let relay = Start::passthrough().before(&cluster).await;
    let authorization = format!("Authorization: Bearer {token}\r\n");
    for status in ["401 Unauthorized", "403 Forbidden", "500 Oh", "418 Teapot"] {
        let body = format!("no: Authorization was Bearer {token}, and that is no good");
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        cluster.script_next(Script::answer(answer));
        let answer = relay.ask(EXEC, &authorization).await;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(said.contains("(the token), and that is no good"), "L2 {status}: {said}");
        assert!(!said.contains(&token), "L2 {status}");
    }
    assert!(!relay.log().contains(&token), "L2");
}
