//! Ten thousand short sessions that end in every way there is: afterwards the relay has no more
//! descriptors, threads, sessions and memory than before.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use common::{Browser, MASK, Random, Relay, Start, cluster, eventually, short, upgrade, within};
use fake_cluster::wire::{head, opcode, raw};
use fake_cluster::{Behaviour, FakeCluster, misbehaviour};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How many sessions there are, and how many of them at once.
const SESSIONS: usize = 10_000;
const AT_ONCE: usize = 50;

/// As many as it takes for every buffer, cache and table of the relay to have its size.
const WARM_UP: usize = SESSIONS / 2;

/// What an allocator that keeps some of what it got may have more of after the second half, in
/// per cent.
const GROWTH_MAX: u64 = 3;

/// Clusters that misbehave in one way each, and the kind of ending that a page is told.
const MISBEHAVIOUR: &[(&str, &str)] = &[
    ("no-status", "cluster_lost"),
    ("status-then-reset", "exit"),
    ("reset", "cluster_lost"),
    ("eof", "cluster_lost"),
    ("malformed-status", "cluster_protocol"),
    ("close-1011", "cluster_lost"),
    ("text-frame", "cluster_protocol"),
    ("frame-2pow40", "cluster_protocol"),
    ("early-frames", "exit"),
    ("wrong-accept", "cluster_protocol"),
    ("unoffered-subprotocol", "cluster_protocol"),
    ("redirect", "cluster_protocol"),
    ("403-status", "forbidden"),
    ("404", "not_found"),
    ("503", "cluster_unreachable"),
    ("garbage", "cluster_protocol"),
];

/// One way to begin and end.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The cluster does something; the number is the place in the list above.
    Cluster(usize),
    Unreachable,
    Exit,
    Status,
    Killed,
    Shell,
    Closes,
    Aborts,
    AbortsAfterHead,
    AbortsBeforeHead,
    AbortsInHead,
    AbortsInFrame,
    BadFrame,
    TooLong,
    NoJson,
    NoPod,
    NoPodNoPage,
    NoCluster,
    BadName,
    NoHandshake,
    Page,
    Slow,
}

/// The ways and how often each is taken. What needs a process or waits for a limit is rarer.
const WAYS: &[(usize, &[Way])] = &[
    (
        20,
        &[
            Way::Exit,
            Way::Closes,
            Way::Aborts,
            Way::AbortsAfterHead,
            Way::AbortsBeforeHead,
            Way::AbortsInHead,
            Way::AbortsInFrame,
            Way::BadFrame,
            Way::TooLong,
            Way::NoJson,
            Way::NoPod,
            Way::NoPodNoPage,
            Way::NoCluster,
            Way::BadName,
            Way::NoHandshake,
            Way::Page,
            Way::Unreachable,
        ],
    ),
    (1, &[Way::Status, Way::Killed, Way::Shell, Way::Slow]),
];

struct World {
    relay: Relay,
    addr: SocketAddr,
    /// They end with it.
    _clusters: Vec<FakeCluster>,
    done: AtomicUsize,
    ways: Mutex<BTreeMap<String, usize>>,
}

/// One kubeconfig for the honest cluster and all others, by the names of what they do.
fn kubeconfig(clusters: &[(&str, &FakeCluster)]) -> String {
    let mut all: Option<Value> = None;
    for (name, cluster) in clusters {
        let mut one: Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
        let context = json!({"cluster": name, "user": name, "namespace": "demo"});
        one["clusters"][0]["name"] = json!(name);
        one["users"][0]["name"] = json!(name);
        one["contexts"][0] = json!({"name": name, "context": context});
        let all = all.get_or_insert_with(|| {
            let mut first = one.clone();
            first["current-context"] = json!(name);
            for list in ["clusters", "users", "contexts"] {
                first[list] = json!([]);
            }
            first
        });
        for list in ["clusters", "users", "contexts"] {
            let item = one[list][0].clone();
            all[list].as_array_mut().unwrap().push(item);
        }
    }
    all.unwrap().to_string()
}

