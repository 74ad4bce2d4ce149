//! Who gets a session and as whom: origins, hosts, tokens, and what of a request reaches the
//! cluster.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{Start, cluster, session, short, upgrade};
use fake_cluster::{Behaviour, Rights};

/// The subprotocol in which browsers bring a token.
fn bearer(token: &str) -> String {
    format!("base64url.bearer.authorization.k8s.io.{}", URL_SAFE_NO_PAD.encode(token))
}

/// O1 to O8 and H11 under `own`, where any page in a browser could ask.
#[tokio::test]
async fn only_pages_of_allowed_origins_get_the_relays_own_identity() {
    let cluster = cluster(Behaviour::default()).await;
    let flags = ["--allow-origin", "https://good,http://other:81", "--allow-host", "pod.example"];
    let relay = Start::flags(&flags).before(&cluster).await;
    let port = relay.addr().port();
    let own = format!("http://localhost:{port}");
    let rows: &[(&str, &str, u16)] = &[
        ("O1 none", "", 101),
        ("O1 cookie and none", "Cookie: a=b\r\n", 101),
        ("O3 same", &format!("Origin: {own}\r\n"), 101),
        ("O3 case", &format!("Origin: HTTP://LocalHost:{port}\r\n"), 101),
        ("O4 listed", "Origin: https://good\r\n", 101),
        ("O4 port is said", "Origin: https://good:443\r\n", 101),
        ("O4 second", "Origin: http://other:81\r\n", 101),
        ("O5 foreign", "Origin: https://evil\r\n", 403),
        ("O5 longer", "Origin: https://good.evil\r\n", 403),
        ("O5 scheme", "Origin: http://good\r\n", 403),
        ("O5 port", "Origin: https://good:444\r\n", 403),
        ("O5 dot", "Origin: https://good.\r\n", 403),
        ("O5 path", "Origin: https://good/\r\n", 403),
        ("O5 user", "Origin: https://x@good\r\n", 403),
        ("O6 null", "Origin: null\r\n", 403),
        ("O6 empty", "Origin:\r\n", 403),
        ("O8 other port", "Origin: http://localhost:1\r\n", 403),
        ("O8 other scheme", &format!("Origin: https://localhost:{port}\r\n"), 403),
        ("H11 two", &format!("Origin: {own}\r\nOrigin: {own}\r\n"), 403),
    ];
    let at = |host: &str, headers: &str| {
        let request = upgrade(&short(&["true"], ""), headers);
        request.replace("Host: localhost", &format!("Host: {host}"))
    };
    let mut sessions = 0;
    for (id, headers, status) in rows {
        let answer = relay.http(at(&format!("localhost:{port}"), headers)).await.unwrap();
        assert_eq!(answer.status, *status, "{id}: {answer:?}");
        match status {
            101 => sessions += 1,
            _ => answer.assert_refusal(403, "forbidden", id),
        }
    }
    // O7, and H12 on the other routes: a name that was made to mean this machine.
    for (host, status) in [
        ("127.0.0.1", 101),
        ("[::1]:8080", 101),
        ("POD.example:1", 101),
        ("evil", 403),
        ("localhost.evil", 403),
        ("10.0.0.1", 403),
    ] {
        let answer = relay.http(at(host, "")).await.unwrap();
        assert_eq!(answer.status, status, "{host}");
        sessions += usize::from(status == 101);
        let origin = format!("Origin: http://{host}\r\n");
        let answer = relay.http(at(host, &origin)).await.unwrap();
        assert_eq!(answer.status, status, "{host} as its own origin");
        sessions += usize::from(status == 101);
        for path in ["/", "/nope"] {
            let get = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let answer = relay.http(get).await.unwrap();
            assert_eq!(answer.status == 403, status == 403, "{host}{path}: {answer:?}");
        }
    }
    // H14: where no token is asked for, one alone would still get a handshake that browsers refuse.
    let alone = format!("Sec-WebSocket-Protocol: {}\r\n", bearer("x"));
    let answer = relay.ask(&short(&["true"], ""), &alone).await;
    answer.assert_refusal(401, "unauthorized", "H14 alone");
    session(&cluster, sessions - 1).await;
    assert_eq!(cluster.sessions().len(), sessions, "refused requests reach no cluster");
}

