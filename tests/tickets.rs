//! Tickets: who gets one, and what it is good for. That one expires is tested beside its code, with
//! a clock that can be turned.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::HashSet;

use common::{Answer, Authorizer, Relay, Start, cluster, eventually, session, terminal};
use fake_cluster::{Behaviour, FakeCluster, Rights, Script, Step};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const QUERY: &str = "namespace=demo&pod=shell&container=main&command=true";
const PAGE: &str = "Origin: http://localhost\r\n";

async fn relay(cluster: &FakeCluster, auth: &'static str, flags: &[&str]) -> Relay {
    Start { auth, ..Start::flags(flags) }.before(cluster).await
}

async fn post(relay: &Relay, query: &str, headers: &str) -> Answer {
    let head = format!("POST /tickets?{query} HTTP/1.1\r\nHost: localhost\r\n{headers}");
    relay.http(format!("{head}Content-Length: 0\r\n\r\n")).await.unwrap()
}

/// A ticket for this.
async fn ticket(relay: &Relay, query: &str, headers: &str) -> String {
    let answer = post(relay, query, headers).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["ticket"].as_str().unwrap().to_owned()
}

fn bearer(cluster: &FakeCluster, user: &str) -> String {
    format!("Authorization: Bearer {}\r\n", cluster.token(user))
}

#[tokio::test]
async fn a_ticket_is_for_whoever_may_open_a_session() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = relay(&cluster, "passthrough,ticket", &["--allow-origin=https://good"]).await;
    let admin = bearer(&cluster, "admin");
    let rows = [
        ("no page", admin.clone(), QUERY, 201),
        ("its own page", admin.clone() + PAGE, QUERY, 201),
        ("an allowed page", admin.clone() + "Origin: https://good\r\n", QUERY, 201),
        ("a foreign page", admin.clone() + "Origin: https://evil\r\n", QUERY, 403),
        ("null", admin.clone() + "Origin: null\r\n", QUERY, 403),
        ("nobody", String::new(), QUERY, 401),
        ("nobody, and nonsense", String::new(), "namespace=..", 401),
        ("a made-up token", "Authorization: Bearer made-up\r\n".to_owned(), QUERY, 401),
        ("nonsense", admin.clone(), "namespace=..&pod=shell", 400),
        ("no pod", admin.clone(), "namespace=demo", 400),
        ("two pods", admin.clone(), "namespace=demo&pod=a&podName=b", 400),
        ("U17 cluster", admin.clone(), "namespace=demo&pod=a&cluster=http://169.254.169.254", 404),
    ];
    for (id, headers, query, status) in rows {
        let answer = post(&relay, query, &headers).await;
        assert_eq!(answer.status, status, "{id}: {answer:?}");
        if status == 201 {
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{id}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{id}");
            let json = answer.json();
            assert_eq!(json["expiresInSeconds"], 30, "{id}");
            assert_eq!(json["ticket"].as_str().unwrap().len(), 43, "{id}: 256 bits");
            // The page that may ask may read the answer, too.
            let page = headers.lines().find_map(|line| line.strip_prefix("Origin: "));
            assert_eq!(answer.header("access-control-allow-origin"), page, "{id}");
        }
    }
    // A ticket is no credential for another one.
    let first = ticket(&relay, QUERY, &admin).await;
    let answer = post(&relay, &format!("{QUERY}&ticket={first}"), "").await;
    answer.assert_refusal(401, "unauthorized", "a ticket for a ticket");
}

#[tokio::test]
async fn a_ticket_is_asked_for_with_post_and_no_body() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = relay(&cluster, "own,ticket", &["--base-path=/t"]).await;
    let ask = async |method: &str, headers: &str, body: &str| {
        let head = format!("{method} /t/tickets?{QUERY} HTTP/1.1\r\nHost: localhost\r\n{headers}");
        relay.http(format!("{head}\r\n{body}")).await.unwrap()
    };
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let answer = ask(method, "", "").await;
        assert_eq!(answer.status, 405, "{method}: {answer:?}");
        assert_eq!(answer.header("allow"), Some("POST"), "{method}");
    }
    assert_eq!(ask("POST", "", "").await.status, 201);
    assert_eq!(ask("POST", "Content-Length: 2\r\n", "{}").await.status, 201);
    assert_eq!(ask("POST", "Content-Length: 5000\r\n", "").await.status, 413);
    let chunked = "Transfer-Encoding: chunked\r\n";
    assert_eq!(ask("POST", chunked, "2\r\n{}\r\n0\r\n\r\n").await.status, 413);
}

