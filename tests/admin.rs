//! The operators' port: health, metrics, the list of sessions and the end of one, and who may.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{
    Kind, Start, cluster, folder, operate, pipes, session, short, terminal, upgrade, within,
};
use fake_cluster::{Behaviour, Script, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

const ADMIN: &[&str] = &["--admin-listen", "127.0.0.1:0"];

#[tokio::test]
async fn health_and_metrics_are_there_for_get_and_head_only() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(ADMIN).before(&cluster).await;
    // Not even then, for all replicas would go at once.
    cluster.cut();
    let rows = [
        ("/livez", "text/plain; charset=utf-8"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/readyz?verbose", "text/plain; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/sessions", "application/json"),
    ];
    for (path, content_type) in rows {
        let answer = relay.operate("GET", path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(content_type), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        let head = whole(&relay, "HEAD", path).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{path}: {head}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let answer = relay.operate(method, path).await;
            answer.assert_refusal(405, "bad_request", path);
            assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method} {path}");
        }
    }
    for path in ["/", "/session", "/sessions/", "/exec?namespace=demo&pod=shell", "/metrics/x"] {
        assert!([404, 405].contains(&relay.operate("GET", path).await.status), "{path}");
    }
    // And nothing of it is on the public port.
    for (path, _) in rows {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(relay.http(request).await.unwrap().status, 404, "{path}");
    }
}

/// A response as it stands on the wire.
async fn whole(relay: &common::Relay, method: &str, path: &str) -> String {
    let mut tcp = TcpStream::connect(relay.admin().await).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    within("a response", tcp.read_to_string(&mut text)).await.unwrap();
    text
}

#[tokio::test]
async fn the_list_shows_what_a_session_is_and_moves() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::passthrough().and(ADMIN).before(&cluster).await;
    assert!(relay.sessions().await.is_empty());
    let (token, v1) = (cluster.token("admin"), ("sec-websocket-protocol", "podwire.v1"));
    let bearer = ("authorization", &*format!("Bearer {token}"));
    let mut page = relay.browser(&short(&["cat"], "&tty=false"), &[v1, bearer]).await;
    page.input("hello").await;
    page.until_output("hello").await;
    let sessions = relay.sessions().await;
    let [one] = &*sessions else { panic!("{sessions:?}") };
    let expected = serde_json::json!({
        "id": page.messages[0]["session"], "state": "open", "cluster": "demo",
        "namespace": "demo", "pod": "shell", "container": "main", "tty": false,
        "protocol": "v5.channel.k8s.io", "dialect": "podwire.v1", "input_bytes": 5,
        "output_bytes": 5, "browser_frames": 1,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&one[key], value, "{key} in {one}");
    }
    let remote = page.socket.get_ref().local_addr().unwrap().to_string();
    assert_eq!(one["remote"], remote);
    assert!(one["cluster_frames"].as_u64() >= Some(1), "{one}");
    assert!(one["age_seconds"].as_u64() <= Some(60), "{one}");
    assert!(one["started"].as_str().is_some_and(|it| it.ends_with('Z')), "{one}");
    let user = one["user"].as_str().unwrap();
    assert!(user.starts_with("token:") && user.len() == 14, "{one}");
    assert!(!one.to_string().contains(&token), "{one}");
    // The log says the same, and neither says the token.
    let line = relay.until_logged("session start", 1).await;
    for part in [&format!("user={user}"), &format!("remote={remote}"), "dialect=podwire.v1"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!relay.log().contains(&token));
    page.leave().await;
    relay.until_metric("podwire_sessions_active", 0.0).await;
    assert!(relay.sessions().await.is_empty());
}

