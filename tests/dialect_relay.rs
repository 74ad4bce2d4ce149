//! The dialects through the real binary: which one is chosen, sessions of clients that were written
//! for an API server or for ttyd, and refusals as an API server has them.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Browser, Kind, Relay, Start, both, cluster, pipes, scripted, session, short};
use common::{sha256, terminal, upgrade, within};
use fake_cluster::{Behaviour, Rights, Script};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

on_every_cluster!(
    a_command_runs_as_kubectl_runs_it,
    a_terminal_works_in_every_version,
    what_is_refused_is_refused_as_by_an_api_server,
    every_exit_code_is_told,
    ttyds_page_has_a_session,
    an_attach_addon_has_a_session,
);

const EXEC: &str = "/api/v1/namespaces/demo/pods/shell/exec?container=main";

/// Kubernetes' own path for a script.
fn exec(script: &str, rest: &str) -> String {
    let command = short(&["bash", "-c", script], "");
    let (_, command) = command.split_once("&command=").unwrap();
    format!("{EXEC}&command={command}{rest}")
}

/// A client of one of Kubernetes' own dialects, which takes what comes apart by channels.
struct Kube {
    socket: WebSocketStream<TcpStream>,
    is_text: bool,
    channels: [Vec<u8>; 4],
    close: Option<(u16, String)>,
}

impl Kube {
    async fn open(relay: &Relay, name: &str, target: &str, origin: &str) -> Result<Self, Error> {
        let mut request = relay.request(target, &[("sec-websocket-protocol", name)]);
        request.headers_mut().remove("origin");
        if !origin.is_empty() {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        let tcp = TcpStream::connect(relay.addr()).await.unwrap();
        let (socket, response) = within("an upgrade", client_async(request, tcp)).await?;
        let first = name.split(", ").next().unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], first);
        let is_text = name.contains("base64");
        Ok(Self { socket, is_text, channels: Default::default(), close: None })
    }

    async fn say(&mut self, channel: u8, bytes: &[u8]) {
        let message: Message = if self.is_text {
            let digit = char::from(b'0' + channel);
            format!("{digit}{}", STANDARD.encode(bytes)).into()
        } else {
            [&[channel], bytes].concat().into()
        };
        within("a message is sent", self.socket.send(message)).await.unwrap();
    }

    async fn next(&mut self) -> bool {
        let (channel, bytes) = match within("a message", self.socket.next()).await {
            Some(Ok(Message::Binary(bytes))) if !self.is_text => (bytes[0], bytes[1..].to_vec()),
            Some(Ok(Message::Text(text))) if self.is_text => {
                (text.as_bytes()[0] - b'0', STANDARD.decode(&text[1..]).unwrap())
            }
            Some(Ok(Message::Close(frame))) => {
                let frame = frame.unwrap();
                self.close = Some((frame.code.into(), frame.reason.to_string()));
                return true;
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return true,
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(_)) | None => return false,
        };
        self.channels[usize::from(channel)].extend(bytes);
        true
    }

    async fn until_output(&mut self, words: &str) {
        while !common::contains(&self.channels[1], words.as_bytes()) {
            assert!(self.next().await, "ended before {words:?}: {}", self.text());
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.channels[1]).into_owned()
    }

    async fn ended(&mut self) -> u16 {
        while self.next().await {}
        self.close.clone().expect("a close").0
    }

    /// The status, and the close behind it.
    async fn status(&mut self) -> (Value, u16) {
        let code = self.ended().await;
        (serde_json::from_slice(&self.channels[3]).unwrap(), code)
    }
}

const VERSIONS: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "base64.channel.k8s.io",
];