/// U19: a ticket that is used for anything else is refused, and used up by that. Nobody hears why.
#[tokio::test]
async fn a_ticket_is_good_for_one_session_of_one_target_and_page() {
    let cluster = cluster(Behaviour::default()).await;
    cluster.set_rights("execer", Rights::exec());
    let flags = ["--clusters=demo-execer", "--max-head=256KiB"];
    let relay = relay(&cluster, "passthrough,ticket", &flags).await;
    let admin = bearer(&cluster, "admin");
    let path = "/api/v1/namespaces/demo/pods/shell";
    let long = "container=main&command=true&stdin=1&stdout=1&tty=1";
    let rows: [(&str, &str, String, &str, u16); 21] = [
        ("short", PAGE, format!("/exec?{QUERY}"), PAGE, 101),
        ("another size", PAGE, format!("/exec?{QUERY}&cols=100&proto=seed"), PAGE, 101),
        ("any page", "", format!("/exec?{QUERY}"), "Origin: https://any\r\n", 101),
        ("no page", "", format!("/exec?{QUERY}"), "", 101),
        ("long", PAGE, format!("{path}/exec?{long}"), PAGE, 101),
        ("alias", PAGE, format!("/exec?{}", QUERY.replace("pod=", "podName=")), PAGE, 101),
        ("U19 other pod", PAGE, format!("/exec?{}", QUERY.replace("shell", "done")), PAGE, 401),
        ("U19 namespace", PAGE, format!("/exec?{}", QUERY.replace("=demo", "=x")), PAGE, 401),
        ("U19 container", PAGE, format!("/exec?{}", QUERY.replace("main", "side")), PAGE, 401),
        ("U19 no container", PAGE, "/exec?ns=demo&pod=shell&command=true".into(), PAGE, 401),
        ("U19 command", PAGE, format!("/exec?{QUERY}&command=x"), PAGE, 401),
        ("U19 cluster", PAGE, format!("/exec?{QUERY}&cluster=demo-execer"), PAGE, 401),
        ("U19 shell", PAGE, format!("/exec?{QUERY}&shell=sh"), PAGE, 401),
        ("U19 tty", PAGE, format!("/exec?{QUERY}&tty=false"), PAGE, 401),
        ("U19 stdin", PAGE, format!("/exec?{QUERY}&stdin=false"), PAGE, 401),
        ("U19 verb", PAGE, format!("{path}/attach?{long}"), PAGE, 401),
        ("U19 nonsense", PAGE, format!("/exec?{QUERY}&pod=two"), PAGE, 401),
        ("U19 no names", PAGE, "/exec".to_owned(), PAGE, 401),
        ("U19 other origin", PAGE, format!("/exec?{QUERY}"), "Origin: https://evil\r\n", 401),
        ("U19 other port", PAGE, format!("/exec?{QUERY}"), "Origin: http://localhost:81\r\n", 401),
        ("U19 page is gone", PAGE, format!("/exec?{QUERY}"), "", 401),
    ];
    let mut said = HashSet::new();
    let mut sessions = 0;
    for (id, page, target, origin, status) in rows {
        let ticket = ticket(&relay, QUERY, &format!("{admin}{page}")).await;
        let mark = if target.contains('?') { '&' } else { '?' };
        let answer = relay.ask(&format!("{target}{mark}ticket={ticket}"), origin).await;
        assert_eq!(answer.status, status, "{id}: {answer:?}");
        if status == 401 {
            said.insert(answer.body);
        } else {
            let seen = session(&cluster, sessions).await;
            let token = format!("Bearer {}", cluster.token("admin"));
            assert_eq!(seen.request().header("authorization"), Some(&*token), "{id}");
            assert!(!seen.request().target.contains("ticket"), "{id}");
            sessions += 1;
        }
        let right = format!("/exec?{QUERY}&ticket={ticket}");
        let again = relay.ask(&right, page).await;
        assert_eq!(again.status, 401, "U19 reused, after {id}");
        said.insert(again.body);
        assert!(!relay.log().contains(&ticket), "{}", relay.log());
    }
    // One that never was, also beside a credential that would do.
    for (id, ticket, headers) in [
        ("U19 made up", "A".repeat(43), ""),
        ("U19 made up, with a token", "A".repeat(43), &*admin),
        ("U19 long", "A".repeat(60_000), ""),
        ("U19 two", "A&ticket=A".to_owned(), ""),
    ] {
        let answer = relay.ask(&format!("/exec?{QUERY}&ticket={ticket}"), headers).await;
        assert_eq!(answer.status, 401, "{id}: {answer:?}");
        said.insert(answer.body);
    }
    // No head is as long as that, and who sends one hears no more than that.
    let answer = relay.ask(&format!("/exec?{QUERY}&ticket={}", "A".repeat(1 << 20)), "").await;
    assert!(matches!(answer.status, 414 | 431), "U19 1 MiB: {answer:?}");
    assert_eq!(said.len(), 1, "the same words for each");
    assert_eq!(cluster.sessions().len(), sessions);
}

