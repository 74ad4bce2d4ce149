//! Which pages may open a session with which credential, and where our own pages come from.
//!
//! What a browser or a gateway adds to any page's request counts for our own pages and the allowed
//! ones; a token that a page must have brought itself counts from everywhere.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{Relay, Start, cluster, short, upgrade};
use fake_cluster::{Behaviour, FakeCluster};

/// A way in which a request comes to have rights.
struct Way {
    name: &'static str,
    start: Start,
    /// What is added to the address, and to the header.
    query: String,
    header: String,
    /// Whether only the page itself can have brought it.
    is_brought: bool,
}

fn ways(cluster: &FakeCluster) -> Vec<Way> {
    let token = cluster.token("admin");
    let way = |name, start, query: &str, header: String, is_brought| {
        let query = query.to_owned();
        Way { name, start, query, header, is_brought }
    };
    let passthrough = |flags: &[&str]| Start::passthrough().and(flags);
    let headers = Start { auth: "headers", ..Start::default() }
        .and(&["--headers-preset=oauth2-proxy", "--trusted-proxy=127.0.0.1"]);
    let encoded = URL_SAFE_NO_PAD.encode(&token);
    let offer = format!(
        "Sec-WebSocket-Protocol: podwire.v1, base64url.bearer.authorization.k8s.io.{encoded}\r\n"
    );
    vec![
        way("own", Start::default(), "", String::new(), false),
        way("headers", headers, "", "X-Forwarded-User: admin\r\n".to_owned(), false),
        way(
            "Authorization",
            passthrough(&[]),
            "",
            format!("Authorization: Bearer {token}\r\n"),
            false,
        ),
        way(
            "cookie",
            passthrough(&["--token-cookie=t"]),
            "",
            format!("Cookie: t={token}\r\n"),
            false,
        ),
        way("subprotocol", passthrough(&[]), "", offer, true),
        way(
            "query",
            passthrough(&["--token-query=t"]),
            &format!("&t={token}"),
            String::new(),
            true,
        ),
    ]
}

impl Way {
    /// The status of a request of a page, or of whoever sends these header lines.
    async fn ask(&self, relay: &Relay, host: &str, lines: &str) -> u16 {
        let target = short(&["true"], &self.query);
        let request = upgrade(&target, &format!("{}{lines}", self.header));
        let request = request.replace("Host: localhost", &format!("Host: {host}"));
        relay.http(request).await.expect("an answer").status
    }
}

#[tokio::test]
async fn what_a_browser_adds_by_itself_counts_for_our_own_pages_only() {
    let cluster = cluster(Behaviour::default()).await;
    for way in ways(&cluster) {
        let start = way.start.clone().and(&["--allow-origin=https://good,http://other:81"]);
        let relay = start.before(&cluster).await;
        let port = relay.addr().port();
        let own = format!("http://localhost:{port}");
        // The last two: for what is added, and for what is brought.
        let rows: &[(&str, &[&str], u16, u16)] = &[
            ("O1 no page", &[], 101, 101),
            ("O2 no page", &[], 101, 101),
            ("O3 same", &[&own], 101, 101),
            ("O3 in any case", &[&own.to_uppercase()], 101, 101),
            ("O4 listed", &["https://good"], 101, 101),
            ("O4 listed, and its port", &["https://GOOD:443"], 101, 101),
            ("O4 listed second", &["http://other:81"], 101, 101),
            ("O5 foreign", &["https://evil"], 403, 101),
            ("H11 longer", &["https://good.evil"], 403, 101),
            ("H11 shorter", &["https://goo"], 403, 101),
            ("H11 scheme", &["http://good"], 403, 101),
            ("H11 port", &["https://good:444"], 403, 101),
            ("H11 dot", &["https://good."], 403, 101),
            ("H11 path", &["https://good/"], 403, 101),
            ("H11 user", &["https://good@evil"], 403, 101),
            ("H11 list", &["https://good https://evil"], 403, 101),
            ("H11 not text", &["https://g\u{f6}d"], 403, 101),
            ("H11 two", &[&own, &own], 403, 403),
            ("H11 two, one of them foreign", &["https://good", "https://evil"], 403, 403),
            ("O6 null", &["null"], 403, 403),
            ("O6 empty", &[""], 403, 403),
            ("O8 other port", &["http://localhost:1"], 403, 101),
            ("O8 no port", &["http://localhost"], 403, 101),
            ("O8 other scheme", &[&own.replace("http", "https")], 403, 101),
        ];
        for (id, origins, added, brought) in rows {
            let lines = origins.iter().map(|origin| format!("Origin: {origin}\r\n"));
            let lines: String = lines.collect();
            let wanted = if way.is_brought { *brought } else { *added };
            let status = way.ask(&relay, &format!("localhost:{port}"), &lines).await;
            assert_eq!(status, wanted, "{id} under {}", way.name);
        }
    }
}