async fn a_command_runs_as_kubectl_runs_it(kind: Kind) {
    let (cluster, relay) = both(kind).await;
    let input = common::Random(5).bytes(300_000);
    let script = "head -c 300000 | sha256sum; echo err >&2; exit 7";
    let target = exec(script, "&stdin=true&stdout=true&stderr=true");
    for (number, name) in VERSIONS.into_iter().enumerate() {
        let mut kube = Kube::open(&relay, name, &target, "").await.unwrap();
        for piece in input.chunks(32 * 1024 - 1) {
            kube.say(0, piece).await;
        }
        if name.starts_with("v5") {
            kube.say(255, &[0]).await;
        }
        let code = kube.ended().await;
        assert_eq!(code, 1000, "{name}: {:?}", kube.close);
        assert_eq!(kube.text(), format!("{}  -\n", sha256(&input)), "{name}");
        let stderr = String::from_utf8_lossy(&kube.channels[2]);
        if name.starts_with("v5") && !kind.protocol().starts_with("v5") {
            assert!(stderr.contains("err\n") && stderr.contains("does not speak v5"), "{stderr}");
        } else {
            assert_eq!(stderr, "err\n", "{name}");
        }
        let said = String::from_utf8(kube.channels[3].clone()).unwrap();
        if name.starts_with('v') {
            let status: Value = serde_json::from_str(&said).unwrap();
            assert_eq!(status["reason"], "NonZeroExitCode", "{name}");
            assert_eq!(status["details"]["causes"][0]["message"], "7", "{name}");
        } else {
            assert!(said.starts_with("command terminated with non-zero exit code"), "{said}");
        }
        let seen = session(&cluster, number).await;
        let closes = seen.facts().frames.iter().any(|frame| frame.channel() == Some(255));
        assert_eq!(closes, name.starts_with("v5") && kind != Kind::V4, "{name}");
    }
    let line = relay.until_logged("session end", 5).await;
    assert!(line.contains("dialect=base64.channel.k8s.io"), "{line}");
    assert!(line.contains("kind=exit exit_code=7 close_code=1000"), "{line}");
}

async fn a_terminal_works_in_every_version(kind: Kind) {
    let (_cluster, relay) = both(kind).await;
    let size = "until [ \"$(stty size)\" = '30 120' ]; do sleep 0.02; done; echo ok";
    let script = format!("{size}; read x; echo \"<$x>\"; exit 3");
    let target = exec(&script, "&stdin=true&stdout=true&stderr=true&tty=true");
    for name in VERSIONS {
        let mut kube = Kube::open(&relay, name, &target, "").await.unwrap();
        kube.say(4, b"{\"Width\":120,\"Height\":30}\n").await;
        kube.until_output("ok").await;
        kube.say(0, "世\u{20ac}\r".as_bytes()).await;
        kube.until_output("<世\u{20ac}>").await;
        assert_eq!(kube.ended().await, 1000, "{name}");
        assert_eq!(kube.channels[2], b"", "{name}");
    }
}

async fn every_exit_code_is_told(kind: Kind) {
    let (_cluster, relay) = both(kind).await;
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)] {
        for name in VERSIONS {
            let mut kube =
                Kube::open(&relay, name, &exec(script, "&stdout=true"), "").await.unwrap();
            assert_eq!(kube.ended().await, 1000, "{name}");
            let said = String::from_utf8(kube.channels[3].clone()).unwrap();
            if name.starts_with('v') {
                let status: Value = serde_json::from_str(&said).unwrap();
                let cause = &status["details"]["causes"][0]["message"];
                assert_eq!(status["status"], if code == 0 { "Success" } else { "Failure" });
                assert!(code == 0 || cause.as_str() == Some(&code.to_string()), "{said}");
            } else {
                assert_eq!(said.is_empty(), code == 0, "{name}: {said}");
            }
        }
    }
}