/// H14 and the origins under `passthrough`: a token in a subprotocol is no page's but its own.
#[tokio::test]
async fn a_caller_brings_a_token() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::passthrough().before(&cluster).await;
    let admin = cluster.token("admin");
    let authorization = format!("Authorization: Bearer {admin}\r\n");
    let protocols = |names: &str| format!("Sec-WebSocket-Protocol: {names}\r\n");
    let good = bearer(&admin);
    let evil = "Origin: https://evil\r\n";
    let rows = [
        ("header", authorization.clone(), 101),
        ("scheme in any case", authorization.replace("Bearer", "bEARER"), 101),
        ("subprotocol", protocols(&format!("podwire.v1, {good}")), 101),
        ("subprotocol first", protocols(&format!("{good}, podwire.v1")), 101),
        ("subprotocol and any page", protocols(&format!("podwire.v1, {good}")) + evil, 101),
        ("O2 header, no origin", authorization.clone(), 101),
        ("header and a foreign page", authorization.clone() + evil, 403),
        ("header and null", authorization.clone() + "Origin: null\r\n", 403),
        ("header and its own page", authorization.clone() + "Origin: http://localhost\r\n", 101),
        ("foreign page without a token", evil.to_owned(), 403),
        ("nothing", String::new(), 401),
        ("cookie", "Cookie: token=x\r\n".to_owned(), 401),
        ("basic", "Authorization: Basic YTpi\r\n".to_owned(), 401),
        ("empty", "Authorization: Bearer \r\n".to_owned(), 401),
        ("two headers", authorization.repeat(2), 401),
        ("H14 alone", protocols(&good), 401),
        ("H14 alone with a comma", protocols(&format!("{good}, ,")), 401),
        ("H14 beside an unknown one", protocols(&format!("{good}, chat")), 400),
        ("H14 two", protocols(&format!("podwire.v1, {good}, {good}")), 401),
        ("H14 two lines", protocols(&good) + &protocols(&good), 401),
        ("H14 padded", protocols(&format!("podwire.v1, {}", bearer("a") + "==")), 401),
        ("H14 not base64", protocols("podwire.v1, base64url.bearer.authorization.k8s.io.!"), 401),
        ("H14 empty", protocols(&format!("podwire.v1, {}", bearer(""))), 401),
        ("H14 control", protocols(&format!("podwire.v1, {}", bearer("a\nb"))), 401),
        ("H14 not text", protocols("podwire.v1, base64url.bearer.authorization.k8s.io._w"), 401),
    ];
    for (id, headers, status) in rows {
        let answer = relay.ask(&short(&["true"], ""), &headers).await;
        assert_eq!(answer.status, status, "{id}: {answer:?}");
        let chosen = answer.header("sec-websocket-protocol").unwrap_or("podwire.v1");
        assert_eq!(chosen, "podwire.v1", "{id}: never a token");
        if status == 401 {
            answer.assert_refusal(401, "unauthorized", id);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{id}");
        }
    }
    // A token that the cluster does not know, both ways; the kubeconfig's user is never used.
    let headers = "Authorization: Bearer wrong\r\n";
    let answer = relay.ask(&short(&["true"], ""), headers).await;
    answer.assert_refusal(401, "unauthorized", "wrong token");
    let offer = format!("podwire.v1, {}", bearer("wrong"));
    let mut page =
        relay.browser(&short(&["true"], ""), &[("sec-websocket-protocol", &*offer)]).await;
    page.assert_exit("unauthorized", None, 4401, "wrong token").await;
    let used: Vec<String> = cluster
        .requests()
        .iter()
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect();
    let known = [format!("Bearer {admin}"), "Bearer wrong".to_owned()];
    assert!(used.iter().all(|it| known.contains(it)), "{used:?}");
    assert!(!relay.log().contains(&admin) && !relay.log().contains(&good), "{}", relay.log());
}