async fn world() -> World {
    let honest = cluster(Behaviour::default()).await;
    let gone = cluster(Behaviour::default()).await;
    let mut others = Vec::new();
    for (name, _) in MISBEHAVIOUR {
        let script = misbehaviour::named(name).unwrap();
        others.push(cluster(Behaviour::scripted(script)).await);
    }
    let mut named = vec![("honest", &honest), ("gone", &gone)];
    named.extend(MISBEHAVIOUR.iter().map(|(name, _)| *name).zip(&others));
    let kubeconfig = Some(kubeconfig(&named));
    let names = named.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
    let flags = ["--clusters", &names, "--hangup-grace", "1s", "--slow-browser", "1s"];
    let flags = [flags.as_slice(), &["--admin-listen", "127.0.0.1:0"]].concat();
    let start = Start { kubeconfig, ..Start::flags(&flags) };
    let relay = start.before(&honest).await;
    // Its port answers nobody any more.
    drop(gone);
    others.push(honest);
    let addr = relay.addr();
    let (done, ways) = (AtomicUsize::new(0), Mutex::default());
    World { relay, addr, _clusters: others, done, ways }
}

impl Way {
    fn random(random: &mut Random) -> Self {
        let clusters = 10 * MISBEHAVIOUR.len();
        let total = clusters + WAYS.iter().map(|(often, ways)| often * ways.len()).sum::<usize>();
        let mut number = random.below(total);
        if number < clusters {
            return Self::Cluster(number % MISBEHAVIOUR.len());
        }
        number -= clusters;
        for (often, ways) in WAYS {
            if number < often * ways.len() {
                return ways[number % ways.len()];
            }
            number -= often * ways.len();
        }
        unreachable!("the sum of all ways")
    }

    async fn go(self, world: &World, random: &mut Random) {
        match self {
            Self::Cluster(number) => {
                let (name, kind) = MISBEHAVIOUR[number];
                told(world, &echo(&format!("&cluster={name}")), kind).await;
            }
            Self::Unreachable => told(world, &echo("&cluster=gone"), "cluster_unreachable").await,
            Self::Exit => told(world, &command(&["podwire-test-flood", "5000"]), "exit").await,
            Self::Status => told(world, &command(&["sh", "-c", "exit 7"]), "exit").await,
            Self::Killed => told(world, &command(&["sh", "-c", "kill -9 $$"]), "exit").await,
            Self::NoPod => {
                told(world, &echo("").replace("pod=shell", "pod=ghost"), "not_found").await;
            }
            Self::NoPodNoPage => {
                let target = echo("").replace("pod=shell", "pod=ghost");
                assert_eq!(world.relay.ask(&target, "").await.status, 404);
            }
            Self::NoCluster => told(world, &echo("&cluster=none"), "not_found").await,
            Self::BadName => {
                let target = echo("").replace("pod=shell", "pod=..");
                assert_eq!(world.relay.ask(&target, "").await.status, 400);
            }
            Self::NoHandshake => {
                let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", echo(""));
                assert_eq!(world.relay.http(request).await.unwrap().status, 426);
            }
            Self::Page => {
                let request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
                assert_eq!(world.relay.http(request).await.unwrap().status, 200);
            }
            Self::Shell | Self::Closes | Self::Aborts => self.leaves(world).await,
            Self::AbortsAfterHead | Self::AbortsBeforeHead | Self::AbortsInHead => {
                self.aborts(world, random).await;
            }
            Self::AbortsInFrame | Self::BadFrame | Self::TooLong | Self::NoJson | Self::Slow => {
                self.breaks(world).await;
            }
        }
    }

    /// A page that is left.
    async fn leaves(self, world: &World) {
        if let Self::Shell = self {
            let mut browser = world.relay.v1(&short(&[], "")).await;
            browser.input("echo $((6*7))up\r").await;
            browser.until_output("42up").await;
            return browser.leave().await;
        }
        let mut browser = world.relay.seed(&echo("")).await;
        browser.input("hello").await;
        browser.until_output("hello").await;
        match self {
            Self::Closes => browser.leave().await,
            _ => browser.abort(),
        }
    }

    /// A caller that goes away at some moment of the handshake.
    async fn aborts(self, world: &World, random: &mut Random) {
        let head = upgrade(&echo(""), "");
        let head = head.as_bytes();
        let mut tcp = connect(world.addr).await;
        let length = match self {
            Self::AbortsInHead => 1 + random.below(head.len() - 1),
            _ => head.len(),
        };
        tcp.write_all(&head[..length]).await.unwrap();
        if let Self::AbortsAfterHead = self {
            let mut byte = [0];
            within("an answer", tcp.read_exact(&mut byte)).await.unwrap();
        }
        tcp.set_zero_linger().unwrap();
    }

