//! `--auth passthrough`: whoever brings a token has the token's rights, by four ways to bring it.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{Relay, Start, cluster, short};
use fake_cluster::Behaviour;

/// What a page sends besides what every page sends.
type Headers<'a> = &'a [(&'static str, &'a str)];

/// The subprotocol in which browsers bring a token.
fn bearer(token: &str) -> String {
    format!("base64url.bearer.authorization.k8s.io.{}", URL_SAFE_NO_PAD.encode(token))
}

fn offer(token: &str) -> String {
    format!("Sec-WebSocket-Protocol: podwire.v1, {}\r\n", bearer(token))
}

fn authorization(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A relay that takes a token in each of the four ways.
fn four_ways() -> Start {
    Start::passthrough().and(&["--token-cookie=tok", "--token-query=t"])
}

async fn assert_rows(relay: &Relay, rows: &[(&str, String, String, u16)]) {
    for (id, query, headers, status) in rows {
        let answer = relay.ask(&short(&["true"], query), headers).await;
        assert_eq!(answer.status, *status, "{id}: {answer:?}");
        if *status == 401 {
            answer.assert_refusal(401, "unauthorized", id);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{id}");
        }
    }
}

/// Each user has their own rights, whichever way the token comes, and nobody else's.
#[tokio::test]
async fn a_token_has_its_own_rights_by_every_way() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = four_ways().before(&cluster).await;
    let origin = relay.url.trim_end_matches('/').to_owned();
    for user in ["admin", "execer", "nobody"] {
        let token = cluster.token(user);
        let protocols = format!("podwire.v1, {}", bearer(&token));
        let (value, cookie) = (format!("Bearer {token}"), format!("a=b; tok={token}"));
        let query = format!("&t={token}");
        let v1 = ("sec-websocket-protocol", "podwire.v1");
        let ways: [(&str, &str, Headers<'_>); 4] = [
            ("header", "", &[v1, ("authorization", &value)]),
            ("subprotocol", "", &[("sec-websocket-protocol", &protocols)]),
            ("cookie", "", &[v1, ("cookie", &cookie)]),
            ("query", &query, &[v1]),
        ];
        for (way, query, headers) in ways {
            let what = format!("{user} by {way}");
            let target = short(&["sh", "-c", "exit 3"], query);
            let mut page = relay.browser(&target, headers).await;
            match user {
                "nobody" => page.assert_exit("forbidden", None, 4403, &what).await,
                _ => page.assert_exit("exit", Some(3), 1000, &what).await,
            }
            // Whoever can read a status gets it.
            let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
            let lines: String = lines.collect();
            let status = if user == "nobody" { 403 } else { 101 };
            assert_eq!(relay.ask(&target, &lines).await.status, status, "{what}");
            let lines = lines + "origin: " + &origin + "\r\n";
            let status = relay.ask(&target, &lines.replace(&origin, "https://evil")).await.status;
            let status_there = if ["header", "cookie"].contains(&way) { 403 } else { 101 };
            assert_eq!(status, status_there, "{what} from elsewhere");
        }
        let known = format!("Bearer {token}");
        let used = cluster.requests();
        assert!(used.iter().any(|it| it.header("authorization") == Some(&known)), "{user}");
        for form in [token.clone(), URL_SAFE_NO_PAD.encode(&token)] {
            assert!(!relay.log().contains(&form), "{}", relay.log());
        }
    }
    let known = ["admin", "execer", "nobody"].map(|user| format!("Bearer {}", cluster.token(user)));
    for request in cluster.requests() {
        let token = request.header("authorization").unwrap().to_owned();
        assert!(known.contains(&token), "the kubeconfig's own is never used: {request:?}");
        assert_eq!(request.header("cookie"), None);
        assert!(!request.target.contains(&token[7..]), "{}", request.target);
    }
}

/// RFC 6265: which cookie holds the token, and what is none.
#[tokio::test]
async fn a_cookie_may_hold_the_token() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = four_ways().before(&cluster).await;
    let token = cluster.token("admin");
    let cookie = |value: &str| format!("Cookie: {value}\r\n");
    let none = String::new;
    let rows = [
        ("alone", none(), cookie(&format!("tok={token}")), 101),
        ("among others", none(), cookie(&format!("a=b; tok={token}; tok2=x; xtok=y")), 101),
        ("without spaces", none(), cookie(&format!("a=b;tok={token};c")), 101),
        ("in quotes", none(), cookie(&format!("tok=\"{token}\"")), 101),
        ("beside a strange one", none(), cookie(&format!("a=\u{f6}; tok={token}")), 101),
        ("in two lines", none(), cookie("a=b") + &cookie(&format!("tok={token}")), 101),
        ("name in upper case", none(), cookie(&format!("TOK={token}")), 401),
        ("longer name", none(), cookie(&format!("xtok={token}")), 401),
        ("shorter name", none(), cookie(&format!("to={token}")), 401),
        ("name alone", none(), cookie("tok"), 401),
        ("empty", none(), cookie("tok="), 401),
        ("empty in quotes", none(), cookie("tok=\"\""), 401),
        ("empty and a header", none(), cookie("tok=") + &authorization(&token), 101),
        ("not text", none(), cookie("tok=\u{202e}\u{1f600}"), 401),
        ("two", none(), cookie(&format!("tok={token}; tok={token}")), 401),
        ("two lines", none(), cookie(&format!("tok={token}")).repeat(2), 401),
        ("two, one empty", none(), cookie(&format!("tok=; tok={token}")), 401),
    ];
    assert_rows(&relay, &rows).await;
    let without = Start::passthrough().before(&cluster).await;
    let rows = [
        ("U13 cookie that is not read", none(), cookie(&format!("tok={token}")), 401),
        ("U13 cookie beside a header", none(), cookie("tok=x") + &authorization(&token), 101),
    ];
    assert_rows(&without, &rows).await;
}