/// A page that can send no header has a session with the rights of whoever asked for its ticket.
#[tokio::test]
async fn a_page_opens_its_session_with_a_ticket() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = relay(&cluster, "passthrough,ticket", &[]).await;
    let target = terminal("read x; exit $x");
    let query = target.split_once('?').unwrap().1;
    let ticket = ticket(&relay, query, &bearer(&cluster, "execer")).await;
    let mut page = relay.v1(&format!("{target}&cols=100&rows=30&ticket={ticket}")).await;
    page.message("ready").await;
    page.input("7\r").await;
    page.assert_exit("exit", Some(7), 1000, "a ticket").await;
    let line = relay.until_logged(" session start ", 1).await;
    assert!(line.contains("user=token:"), "{line}");
    // A used one: a page is told by HTTP, as with any credential.
    relay.ask(&format!("{target}&ticket={ticket}"), "").await.assert_refusal(
        401,
        "unauthorized",
        "used",
    );
}

/// What an authorizer decided about a ticket is what its session is, and is decided again.
#[tokio::test]
async fn a_ticket_keeps_what_an_authorizer_decided() {
    let cluster = cluster(Behaviour::default()).await;
    cluster.set_rights("ann", Rights::all());
    let authorizer = Authorizer::start().await;
    let url = authorizer.url();
    let relay = relay(&cluster, "hook,ticket", &["--authorize-url", &url, "--recheck=1s"]).await;
    authorizer.allow(json!({
        "user": "ann", "namespace": "demo", "pod": "shell", "container": "main",
        "command": ["bash", "-c", "echo rea''dy; sleep 1h"], "readOnly": true,
    }));
    let cookie = "Cookie: session=ann\r\n";
    let ticket = ticket(&relay, "namespace=a&pod=b", cookie).await;
    let asked = authorizer.asked(1).await;
    assert_eq!(asked.one("x-original-method"), "POST");
    assert_eq!(asked.one("x-original-uri"), "/tickets?namespace=a&pod=b");
    // Nobody else is asked, and the caller of the upgrade has nothing but the ticket.
    let mut page = relay.v1(&format!("/exec?namespace=a&pod=b&ticket={ticket}")).await;
    page.until_output("ready").await;
    let seen = session(&cluster, 0).await;
    assert_eq!(seen.request().path(), "/api/v1/namespaces/demo/pods/shell/exec");
    assert_eq!(seen.request().header("impersonate-user"), Some("ann"));
    assert_eq!(seen.request().header("audit-id"), Some(asked.one("x-podwire-session")));
    assert!(!seen.request().query().contains("stdin"), "{:?}", seen.request());
    let again = authorizer.asked(2).await;
    assert_eq!(again.headers, asked.headers);
    authorizer.refuse(403);
    page.assert_exit("revoked", None, 4403, "the authorizer says no").await;
    // An authorizer that says no gives out no tickets.
    let answer = post(&relay, "namespace=a&pod=b", cookie).await;
    answer.assert_refusal(403, "forbidden", "no");
}

/// Without `ticket` in --auth there are none, and a parameter of that name means nothing.
#[tokio::test]
async fn there_are_no_tickets_unless_they_were_asked_for() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Relay::start(&cluster).await;
    post(&relay, QUERY, "").await.assert_refusal(404, "not_found", "POST");
    assert_eq!(relay.ask(&format!("/exec?{QUERY}&ticket=x"), "").await.status, 101);
}

/// Another cluster may have the name by then, and would get the caller's token.
#[tokio::test]
async fn a_ticket_is_for_the_cluster_that_it_was_asked_for() {
    let (first, second) =
        (cluster(Behaviour::default()).await, cluster(Behaviour::default()).await);
    let relay = relay(&first, "passthrough,ticket", &[]).await;
    let ticket = ticket(&relay, QUERY, &bearer(&first, "admin")).await;
    std::fs::write(relay.folder().join("kubeconfig"), second.kubeconfig()).unwrap();
    relay.reload().await;
    relay.until_logged(" configuration read again ", 1).await;
    assert_eq!(relay.ask(&format!("/exec?{QUERY}&ticket={ticket}"), "").await.status, 101);
    session(&first, 0).await;
    assert_eq!(second.requests().len(), 0);
}

/// Anybody can make up tokens; a cluster that does not answer must not cost a connection for each.
#[tokio::test]
async fn only_so_many_callers_wait_for_a_cluster() {
    let hangs = Behaviour { before_tls: Some(Script::new([Step::Hang])), ..Behaviour::default() };
    let cluster = cluster(hangs).await;
    let relay = relay(&cluster, "passthrough,ticket", &[]).await;
    let head = format!("POST /tickets?{QUERY} HTTP/1.1\r\nHost: localhost\r\n");
    let ask = async |number: usize| {
        let mut tcp = TcpStream::connect(relay.addr()).await.unwrap();
        let token = format!("Authorization: Bearer made-up-{number}\r\n\r\n");
        tcp.write_all(format!("{head}{token}").as_bytes()).await.unwrap();
        tcp
    };
    let mut waiting = Vec::new();
    for number in 0..64 {
        waiting.push(ask(number).await);
    }
    eventually("the cluster has them all", || cluster.connections() >= 128).await;
    let answer = post(&relay, QUERY, "Authorization: Bearer made-up-more\r\n").await;
    answer.assert_refusal(503, "limit", "one more");
    assert_eq!(cluster.connections(), 128);
}
