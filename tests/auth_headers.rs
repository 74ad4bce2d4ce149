//! `--auth headers`: the users that a gateway names have their own rights, and nobody has the
//! relay's.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Start, cluster, folder, session, short, terminal, upgrade, within};
use fake_cluster::{Behaviour, FakeCluster, Rights};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A relay whose gateway connects from this machine.
fn start(preset: &str) -> Start {
    let preset = format!("--headers-preset={preset}");
    Start { auth: "headers", ..Start::default() }.and(&[&preset, "--trusted-proxy=127.0.0.1"])
}

/// Asserts that all the cluster was asked was asked for these users, from this request on.
fn assert_impersonated(cluster: &FakeCluster, from: usize, users: &[&str]) {
    for request in &cluster.requests()[from..] {
        let user = request.header("impersonate-user").unwrap_or_default();
        assert!(users.contains(&user), "as {user:?}: {request:?}");
        let own = format!("Bearer {}", cluster.token("admin"));
        assert_eq!(request.header("authorization"), Some(&*own), "{request:?}");
    }
}

#[tokio::test]
async fn each_user_has_their_own_rights() {
    let cluster = cluster(Behaviour::default()).await;
    cluster.set_rights("group:developers", Rights::exec());
    let exits = ("exit", Some(3), 1000);
    let refused = ("forbidden", None, 4403);
    for (preset, user_header, groups_header) in [
        ("oauth2-proxy", "x-forwarded-user", "x-forwarded-groups"),
        ("auth-request", "x-auth-request-user", "x-auth-request-groups"),
        ("remote-user", "remote-user", "remote-groups"),
    ] {
        let relay = start(preset).before(&cluster).await;
        for (user, groups, (kind, code, close)) in [
            ("admin", "", exits),
            ("execer", "others", exits),
            ("nobody", "", refused),
            ("nobody", "others, developers", exits),
            ("jane.doe@example.com", "others", refused),
            ("jane.doe@example.com", "developers", exits),
        ] {
            let what = format!("{user} of {groups:?} under {preset}");
            let from = cluster.requests().len();
            let headers = [
                ("sec-websocket-protocol", "podwire.v1"),
                (user_header, user),
                (groups_header, groups),
            ];
            let mut page = relay.browser(&short(&["sh", "-c", "exit 3"], ""), &headers).await;
            page.assert_exit(kind, code, close, &what).await;
            let lines = format!("{user_header}: {user}\r\n{groups_header}: {groups}\r\n");
            let answer = relay.ask(&short(&["true"], ""), &lines).await;
            assert_eq!(answer.status, if code.is_some() { 101 } else { 403 }, "{what}");
            assert_impersonated(&cluster, from, &[user]);
            let line = relay.until_logged(&format!(" user={user} "), 1).await;
            assert!(line.contains("session "), "{line}");
        }
    }
}