/// A token in two ways is one token, or none.
#[tokio::test]
async fn two_different_tokens_are_refused() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = four_ways().before(&cluster).await;
    let (one, two) = (cluster.token("admin"), cluster.token("execer"));
    let cookie = |token: &str| format!("Cookie: tok={token}\r\n");
    let query = |token: &str| format!("&t={token}");
    let none = String::new;
    let v1 = "Sec-WebSocket-Protocol: podwire.v1\r\n";
    let rows = [
        ("header and subprotocol", none(), authorization(&one) + &offer(&two), 401),
        ("header and cookie", none(), authorization(&one) + &cookie(&two), 401),
        ("header and query", query(&two), authorization(&one), 401),
        ("subprotocol and cookie", none(), offer(&one) + &cookie(&two), 401),
        ("subprotocol and query", query(&two), offer(&one), 401),
        ("cookie and query", query(&two), cookie(&one), 401),
        ("all but one the same", query(&one), authorization(&one) + &cookie(&two), 401),
        ("all the same", query(&one), authorization(&one) + &cookie(&one) + &offer(&one), 101),
        ("two of the same header", none(), authorization(&one).repeat(2), 401),
        ("two of the same parameter", query(&one).repeat(2), none(), 401),
        ("another scheme is no token", none(), cookie(&one) + "Authorization: Basic YTpi\r\n", 101),
        ("H14 two", none(), offer(&one) + &offer(&one), 401),
        (
            "H14 alone",
            none(),
            format!("Sec-WebSocket-Protocol: {}\r\n", bearer(&one)) + &authorization(&one),
            401,
        ),
        ("H14 bad, and a good header", none(), offer("") + &authorization(&one), 401),
        ("a parameter that is no token", query("%0a"), none(), 401),
        ("a query that cannot be read", "&t=%ff".to_owned(), v1.to_owned(), 401),
        ("a query that cannot be read, with a token", "&t=%ff".to_owned(), offer(&one), 400),
    ];
    assert_rows(&relay, &rows).await;
    let message = relay.ask(&short(&["true"], &query(&two)), &cookie(&one)).await.json();
    assert_eq!(message["message"], "the request has two different tokens; bring one");
    assert!(!relay.log().contains(&one) && !relay.log().contains(&two), "{}", relay.log());
}

