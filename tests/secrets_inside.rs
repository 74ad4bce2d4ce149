//! Secrets and the libraries' own logs (L2): in this process there is a logger that takes
//! everything, at trace, from every library, while sessions with marked secrets go through.
//!
//! The program's own logger shows of others only warnings; whoever embeds the crate has a logger of
//! their own. The browser here writes its frames by hand, because the WebSocket library that plays
//! browsers elsewhere logs what it sends.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;
#[allow(dead_code)]
#[path = "secrets/leak.rs"]
mod leak;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use common::{Authorizer, MASK, cluster, contains, exchange, pipes, session, upgrade, within};
use fake_cluster::wire::{opcode, raw};
use fake_cluster::{Behaviour, FakeCluster, misbehaviour};
use leak::{MARK, assert_clean, secret, subprotocol};
use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use podwire::config::{Command, parse};
use podwire::listener::Listener;
use podwire::server::serve;
use podwire::sources::Sources;
use podwire::{Clusters, Credential, Identity, Own, Target, Token};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{oneshot, watch};

/// Takes everything.
struct Everything(Mutex<String>);

static LOGGER: Everything = Everything(Mutex::new(String::new()));

impl Everything {
    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Log for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut line = format!("{} {}: {}", record.level(), record.target(), record.args());
        let _ = record.key_values().visit(&mut Fields(&mut line));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(&(line + "\n"));
    }

    fn flush(&self) {}
}

struct Fields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let _ = write!(self.0, " {key}={value} {value:?}");
        Ok(())
    }
}

/// A relay in this process. Dropping it ends it.
struct Inside {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Inside {
    async fn start(cluster: &FakeCluster, flags: &[&str], own: Own) -> Self {
        let fixed = ["podwire", "--session-rate=1000", "--hangup-grace=1s", "--log-level=trace"];
        let flags = fixed.iter().chain(flags).map(OsString::from);
        let Command::Serve(config) = parse(flags, |_| None).unwrap() else { panic!("to serve") };
        let text = cluster.kubeconfig();
        let clusters = Clusters::parse(text.as_bytes(), Path::new("."), None, &[], own).unwrap();
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let sources = watch::channel(Sources { clusters, tls: None }).1;
        tokio::spawn(serve(Listener::Tcp(tcp), None, *config, sources, stopped));
        Self { address, _stop: stop }
    }

    /// Opens a session with these headers, types a secret, reads it back if there is a terminal to
    /// show it, and closes. True if there was.
    async fn session(&self, target: &str, headers: &str) -> bool {
        let request = upgrade(target, headers);
        let (answer, mut seen, mut tcp) =
            exchange(self.address, request.as_bytes()).await.expect("an answer");
        if answer.status != 101 {
            return false;
        }
        let typed = secret("typed") + "\n";
        tcp.write_all(&raw(0x80 | opcode::BINARY, MASK, typed.as_bytes())).await.unwrap();
        let text = format!(r#"{{"type":"input","input":"{MARK}"#);
        tcp.write_all(&raw(0x80 | opcode::TEXT, MASK, text.as_bytes())).await.unwrap();
        let has = |seen: &[u8], words: &str| contains(seen, words.as_bytes());
        within("what was typed, or an ending", async {
            while !has(&seen, MARK) && !has(&seen, "[podwire: ") {
                if tcp.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        })
        .await;
        let close = raw(0x80 | opcode::CLOSE, MASK, &[b"\x03\xe8", MARK.as_bytes()].concat());
        // After some endings it is gone already.
        let _ = tcp.write_all(&close).await;
        let _ = within("the end", tcp.read_to_end(&mut Vec::new())).await;
        has(&seen, MARK)
    }
}

#[tokio::test]
async fn no_library_logs_a_secret() {
    log::set_logger(&LOGGER).unwrap();
    log::set_max_level(LevelFilter::Trace);
    log::trace!(target: "somebody", "is heard");

    let cluster = cluster(Behaviour::default()).await;
    let token = secret("token");
    cluster.set_token("admin", &token);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let offer = format!("Sec-WebSocket-Protocol: {}\r\n", subprotocol(&token));
    let cookie = format!("Cookie: session={token}\r\n");
    let query = pipes("cat") + "&key=" + &token;
    let target = pipes("cat");
    let authorizer = Authorizer::start().await;
    authorizer.allow(json!({"token": token}));
    let hook = format!("--authorize-url={}&key={}", authorizer.url(), secret("address"));

    let passthrough = &["--token-cookie=session", "--token-query=key"][..];
    let callers = [
        ("header", &target, &*bearer),
        ("subprotocol", &target, &offer),
        ("cookie", &target, &cookie),
        ("query", &query, ""),
    ];
    let relay = Inside::start(&cluster, passthrough, Own::Excluded).await;
    let own = Inside::start(&cluster, &["--auth=own"], Own::Included).await;
    let asking = Inside::start(&cluster, &["--auth=hook", &hook], Own::Included).await;
    let rows = callers.map(|(id, target, headers)| (id, &relay, target, headers));
    let rows =
        rows.into_iter().chain([("own", &own, &target, ""), ("hook", &asking, &target, &*cookie)]);
    for (id, relay, target, headers) in rows {
        cluster.set_behaviour(Behaviour::default());
        assert!(relay.session(target, headers).await, "L2 {id}: a session");
        for name in ["401", "403-status", "500-text", "garbage", "text-frame", "masked", "reset"] {
            let script = misbehaviour::named(name).unwrap();
            cluster.set_behaviour(Behaviour::scripted(script));
            relay.session(target, headers).await;
        }
        let broken = format!("{headers}X: \0{token}\r\n");
        relay.session(target, &broken).await;
        assert_clean(&format!("L2 {id}"), &LOGGER.text());
    }
    session(&cluster, 5).await;
    let log = LOGGER.text();
    assert!(log.contains("TRACE somebody: is heard"), "the logger takes everything");
    assert!(log.contains("INFO podwire") && log.contains("session end"), "{log}");
}

/// Whatever holds a secret prints as something else, which is all that an error's text, a panic's
/// message or somebody's own log could show of it.
#[test]
fn nothing_that_holds_a_secret_shows_it() {
    let token = Token::new(&secret("debug")).unwrap();
    let text = json!({
        "clusters": [{"name": "a", "cluster": {
            "server": "http://127.0.0.1:1", "proxy-url": format!("http://u:{}@h", secret("proxy")),
        }}],
        "users": [{"name": "a", "user": {"token": secret("user")}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    });
    let parse = |own| {
        let text = text.to_string();
        Clusters::parse(text.as_bytes(), Path::new("."), None, &[], own).unwrap()
    };
    let (with, without) = (parse(Own::Included), parse(Own::Excluded));
    let own = Credential::from(token.clone());
    let via = podwire::Via::parse(&format!("socks5://u:{}@h", secret("via"))).unwrap();
    let identity = Identity::Token(token.clone());
    let target = Target::new("demo", "shell");
    let all: [(&str, &dyn std::fmt::Debug); 8] = [
        ("L2 token", &token),
        ("L2 identity", &identity),
        ("L2 credential", &own),
        ("L2 clusters", &with),
        ("L2 clusters of callers", &without),
        ("L2 connector", with.default()),
        ("L2 way", &via),
        ("L2 target", &target),
    ];
    for (id, it) in all {
        assert_clean(id, &format!("{it:?} {it:#?}"));
    }
    assert_clean("L2 source", with.source());
    assert_clean("L2 warnings", &with.warnings().join("\n"));
}