/// H20, H22: the cluster sees our headers, and the caller's token.
#[tokio::test]
async fn no_header_of_the_caller_reaches_the_cluster() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::passthrough().before(&cluster).await;
    let token = cluster.token("admin");
    let headers = format!(
        "Authorization: Bearer {token}\r\nImpersonate-User: system:admin\r\n\
         Impersonate-Group: system:masters\r\nX-Remote-User: root\r\nX-Forwarded-User: root\r\n\
         X-Forwarded-For: 1.2.3.4\r\nCookie: a=b\r\nUser-Agent: caller\r\nAudit-ID: mine\r\n\
         Traceparent: nonsense\r\nAccept-Language: de\r\nX-Custom: 1\r\n\
         Sec-WebSocket-Protocol: podwire.v1, v5.channel.k8s.io\r\n"
    );
    let request = upgrade(&short(&["true"], ""), &headers).replace(
        "Connection: Upgrade",
        "Connection: Upgrade, Authorization, Impersonate-User, X-Custom",
    );
    assert_eq!(relay.http(request).await.unwrap().status, 101);
    let seen = session(&cluster, 0).await;
    let mut names: Vec<String> =
        seen.request().headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    let ours = [
        "audit-id",
        "authorization",
        "connection",
        "host",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "upgrade",
        "user-agent",
    ];
    assert_eq!(names, ours);
    let is = |name: &str, value: &str| assert_eq!(seen.request().header(name), Some(value));
    is("authorization", &format!("Bearer {token}"));
    is("host", &cluster.addr().to_string());
    is("connection", "Upgrade");
    is("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io");
    is("user-agent", concat!("podwire/", env!("CARGO_PKG_VERSION")));
    assert_ne!(seen.request().header("audit-id"), Some("mine"));
    assert_ne!(seen.request().header("sec-websocket-key"), Some(common::KEY));
}

/// The short form chooses as kubectl does; Kubernetes' own path says what the API server says.
#[tokio::test]
async fn a_container_is_chosen_when_none_is_named() {
    let target = "/exec?namespace=demo&pod=shell&command=true";
    for (annotation, wanted) in
        [(None, "main"), (Some("side"), "side"), (Some("gone"), "main"), (Some(""), "main")]
    {
        let default_container = annotation.map(str::to_owned);
        let cluster = cluster(Behaviour { default_container, ..Behaviour::default() }).await;
        let relay = common::Relay::start(&cluster).await;
        for target in [target.to_owned(), format!("{target}&container=")] {
            let mut page = relay.v1(&target).await;
            assert_eq!(page.message("ready").await["container"], wanted, "{annotation:?}");
            page.assert_exit("exit", Some(0), 1000, wanted).await;
        }
        let paths: Vec<String> =
            cluster.requests().iter().map(|request| request.path().to_owned()).collect();
        let pod = "/api/v1/namespaces/demo/pods/shell";
        assert_eq!(paths[..3], [&format!("{pod}/exec"), pod, &format!("{pod}/exec")]);

        let long = format!("{pod}/exec?command=true&stdout=true");
        let answer = relay.ask(&long, "").await;
        answer.assert_refusal(400, "bad_request", "the long form");
        assert!(answer.json()["message"].as_str().unwrap().contains("choose one of"));
        relay.v1(&long).await.assert_exit("bad_request", None, 4400, "the long form").await;
    }
    // Who may not read the pod hears the server's sentence.
    let cluster = cluster(Behaviour::default()).await;
    cluster.set_rights("execer", Rights::exec());
    let relay = Start::flags(&["--context", "demo-execer"]).before(&cluster).await;
    let answer = relay.ask(target, "").await;
    answer.assert_refusal(400, "bad_request", "no right to read the pod");
    assert!(answer.json()["message"].as_str().unwrap().contains("choose one of"));
}
