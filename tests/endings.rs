//! When the browser leaves first: the process is hung up, and no process stays behind that nobody
//! knows of.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Kind, Start, both, cluster, pipes, session, terminal, upgrade, within};
use fake_cluster::wire::opcode;
use fake_cluster::{Behaviour, Facts, Gate, Script, Session, Step, Until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

on_every_cluster!(
    a_terminal_is_hung_up_when_its_page_is_left,
    a_terminal_is_hung_up_when_its_page_is_lost,
    pipes_are_hung_up_when_their_page_is_left,
    a_session_that_nobody_waits_for_is_hung_up,
    a_relay_that_is_stopped_hangs_up_and_tells,
);

/// Waits until the process has ended, as the cluster knows it.
async fn ended(session: &Session) -> Facts {
    let over =
        session.until(|facts| (facts.exit_code.is_some() && facts.closed).then(|| facts.clone()));
    within("the process ends", over).await
}

/// The two keys of a hang-up: interrupt, and if the process still runs, end of input.
fn keys(facts: &Facts) -> Vec<u8> {
    facts.channel(0).into_iter().filter(|byte| matches!(byte, 3 | 4)).collect()
}

const SLEEPER: &str = "echo up; sleep 1000";

async fn a_terminal_is_hung_up_when_its_page_is_left(kind: Kind) {
    let (cluster, relay) = both(kind).await;
    let shell = "PS1=up exec bash --norc -i";
    for (number, script) in [SLEEPER, "echo up; cat", shell].into_iter().enumerate() {
        let mut browser = relay.v1(&terminal(script)).await;
        browser.until_output("up").await;
        browser.leave().await;
        let facts = ended(&session(&cluster, number).await).await;
        // An interrupt ends what runs, and of a shell only what it has half typed.
        let wanted: &[u8] = if script == shell { &[3, 4] } else { &[3] };
        assert!(keys(&facts).starts_with(wanted), "{script}: {facts:?}");
        assert!(!facts.frames.iter().any(|frame| frame.channel() == Some(255)), "{script}");
        let line = relay.until_logged("session end", number + 1).await;
        assert!(line.contains("kind=browser_closed") && line.contains("process=ended"), "{line}");
    }
}

async fn a_terminal_is_hung_up_when_its_page_is_lost(kind: Kind) {
    let (cluster, relay) = both(kind).await;
    let mut number = 0;
    // With a reset, with an end of the stream, and in the middle of a frame (F12, F13).
    for how in ["reset", "end", "frame"] {
        for script in [SLEEPER, "echo up; yes"] {
            let mut browser = relay.v1(&terminal(script)).await;
            browser.until_output("up").await;
            match how {
                "reset" => browser.abort(),
                "end" => browser.socket.get_mut().shutdown().await.unwrap(),
                _ => {
                    browser.raw(&[0x82, 0xfe, 0x10]).await.unwrap();
                    browser.abort();
                }
            }
            let facts = ended(&session(&cluster, number).await).await;
            assert_eq!(keys(&facts)[0], 3, "{how} {script}");
            number += 1;
            let line = relay.until_logged("session end", number).await;
            assert!(line.contains("kind=browser_lost"), "{how} {script}: {line}");
            assert!(line.contains("process=ended"), "{how} {script}: {line}");
        }
    }
}

async fn pipes_are_hung_up_when_their_page_is_left(kind: Kind) {
    let (cluster, relay) = both(kind).await;
    let mut browser = relay.v1(&pipes("echo up; cat; echo over")).await;
    browser.until_output("up").await;
    browser.leave().await;
    let facts = ended(&session(&cluster, 0).await).await;
    assert_eq!(facts.exit_code, Some(0), "the end of its input is all that `cat` needs");
    let half_closes: Vec<_> =
        facts.frames.iter().filter(|frame| frame.channel() == Some(255)).collect();
    let line = relay.until_logged("session end", 1).await;
    assert!(line.contains("kind=browser_closed"), "{line}");
    if kind == Kind::V4 {
        // Nothing can be said there; the end of the connection ends the input.
        assert_eq!(half_closes.len(), 0);
        assert!(facts.has(opcode::CLOSE));
    } else {
        assert_eq!(half_closes.len(), 1);
        assert_eq!(&*half_closes[0].payload, [255, 0]);
        assert!(line.contains("process=ended process_code=0"), "{line}");
    }
}

/// The caller leaves while the cluster has not answered yet. The process is started all the same,
/// and would stay for ever.
async fn a_session_that_nobody_waits_for_is_hung_up(kind: Kind) {
    let (cluster, relay) = both(kind).await;
    let gate = Gate::new();
    cluster.script_next(Script::new([Step::Wait(gate.clone()), Step::Honest]));
    let before = relay.descriptors();
    let mut caller = TcpStream::connect(relay.addr()).await.unwrap();
    caller.write_all(upgrade(&terminal(SLEEPER), "").as_bytes()).await.unwrap();
    let seen = session(&cluster, 0).await;
    caller.set_zero_linger().unwrap();
    drop(caller);
    // The relay has noticed when only the cluster's connection is left of the two.
    relay.until_descriptors(before + 1).await;
    gate.open();
    let facts = ended(&seen).await;
    assert_eq!(keys(&facts)[0], 3, "{facts:?}");
    let line = relay.until_logged("session end", 1).await;
    assert!(line.contains("kind=browser_lost") && line.contains("process=ended"), "{line}");
}

async fn a_relay_that_is_stopped_hangs_up_and_tells(kind: Kind) {
    let (cluster, mut relay) = both(kind).await;
    let mut first = relay.v1(&terminal(SLEEPER)).await;
    let mut second = relay.seed(&terminal(SLEEPER)).await;
    first.until_output("up").await;
    second.until_output("up").await;
    let pages = async {
        let (exit, close) = first.exit().await;
        assert_eq!((exit["kind"].as_str(), close.code), (Some("drain"), 1012));
        assert_eq!(exit["retry"], true);
        assert_eq!(second.ended().await.code, 1012);
        // A page answers a close; tungstenite does when it is read once more.
        drop((first, second));
    };
    let (code, ()) = tokio::join!(relay.terminate(), pages);
    assert_eq!(code, Some(0));
    for number in 0..2 {
        assert_eq!(keys(&ended(&session(&cluster, number).await).await)[0], 3);
    }
}

/// A process that does not go when it is asked to is given up after the grace, and the log says
/// that nobody knows.
#[tokio::test]
async fn a_process_that_stays_is_given_up_after_the_grace() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--hangup-grace", "1s"]).before(&cluster).await;
    let mut browser =
        relay.v1(&terminal("trap '' INT; echo up; while :; do sleep 1000; done")).await;
    browser.until_output("up").await;
    browser.leave().await;
    let seen = session(&cluster, 0).await;
    let closed = seen.until(|facts| facts.has(opcode::CLOSE).then(|| facts.clone()));
    let facts = within("the relay's close", closed).await;
    assert_eq!(keys(&facts), [3, 4]);
    assert_eq!(facts.exit_code, None);
    let line = relay.until_logged("session end", 1).await;
    assert!(line.contains("process=unknown"), "{line}");
}

