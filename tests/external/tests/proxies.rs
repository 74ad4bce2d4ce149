//! Real proxies between the relay and the cluster: tinyproxy, microsocks, dante, and stunnel before
//! tinyproxy. Each carries a whole session, and each is heard when it does not.
//!
//! They are Debian's packages, found by `PODWIRE_TEST_TINYPROXY` and so on or on the `PATH`, and the
//! relay by `PODWIRE_TEST_BIN`, or it is built. Played proxies are in the relay's own tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on should stop"
)]

mod common;

use std::env;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Running, podwire, program, spawn};
use fake_cluster::{FakeCluster, Options};
use ring::digest::{SHA256, digest};
use tokio_tungstenite::tungstenite::client::{IntoClientRequest as _, client};
use tokio_tungstenite::tungstenite::{Bytes, Error, HandshakeError, Message, WebSocket};

/// For what is bound to happen at once.
const DEADLINE: Duration = Duration::from_mins(1);
/// How much goes through a proxy, each way.
const MUCH: usize = 1024 * 1024;
const LOGIN: &str = "user:hunter2";

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = env::temp_dir().join(format!("external-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Writes a file and gives its path.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is in a folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A proxy that listens on loopback.
struct Proxy {
    address: SocketAddr,
    _running: Running,
}

/// An address that nobody listens on, unless somebody is quick.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Proxy {
    fn start(address: SocketAddr, command: &mut Command) -> Proxy {
        let mut running = spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} has ended: is it installed?");
            assert!(begun.elapsed() < DEADLINE, "{command:?} does not listen");
            thread::yield_now();
        }
        Proxy { address, _running: running }
    }

    fn tinyproxy(folder: &Folder, more: &str) -> Proxy {
        let address = free();
        let config = format!("Listen 127.0.0.1\nPort {}\nTimeout 600\n{more}\n", address.port());
        let file = folder.file(&format!("tinyproxy-{}", address.port()), config);
        let program = program("PODWIRE_TEST_TINYPROXY", "tinyproxy");
        Self::start(address, Command::new(program).args(["-d", "-c", &file]))
    }

    fn microsocks(more: &[&str]) -> Proxy {
        let address = free();
        let port = address.port().to_string();
        let program = program("PODWIRE_TEST_MICROSOCKS", "microsocks");
        let mut command = Command::new(program);
        Self::start(address, command.args(["-i", "127.0.0.1", "-p", &port]).args(more))
    }

    fn dante(folder: &Folder) -> Proxy {
        let address = free();
        let port = address.port();
        let config = format!(
            "logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\n\
             clientmethod: none\nsocksmethod: none\n\
             client pass {{ from: 0/0 to: 0/0 }}\nsocks pass {{ from: 0/0 to: 0/0 }}\n"
        );
        let (config, pid) = (folder.file("danted.conf", config), folder.file("danted.pid", ""));
        let program = program("PODWIRE_TEST_DANTED", "danted");
        Self::start(address, Command::new(program).args(["-f", &config, "-p", &pid]))
    }

    /// TLS before another proxy, and the file with its certificate.
    fn stunnel(folder: &Folder, behind: &Proxy) -> (Proxy, String) {
        let address = free();
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let both = own.cert.pem() + &own.signing_key.serialize_pem();
        let both = folder.file("stunnel.pem", both);
        let (accept, connect) = (address, behind.address);
        let config = format!(
            "foreground = yes\npid =\n[proxy]\ncert = {both}\naccept = {accept}\n\
             connect = {connect}\n"
        );
        let config = folder.file("stunnel.conf", config);
        let program = program("PODWIRE_TEST_STUNNEL", "stunnel4");
        let proxy = Self::start(address, Command::new(program).arg(config));
        (proxy, folder.file("authority.pem", own.cert.pem()))
    }
}

/// The relay before a cluster that it reaches by a proxy.
struct Relay {
    authority: String,
    _running: Running,
}

type Browser = WebSocket<TcpStream>;

impl Relay {
    fn start(folder: &Folder, cluster: &FakeCluster, proxy: &str, trusts: Option<&str>) -> Relay {
        Self::with(folder, &cluster.kubeconfig(), proxy, trusts, &[])
    }

