//! A real nginx between the browser and the relay, with the timeouts that it has if nobody sets
//! any: it cuts a connection on which nothing has come from behind for 60 s.
//!
//! nginx (Debian's package) is found by `PODWIRE_TEST_NGINX` or on the `PATH`, and the relay by
//! `PODWIRE_TEST_BIN`, or it is built.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on should stop"
)]

mod common;

use std::env;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Running, podwire, program, spawn};
use fake_cluster::{FakeCluster, Options};
use tokio_tungstenite::tungstenite::client::{IntoClientRequest as _, client};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

/// For what is bound to happen at once.
const DEADLINE: Duration = Duration::from_mins(1);
/// How long nothing happens: three times nginx's timeout.
const SILENCE: Duration = Duration::from_mins(3);
/// nginx's timeout, from its manual.
const CUT_AFTER: Duration = Duration::from_mins(1);
/// The relay's pings, by default.
const PING_EVERY: Duration = Duration::from_secs(20);

/// What the manual says that a WebSocket needs, and nothing else.
const NGINX: &str = "daemon off;
master_process off;
error_log stderr error;
pid FOLDER/nginx.pid;
events {}
http {
  access_log off;
  client_body_temp_path FOLDER/body;
  proxy_temp_path FOLDER/proxy;
  fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi;
  scgi_temp_path FOLDER/scgi;
  server {
    listen unix:FOLDER/nginx.sock;
    location / {
      proxy_pass RELAY;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
    }
  }
}
";

/// A pretend cluster, the relay before it, and nginx before that. They end with it.
struct Gateway {
    folder: PathBuf,
    _cluster: FakeCluster,
    _relay: Running,
    _nginx: Running,
}

type Browser = WebSocket<UnixStream>;

impl Gateway {
    async fn start(name: &str, flags: &[&str]) -> Gateway {
        let folder = env::temp_dir().join(format!("external-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let cluster = FakeCluster::start(Options::default()).await.unwrap();
        let kubeconfig = folder.join("kubeconfig");
        std::fs::write(&kubeconfig, cluster.kubeconfig()).unwrap();
        let mut relay = Command::new(podwire());
        relay.args(["serve", "--auth", "own", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
        relay.arg("--kubeconfig").arg(&kubeconfig).args(flags);
        let mut relay = spawn(relay.stdout(Stdio::piped()).stderr(Stdio::null()));
        let mut line = String::new();
        BufReader::new(relay.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("ready ").expect("the relay starts");
        let nginx = nginx(&folder, url.trim_end_matches('/'));
        Gateway { folder, _cluster: cluster, _relay: relay, _nginx: nginx }
    }

    /// Opens a session that echoes, and sees that it does.
    fn browser(&self, rest: &str) -> Browser {
        let command = "command=podwire-test-echo";
        let target = format!("ws://localhost/exec?namespace=demo&pod=shell&{command}{rest}");
        let mut request = target.into_client_request().unwrap();
        request.headers_mut().insert("origin", "http://localhost".parse().unwrap());
        let io = UnixStream::connect(self.folder.join("nginx.sock")).unwrap();
        io.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut browser = client(request, io).unwrap().0;
        echoes(&mut browser, "before");
        browser
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // What stays is in a folder for such things.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn nginx(folder: &Path, relay: &str) -> Running {
    let config = NGINX.replace("FOLDER", folder.to_str().unwrap()).replace("RELAY", relay);
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let program = program("PODWIRE_TEST_NGINX", "nginx");
    let mut nginx = spawn(Command::new(program).arg("-p").arg(folder).arg("-c").arg(&file));
    let begun = Instant::now();
    while UnixStream::connect(folder.join("nginx.sock")).is_err() {
        assert!(nginx.0.try_wait().unwrap().is_none(), "nginx has ended: is it installed?");
        assert!(begun.elapsed() < DEADLINE, "nginx does not listen");
        thread::yield_now();
    }
    nginx
}

fn echoes(browser: &mut Browser, word: &str) {
    browser.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
    let input = format!("{{\"type\":\"input\",\"input\":\"{word}\\n\"}}");
    browser.send(Message::text(input)).unwrap();
    let mut seen = String::new();
    while !seen.contains(word) {
        match browser.read() {
            Ok(Message::Text(text)) => seen.push_str(&text),
            Ok(Message::Ping(_)) => {}
            other => panic!("{other:?} after {seen:?}"),
        }
    }
}

/// Reads until something but a ping comes, and gives it and the number of pings.
fn silence(browser: &mut Browser) -> (u32, Option<Result<Message, Error>>) {
    let over = Instant::now() + SILENCE;
    let mut pings = 0;
    while let Some(left) = over.checked_duration_since(Instant::now()).filter(|it| !it.is_zero()) {
        browser.get_ref().set_read_timeout(Some(left)).unwrap();
        match browser.read() {
            Ok(Message::Ping(_)) => {
                pings += 1;
                // Its answer is sent with this.
                browser.flush().unwrap();
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break,
            other => return (pings, Some(other)),
        }
    }
    (pings, None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_session_survives_three_minutes() {
    let gateway = Gateway::start("gateway", &[]).await;
    // With a terminal and without one, at the same time.
    let all = thread::scope(|scope| {
        let idle = |rest| {
            let mut browser = gateway.browser(rest);
            let (pings, other) = silence(&mut browser);
            assert!(other.is_none(), "{other:?} after {pings} pings");
            echoes(&mut browser, "after");
            pings
        };
        ["", "&tty=false"].map(|rest| scope.spawn(move || idle(rest))).map(|it| it.join().unwrap())
    });
    println!("{all:?} pings in {SILENCE:?}");
    let least = SILENCE.as_secs() / PING_EVERY.as_secs();
    for pings in all {
        // One may be under way at either end.
        assert!((least - 1..=least + 1).contains(&u64::from(pings)), "{pings} pings");
    }
}

/// The test above would pass for nothing if nginx did not cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_pings_nginx_cuts_an_idle_session() {
    let gateway = Gateway::start("rare", &["--ping", "10m", "--dead-after", "20m"]).await;
    let mut browser = gateway.browser("");
    let begun = Instant::now();
    let (pings, other) = silence(&mut browser);
    let took = begun.elapsed();
    println!("cut after {took:?}");
    assert_eq!(pings, 0);
    assert!(matches!(other, Some(Err(_))), "{other:?}");
    assert!(took > CUT_AFTER / 2 && took < 2 * CUT_AFTER, "{took:?}");
}