/// The first reason to end is the ending: a status in answer to the hang-up is only logged.
#[tokio::test]
async fn a_status_in_answer_to_the_hang_up_is_known_and_not_told() {
    let (cluster, relay) = both(Kind::V5).await;
    let mut browser = relay.v1(&terminal("trap 'exit 7' INT; echo up; read x")).await;
    browser.until_output("up").await;
    browser.leave().await;
    ended(&session(&cluster, 0).await).await;
    let line = relay.until_logged("session end", 1).await;
    assert!(line.contains("kind=browser_closed exit_code=-"), "{line}");
    assert!(line.contains("process=ended process_code=7"), "{line}");
}

/// A cluster that answers 101 and then nothing, to a browser that leaves: nothing is awaited for
/// longer than the grace.
#[tokio::test]
async fn a_silent_cluster_holds_nobody() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--hangup-grace", "1s"]).before(&cluster).await;
    let before = relay.descriptors();
    let upgraded = Step::Upgrade(fake_cluster::Upgrade::honest());
    cluster.script_next(Script::new([upgraded, Step::Read(Until::Gone), Step::Hang]));
    let browser = relay.v1(&pipes("true")).await;
    browser.leave().await;
    relay.until_logged("session end", 1).await;
    relay.until_descriptors(before).await;
}
