//! What an address may ask for: names and parameters that are refused before anything is dialled,
//! places that are not read, and the address that an API server gets.
//!
//! One row for each input; the ids are those of the project's list of bad inputs (U1 to U18). U19
//! is in `tickets.rs`, U20 in `hook.rs`.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Kind, Relay, Start, both, session, short, terminal};
use podwire::hyper::Uri;

const DEMO: &str = "/exec?namespace=demo&pod=shell";
const PATH: &str = "/api/v1/namespaces/demo/pods/shell";

fn long_form(namespace: &str, pod: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{pod}/exec?command=true&stdout=true")
}

async fn refused(relay: &Relay, id: &str, target: &str, status: u16) {
    let kind = if status == 404 { "not_found" } else { "bad_request" };
    let what = format!("{id}: {target}");
    relay.ask(target, "").await.assert_refusal(status, kind, &what);
}

/// In the path and in the query; a slash that is not encoded makes it another path.
#[tokio::test]
async fn what_is_no_name_is_refused_before_anything_is_dialled() {
    let (cluster, relay) = both(Kind::V5).await;
    let (label, subdomain) = ("a".repeat(64), "a".repeat(254));
    let rows = [
        ("U1", ".."),
        ("U1", "."),
        ("U1", "../../nodes"),
        ("U1", "a/b"),
        ("U2", "%2e%2e"),
        ("U2", "%2E%2E%2F"),
        ("U2", "%252e"),
        ("U3 slash", "a%2Fexec"),
        ("U3 query", "a%3Fx=1"),
        ("U3 fragment", "a%23f"),
        ("U3 semicolon", "a;b"),
        ("U3 space", "a%20b"),
        ("U3 line", "a%0d%0aX:%20y"),
        ("U4 upper case", "A"),
        ("U4 underscore", "a_b"),
        ("U4 hyphen first", "-a"),
        ("U4 hyphen last", "a-"),
        ("U4 dot first", ".a"),
        ("U4 dot last", "a."),
        ("U4 two dots", "a..b"),
        ("U4 empty", ""),
        ("U4 NUL", "%00"),
        ("U4 254", &subdomain),
        ("U5 no UTF-8", "%ff"),
        ("U5 another a", "%D0%B0"),
        ("U5 IDNA", "xn--%C3%A9"),
        ("U5 right to left", "%E2%80%AEa"),
    ];
    for (id, name) in rows {
        refused(&relay, id, &format!("/exec?namespace={name}&pod=shell"), 400).await;
        refused(&relay, id, &format!("/exec?namespace=demo&pod={name}"), 400).await;
        if !name.is_empty() {
            refused(&relay, id, &format!("{DEMO}&container={name}"), 400).await;
        }
        let status = if name.contains('/') { 404 } else { 400 };
        refused(&relay, id, &long_form(name, "shell"), status).await;
        refused(&relay, id, &long_form("demo", name), status).await;
    }
    // A namespace and a container are one label, a pod may be several.
    refused(&relay, "U4 label", &format!("/exec?namespace={label}&pod=shell"), 400).await;
    refused(&relay, "U4 label", &format!("{DEMO}&container={label}"), 400).await;
    refused(&relay, "U3 query", "/api/v1/namespaces/demo/pods/a?x=1/exec", 404).await;
    refused(&relay, "U6 upper case", &format!("{DEMO}&container=Main"), 400).await;
    assert_eq!(cluster.connections(), 0, "nothing was dialled");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_dialled() {
    let (cluster, relay) = both(Kind::V5).await;
    let rows: &[(&str, String, u16)] = &[
        ("missing", "/exec?pod=shell".into(), 400),
        ("missing", "/exec?namespace=demo".into(), 400),
        // Twice, under any of its names, even with the same value.
        ("U7", format!("{DEMO}&namespace=demo"), 400),
        ("U7 other", format!("{DEMO}&namespace=other"), 400),
        ("U7 alias", format!("{DEMO}&ns=demo"), 400),
        ("U7 alias", format!("{DEMO}&podName=shell"), 400),
        ("U7 alias", format!("{DEMO}&name=shell"), 400),
        ("U7 alias", format!("{DEMO}&container=main&containerName=main"), 400),
        ("U7 tty", format!("{DEMO}&tty=true&tty=true"), 400),
        ("U7 size", format!("{DEMO}&cols=80&cols=80"), 400),
        ("U7 dialect", format!("{DEMO}&proto=seed&proto=seed"), 400),
        ("U7 path", format!("{PATH}/exec?command=a&stdout=1&container=main&container=side"), 400),
        ("no such dialect", format!("{DEMO}&proto=nope"), 400),
        ("U9 yes", format!("{DEMO}&tty=yes"), 400),
        ("U9 2", format!("{DEMO}&stdin=2"), 400),
        ("U9 on", format!("{PATH}/exec?command=a&stdout=on"), 400),
        ("no stream", format!("{DEMO}&stdin=false&stdout=false&stderr=false&tty=false"), 400),
        ("no stream", format!("{PATH}/exec?command=a"), 400),
        ("U11 NUL", format!("{DEMO}&command=a%00b"), 400),
        ("U11 no UTF-8", format!("{DEMO}&command=a%FFb"), 400),
        ("U12 two slashes", "//exec?namespace=demo&pod=shell".into(), 404),
        ("U12 slash last", "/exec/?namespace=demo&pod=shell".into(), 404),
        ("U12 slashes last", "/exec//".into(), 404),
        ("U12 nothing such", "/nope".into(), 404),
        ("U12 more", format!("{PATH}/exec/x?command=a"), 404),
        ("U12 another verb", format!("{PATH}/log?command=a"), 404),
        ("U12 less", "/api/v1/namespaces/demo/pods/exec".into(), 404),
        ("U12 1000", format!("/{}", "a/".repeat(1000)), 404),
        ("U12 no cluster", format!("/clusters{PATH}/exec?command=a"), 404),
        ("U12 twice", format!("{PATH}{PATH}/exec?command=a"), 404),
        ("U14", format!("{DEMO}&shell=%2Fbin%2Fsh%3Bid"), 400),
        ("U14", format!("{DEMO}&shell=..%2F..%2Fx"), 400),
        ("U14 not listed", format!("{DEMO}&shell=zsh"), 400),
        ("U17 url", format!("{DEMO}&cluster=http:%2F%2F169.254.169.254"), 404),
        ("U17 address", format!("{DEMO}&cluster=127.0.0.1:6443"), 404),
        ("U17 path", format!("/clusters/169.254.169.254{PATH}/exec?command=a&stdout=1"), 404),
        ("U18 unknown", format!("/clusters/nope{PATH}/exec?command=a&stdout=1"), 404),
        ("U18 dots", format!("/clusters/%2e%2e{PATH}/exec?command=a&stdout=1"), 404),
        ("U18 case", format!("{DEMO}&cluster=DEMO"), 404),
    ];
    for (id, target, status) in rows {
        refused(&relay, id, target, *status).await;
    }
    // U18: nobody learns which clusters there are besides those that may be named.
    let mut words = Vec::new();
    for (id, name) in [("U18 unknown", "nope"), ("U18 not allowed", "demo-nobody")] {
        let answer = relay.ask(&format!("{DEMO}&cluster={name}"), "").await;
        answer.assert_refusal(404, "not_found", id);
        words.push(answer.json()["message"].as_str().unwrap().replace(name, ""));
    }
    assert_eq!(words[0], words[1]);
    assert_eq!(cluster.connections(), 0, "nothing was dialled");
}

/// A command travels in the address, and an address in the head of a request.
#[tokio::test]
async fn a_command_has_room_where_its_address_has() {
    let (cluster, relay) = both(Kind::V5).await;
    let of = |len: usize| format!("{DEMO}&container=main&command={}", "a".repeat(len));
    // The limits of a head and of a command are the same, and either may notice first.
    let rows: [(&str, usize, &[u16]); 3] = [
        ("U11 33 KiB", 33 << 10, &[400, 431]),
        ("U11 128 KiB", 128 << 10, &[431]),
        ("U11 20 000", 20_000, &[101]),
    ];
    for (id, len, statuses) in rows {
        let status = relay.ask(&of(len), "").await.status;
        assert!(statuses.contains(&status), "{id}: {status}");
    }
    // Three times as long when it is escaped for the cluster.
    let escaped = format!("{DEMO}&container=main&command={}", "/".repeat(25_000));
    relay.ask(&escaped, "").await.assert_refusal(400, "bad_request", "U11 25 000 slashes");
    assert_eq!(cluster.connections(), 1, "nothing else was dialled");
}

#[tokio::test]
async fn places_that_are_not_read_name_nothing() {
    let (cluster, relay) = both(Kind::V5).await;
    let rows = [
        ("U13 referer", "/exec", "Referer: http://localhost/exec?namespace=demo&pod=shell\r\n"),
        ("U13 cookie", "/exec", "Cookie: namespace=demo; pod=shell\r\n"),
        ("U13 header", "/exec", "Namespace: demo\r\nPod: shell\r\n"),
        ("U13 fragment", "/exec#?namespace=demo&pod=shell", ""),
    ];
    for (id, target, headers) in rows {
        relay.ask(target, headers).await.assert_refusal(400, "bad_request", id);
    }
    let strict = Start::flags(&["--no-command"]).before(&cluster).await;
    let answer = strict.ask(&short(&["id"], ""), "").await;
    answer.assert_refusal(403, "forbidden", "U15");
    let passthrough = Start::passthrough().before(&cluster).await;
    let token = cluster.token("admin");
    for (id, name) in [("U16", "token"), ("U16", "access_token"), ("U16", "ticket")] {
        let target = short(&["id"], &format!("&{name}={token}"));
        passthrough.ask(&target, "").await.assert_refusal(401, "unauthorized", id);
        assert!(!passthrough.log().contains(&token), "{id}: {name}");
    }
    assert_eq!(cluster.connections(), 0, "nothing was dialled");
}

/// The query is built from checked parts, and strictly.
#[tokio::test]
async fn the_address_at_the_cluster_is_built_anew() {
    let (cluster, relay) = both(Kind::V5).await;
    let tty = "&stdin=true&stdout=true&tty=true";
    let pipes = "&stdin=true&stdout=true&stderr=true";
    let simple = "command=a&container=main";
    let long = format!("{PATH}/exec?command=a&container=main&stdout=true");
    let escaped = "/clusters/demo/api/v1/namespaces/%64emo/pods/sh%65ll/exec?command=a";
    let rows = [
        (
            "U11 odd characters",
            short(&["a+b&c=d%e;f g\nh\u{e4}"], ""),
            "command=a%2Bb%26c%3Dd%25e%3Bf%20g%0Ah%C3%A4&container=main",
            tty,
        ),
        (
            "U8 dryRun",
            short(&["sh", "-c", "-"], "&dryRun=All&stdin=1&x=y&kubectl=1"),
            "command=sh&command=-c&command=-&container=main",
            tty,
        ),
        ("U9 0", short(&["a"], "&tty=0"), simple, pipes),
        ("U9 FALSE", short(&["a"], "&tty=FALSE&stdin=0&stderr=false"), simple, "&stdout=true"),
        ("U9 empty", short(&["a"], "&tty="), simple, tty),
        ("tty without stderr", short(&["a"], "&stderr=true"), simple, tty),
        ("U8 token", short(&["~._-"], "&token=secret"), "command=~._-&container=main", tty),
        ("U11 empty word", short(&["", "a"], ""), "command=&command=a&container=main", tty),
        (
            "U11 spaces",
            "/exec?ns=demo&name=shell&containerName=side&command=a%20b&command=a+b".to_owned(),
            "command=a%20b&command=a%20b&container=side",
            tty,
        ),
        ("U8 path", format!("{long}&x=%zz&stderr=1"), simple, "&stdout=true&stderr=true"),
        (
            "decoded once",
            format!("{escaped}&container=main&tty=1&stdout=1&stderr=1"),
            simple,
            "&stdout=true&tty=true",
        ),
        ("U7 command", short(&["a", "a"], ""), "command=a&command=a&container=main", tty),
        // Absent: the cluster refuses this one, and the next names the container that was chosen.
        ("U6 empty", format!("{DEMO}&command=a&container="), "command=a", tty),
    ];
    for (number, (id, target, head, tail)) in rows.into_iter().enumerate() {
        assert_eq!(relay.ask(&target, "").await.status, 101, "{id}: {target}");
        let seen = session(&cluster, number).await;
        assert_eq!(seen.request().path(), format!("{PATH}/exec"), "{id}: {target}");
        assert_eq!(seen.request().query(), format!("{head}{tail}"), "{id}: {target}");
        assert!(seen.request().target.parse::<Uri>().is_ok());
    }
}

/// The first size is clamped, and nonsense counts as not given.
#[tokio::test]
async fn the_first_size_is_one_that_a_cluster_can_take() {
    let (cluster, relay) = both(Kind::V5).await;
    let rows = [
        ("U10", "&cols=100&rows=30", (100, 30)),
        ("U10 large", "&cols=99999&rows=70000", (65535, 65535)),
        ("U10 20 digits", "&cols=18446744073709551616&rows=1", (65535, 1)),
        ("U10 none", "", (80, 24)),
        ("U10 negative", "&cols=-1&rows=30", (80, 24)),
        ("U10 zero", "&cols=0&rows=30", (80, 24)),
        ("U10 exponent", "&cols=1e3&rows=30", (80, 24)),
        ("U10 empty", "&cols=&rows=", (80, 24)),
    ];
    for (number, (id, size, (cols, rows))) in rows.into_iter().enumerate() {
        assert_eq!(relay.ask(&(terminal("read x") + size), "").await.status, 101, "{id}");
        let seen = session(&cluster, number).await;
        let sized = seen.until(|facts| facts.frames.first().cloned());
        let frame = common::within("a size", sized).await;
        let wanted = format!("\u{4}{{\"Width\":{cols},\"Height\":{rows}}}");
        assert_eq!(&*frame.payload, wanted.as_bytes(), "{id}: {size}");
    }
}