    fn with(
        folder: &Folder,
        kubeconfig: &str,
        proxy: &str,
        trusts: Option<&str>,
        flags: &[&str],
    ) -> Relay {
        let mut kubeconfig: serde_json::Value = serde_json::from_str(kubeconfig).unwrap();
        for named in kubeconfig["clusters"].as_array_mut().unwrap() {
            named["cluster"]["proxy-url"] = proxy.into();
        }
        let file = folder.file("kubeconfig", kubeconfig.to_string());
        let mut relay = Command::new(podwire());
        relay.args(["serve", "--auth", "own", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
        relay.args(["--kubeconfig", &file]).args(flags).env_clear();
        relay.envs(trusts.map(|file| ("SSL_CERT_FILE", file)));
        let mut relay = spawn(relay.stdout(Stdio::piped()).stderr(Stdio::null()));
        let mut line = String::new();
        BufReader::new(relay.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("ready http://").expect("the relay starts");
        Relay { authority: url.trim_end_matches('/').to_owned(), _running: relay }
    }

    /// Opens a session, or gives the status and the text of the refusal.
    fn open(&self, command: &[&str]) -> Result<Browser, (u16, String)> {
        let mut url =
            format!("ws://{}/exec?namespace=demo&pod=shell&cols=100&rows=30", self.authority);
        for word in command {
            url += "&command=";
            url += word;
        }
        let mut request = url.into_client_request().unwrap();
        let dialect = "podwire.v1".parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", dialect);
        let io = TcpStream::connect(&self.authority).unwrap();
        io.set_read_timeout(Some(DEADLINE)).unwrap();
        match client(request, io) {
            Ok((browser, _)) => Ok(browser),
            Err(HandshakeError::Failure(Error::Http(answer))) => {
                let body = answer.body().as_deref().unwrap_or_default();
                Err((answer.status().as_u16(), String::from_utf8_lossy(body).into_owned()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A terminal that gets its size, a MiB each way, and an exit code.
    fn whole_session(&self, folder: &Folder, what: &str) {
        let numbers = |seed: u32| {
            let words = (0..).map(move |it: u32| it.wrapping_mul(2_654_435_761) ^ seed);
            words.flat_map(u32::to_le_bytes).take(MUCH).collect::<Vec<u8>>()
        };
        let (input, output) = (numbers(1), numbers(2));
        let data = folder.file("data", &output);
        let script = format!(
            "while [ \"$(stty size)\" != '30 100' ]; do :; done; stty raw -echo; echo go\n\
             head -c {MUCH} | sha256sum; cat {data}; exit 7"
        );
        let script = folder.file("script", script);
        let mut browser = self.open(&["bash", &script]).expect(what);
        let mut seen = Vec::new();
        let begun = Instant::now();
        let last = |browser: &mut Browser, seen: &mut Vec<u8>| loop {
            match browser.read().expect(what) {
                Message::Binary(bytes) => seen.extend_from_slice(&bytes),
                Message::Text(text) if text.contains("\"type\":\"exit\"") => return text,
                _ => {}
            }
            assert!(begun.elapsed() < DEADLINE, "{what}: {} bytes", seen.len());
            if seen == b"go\n" {
                return "".into();
            }
        };
        last(&mut browser, &mut seen);
        assert_eq!(String::from_utf8_lossy(&seen), "go\n", "{what}");
        seen.clear();
        for piece in input.chunks(64 * 1024) {
            browser.send(Message::Binary(Bytes::copy_from_slice(piece))).expect(what);
        }
        let exit = last(&mut browser, &mut seen);
        let hex: Vec<String> =
            digest(&SHA256, &input).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [format!("{}  -\n", hex.concat()).as_bytes(), &output].concat();
        assert_eq!(seen.len(), expected.len(), "{what}");
        assert!(seen == expected, "{what}");
        assert!(exit.contains("\"exitCode\":7"), "{what}: {exit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_proxies_carry_whole_sessions() {
    let cluster = FakeCluster::start(Options::default()).await.unwrap();
    let folder = Folder::new("proxies");
    let basic = "BasicAuth user hunter2";
    let tinyproxy = Proxy::tinyproxy(&folder, "");
    let (stunnel, trusted) = Proxy::stunnel(&folder, &tinyproxy);
    let rows = [
        ("tinyproxy", "http://", Proxy::tinyproxy(&folder, "")),
        ("tinyproxy with a login", "http://user:hunter2@", Proxy::tinyproxy(&folder, basic)),
        ("stunnel and tinyproxy", "https://", stunnel),
        ("microsocks", "socks5://", Proxy::microsocks(&[])),
        (
            "microsocks with a login",
            "socks5h://user:hunter2@",
            Proxy::microsocks(&["-u", "user", "-P", "hunter2"]),
        ),
        ("dante", "socks5://", Proxy::dante(&folder)),
        // A login that nobody asks for does no harm.
        ("dante, and a login", "socks5://user:hunter2@", Proxy::dante(&folder)),
    ];
    for (what, scheme, proxy) in rows {
        let url = format!("{scheme}localhost:{}", proxy.address.port());
        let relay = Relay::start(&folder, &cluster, &url, Some(&trusted));
        relay.whole_session(&folder, what);
        // Without the proxy there is no way, so the session took it.
        drop(proxy);
        let (status, text) = relay.open(&["true"]).map(|_| ()).expect_err(what);
        assert_eq!(status, 502, "{what}: {text}");
        assert!(text.contains("cannot reach the proxy at localhost:"), "{what}: {text}");
        assert!(!text.contains(LOGIN), "{what}: {text}");
    }
    drop(tinyproxy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_real_proxies_refuse_is_told() {
    let cluster = FakeCluster::start(Options::default()).await.unwrap();
    let folder = Folder::new("refusing-proxies");
    let basic = Proxy::tinyproxy(&folder, "BasicAuth user hunter2");
    let strict = Proxy::tinyproxy(&folder, "ConnectPort 443");
    let plain = Proxy::tinyproxy(&folder, "");
    let socks = Proxy::microsocks(&["-u", "user", "-P", "hunter2"]);
    let open = Proxy::microsocks(&[]);
    let (stunnel, _) = Proxy::stunnel(&folder, &plain);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = |login: &str, proxy: &Proxy| format!("http://{login}{}", proxy.address);
    let socks_url = |login: &str, proxy: &Proxy| format!("socks5://{login}{}", proxy.address);
    let good = cluster.kubeconfig();
    let gone = good.replace(&cluster.addr().to_string(), &free().to_string());
    let rows: [(&str, &str, String, u16, &str); 10] = [
        ("S15 407", &good, url("", &basic), 502, "wants a login (407)"),
        ("S15 wrong", &good, url("user:hunter3@", &basic), 502, "does not accept the login"),
        ("S15 filter", &good, url("", &strict), 502, "answered 403 Forbidden"),
        ("S15 502", &gone, url("", &plain), 502, "answered 5"),
        ("S15 socks", &good, socks_url("", &socks), 502, "wants a login"),
        ("S15 socks wrong", &good, socks_url("user:no@", &socks), 502, "does not accept the login"),
        ("S15 socks gone", &gone, socks_url("", &open), 502, "connection refused"),
        ("S15 garbage", &good, url("", &socks), 502, "does not speak HTTP/1.1"),
        ("S15 TLS", &good, format!("https://localhost:{}", stunnel.address.port()), 502, "tls: "),
        (
            "S15 hangs",
            &good,
            format!("http://{}", silent.local_addr().unwrap()),
            504,
            "did not answer in time",
        ),
    ];
    for (id, kubeconfig, proxy, expected, words) in rows {
        let relay = Relay::with(&folder, kubeconfig, &proxy, None, &["--connect-timeout=1s"]);
        let (status, text) = relay.open(&["true"]).map(|_| ()).expect_err(id);
        assert_eq!(status, expected, "{id}: {text}");
        assert!(text.contains("the proxy at ") && text.contains(words), "{id}: {text}");
        assert!(!text.contains("hunter"), "{id}: {text}");
    }
}
