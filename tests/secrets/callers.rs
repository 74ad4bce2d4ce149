//! What callers bring to get in, and what they type once they are.

use fake_cluster::wire::{channel, close, frame, opcode, raw};
use fake_cluster::{Behaviour, FakeCluster, Script, misbehaviour};

use crate::common::{Answer, MASK, Relay, Start, cluster, exchange, pipes, short, upgrade, within};
use crate::leak::{MARK, assert_clean, assert_clean_answer, assert_clean_page, assert_clean_relay};
use crate::leak::{secret, subprotocol};

/// A relay that says all it can say.
async fn talkative(cluster: &FakeCluster, start: Start, format: &str) -> Relay {
    let flags = ["--log-level=trace", "--log-format", format, "--admin-listen=127.0.0.1:0"];
    start.and(&flags).before(cluster).await
}

/// A cluster whose admin has a marked token.
async fn marked() -> (FakeCluster, String) {
    let cluster = cluster(Behaviour::default()).await;
    let token = secret("token");
    cluster.set_token("admin", &token);
    (cluster, token)
}

/// A way to bring a token: an id, what is added to the address, and a header.
type Way = (&'static str, String, Option<(&'static str, String)>);

fn ways(token: &str) -> [Way; 4] {
    [
        ("L2 Authorization", String::new(), Some(("authorization", format!("Bearer {token}")))),
        ("L2 subprotocol", String::new(), Some(("sec-websocket-protocol", subprotocol(token)))),
        ("L2 cookie", String::new(), Some(("cookie", format!("a=b; session={token}")))),
        ("L2 query", format!("&key={token}"), None),
    ]
}