/// The recorded bodies, and nothing of ours in them.
async fn what_is_refused_is_refused_as_by_an_api_server(kind: Kind) {
    let (cluster, relay) = both(kind).await;
    let nobody = Start::flags(&["--context", "demo-nobody"]).before(&cluster).await;
    let pod = |name: &str| {
        format!("/api/v1/namespaces/demo/pods/{name}/exec?container=main&command=true&stdout=true")
    };
    let container = pod("shell").replace("main", "nope");
    let no_pod = "pods \"nope\" not found";
    let rows = [
        (&relay, pod("nope"), 404, "NotFound", no_pod, 4404),
        (&relay, container, 400, "BadRequest", "container nope is not valid for pod shell", 4404),
        (&nobody, pod("shell"), 403, "Forbidden", "pods \"shell\" is forbidden: User", 4403),
    ];
    for (relay, target, status, reason, words, code) in rows {
        for name in VERSIONS {
            let names = format!("Sec-WebSocket-Protocol: {name}\r\n");
            let answer = relay.ask(&target, &names).await;
            assert_eq!(answer.status, status, "{answer:?}");
            let json = answer.json();
            let check = |json: &Value| {
                assert_eq!((&json["kind"], &json["code"]), (&"Status".into(), &status.into()));
                assert_eq!(json["reason"], reason);
                let message = json["message"].as_str().unwrap();
                assert!(message.starts_with(words), "{message}");
                // The relay's own explanation is no part of what the API server said.
                assert!(!message.contains("kubectl"), "{message}");
                assert_eq!(json["details"]["causes"], Value::Null, "{json}");
            };
            check(&json);

            // A page cannot read that, so it hears the same inside.
            let origin = relay.url.trim_end_matches('/').to_owned();
            let mut page = Kube::open(relay, name, &target, &origin).await.unwrap();
            assert_eq!(page.ended().await, code, "{name}");
            if name.starts_with('v') {
                check(&serde_json::from_slice(&page.channels[3]).unwrap());
            } else {
                let text = String::from_utf8(page.channels[3].clone()).unwrap();
                assert!(text.starts_with(words), "{name}: {text}");
            }
            assert!(page.channels[1].is_empty());
        }
        // Whoever speaks another dialect hears ours, as before.
        let answer = relay.ask(&target, "").await;
        assert_ne!(answer.json()["details"]["causes"], Value::Null);
    }
    // kubectl shows what comes of its second try, so that names the first.
    let post = upgrade(&pod("nope"), "").replacen("GET", "POST", 1);
    let answer = relay.http(post.replace("Upgrade: websocket", "Upgrade: SPDY/3.1")).await.unwrap();
    assert_eq!(answer.status, 405);
    assert!(answer.json()["message"].as_str().unwrap().contains("-v=4"), "{answer:?}");
    // Said by a kubelet in plain text, and after the 101 by an older API server.
    let names = "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
    let answer = relay.ask(&pod("done"), names).await;
    if kind == Kind::V5ApiServer {
        assert_eq!(answer.status, 101);
    } else {
        answer.assert_refusal(500, "not_found", "text of a kubelet");
    }
    let missing = format!("{EXEC}&command=no-such-program&stdout=true");
    let mut kube = Kube::open(&relay, "v4.channel.k8s.io", &missing, "").await.unwrap();
    let (status, code) = kube.status().await;
    assert_eq!((&status["reason"], code), (&"InternalError".into(), 1000));
    assert!(status["message"].as_str().unwrap().contains("executable file not found"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_an_api_server_is_passed_on_byte_by_byte() {
    let body = "{\"kind\":\"Status\", \"apiVersion\":\"v1\",\"status\":\"Failure\",\
        \"message\":\"denied by policy\",\"reason\":\"Conflict\",\"code\":409 , \"x\":[ ]}";
    let of = |head: &str, body: &str| {
        Script::answer(format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    };
    let names = "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n";
    let target = exec("true", "&stdout=true");
    for (head, said, status, same) in [
        ("409 Conflict", body, 409, true),
        ("429 Too Many Requests", body, 429, true),
        ("500 Internal Server Error", "a kubelet's own words", 500, false),
        ("407 Proxy Authentication Required", body, 407, true),
        // What no API server says without a status is a gateway's.
        ("407 Proxy Authentication Required", "<html>who are you?</html>", 502, false),
        ("408 Request Timeout", "", 502, false),
        ("421 Misdirected Request", "not here", 502, false),
        ("422 Unprocessable Entity", "{\"message\":\"no status\"}", 502, false),
        ("431 Request Header Fields Too Large", "{}", 502, false),
        ("400 Bad Request", "a kubelet's own words", 400, false),
        ("302 Found", body, 502, false),
        ("204 No Content", "", 502, false),
    ] {
        let cluster = scripted(of(head, said)).await;
        let relay = Relay::start(&cluster).await;
        let answer = relay.ask(&target, names).await;
        assert_eq!(answer.status, status, "{head}: {answer:?}");
        assert_eq!(answer.body == said.as_bytes(), same, "{head}: {answer:?}");
        assert_eq!(answer.json()["kind"], "Status", "{head}");
        if !same {
            assert_eq!(answer.json()["code"], status, "{head}");
        }
        if status == 429 {
            assert!(answer.header("retry-after").is_some());
        }
    }
}

/// Nobody is told whose credential it was, and no credential is told to anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_credential_is_not_passed_on() {
    let names = "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
    let body = "{\"kind\":\"Status\",\"status\":\"Failure\",\"message\":\"no: a-long-secret-token\",\
        \"reason\":\"Unauthorized\",\"code\":401}";
    let head = "HTTP/1.1 401 Unauthorized\r\nContent-Length";
    let cluster = scripted(Script::answer(format!("{head}: {}\r\n\r\n{body}", body.len()))).await;
    let relay = Relay::start(&cluster).await;
    relay.ask(&exec("true", "&stdout=true"), names).await.assert_refusal(
        502,
        "cluster_protocol",
        "our own",
    );

    let relay = Start::passthrough().before(&cluster).await;
    let token = format!("{names}Authorization: Bearer a-long-secret-token\r\n");
    let answer = relay.ask(&exec("true", "&stdout=true"), &token).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (401, &"Unauthorized".into()));
    let said = String::from_utf8(answer.body).unwrap();
    assert!(said.contains("no: (the token)") && !said.contains("secret"), "{said}");
    assert!(!relay.log().contains("secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_known_name_in_the_browsers_order_is_chosen() {
    let (_cluster, relay) = both(Kind::V5).await;
    let target = pipes("true");
    let rows = [
        ("v5.channel.k8s.io, v4.channel.k8s.io", "", Some("v5.channel.k8s.io")),
        ("v4.channel.k8s.io,v5.channel.k8s.io", "", Some("v4.channel.k8s.io")),
        (
            "base64.binary.k8s.io, v4.base64.channel.k8s.io, base64.channel.k8s.io",
            "",
            Some("v4.base64.channel.k8s.io"),
        ),
        ("v3.channel.k8s.io, v2.channel.k8s.io, channel.k8s.io", "", Some("channel.k8s.io")),
        ("tty", "", Some("tty")),
        ("tty, podwire.v1", "&proto=raw", Some("tty")),
        ("chat\r\nSec-WebSocket-Protocol: podwire.v1, tty", "", Some("podwire.v1")),
    ];
    for (names, proto, chosen) in rows {
        let answer = relay
            .ask(&format!("{target}{proto}"), &format!("Sec-WebSocket-Protocol: {names}\r\n"))
            .await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, chosen));
    }
    for name in ["seed", "raw", "podwire.v1", "tty", "ttyd", "v5.channel.k8s.io"] {
        let answer = relay.ask(&format!("{target}&proto={name}"), "").await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, None));
    }
    let dialects = [
        "dialect=v5.channel.k8s.io",
        "dialect=v4.channel.k8s.io",
        "dialect=v4.base64.channel.k8s.io",
        "dialect=channel.k8s.io",
        "dialect=ttyd",
        "dialect=raw",
    ];
    for name in dialects {
        relay.until_logged(name, 1).await;
    }
    for names in ["seed", "raw", "ttyd", "v5.channel.k8s.io.", "V4.channel.k8s.io"] {
        let answer = relay.ask(&target, &format!("Sec-WebSocket-Protocol: {names}\r\n")).await;
        assert_eq!(answer.status, 400, "{names}");
    }
}

