//! Which settings about access do not start, and what is said about them: C1, C3, C4.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::process::{Command, Output};

fn podwire(flags: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwire"));
    command.args(flags.split_whitespace()).args(more).env_clear().output().unwrap()
}

/// Asserts of each row that the program ends with code 2 and one line with these words.
fn assert_refused(rows: &[(&str, &str, &str)]) {
    for (id, flags, words) in rows {
        let output = podwire(flags, &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{id}: {said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{id}: {said}");
        assert!(said.starts_with("podwire: ") && output.stdout.is_empty(), "{id}: {said}");
    }
}

#[test]
fn what_would_open_a_door_does_not_start() {
    assert_refused(&[
        ("C1 any address", "--auth own --listen 0.0.0.0:0", "--insecure-allow-anonymous"),
        ("C1 any IPv6", "--auth own --listen [::]:0", "--insecure-allow-anonymous"),
        ("C1 a network", "--auth own --listen 10.0.0.1:0", "--insecure-allow-anonymous"),
        ("C1 ticket", "--auth own,ticket --listen 0.0.0.0:0", "--insecure-allow-anonymous"),
        ("C1 no word", "--auth own --listen [::]:0 --insecure-allow-anonymous=false", "loopback"),
        ("C1 mapped", "--auth own --listen [::ffff:127.0.0.1]:0", "--insecure-allow-anonymous"),
        ("C1 nobody", "--auth none", "passthrough, own, headers or hook"),
        ("C1 nothing", "--auth= --listen 0.0.0.0:0", "passthrough, own, headers or hook"),
        ("C1 two modes", "--auth passthrough,own", "passthrough, own, headers or hook"),
        ("C1 ticket alone", "--auth ticket", "ticket needs a mode"),
        ("C3 no proxy", "--auth headers --user-header X-User", "from a --trusted-proxy only"),
        (
            "C3 empty list",
            "--auth headers --user-header X-User --trusted-proxy ,",
            "--trusted-proxy only",
        ),
        (
            "C3 everybody",
            "--auth headers --user-header X-User --trusted-proxy 0.0.0.0/0",
            "--trusted-proxy 0.0.0.0/0 lets everybody",
        ),
        (
            "C3 everybody, IPv6",
            "--auth headers --user-header X-User --trusted-proxy 10.0.0.7,::/0",
            "--trusted-proxy ::/0 lets everybody",
        ),
        (
            "C3 two halves",
            "--auth headers --user-header X-User --trusted-proxy 0.0.0.0/1,128.0.0.0/1",
            "--trusted-proxy 0.0.0.0/0 lets everybody",
        ),
        (
            "C3 the public part",
            "--auth headers --user-header X-User --trusted-proxy 2000::/3",
            "lets everybody",
        ),
        (
            "C3 a socket nobody has",
            "--auth headers --user-header X-User --trusted-proxy unix",
            "no --trusted-proxy can connect",
        ),
        (
            "C3 a network at a socket",
            "--auth headers --user-header X-User --trusted-proxy ::1 --listen unix:/nowhere/x",
            "over a Unix socket it is unix",
        ),
        ("C3 nonsense", "--auth headers --trusted-proxy gateway", "not a network such as"),
    ]);
}

#[test]
fn what_would_have_no_effect_or_another_one_does_not_start() {
    assert_refused(&[
        ("C4 no name", "--auth headers --trusted-proxy 10.0.0.7", "needs --user-header, or a"),
        ("C4 what to type", "--auth headers", "type --headers-preset=oauth2-proxy, or --user-h"),
        ("a pattern", "--allow-exec-plugin *", "such as --allow-exec-plugin=aws,kubelogin"),
        (
            "C4 groups alone",
            "--auth headers --trusted-proxy 10.0.0.7 --groups-header X-Groups",
            "needs --user-header, or a",
        ),
        (
            "C4 the same",
            "--auth headers --trusted-proxy 10.0.0.7 --user-header X-A --groups-header x-a",
            "must differ",
        ),
        (
            "C4 a secret",
            "--auth headers --trusted-proxy 10.0.0.7 --user-header Authorization",
            "--user-header authorization holds a secret",
        ),
        (
            "C4 a token",
            "--auth headers --trusted-proxy 10.0.0.7 --headers-preset oauth2-proxy \
             --groups-header X-Forwarded-Access-Token",
            "--groups-header x-forwarded-access-token holds a secret",
        ),
        ("C4 no header", "--auth headers --user-header X:User", "not a name such as"),
        ("C4 preset", "--auth headers --headers-preset nginx", "oauth2-proxy, auth-request or"),
        ("C4 elsewhere", "--user-header X-User", "is for --auth headers, and this is passthrough"),
        ("C4 preset elsewhere", "--auth own --headers-preset remote-user", "for --auth headers"),
        (
            "C4 groups elsewhere",
            "--groups-header X-Groups",
            "--groups-header is for --auth headers",
        ),
        ("hook, no URL", "--auth hook", "needs --authorize-url"),
        ("hook, elsewhere", "--authorize-url http://127.0.0.1:1/", "is for --auth hook"),
        ("hook, no TLS", "--auth hook --authorize-url http://x/ --authorize-ca f", "with https"),
        ("cookie elsewhere", "--auth own --token-cookie t", "is for --auth passthrough"),
        ("query elsewhere", "--auth own --token-query t", "is for --auth passthrough"),
        ("cookie, no name", "--token-cookie a=b", "--token-cookie a=b: not a name"),
        ("query, no name", "--token-query a=b", "--token-query a=b: not a name"),
        ("query, taken", "--token-query pod", "this parameter means something else"),
        ("query, ticket's", "--token-query ticket", "this parameter means something else"),
        ("any origin", "--allow-origin *", "not an origin such as"),
        ("no origin", "--allow-origin null", "not an origin such as"),
        ("part of an origin", "--allow-origin https://*.example", "not an origin such as"),
        ("half an origin", "--allow-origin console.example", "not an origin such as"),
        ("any host", "--allow-host *", "not a host such as"),
        ("no public URL", "--public-url term.example", "not an origin such as"),
        ("another scheme", "--public-url ws://term.example", "not an origin such as"),
    ]);
}

#[test]
fn what_opens_none_is_accepted() {
    let rows = [
        ("C1 loopback", "--auth own --listen 127.0.0.2:0"),
        ("C1 IPv6 loopback", "--auth own --listen [::1]:0"),
        ("C1 a socket", "--auth own --listen unix:/nowhere/x"),
        ("C1 at your own risk", "--auth own --listen 0.0.0.0:0 --insecure-allow-anonymous"),
        ("C1 a token", "--listen 0.0.0.0:0"),
        ("C1 a token, tickets", "--auth passthrough,ticket --listen 0.0.0.0:0"),
        ("C3 one", "--auth headers --headers-preset auth-request --trusted-proxy 10.0.0.7"),
        (
            "C3 large",
            "--auth headers --headers-preset remote-user --trusted-proxy 10.0.0.0/8,fc00::/7",
        ),
        (
            "C3 a socket",
            "--auth headers --headers-preset oauth2-proxy --trusted-proxy unix \
             --listen unix:/nowhere/x",
        ),
        ("C3 everybody, for the log only", "--trusted-proxy 0.0.0.0/0,::/0"),
        ("C4 names", "--auth headers --user-header X-U --groups-header X-G --trusted-proxy ::1"),
        ("four ways", "--token-cookie __Host-token --token-query access_token"),
        ("a path", "--public-url https://term.example:8443/terminal/"),
    ];
    for (id, flags) in rows {
        let output = podwire(flags, &["--print-config"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{id}: {said}");
        assert!(said.is_empty(), "{id}: {said}");
    }
}