/// Clusters that behave, and clusters that do not.
fn clusters() -> Vec<(&'static str, Behaviour)> {
    let names = [
        "401",
        "403-status",
        "403-html",
        "404",
        "429",
        "500-text",
        "redirect",
        "garbage",
        "no-subprotocol",
        "wrong-accept",
        "text-frame",
        "malformed-status",
        "frame-2mib",
        "reset",
    ];
    let named = |name| (name, Behaviour::scripted(misbehaviour::named(name).unwrap()));
    let honest = [
        ("honest", Behaviour::default()),
        ("kubelet down", Behaviour { kubelet_down: true, ..Behaviour::default() }),
    ];
    honest.into_iter().chain(names.map(named)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_in_every_way_before_every_cluster() {
    for format in ["text", "json"] {
        let (cluster, token) = marked().await;
        let start = Start::passthrough().and(&["--token-cookie=session", "--token-query=key"]);
        let relay = talkative(&cluster, start, format).await;
        for (name, behaviour) in clusters() {
            cluster.set_behaviour(behaviour);
            for (id, query, header) in ways(&token) {
                let what = format!("{id} before {name}");
                let target = short(&["cat"], "&tty=false") + &query;
                let line = header.as_ref().map(|(name, value)| format!("{name}: {value}\r\n"));
                let answer = relay.ask(&target, &line.unwrap_or_default()).await;
                assert_clean_answer(&what, &answer);
                assert!(answer.status == 101 || name != "honest", "{what}: {answer:?}");

                let headers: Vec<_> =
                    header.iter().map(|(name, it)| (*name, it.as_str())).collect();
                let mut page = relay.browser(&target, &headers).await;
                if name == "honest" {
                    page.bytes(format!("{}\n", secret("typed")).as_bytes()).await;
                    page.until_output(MARK).await;
                    assert_clean_relay(&what, &relay).await;
                    page.leave().await;
                } else {
                    page.ended().await;
                    assert_clean_page(&what, &page);
                }
            }
        }
        assert_clean_relay("the end", &relay).await;
        assert!(relay.logged("session start") >= 8 && relay.logged("session refused") > 20);
    }
}

/// Requests that are refused, whatever the cluster says.
fn refused(token: &str) -> Vec<(&'static str, String)> {
    let target = short(&["true"], "");
    let with = |line: &str| upgrade(&target, &format!("{line}\r\n"));
    let asked = |query: &str| upgrade(&short(&["true"], query), "");
    let authorization = format!("Authorization: Bearer {token}");
    let bearer = subprotocol(token);
    let encoded = bearer.split(", ").nth(1).unwrap();
    let plain = |method: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n\r\n")
    };
    vec![
        ("L2 unknown", with(&format!("Authorization: Bearer {token}x"))),
        ("L2 two", with(&format!("{authorization}\r\n{authorization}"))),
        ("L2 Basic", with(&format!("Authorization: Basic {token}"))),
        ("L2 no scheme", with(&format!("Authorization: {token}"))),
        ("L2 control", with(&format!("{authorization}\u{1}"))),
        ("L2 NUL", with(&format!("{authorization}\0"))),
        ("L2 not base64", with(&format!("Sec-WebSocket-Protocol: podwire.v1, {encoded}!"))),
        ("L2 alone", with(&format!("Sec-WebSocket-Protocol: {encoded}"))),
        ("L2 two", with(&format!("Sec-WebSocket-Protocol: {bearer}, {encoded}"))),
        ("L2 beside unknown", with(&format!("Sec-WebSocket-Protocol: chat, {encoded}"))),
        ("L2 two cookies", with(&format!("Cookie: session={token}; session={token}"))),
        ("L2 cookie no token", with(&format!("Cookie: session={token}\u{e9}"))),
        ("L2 other cookie", with(&format!("Cookie: other={token}"))),
        ("L2 two parameters", asked(&format!("&key={token}&key={token}"))),
        ("L2 parameter no token", asked(&format!("&key={token}%01"))),
        ("L2 not read", asked(&format!("&token={token}&access_token={token}"))),
        ("L2 ticket", asked(&format!("&ticket={token}"))),
        ("L2 referer", with(&format!("Referer: http://localhost/?token={token}"))),
        ("L2 proxy", with(&format!("Proxy-Authorization: Basic {token}"))),
        ("L2 traceparent", with(&format!("Traceparent: {token}"))),
        ("L2 key", upgrade(&target, "").replace(crate::common::KEY, token)),
        ("L2 foreign page", with(&format!("{authorization}\r\nOrigin: https://evil"))),
        ("L2 long", with(&format!("{authorization}\r\nX: {}", token.repeat(5000)))),
        ("L2 no host", with(&authorization).replace("Host: localhost\r\n", "")),
        ("L2 not an upgrade", plain("GET", &target)),
        ("L2 another method", plain("POST", &target)),
        ("L2 nothing there", plain("GET", "/nope")),
        ("L2 a ticket's address", plain("POST", &target.replace("/exec", "/tickets"))),
        ("L2 half a line", format!("GET {target}&key={token}\r\n\r\n")),
    ]
}

#[tokio::test]
async fn requests_that_are_refused() {
    for format in ["text", "json"] {
        let (cluster, token) = marked().await;
        let start = Start::passthrough().and(&["--token-cookie=session", "--token-query=key"]);
        let relay = talkative(&cluster, start, format).await;
        for (id, request) in refused(&token) {
            let Some((answer, _, _)) = exchange(relay.addr(), request.as_bytes()).await else {
                continue;
            };
            assert!(answer.status >= 400, "{id}: {answer:?}");
            assert_clean_answer(id, &answer);
        }
        assert_clean_relay("refused", &relay).await;
        assert!(relay.logged("request refused") > 10, "{}", relay.log());
    }
}

/// What is typed, as bytes on the wire.
fn typed() -> Vec<(&'static str, Vec<u8>)> {
    let word = secret("typed");
    let text = |text: String| raw(0x80 | opcode::TEXT, MASK, text.as_bytes());
    let json = |rest: &str| text(format!("{{\"type\":{rest}"));
    vec![
        ("L2 input", json(&format!("\"input\",\"input\":\"{word}\\n\"}}"))),
        ("L2 half of an input", json(&format!("\"input\",\"input\":\"{word}"))),
        ("L2 an unknown type", json(&format!("\"{word}\"}}"))),
        ("L2 an unknown field", json(&format!("\"input\",\"{word}\":1,\"input\":5}}"))),
        ("L2 a size", json(&format!("\"resize\",\"rows\":\"{word}\",\"cols\":1}}"))),
        ("L2 not base64", json(&format!("\"input\",\"data\":\"{word}!\"}}"))),
        ("L2 no JSON", text(word.clone())),
        ("L2 no JSON again and again", text(word.clone()).repeat(20)),
        ("L2 bytes", raw(0x80 | opcode::BINARY, MASK, word.as_bytes())),
        ("L2 no UTF-8", raw(0x80 | opcode::TEXT, MASK, &[word.as_bytes(), b"\xff"].concat())),
        ("L2 not masked", raw(0x80 | opcode::TEXT, None, word.as_bytes())),
        ("L2 reserved bit", raw(0xc0 | opcode::TEXT, MASK, word.as_bytes())),
        ("L2 ping", raw(0x80 | opcode::PING, MASK, word.as_bytes())),
        ("L2 long", text(word.repeat(60_000))),
        ("L2 half a frame", text(word.clone())[..10].to_vec()),
        ("L2 close", raw(0x80 | opcode::CLOSE, MASK, &[b"\x03\xe8", word.as_bytes()].concat())),
        ("L2 odd close", raw(0x80 | opcode::CLOSE, MASK, &[b"\x03\xed", word.as_bytes()].concat())),
    ]
}

/// What a terminal shows, and how that goes on.
fn shown() -> Vec<(&'static str, Script)> {
    let word = secret("shown");
    let output = [channel(1, word.as_bytes()), channel(2, word.as_bytes())].concat();
    let and = |bytes: &[u8]| Script::after_upgrade([&output, bytes].concat());
    let failure = r#"{"metadata":{},"status":"Failure","reason":"NonZeroExitCode"}"#;
    vec![
        ("L2 no status", and(&close(1000))),
        ("L2 end", and(b"")),
        ("L2 no code", and(&channel(3, failure.as_bytes()))),
        ("L2 text", and(&frame(opcode::TEXT, word.as_bytes()))),
        ("L2 unknown channel", and(&channel(9, word.as_bytes()))),
        ("L2 masked", and(&raw(0x82, MASK, word.as_bytes()))),
        ("L2 reserved bit", and(&raw(0xc2, None, word.as_bytes()))),
        ("L2 ping", and(&frame(opcode::PING, word.as_bytes()))),
        ("L2 half a frame", and(&channel(1, word.as_bytes())[..8])),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_and_shown() {
    for format in ["text", "json"] {
        let cluster = cluster(Behaviour::default()).await;
        let start = Start::flags(&["--hangup-grace=1s"]);
        let relay = talkative(&cluster, start, format).await;
        for dialect in [&[("sec-websocket-protocol", "podwire.v1")][..], &[]] {
            for (id, bytes) in typed() {
                let mut page = relay.browser(&pipes("cat"), dialect).await;
                page.raw(&bytes).await.unwrap();
                if matches!(id, "L2 input" | "L2 bytes") {
                    page.until_output(MARK).await;
                }
                if id != "L2 half a frame" {
                    // The relay may have closed already.
                    let _ = page.raw(&raw(0x80 | opcode::CLOSE, MASK, b"\x03\xe8")).await;
                    while page.close.is_none() && within("a close", page.next()).await {}
                }
                assert_clean_page(id, &page);
                page.abort();
            }
            for (id, script) in shown() {
                cluster.script_next(script);
                let mut page = relay.browser(&pipes(""), dialect).await;
                page.ended().await;
                assert!(page.text().contains(MARK), "{id}");
                assert_clean_page(id, &page);
            }
        }
        relay.until_logged("session end", 2 * (typed().len() + shown().len())).await;
        assert_clean_relay("typed", &relay).await;
    }
}

/// A ticket is as good as the token that it was given for.
#[tokio::test]
async fn tickets_that_are_good_and_tickets_that_are_not() {
    for format in ["text", "json"] {
        let (cluster, token) = marked().await;
        let start = Start { auth: "passthrough,ticket", ..Start::default() };
        let relay = talkative(&cluster, start, format).await;
        let target = pipes("true");
        let ask = async || {
            let tickets = target.replace("/exec", "/tickets");
            let head = format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n");
            let request = format!("POST {tickets} HTTP/1.1\r\n{head}Content-Length: 0\r\n\r\n");
            let answer: Answer = relay.http(request).await.unwrap();
            assert_eq!(answer.status, 201, "{answer:?}");
            assert_clean_answer("L2 ticket", &answer);
            answer.json()["ticket"].as_str().unwrap().to_owned()
        };
        let (good, other) = (ask().await, ask().await);
        let with = |ticket: &str| format!("{target}&ticket={ticket}");
        let elsewhere = short(&["false"], &format!("&ticket={other}"));
        let mut answers = Vec::new();
        for (id, target, status) in [
            ("L2 good", with(&good), 101),
            ("L2 reused", with(&good), 401),
            ("L2 elsewhere", elsewhere, 401),
            ("L2 invented", with(&secret("ticket")), 401),
            ("L2 not read", with(&good).replace("ticket=", "ticket=x&ticket="), 401),
        ] {
            let answer = relay.ask(&target, "").await;
            assert_eq!(answer.status, status, "{id}: {answer:?}");
            assert_clean_answer(id, &answer);
            answers.push(format!("{answer:?}"));
        }
        assert_clean_relay("tickets", &relay).await;
        for ticket in [good, other] {
            assert!(!relay.log().contains(&ticket), "{}", relay.log());
            assert!(answers.iter().all(|answer| !answer.contains(&ticket)));
        }
    }
}

/// Beside the names that a gateway vouches for, a request has what the gateway was shown.
#[tokio::test]
async fn what_a_gateway_passes_on() {
    for format in ["text", "json"] {
        let cluster = cluster(Behaviour::default()).await;
        let flags = ["--trusted-proxy=127.0.0.1", "--headers-preset=oauth2-proxy"];
        let start = Start { auth: "headers", ..Start::flags(&flags) };
        let relay = talkative(&cluster, start, format).await;
        let word = secret("gateway");
        let others = format!(
            "Cookie: _oauth2_proxy={word}\r\nAuthorization: Bearer {word}\r\n\
             X-Forwarded-Access-Token: {word}\r\n"
        );
        for (id, user, status) in [
            ("L2 nobody", "", 401),
            ("L2 empty", "X-Forwarded-User: \r\n", 401),
            ("L2 system", "X-Forwarded-User: system:admin\r\n", 403),
            ("L2 without rights", "X-Forwarded-User: nobody\r\n", 403),
            ("L2 execer", "X-Forwarded-User: execer\r\n", 101),
        ] {
            let answer = relay.ask(&pipes("true"), &format!("{user}{others}")).await;
            assert_eq!(answer.status, status, "{id}: {answer:?}");
            assert_clean_answer(id, &answer);
        }
        assert_clean_relay("gateway", &relay).await;
        let sent: Vec<String> = cluster.requests().iter().map(|it| format!("{it:?}")).collect();
        assert_clean("L2 the cluster", &sent.join("\n"));
    }
}