async fn ttyds_page_has_a_session(kind: Kind) {
    let (_cluster, relay) = both(kind).await;
    let request = "GET /token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = relay.http(request).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"{\"token\":\"\"}"[..]));
    let request = request.replacen("GET", "POST", 1);
    assert_eq!(relay.http(request).await.unwrap().status, 405);

    let size = "until [ \"$(stty size)\" = '40 100' ]; do sleep 0.02; done; echo ok";
    let script = format!("{size}; read x; echo \"<$x>\"; exit 3");
    let target = terminal(&script).replacen("/exec", "/ws", 1);
    let mut page = relay.browser(&target, &[("sec-websocket-protocol", "tty")]).await;
    assert_eq!(page.response.headers()["sec-websocket-protocol"], "tty");
    page.bytes(br#"{"AuthToken":"","columns":100,"rows":40}"#).await;
    page.until_output("ok").await;
    page.bytes("0世".as_bytes()).await;
    page.bytes(b"0\r").await;
    assert_eq!(page.ended().await.code, 1000);
    let text = page.text();
    assert!(text.starts_with("1shell main (demo)2{}0"), "{text:?}");
    assert!(text.contains("<世>"), "{text:?}");
    assert!(text.ends_with("0\r\n[podwire: exit code 3]\r\n"), "{text:?}");

    let missing = "/ws?namespace=demo&pod=nope";
    let mut page = relay.browser(missing, &[("sec-websocket-protocol", "tty")]).await;
    assert_eq!(page.ended().await.code, 4404);
    assert!(page.text().ends_with("2{\"disableReconnect\":true}"), "{:?}", page.text());
    // A token is as good as none, and stands nowhere.
    assert!(!relay.log().contains("AuthToken"));
}