/// C4: what a gateway may call somebody.
#[tokio::test]
async fn a_name_is_one_that_a_person_can_have() {
    let cluster = cluster(Behaviour::default()).await;
    cluster.set_rights("anna", Rights::exec());
    cluster.set_rights("CN=anna,O=example", Rights::exec());
    let relay = start("oauth2-proxy").before(&cluster).await;
    let user = |name: &str| format!("X-Forwarded-User: {name}\r\n");
    let groups = |names: &str| user("anna") + &format!("X-Forwarded-Groups: {names}\r\n");
    let none: &[&str] = &[];
    let ab: &[&str] = &["a", "b"];
    let many = "g,".repeat(501);
    let rows = [
        ("C4 none", String::new(), 401, none),
        ("C4 groups alone", "X-Forwarded-Groups: a\r\n".to_owned(), 401, none),
        ("C4 of another preset", "X-Auth-Request-User: anna\r\n".to_owned(), 401, none),
        ("C4 empty", user(""), 401, none),
        ("C4 blank", user("  \t"), 401, none),
        ("C4 two", user("anna").repeat(2), 401, none),
        ("C4 two, one empty", user("") + &user("anna"), 401, none),
        ("C4 system", user("system:admin"), 403, none),
        ("C4 a service account", user("system:serviceaccount:a:b"), 403, none),
        ("C4 4 KiB", user(&"a".repeat(4096)), 400, none),
        ("C4 Unicode", user("\u{e4}nna"), 400, none),
        ("C4 reordered", user("\u{202e}anna"), 400, none),
        ("C4 tab inside", user("an\tna"), 400, none),
        ("C4 plain", user("anna"), 101, none),
        ("C4 a distinguished name", user("CN=anna,O=example"), 101, none),
        ("C4 no groups", groups(""), 101, none),
        ("C4 empty members", groups(" a,, b ,"), 101, ab),
        ("C4 lines", groups("a") + "X-Forwarded-Groups: ,b\r\n", 101, ab),
        ("C4 system group", groups("a,system:masters"), 403, none),
        ("C4 everybody's group", groups("system:authenticated"), 403, none),
        ("C4 long group", groups(&"a".repeat(4096)), 400, none),
        ("C4 Unicode group", groups("a,\u{e4}"), 400, none),
        ("C4 too many groups", groups(&many), 400, none),
    ];
    let mut sessions = 0;
    for (id, headers, status, groups) in rows {
        let answer = relay.ask(&short(&["true"], ""), &headers).await;
        assert_eq!(answer.status, status, "{id}: {answer:?}");
        if status == 101 {
            let seen = session(&cluster, sessions).await;
            assert_eq!(seen.request().header_lines("impersonate-group"), groups, "{id}");
            sessions += 1;
        } else {
            let kind = match status {
                401 => "unauthorized",
                403 => "forbidden",
                _ => "bad_request",
            };
            answer.assert_refusal(status, kind, id);
        }
    }
    assert_eq!(cluster.sessions().len(), sessions, "who is refused reaches no cluster");
    // The pretend cluster reads fewer lines than a real one.
    let answer = relay.ask(&short(&["true"], ""), &groups(&"g,".repeat(200))).await;
    assert_eq!(answer.status, 101, "as many groups as stand in a token");
    // Bytes that are no text at all.
    let mut request = upgrade(&short(&["true"], ""), &user("#")).into_bytes();
    let at = request.iter().position(|byte| *byte == b'#').unwrap();
    request[at] = 0xff;
    let answer = relay.http(request).await.unwrap();
    answer.assert_refusal(400, "bad_request", "C4 no text");
    assert_impersonated(&cluster, 0, &["anna", "CN=anna,O=example"]);
}

/// C3, H20: headers are the word of whoever sends them.
#[tokio::test]
async fn nobody_but_the_gateway_says_who_somebody_is() {
    let cluster = cluster(Behaviour::default()).await;
    let token = cluster.token("admin");
    let others = Start { auth: "headers", ..Start::default() }
        .and(&["--headers-preset=oauth2-proxy", "--trusted-proxy=127.0.0.2,10.0.0.0/8,::1"]);
    let relay = others.before(&cluster).await;
    let rows = [
        ("C3 a user", "X-Forwarded-User: admin\r\n".to_owned()),
        ("C3 nothing", String::new()),
        ("C3 a token", format!("Authorization: Bearer {token}\r\n")),
        ("H20 X-Remote-User", "X-Remote-User: admin\r\nRemote-User: admin\r\n".to_owned()),
        ("H20 Impersonate-User", "Impersonate-User: admin\r\n".to_owned()),
        (
            "H20 a gateway's own words",
            "X-Forwarded-User: admin\r\nX-Forwarded-For: 127.0.0.2\r\n".to_owned(),
        ),
        (
            "H20 a header that says it is none",
            "X-Forwarded-User: admin\r\nConnection: X-Forwarded-For\r\n".to_owned(),
        ),
    ];
    for (id, headers) in rows {
        let answer = relay.ask(&short(&["true"], ""), &headers).await;
        answer.assert_refusal(401, "unauthorized", id);
    }
    assert_eq!(cluster.connections(), 0, "the cluster is not asked");
}

/// H20: the request to the cluster is built from nothing, so a hop can take nothing out of it.
#[tokio::test]
async fn a_caller_cannot_become_the_relay() {
    let cluster = cluster(Behaviour::default()).await;
    cluster.set_rights("anna", Rights::exec());
    let relay = start("oauth2-proxy").before(&cluster).await;
    let headers = format!(
        "X-Forwarded-User: anna\r\nX-Forwarded-Groups: a,b\r\nAuthorization: Bearer {}\r\n\
         Impersonate-User: admin\r\nImpersonate-Group: system:masters\r\nImpersonate-Uid: 0\r\n\
         Impersonate-Extra-Scopes: all\r\nX-Remote-User: admin\r\nX-Forwarded-For: 192.0.2.1\r\n\
         X-Forwarded-Access-Token: secret\r\nCookie: a=b\r\nAudit-ID: mine\r\n",
        cluster.token("admin")
    );
    let tricks = "Connection: Upgrade, Authorization, Impersonate-User, X-Forwarded-Groups";
    let request = upgrade(&short(&["true"], ""), &headers).replace("Connection: Upgrade", tricks);
    assert_eq!(relay.http(request).await.unwrap().status, 101, "H20");
    let seen = session(&cluster, 0).await;
    let mut names: Vec<String> =
        seen.request().headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    let ours = [
        "audit-id",
        "authorization",
        "connection",
        "host",
        "impersonate-group",
        "impersonate-group",
        "impersonate-user",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "upgrade",
        "user-agent",
    ];
    assert_eq!(names, ours, "H20");
    assert_eq!(seen.request().header("connection"), Some("Upgrade"), "H20");
    assert_eq!(seen.request().header_lines("impersonate-group"), ["a", "b"], "H20");
    assert_impersonated(&cluster, 0, &["anna"]);
}