#[tokio::test]
async fn an_operator_ends_one_session_and_no_other() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(ADMIN).before(&cluster).await;
    let mut one = relay.v1(&terminal("echo up; sleep 1000")).await;
    let mut other = relay.v1(&pipes("cat")).await;
    one.until_output("up").await;
    let id = one.messages[0]["session"].as_str().unwrap().to_owned();
    for path in [format!("/sessions/{id}x"), "/sessions/".to_owned(), format!("/sessions/{id}/")] {
        relay.operate("DELETE", &path).await.assert_refusal(404, "not_found", &path);
    }
    let path = format!("/sessions/{id}");
    for method in ["GET", "HEAD", "POST"] {
        let answer = whole(&relay, method, &path).await;
        assert!(
            answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: DELETE"),
            "{answer}"
        );
    }
    assert_eq!(relay.operate("DELETE", &path).await.status, 202);
    let (exit, close) = one.exit().await;
    assert_eq!((exit["kind"].as_str(), close.code), (Some("revoked"), 4403));
    assert_eq!(exit["message"], "ended by an operator");
    let line = relay.until_logged("session end", 1).await;
    assert!(line.contains(&format!("session={id}")) && line.contains("kind=revoked"), "{line}");
    assert!(line.contains("process=ended"), "it was hung up: {line}");
    assert_eq!(relay.operate("DELETE", &path).await.status, 404, "it is gone");
    other.input("still\n").await;
    other.until_output("still").await;
    assert!(relay.metric("podwire_hangups_total{result=\"none\"}").await < 1.0);
}

/// The list, and the end of a session that the cluster has not even begun.
#[tokio::test]
async fn a_session_that_is_being_opened_can_be_ended() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(ADMIN).before(&cluster).await;
    for is_page in [false, true] {
        let gate = fake_cluster::Gate::new();
        cluster.script_next(Script::new([Step::Wait(gate.clone()), Step::Honest]));
        let number = cluster.sessions().len();
        let addr = relay.addr();
        let origin = if is_page {
            format!("Origin: http://localhost:{}\r\n", addr.port())
        } else {
            String::new()
        };
        let request = upgrade(&terminal("echo up; sleep 1000"), &origin)
            .replace("Host: localhost", &format!("Host: localhost:{}", addr.port()));
        let waiting = tokio::spawn(async move { common::exchange(addr, request.as_bytes()).await });
        let seen = session(&cluster, number).await;
        let sessions = relay.sessions().await;
        assert_eq!(sessions[0]["state"], "opening", "{sessions:?}");
        let path = format!("/sessions/{}", sessions[0]["id"].as_str().unwrap());
        assert_eq!(relay.operate("DELETE", &path).await.status, 202);
        let (answer, rest, tcp) = waiting.await.unwrap().unwrap();
        if is_page {
            assert_eq!(answer.status, 101);
            let mut page = common::Browser::continued(tcp, rest).await;
            assert_eq!(page.ended().await.code, 4403);
        } else {
            answer.assert_refusal(403, "revoked", "while it is opened");
        }
        // The cluster starts it all the same, so it has its place until it is hung up.
        let sessions = relay.sessions().await;
        assert_eq!(sessions[0]["state"], "hanging_up", "{sessions:?}");
        gate.open();
        let keys = seen.until(|facts| facts.closed.then(|| facts.channel(0))).await;
        assert_eq!(keys[0], 3, "{keys:?}");
        relay.until_metric("podwire_sessions_active", 0.0).await;
    }
    assert_eq!(relay.logged("session start"), 0);
    relay.until_logged("session refused", 2).await;
    assert!((relay.metric("podwire_rejected_total{reason=\"revoked\"}").await - 2.0).abs() < 0.1);
}

#[tokio::test]
async fn pages_and_other_names_get_nothing() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(ADMIN).and(&["--allow-host", "ops.example"]).before(&cluster).await;
    let addr = relay.admin().await;
    let mut page = relay.v1(&pipes("cat")).await;
    page.until("ready", |it| !it.messages.is_empty()).await;
    let path = format!("/sessions/{}", page.messages[0]["session"].as_str().unwrap());
    let port = addr.port();
    for origin in ["https://evil", "null", &relay.url, &format!("https://localhost:{port}")] {
        let origin = format!("Origin: {}\r\n", origin.trim_end_matches('/'));
        for (method, path) in [("DELETE", &*path), ("GET", "/sessions"), ("GET", "/metrics")] {
            let answer = operate(addr, method, path, &origin).await;
            answer.assert_refusal(403, "forbidden", &origin);
        }
    }
    let hosts = [
        ("localhost", 200),
        ("127.0.0.1", 200),
        ("[::1]", 200),
        ("ops.example:9090", 200),
        ("evil", 403),
        ("localhost.evil:9090", 403),
        ("10.0.0.1", 403),
    ];
    for (host, status) in hosts {
        for path in ["/sessions", "/metrics", "/livez"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let (answer, ..) = common::exchange(addr, request.as_bytes()).await.unwrap();
            assert_eq!(answer.status, status, "{host} {path}");
        }
    }
    // A page of the port's own, should there ever be one, may.
    let same = format!(
        "DELETE {path} HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n\r\n"
    );
    assert_eq!(common::exchange(addr, same.as_bytes()).await.unwrap().0.status, 202);
    assert_eq!(page.ended().await.code, 4403);
}