/// O7: a name that was made to mean this machine is its own origin, and is no name of ours.
#[tokio::test]
async fn a_foreign_name_for_this_machine_gets_nothing() {
    let cluster = cluster(Behaviour::default()).await;
    let flags = ["--allow-host=pod.example", "--trusted-proxy=127.0.0.1"];
    let relay = Start::flags(&flags).before(&cluster).await;
    let rows = [
        ("O7 evil", "evil", "", 403),
        ("O7 evil with a port", "evil:8080", "", 403),
        ("O7 looks like us", "localhost.evil", "", 403),
        ("O7 another address", "10.0.0.1", "", 403),
        ("O7 a gateway's word", "evil", "X-Forwarded-Host: localhost\r\n", 403),
        ("O7 ours", "localhost", "", 200),
        ("O7 ours by address", "[::1]:8080", "", 200),
        ("O7 listed", "POD.example:1", "", 200),
    ];
    let own = &ways(&cluster)[0];
    for (id, host, lines, status) in rows {
        let upgraded = if status == 200 { 101 } else { status };
        assert_eq!(own.ask(&relay, host, lines).await, upgraded, "{id}");
        let origin = format!("Origin: http://{host}\r\n{lines}");
        let known = if lines.is_empty() { upgraded } else { 403 };
        assert_eq!(own.ask(&relay, host, &origin).await, known, "{id}, a page of its own");
        for (method, path) in [("GET", "/"), ("GET", "/exec"), ("GET", "/x"), ("POST", "/tickets")]
        {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n");
            let answer = relay.http(request).await.expect("an answer");
            assert_eq!(answer.status == 403, status == 403, "{id}, {path}: {answer:?}");
        }
    }
}

/// O8 behind a gateway: where our pages come from is what the settings or a trusted one say.
#[tokio::test]
async fn behind_a_gateway_our_own_pages_come_from_where_it_says() {
    let cluster = cluster(Behaviour::default()).await;
    let https = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: term.example\r\n";
    let list = "X-Forwarded-Proto: http, https\r\nX-Forwarded-Host: evil, term.example\r\n";
    let strange = "X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: term.example\r\n";
    let (term, relay) = ("https://term.example", "http://relay");
    // The gateway of these tests connects from 127.0.0.1.
    let trusted: &[&str] = &["--trusted-proxy=127.0.0.0/8"];
    let others: &[&str] = &["--trusted-proxy=127.0.0.2,10.0.0.0/24,unix"];
    let public: &[&str] = &["--public-url=https://term.example/terminal/"];
    let both: &[&str] = &["--trusted-proxy=127.0.0.1", "--public-url=https://term.example"];
    let evil = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n";
    let rows: &[(&str, &[&str], &str, &str, u16)] = &[
        ("O8 trusted", trusted, https, term, 101),
        ("O8 trusted, its own name", trusted, https, relay, 403),
        ("O8 trusted, silent", trusted, "", relay, 101),
        ("O8 trusted, scheme alone", trusted, "X-Forwarded-Proto: https\r\n", "https://relay", 101),
        ("O8 trusted, Traefik", trusted, &https.replace("https", "wss"), term, 101),
        ("O8 trusted, the last hop's", trusted, list, term, 101),
        ("O8 trusted, the first hop's", trusted, list, "http://evil", 403),
        ("O8 trusted, nonsense", trusted, strange, term, 403),
        ("O8 trusted, nonsense and null", trusted, strange, "null", 403),
        ("O8 not trusted", others, https, term, 403),
        ("O8 not trusted, evil", others, evil, "https://evil", 403),
        ("O8 not trusted, its own name", others, https, relay, 101),
        ("O8 nobody is trusted", &[], https, term, 403),
        ("O8 public URL", public, "", term, 101),
        ("O8 public URL, its port", public, "", "https://term.example:443", 101),
        ("O8 public URL, its own name", public, "", relay, 403),
        ("O8 public URL, evil", public, evil, "https://evil", 403),
        ("O8 public URL and a gateway", both, evil, "https://evil", 403),
        ("O8 public URL before a gateway", both, evil, term, 101),
    ];
    let ways = ways(&cluster);
    let way = ways.iter().find(|way| way.name == "cookie").unwrap();
    let mut running: Vec<(&[&str], Relay)> = Vec::new();
    for (id, flags, lines, origin, status) in rows {
        if !running.iter().any(|(it, _)| it == flags) {
            running.push((flags, way.start.clone().and(flags).before(&cluster).await));
        }
        let (_, relay) = running.iter().find(|(it, _)| it == flags).unwrap();
        let lines = format!("{lines}Origin: {origin}\r\n");
        assert_eq!(way.ask(relay, "relay", &lines).await, *status, "{id}");
    }
}

/// A ticket is no page's but its own, as a token is; one without a page of its own is any page's.
#[tokio::test]
async fn a_ticket_that_no_page_asked_for_counts_from_everywhere() {
    let cluster = cluster(Behaviour::default()).await;
    let start = Start { auth: "passthrough,ticket", ..Start::default() };
    let relay = start.before(&cluster).await;
    let target = short(&["true"], "");
    let token = cluster.token("admin");
    for (id, origins, status) in [
        ("O1 no page", "", 101),
        ("O5 foreign", "Origin: https://evil\r\n", 101),
        ("O6 null", "Origin: null\r\n", 403),
        ("H11 two", "Origin: https://evil\r\nOrigin: https://evil\r\n", 403),
    ] {
        let (_, query) = target.split_once('?').unwrap();
        let request = format!(
            "POST /tickets?{query} HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        let given = relay.http(request).await.unwrap();
        assert_eq!(given.status, 201, "{id}: {given:?}");
        let ticket = given.json()["ticket"].as_str().unwrap().to_owned();
        let answer = relay.ask(&format!("{target}&ticket={ticket}"), origins).await;
        assert_eq!(answer.status, status, "{id}: {answer:?}");
    }
}