/// The relay may not impersonate anybody: then nobody has a session, its own rights or not.
#[tokio::test]
async fn a_relay_that_may_not_impersonate_opens_nothing() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = start("oauth2-proxy").and(&["--context=demo-execer"]).before(&cluster).await;
    let headers = "X-Forwarded-User: admin\r\n";
    let answer = relay.ask(&short(&["true"], ""), headers).await;
    answer.assert_refusal(502, "cluster_protocol", "C3");
    let message = answer.json()["message"].to_string();
    assert!(message.contains("the relay may not impersonate"), "{message}");
    let seen = session(&cluster, 0).await;
    let answered = within("an answer", seen.until(|facts| facts.answered)).await;
    assert_eq!(answered, 403, "a process was started");
    for request in cluster.requests() {
        assert_eq!(request.header("impersonate-user"), Some("admin"), "{request:?}");
    }
}

/// What ends a session's process is done in the user's name, too; and users are told apart.
#[tokio::test]
async fn a_user_is_somebody_until_the_end() {
    let cluster = cluster(Behaviour::default()).await;
    for user in ["anna", "bert"] {
        cluster.set_rights(user, Rights::exec());
    }
    let flags = ["--max-sessions-per-user=1", "--admin-listen=127.0.0.1:0", "--recheck=1s"];
    let relay = start("remote-user").and(&flags).before(&cluster).await;
    let as_user = |user| [("sec-websocket-protocol", "podwire.v1"), ("remote-user", user)];
    let mut anna = relay.browser(&short(&[], ""), &as_user("anna")).await;
    // It outlives its shell, so that the second step of the hang-up is needed.
    anna.input("sleep 1000 & echo rea''dy\r").await;
    anna.until_output("ready").await;
    let list = relay.sessions().await;
    assert_eq!((list.len(), &list[0]["user"]), (1, &"anna".into()), "{list:?}");
    let mut second = relay.browser(&terminal("true"), &as_user("anna")).await;
    second.assert_exit("limit", None, 4429, "the same user").await;
    let mut bert = relay.browser(&terminal("true"), &as_user("bert")).await;
    bert.assert_exit("exit", Some(0), 1000, "another user").await;
    let review = |request: &fake_cluster::Request| request.path().ends_with("accessreviews");
    within("a look at the rights", cluster.request(review)).await;
    anna.leave().await;
    let line = relay.until_logged("session end ", 2).await;
    assert!(line.contains(" user=anna ") && line.contains(" hangup=signal "), "{line}");
    assert_eq!(cluster.sessions().len(), 3, "the third is the signal's");
    assert_impersonated(&cluster, 0, &["anna", "bert"]);
}

/// The gateway may connect to a Unix socket.
#[tokio::test]
async fn a_gateway_may_use_a_unix_socket() {
    let cluster = cluster(Behaviour::default()).await;
    let path = folder().join("headers.sock");
    let listen = format!("unix:{}", path.display());
    let relay = Start { auth: "headers", listen, ..Start::default() }
        .and(&["--headers-preset=remote-user", "--trusted-proxy=unix"])
        .before(&cluster)
        .await;
    for (headers, status) in [
        ("Remote-User: execer\r\nX-Forwarded-For: 192.0.2.1\r\n", 101),
        ("Remote-User: nobody\r\nX-Forwarded-For: 192.0.2.2\r\n", 403),
        ("", 401),
    ] {
        let mut unix = UnixStream::connect(&path).await.unwrap();
        let request = upgrade(&short(&["true"], ""), headers);
        unix.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        within("an answer", unix.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer, *format!("HTTP/1.1 {status}").as_bytes(), "{headers}");
    }
    assert_impersonated(&cluster, 0, &["execer", "nobody"]);
    relay.until_logged(" remote=192.0.2.1 user=execer ", 1).await;
    relay.until_logged(" remote=192.0.2.2 user=nobody ", 1).await;
    relay.until_logged(" remote=unix ", 1).await;
}
