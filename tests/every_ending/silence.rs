//! Sessions in which somebody says nothing: a process that ended with input unread, whose server
//! never tells (P15), a server that answers no ping (P17), a process that reads nothing (P18).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fake_cluster::wire::{channel, close, opcode, raw};
use fake_cluster::{Behaviour, FakeCluster, Script, Session, Step, Upgrade, misbehaviour};
use futures_util::future::join_all;
use podwire::proto::message::Dialect;

use crate::common::{Kind, MASK, Relay, Start, cluster, folder, pipes, session, terminal, within};
use crate::page::{Page, Telling};
use crate::row::{ADMIN, line};

/// Above this much, what a process leaves unread stops its server's telling (recordings
/// `unread_stdin_64KiB_*`, `unread_stdin_256KiB_*`).
const UNREAD: usize = 256 * 1024;

/// Both peers are asked every second and given up after two.
const QUICK: &[&str] = &["--ping", "1s", "--cluster-ping", "1s", "--dead-after", "2s"];
const DEAD_AFTER: Duration = Duration::from_secs(2);

/// Input in frames as pages send it.
fn paste(bytes: usize) -> Vec<u8> {
    let pieces = vec![b'x'; bytes];
    pieces.chunks(32 * 1024).flat_map(|it| raw(0x80 | opcode::BINARY, MASK, it)).collect()
}

/// A word to a process, beside its input: it looks for a file.
struct Word(PathBuf);

impl Word {
    fn new() -> Self {
        Self(folder().join("word"))
    }

    /// What waits for it in a script.
    fn awaited(&self) -> String {
        format!("until test -e {}; do sleep 0.05; done", self.0.display())
    }

    fn say(&self) {
        std::fs::write(&self.0, "").unwrap();
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        // What is left is in the build's own folder and harms nobody.
        let _ = self.0.parent().map_or(Ok(()), |it: &Path| std::fs::remove_dir_all(it));
    }
}

/// A session whose process has ended with 3 and more input unread than its server gets over.
async fn untold(cluster: &FakeCluster, relay: &Relay, number: usize, tty: bool) -> (Page, Session) {
    let word = Word::new();
    let script = format!("printf up; {}; exit 3", word.awaited());
    let raw = format!("stty raw -echo; {script}");
    let target = if tty { terminal(&raw) } else { pipes(&script) };
    let page = Page::open(relay, Dialect::V1, &target, "").await;
    let mut page = page.unwrap_or_else(|answer| panic!("{answer:?}"));
    page.until_output("up").await;
    page.raw(&paste(UNREAD)).await;
    let seen = session(cluster, number).await;
    let arrived = seen.until(|facts| (facts.stdin_bytes >= UNREAD as u64).then_some(()));
    within("the paste arrives", arrived).await;
    word.say();
    let code = within("the process ends", seen.until(|facts| facts.exit_code)).await;
    assert_eq!(code, 3);
    // Nobody says so: the page still has a session.
    page.lives_for(Duration::from_millis(500), "after the process").await;
    (page, seen)
}

/// P15: such a session can be closed by its page, by an operator and by each limit, and the log
/// does not make up what became of its process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_end_is_never_told() {
    let ways = [
        ("--max-session=1h", &["browser_closed", "browser_lost", "revoked"][..]),
        ("--idle-timeout=4s", &["idle"]),
        ("--max-session=8s", &["max_session"]),
    ];
    let kinds = [Kind::V5, Kind::V5ApiServer, Kind::V4];
    let each = kinds.into_iter().flat_map(|kind| ways.map(|(flag, endings)| (kind, flag, endings)));
    join_all(each.map(async |(kind, flag, endings)| {
        let cluster = cluster(kind.behaviour()).await;
        let flags = ["--hangup-grace", "1s", flag];
        let relay = Start::flags(&flags).and(&ADMIN[..2]).before(&cluster).await;
        let each = endings.iter().flat_map(|ending| [(*ending, false), (*ending, true)]);
        for (number, (ending, tty)) in each.enumerate() {
            let (page, seen) = untold(&cluster, &relay, number, tty).await;
            ended_by(ending, page, &relay).await;
            let line = relay.until_logged("session end", number + 1).await;
            let fact = format!(" kind={ending} exit_code=- ");
            assert!(line.contains(&fact) && line.contains(" process=unknown "), "{line}");
            within("the cluster's end", seen.until(|facts| facts.closed.then_some(()))).await;
        }
    }))
    .await;
}

async fn ended_by(ending: &str, page: Page, relay: &Relay) {
    match ending {
        "browser_closed" => return page.leave().await,
        "browser_lost" => return page.abort(),
        "revoked" => {
            let path = format!("/sessions/{}", page.session());
            assert_eq!(relay.operate("DELETE", &path).await.status, 202);
        }
        _ => {}
    }
    let (_, _, close_code, retry) = line(ending);
    let telling = Telling {
        is_open: true,
        output: "up",
        notice: match ending {
            "idle" => Some("idle_warning"),
            "max_session" => Some("max_session_warning"),
            _ => None,
        },
        kind: ending,
        exit_code: None,
        close_code: close_code.unwrap(),
        retry,
        says: "",
    };
    telling.assert_told(Dialect::V1, &page.ended(ending).await, ending);
}