    /// A browser that does not do as it should.
    async fn breaks(self, world: &World) {
        if let Self::Slow = self {
            // It reads nothing; the relay's answer is for nobody.
            let browser = world.relay.seed(&command(&["podwire-test-flood", "0"])).await;
            let before = world.relay.logged("kind=slow_browser");
            eventually("slow", || world.relay.logged("kind=slow_browser") > before).await;
            return browser.abort();
        }
        let mut browser = world.relay.v1(&echo("")).await;
        browser.input("hello").await;
        browser.until_output("hello").await;
        match self {
            Self::AbortsInFrame => {
                browser.raw(&[0x82, 0xfe, 0x10]).await.unwrap();
                return browser.abort();
            }
            Self::BadFrame => browser.raw(&raw(0x82, None, b"hello")).await.unwrap(),
            // A frame's head is all that it takes.
            Self::TooLong => {
                let head = [head(0x82, true, 2 * 1024 * 1024), MASK.unwrap().to_vec()].concat();
                browser.raw(&head).await.unwrap();
            }
            _ => {
                for _ in 0..10 {
                    browser.raw(&raw(0x80 | opcode::TEXT, MASK, b"{")).await.unwrap();
                }
            }
        }
        let close = browser.closed().await;
        let wanted = match self {
            Self::BadFrame => 1002,
            Self::TooLong => 1009,
            _ => 4400,
        };
        assert_eq!(close.code, wanted, "{close:?}");
        browser.abort();
    }
}

/// Out of local ports for a moment, at worst: they come back.
async fn connect(addr: SocketAddr) -> TcpStream {
    loop {
        match TcpStream::connect(addr).await {
            Ok(tcp) => return tcp,
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// What a pseudo command of the pretend cluster does costs no process.
fn command(words: &[&str]) -> String {
    short(words, "&tty=false")
}

fn echo(rest: &str) -> String {
    command(&["podwire-test-echo"]) + rest
}

/// A page that is told how its session ended.
async fn told(world: &World, target: &str, kind: &str) {
    let request = world.relay.request(target, &[("sec-websocket-protocol", "podwire.v1")]);
    let mut browser = Browser::open(connect(world.addr).await, request).await.unwrap();
    let (exit, _) = browser.exit().await;
    assert_eq!(exit["kind"], kind, "{target}: {exit}");
}

async fn some(world: Arc<World>, until: usize, number: u64) {
    let mut random = Random(number);
    while world.done.fetch_add(1, Ordering::Relaxed) < until {
        let way = Way::random(&mut random);
        way.go(&world, &mut random).await;
        *world.ways.lock().unwrap().entry(format!("{way:?}")).or_default() += 1;
    }
    // This one was not done.
    world.done.fetch_sub(1, Ordering::Relaxed);
}

/// Sessions until there have been so many in all.
async fn sessions(world: &Arc<World>, until: usize) {
    let mut runners = JoinSet::new();
    for runner in 0..AT_ONCE {
        runners.spawn(some(Arc::clone(world), until, (until * AT_ONCE + runner) as u64));
    }
    while let Some(end) = runners.join_next().await {
        end.expect("every session ends as it should");
    }
}

/// What the relay has when nobody is there: descriptors, threads, and KiB of memory.
#[derive(Clone, Copy, Debug)]
struct Figures {
    descriptors: usize,
    threads: usize,
    memory: u64,
}

async fn figures(relay: &Relay, descriptors: usize) -> Figures {
    relay.until_metric("podwire_sessions_active", 0.0).await;
    assert!(relay.sessions().await.is_empty());
    relay.until_descriptors(descriptors).await;
    let threads = std::fs::read_dir(format!("/proc/{}/task", relay.pid())).unwrap().count();
    Figures { descriptors: relay.descriptors(), threads, memory: relay.memory("VmRSS") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sessions_leave_nothing_behind() {
    let world = Arc::new(world().await);
    let before = figures(&world.relay, usize::MAX).await;
    let begun = Instant::now();
    sessions(&world, WARM_UP).await;
    let warm = figures(&world.relay, before.descriptors).await;
    sessions(&world, SESSIONS).await;
    let after = figures(&world.relay, before.descriptors).await;
    let took = begun.elapsed();
    println!(
        "{SESSIONS} sessions in {took:?}\nbefore {before:?}\nwarm   {warm:?}\nafter  {after:?}"
    );
    println!("{:?}", world.ways.lock().unwrap());
    assert!(after.descriptors <= before.descriptors);
    assert_eq!(after.threads, before.threads);
    let most = warm.memory + warm.memory * GROWTH_MAX / 100;
    assert!(after.memory <= most, "{warm:?} {after:?}");
    let ended = world.relay.logged("session end");
    assert_eq!(world.relay.logged("session start"), ended);
    assert!((world.relay.metric("podwire_panics_total").await).abs() < f64::EPSILON);
}