#[tokio::test]
async fn sessions_need_the_token_off_loopback() {
    let cluster = cluster(Behaviour::default()).await;
    let file = folder().join("token");
    std::fs::write(&file, "right-token\n").unwrap();
    let file = file.to_str().unwrap();
    let rows = [("0.0.0.0:0", false), ("0.0.0.0:0", true), ("127.0.0.1:0", true)];
    for (listen, has_token) in rows {
        let token = ["--admin-token-file", file];
        let flags = ["--admin-listen", listen];
        let flags = if has_token { [flags, token].concat() } else { flags.to_vec() };
        let relay = Start::flags(&flags).before(&cluster).await;
        let mut addr = relay.admin().await;
        addr.set_ip([127, 0, 0, 1].into());
        // Health and numbers are for everybody, under any name where probes come from outside.
        for path in ["/livez", "/readyz", "/metrics"] {
            let host = if listen.starts_with("0.") { "10.1.2.3:9090" } else { "localhost" };
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let (answer, ..) = common::exchange(addr, request.as_bytes()).await.unwrap();
            assert_eq!(answer.status, 200, "{flags:?} {path}");
        }
        for brought in ["", "wrong-token", "right-token", "right-tokenx", "right-toke"] {
            let header = match brought {
                "" => String::new(),
                token => format!("Authorization: Bearer {token}\r\n"),
            };
            let sees = has_token && brought == "right-token";
            for (method, path, status) in [
                ("GET", "/sessions", 200),
                ("POST", "/sessions", 405),
                ("DELETE", "/sessions/x", 404),
                ("GET", "/sessions/x", 405),
            ] {
                let answer = operate(addr, method, path, &header).await;
                let expected = if sees { status } else { 404 };
                assert_eq!(answer.status, expected, "{flags:?} {method} {path} {brought}");
                if !sees {
                    let nothing = operate(addr, method, "/nothing", &header).await;
                    assert_eq!(answer.body, nothing.body, "one cannot tell that it is there");
                }
            }
        }
        if has_token {
            let right = "Authorization: Bearer right-token\r\n";
            let twice = right.repeat(2);
            let others = ["Authorization: right-token\r\n", "Authorization: Basic right-token\r\n"];
            for header in [&*twice, others[0], others[1]] {
                assert_eq!(operate(addr, "GET", "/sessions", header).await.status, 404, "{header}");
            }
            let lower = "authorization: bearer right-token\r\n";
            assert_eq!(operate(addr, "GET", "/sessions", lower).await.status, 200);
            // It is rotated, and then gone.
            std::fs::write(file, "next").unwrap();
            assert_eq!(operate(addr, "GET", "/sessions", right).await.status, 404);
            let next = "Authorization: Bearer next\r\n";
            assert_eq!(operate(addr, "GET", "/sessions", next).await.status, 200);
            for nothing in ["", "\n"] {
                std::fs::write(file, nothing).unwrap();
                for header in [next, "", "Authorization: Bearer \r\n"] {
                    assert_eq!(operate(addr, "GET", "/sessions", header).await.status, 404);
                }
            }
            std::fs::write(file, "right-token").unwrap();
        }
        assert!(!relay.log().contains("right-token"), "{}", relay.log());
    }
}