/// P17: whatever comes is life, pongs or not, and the session ends as its process does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_answers_no_ping_lives_while_anything_comes() {
    let output = channel(1, b"x").repeat(7);
    let status = channel(3, br#"{"metadata":{},"status":"Success"}"#);
    let script = Script::new([
        Step::Upgrade(Upgrade::honest()),
        // A byte in a quarter of a second: 7 s, and no frame that is whole in less than one.
        Step::SendSlowly(output.into(), Duration::from_millis(250)),
        Step::Send([status, close(1000)].concat().into()),
        Step::Close,
    ]);
    let cluster = cluster(Behaviour::scripted(script)).await;
    let relay = Start::flags(QUICK).before(&cluster).await;
    let began = Instant::now();
    let mut page = relay.v1(&pipes("")).await;
    page.assert_exit("exit", Some(0), 1000, "P17 data").await;
    assert_eq!(page.text(), "xxxxxxx");
    assert!(began.elapsed() > 3 * DEAD_AFTER);
    let frames = session(&cluster, 0).await.facts().frames;
    assert!(frames.is_empty(), "it has read nothing, pings included");
}

/// P17: a cluster that says nothing at all is given up in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_says_nothing_is_given_up_in_time() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(QUICK).before(&cluster).await;
    let silence = misbehaviour::named("silence-after-101").unwrap();
    for dialect in [Dialect::V1, Dialect::Seed] {
        cluster.script_next(silence.clone());
        let began = Instant::now();
        let page = Page::open(&relay, dialect, &pipes(""), "").await;
        let ended = page.unwrap_or_else(|answer| panic!("{answer:?}")).ended("P17 silence").await;
        let telling = Telling {
            is_open: true,
            output: "",
            notice: None,
            kind: "cluster_lost",
            exit_code: None,
            close_code: 4502,
            retry: true,
            says: "was silent for 2 s",
        };
        telling.assert_told(dialect, &ended, "P17 silence");
        let took = began.elapsed();
        assert!((DEAD_AFTER..5 * DEAD_AFTER).contains(&took), "{took:?}");
    }
}

/// The same of a browser: it may answer no ping as long as it says anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_answers_no_ping_lives_while_anything_comes() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(QUICK).before(&cluster).await;
    let page = Page::open(&relay, Dialect::V1, &pipes("echo up; cat"), "").await;
    let mut page = page.unwrap_or_else(|answer| panic!("{answer:?}"));
    page.until_output("up").await;
    page.answers = false;
    let began = Instant::now();
    while began.elapsed() < 3 * DEAD_AFTER {
        page.say(r#"{"type":"ping","id":1}"#).await;
        page.lives_for(Duration::from_millis(500), "a browser that speaks").await;
    }
    let silent = Instant::now();
    let line = relay.until_logged("session end", 1).await;
    assert!(line.contains(" kind=browser_lost "), "{line}");
    assert!(line.contains("nothing was heard of the browser for 2 s"), "{line}");
    assert!(silent.elapsed() > DEAD_AFTER / 2, "{:?}", silent.elapsed());
}

/// P18: input waits where it is, silence is no death meanwhile, output still comes, and nothing
/// is lost when the process reads again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_reads_nothing_lives() {
    // Made once, before any page is open: it takes longer than a page may be silent.
    let all = 32 * 1024 * 1024;
    let frames = paste(all);
    tokio::join!(
        reads_nothing(Kind::V5, &frames, all),
        reads_nothing(Kind::V5ApiServer, &frames, all),
    );
}

async fn reads_nothing(kind: Kind, frames: &[u8], all: usize) {
    let behaviour = Behaviour { stdin_buffer_bytes: Some(64 * 1024), ..kind.behaviour() };
    let cluster = cluster(behaviour).await;
    let relay = Start::flags(QUICK).and(ADMIN).before(&cluster).await;
    let (speak, read) = (Word::new(), Word::new());
    let script = format!("printf up; {}; printf tick; {}; wc -c", speak.awaited(), read.awaited());
    let page = Page::open(&relay, Dialect::V1, &pipes(&script), "").await;
    let mut page = page.unwrap_or_else(|answer| panic!("{answer:?}"));
    page.until_output("up").await;
    // A pong would wait behind the paste.
    page.answers = false;
    let sent = page.push(frames).await;
    assert!(sent < frames.len(), "{all} bytes were taken by nobody");
    let seen = session(&cluster, 0).await;
    page.lives_for(3 * DEAD_AFTER, "nobody reads, nobody speaks").await;
    let arrived = seen.facts().stdin_bytes;
    assert!(arrived < all as u64 / 2, "{arrived}");
    speak.say();
    page.until_output("tick").await;
    page.lives_for(2 * DEAD_AFTER, "still nobody reads").await;
    read.say();
    page.raw(&frames[sent..]).await;
    page.say(r#"{"type":"eof"}"#).await;
    let counted = format!("uptick{all}\n");
    let telling = Telling {
        is_open: true,
        output: &counted,
        notice: None,
        kind: "exit",
        exit_code: Some(0),
        close_code: 1000,
        retry: false,
        says: "exit code 0",
    };
    telling.assert_told(Dialect::V1, &page.ended("P18").await, "P18");
    let paused = relay.metric("podwire_paused_seconds_total{leg=\"browser\"}").await;
    assert!(paused > 5.0 * DEAD_AFTER.as_secs_f64(), "{paused}");
}