async fn an_attach_addon_has_a_session(kind: Kind) {
    let (_cluster, relay) = both(kind).await;
    let script = "stty size; read x; echo \"<$x>\"; exit 3";
    let size = "until [ \"$(stty size)\" = '33 111' ]; do sleep 0.02; done; ";
    let target = terminal(&format!("{size}{script}")) + "&proto=raw&cols=111&rows=33";
    let mut page: Browser = relay.browser(&target, &[]).await;
    page.until_output("33 111").await;
    page.say("世").await;
    page.bytes(b"\r").await;
    let close = page.ended().await;
    assert_eq!((close.code, &*close.reason), (1000, "exit code 3"));
    assert!(page.text().ends_with("<世>\r\n"), "{:?}", page.text());
    let missing = "/exec?namespace=demo&pod=nope&proto=raw";
    let mut page: Browser = relay.browser(missing, &[]).await;
    let close = page.ended().await;
    assert_eq!((close.code, &*close.reason), (4404, "pods \"nope\" not found"));
    assert!(page.output.is_empty());
}

/// Clients of an API server are no pages and hang up like anybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_hung_up_when_its_client_is_gone() {
    let cluster = cluster(Behaviour::default()).await;
    cluster.set_rights("admin", Rights::all());
    let relay = Relay::start(&cluster).await;
    let target = exec("echo up; sleep 1000", "&stdin=true&stdout=true&tty=true");
    let mut kube = Kube::open(&relay, "v5.channel.k8s.io", &target, "").await.unwrap();
    kube.until_output("up").await;
    drop(kube);
    let line = relay.until_logged("session end", 1).await;
    assert!(line.contains("kind=browser_lost") && line.contains("process=ended"), "{line}");
    // The head of a request that offers what nobody knows is as wrong as ever.
    let request = upgrade(&target, "Sec-WebSocket-Protocol: v9.channel.k8s.io\r\n");
    assert_eq!(relay.http(request).await.unwrap().status, 400);
}