/// U13, U16: where a token is not read; the four ways are named in its place.
#[tokio::test]
async fn a_token_elsewhere_is_not_read_and_the_caller_is_told_where_it_is() {
    let cluster = cluster(Behaviour::default()).await;
    let token = cluster.token("admin");
    let plain = Start::passthrough().before(&cluster).await;
    let referer = format!("Referer: http://localhost/exec?t={token}&token={token}\r\n");
    let rows = [
        ("U13 Referer", "", referer.clone(), false),
        ("U13 another header", "", format!("X-Forwarded-Access-Token: {token}\r\n"), false),
        ("U13 fragment", "#token=TOKEN", String::new(), false),
        ("U16 token", "&token=TOKEN", String::new(), true),
        ("U16 access_token", "&access_token=TOKEN", String::new(), true),
        ("U16 escaped", "&%74oken=TOKEN", String::new(), true),
        ("U16 twice", "&token=TOKEN&token=TOKEN", String::new(), true),
        ("U16 empty", "&token=", String::new(), false),
    ];
    for (id, query, headers, is_in_address) in rows {
        let target = short(&["true"], &query.replace("TOKEN", &token));
        let answer = plain.ask(&target, &headers).await;
        answer.assert_refusal(401, "unauthorized", id);
        let json = answer.json();
        let message = json["message"].as_str().unwrap();
        for way in [
            "in the Authorization header",
            "as the subprotocol base64url.bearer.authorization.k8s.io.TOKEN",
            "in a cookie (not read without --token-cookie)",
            "in a parameter (not read without --token-query)",
        ] {
            assert!(message.contains(way), "{id}: {message}");
        }
        let said = message.ends_with("; the one in the address was not read");
        assert_eq!(said, is_in_address, "{id}: {message}");
        assert!(!message.contains(&token), "{id}: {message}");
    }
    // Who has a token all the same is let in, and somebody should know.
    let target = short(&["true"], &format!("&token={token}"));
    assert_eq!(plain.ask(&target, &authorization(&token)).await.status, 101);
    let line = plain.until_logged("a token in the address of a request was not read", 1).await;
    assert!(line.contains(" warn ") && line.contains(" remote=127.0.0.1:"), "{line}");

    let ways = four_ways().before(&cluster).await;
    let answer = ways.ask(&short(&["true"], ""), &referer).await;
    answer.assert_refusal(401, "unauthorized", "U13 Referer");
    let json = answer.json();
    let message = json["message"].as_str().unwrap();
    assert!(message.ends_with("in the cookie tok or in the parameter t"), "{message}");
    let line = ways.until_logged("tokens are read from addresses", 1).await;
    assert!(line.contains(" warn ") && line.ends_with(" parameter=t"), "{line}");
    assert_eq!(ways.ask(&short(&["true"], &format!("&t={token}")), "").await.status, 101);
    assert_eq!(ways.logged("was not read"), 0, "{}", ways.log());
    for relay in [&plain, &ways] {
        assert!(!relay.log().contains(&token), "{}", relay.log());
    }
    let never = Start::passthrough().before(&cluster).await;
    never.until_logged(" start version=", 1).await;
    assert_eq!(never.logged("tokens are read from addresses"), 0);
}

/// `--auth own`: everybody has the rights of the kubeconfig's own user, whatever they bring.
#[tokio::test]
async fn under_own_every_caller_has_the_relays_rights() {
    let cluster = cluster(Behaviour::default()).await;
    for (user, context) in [("admin", "demo"), ("execer", "demo-execer"), ("nobody", "demo-nobody")]
    {
        let relay = Start::flags(&["--context", context]).before(&cluster).await;
        let seen = cluster.requests().len();
        let offer = format!("podwire.v1, {}", bearer("wrong"));
        for headers in [
            vec![("sec-websocket-protocol", "podwire.v1")],
            vec![("sec-websocket-protocol", &*offer), ("authorization", "Bearer wrong")],
        ] {
            let mut page = relay.browser(&short(&["sh", "-c", "exit 3"], ""), &headers).await;
            match user {
                "nobody" => page.assert_exit("forbidden", None, 4403, user).await,
                _ => page.assert_exit("exit", Some(3), 1000, user).await,
            }
        }
        let own = format!("Bearer {}", cluster.token(user));
        for request in &cluster.requests()[seen..] {
            assert_eq!(request.header("authorization"), Some(&*own), "{request:?}");
        }
    }
}