#[test]
fn a_token_that_cannot_be_read_is_found_out_at_the_start() {
    let empty = folder().join("token");
    std::fs::write(&empty, "\n").unwrap();
    for file in [empty.to_str().unwrap(), "/nowhere/token"] {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_podwire"));
        let ended = program.args(["--admin-token-file", file]).env_clear().output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("--admin-token-file {file}")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[tokio::test]
async fn a_unix_socket_counts_as_loopback() {
    let cluster = cluster(Behaviour::default()).await;
    let path = folder().join("admin.sock");
    let listen = format!("unix:{}", path.display());
    let _relay = Start::flags(&["--admin-listen", &listen]).before(&cluster).await;
    for (host, status) in [("localhost", 200), ("evil", 403)] {
        let mut unix = UnixStream::connect(&path).await.unwrap();
        let request =
            format!("GET /sessions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        unix.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        within("a response", unix.read_to_string(&mut text)).await.unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    }
}

/// Numbers before and after some sessions.
#[tokio::test]
async fn metrics_count_what_happened() {
    let cluster = cluster(Kind::V5.behaviour()).await;
    let relay = Start::flags(ADMIN).before(&cluster).await;
    let mut v1 = relay.v1(&pipes("head -c 100000 /dev/zero; read x; exit 3")).await;
    v1.until("the output", |it| it.output.len() == 100_000).await;
    // While it lasts, too.
    let output = "podwire_relay_bytes_total{direction=\"output\"}";
    relay.until_metric(output, 100_000.0).await;
    v1.input("12345\n").await;
    v1.assert_exit("exit", Some(3), 1000, "counted").await;
    relay.seed(&pipes("true")).await.ended().await;
    relay.v1(&pipes("sleep 1000")).await.leave().await;
    // Refused before the 101, for reasons of all kinds, and told to a page inside a WebSocket.
    relay.ask("/exec?namespace=demo&pod=nope", "").await.assert_refusal(404, "not_found", "");
    relay.v1("/exec?namespace=demo&pod=nope").await.ended().await;
    relay.ask("/exec?namespace=demo&pod=shell&cluster=nope", "").await;
    relay.ask(&pipes("true"), "Origin: https://evil\r\n").await;
    let plain = |method: &str| format!("{method} /exec HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(relay.http(plain("GET")).await.unwrap().status, 426);
    assert_eq!(relay.http(plain("POST")).await.unwrap().status, 405);
    relay.until_metric("podwire_sessions_active", 0.0).await;
    let rows = [
        ("podwire_sessions_started_total{dialect=\"podwire.v1\"}", 2),
        ("podwire_sessions_started_total{dialect=\"seed\"}", 1),
        ("podwire_sessions_ended_total{kind=\"exit\"}", 2),
        ("podwire_sessions_ended_total{kind=\"browser_closed\"}", 1),
        ("podwire_sessions_ended_total{kind=\"not_found\"}", 0),
        ("podwire_rejected_total{reason=\"not_found\"}", 3),
        ("podwire_rejected_total{reason=\"forbidden\"}", 1),
        ("podwire_rejected_total{reason=\"not_upgrade\"}", 1),
        ("podwire_rejected_total{reason=\"method\"}", 1),
        ("podwire_rejected_total{reason=\"internal\"}", 0),
        ("podwire_session_duration_seconds_count", 3),
        ("podwire_connect_seconds_count", 3),
        ("podwire_connect_seconds_bucket{le=\"+Inf\"}", 3),
        ("podwire_hangups_total{result=\"none\"}", 2),
        (output, 100_000),
        ("podwire_relay_bytes_total{direction=\"input\"}", 6),
        ("podwire_panics_total", 0),
        ("podwire_draining", 0),
    ];
    for (name, value) in rows {
        let is = relay.metric(name).await;
        assert!((is - f64::from(value)).abs() < 0.1, "{name} {is}");
    }
    assert!(relay.metric("podwire_relay_frames_total{direction=\"output\"}").await >= 4.0);
    assert!(relay.metric("podwire_paused_seconds_total{leg=\"cluster\"}").await >= 0.0);
    let rss = relay.metric("process_resident_memory_bytes").await;
    assert!(rss > 1e6, "{rss}");
    let text = String::from_utf8(relay.operate("GET", "/metrics").await.body).unwrap();
    assert!(text.contains("podwire_build_info{version=\"0.1.0\",revision="), "{text}");
    for word in ["shell", "demo", "main", "127.0.0.1", "nope"] {
        assert!(!text.contains(&format!("\"{word}\"")), "{word} in {text}");
    }
}
