//! A session that lives for hours, with a clock that jumps from one timer to the next: who is
//! asked whether they are still there, who is given up when, and what a user is told before.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::ops::Range;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use podwire::bytes::Bytes;
use podwire::proto::channel::{Size, Subprotocol};
use podwire::proto::message::{Dialect, Place};
use podwire::proto::session::Process;
use podwire::{Browser, Cluster, Kind, Limits, Outcome, relay};
use serde_json::Value;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What a socket's two buffers hold.
const PIPE: usize = 256 * 1024;

/// The longest that an API server leaves a connection without a data frame.
const DATA_TIMEOUT: Duration = Duration::from_hours(4);

const MINUTE: Duration = Duration::from_mins(1);

/// Two far ends with a relay between them.
struct Legs {
    page: WebSocketStream<DuplexStream>,
    far: WebSocketStream<DuplexStream>,
    session: JoinHandle<Outcome>,
}

/// No limit but the ones that find dead peers.
fn endless() -> Limits {
    let mut limits = Limits::default();
    limits.idle_timeout = None;
    limits.max_session = None;
    limits
}

async fn legs(limits: Limits, tty: bool) -> Legs {
    let (page, to_browser) = duplex(PIPE);
    let (far, to_cluster) = duplex(PIPE);
    let browser = Browser { io: to_browser, early: Bytes::new(), dialect: Dialect::V1 };
    let place = Place { tty, ..Place::default() };
    let cluster = Cluster::new(to_cluster, Subprotocol::V5, place);
    let cluster = Cluster { size: tty.then_some(Size::DEFAULT), ..cluster };
    let session = tokio::spawn(relay(browser, cluster, limits, std::future::pending()));
    let page = WebSocketStream::from_raw_socket(page, Role::Client, None).await;
    let far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
    Legs { page, far, session }
}

/// What a cluster's end saw.
#[derive(Debug, Default)]
struct Seen {
    pings: u32,
    sizes: Vec<Value>,
    input: Vec<u8>,
    /// Data frames that say nothing.
    empty: u32,
    /// When the first key of a hang-up came, or the end of input.
    hung_up: Option<Instant>,
}

/// An API server: answers pings, echoes input, cuts a connection without data for four hours, ends
/// the process with the keys of a hang-up or with the end of input.
async fn api_server(mut far: WebSocketStream<DuplexStream>) -> Seen {
    let mut seen = Seen::default();
    let mut heard = Instant::now();
    far.send(Message::binary(&b"\x01"[..])).await.unwrap();
    loop {
        let left = DATA_TIMEOUT.saturating_sub(heard.elapsed());
        let Ok(next) = timeout(left, far.next()).await else { return seen };
        let bytes = match next {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Ping(_))) => {
                seen.pings += 1;
                continue;
            }
            Some(Ok(Message::Pong(_))) => continue,
            _ => return seen,
        };
        heard = Instant::now();
        match bytes.first() {
            None => seen.empty += 1,
            Some(0) if bytes.len() == 1 => seen.empty += 1,
            Some(0) => {
                let input = &bytes[1..];
                seen.input.extend_from_slice(input);
                if input.contains(&3) {
                    seen.hung_up.get_or_insert(heard);
                    break;
                }
                far.send(Message::binary([&[1], input].concat())).await.unwrap();
            }
            Some(4) => seen.sizes.push(serde_json::from_slice(&bytes[1..]).unwrap()),
            Some(255) => {
                seen.hung_up.get_or_insert(heard);
                break;
            }
            other => panic!("channel {other:?}"),
        }
    }
    let status = b"\x03{\"metadata\":{},\"status\":\"Success\"}";
    far.send(Message::binary(&status[..])).await.unwrap();
    // The relay may have closed first.
    let _ = far.close(None).await;
    seen
}

/// What a page was told, when, and how often it was asked whether it is there.
#[derive(Debug, Default)]
struct Told {
    messages: Vec<(Duration, Value)>,
    output: Vec<u8>,
    pings: u32,
    close: Option<u16>,
}

impl Told {
    fn of(&self, kind: &str) -> Vec<&(Duration, Value)> {
        self.messages.iter().filter(|(_, message)| message["kind"] == kind).collect()
    }

    /// Asserts that it was told this once, and when.
    fn once(&self, kind: &str, when: Range<Duration>) {
        let found = self.of(kind);
        assert_eq!(found.len(), 1, "{kind}: {self:?}");
        assert!(when.contains(&found[0].0), "{kind} {when:?}: {self:?}");
        assert!(found[0].1["message"].as_str().is_some_and(|it| !it.is_empty()), "{self:?}");
    }
}

/// Reads as a page does until the end, or until this much time has passed.
async fn read(
    page: &mut WebSocketStream<DuplexStream>,
    told: &mut Told,
    begun: Instant,
    time: Duration,
) {
    let _ = timeout(time, async {
        while let Some(Ok(message)) = page.next().await {
            match message {
                Message::Text(text) => {
                    let message = serde_json::from_str(&text).unwrap();
                    told.messages.push((begun.elapsed(), message));
                }
                Message::Binary(bytes) => told.output.extend_from_slice(&bytes),
                Message::Ping(_) => told.pings += 1,
                Message::Close(frame) => told.close = frame.map(|it| it.code.into()),
                Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    })
    .await;
}

fn about(time: Duration) -> Range<Duration> {
    time..time + Duration::from_secs(1)
}

const DAY: Duration = Duration::from_hours(24);

/// A day without a key or a byte of output, with a terminal and without, with the size that is
/// said again and without.
#[tokio::test(start_paused = true)]
async fn an_idle_session_lives_for_a_day() {
    for (tty, keepalive) in [(true, true), (true, false), (false, true)] {
        let mut limits = endless();
        if !keepalive {
            limits.size_keepalive = None;
        }
        let Legs { mut page, far, session } = legs(limits, tty).await;
        let far = tokio::spawn(api_server(far));
        let (mut told, begun) = (Told::default(), Instant::now());
        read(&mut page, &mut told, begun, DAY).await;
        assert!(!session.is_finished(), "{told:?}");
        assert!(told.output.is_empty() && told.messages.len() == 1, "{told:?}");
        page.send(Message::binary(&b"still there"[..])).await.unwrap();
        read(&mut page, &mut told, begun, MINUTE).await;
        assert_eq!(told.output, b"still there");
        page.send(Message::Close(None)).await.unwrap();
        read(&mut page, &mut told, begun, MINUTE).await;
        let (seen, outcome) = (far.await.unwrap(), session.await.unwrap());
        assert_eq!(outcome.ending.kind, Kind::BrowserClosed);
        assert_eq!(outcome.process, Process::Ended(Some(0)));
        println!(
            "terminal {tty}, size {keepalive}: {} pings of the browser, {} of the cluster, {} \
             sizes, {} empty",
            told.pings,
            seen.pings,
            seen.sizes.len(),
            seen.empty
        );
        let pings = |every| DAY.as_secs() / every;
        assert!(u64::from(told.pings) >= pings(20), "{}", told.pings);
        // A ping may be left out where something else is said at the same moment.
        assert!(u64::from(seen.pings) >= pings(20), "{}", seen.pings);
        assert!(seen.input.starts_with(b"still there"), "{seen:?}");
        // The same size again and again; none without a terminal, where one would be the last.
        assert!(seen.sizes.windows(2).all(|two| two[0] == two[1]), "{:?}", seen.sizes);
        let sizes = u64::try_from(seen.sizes.len()).unwrap();
        match (tty, keepalive) {
            (true, true) => assert!(sizes > pings(120), "{sizes}"),
            (true, false) => assert_eq!(sizes, 1),
            _ => assert_eq!(sizes, 0),
        }
    }
}

/// A dead browser: its connection takes what there is for it, and nothing comes.
#[tokio::test(start_paused = true)]
async fn a_dead_browser_is_noticed_within_a_minute() {
    for tty in [true, false] {
        let Legs { page, far, session } = legs(endless(), tty).await;
        let begun = Instant::now();
        let seen = api_server(far).await;
        let noticed = seen.hung_up.unwrap() - begun;
        assert!(noticed <= Duration::from_secs(61), "{noticed:?}");
        assert!(noticed >= Duration::from_secs(59), "{noticed:?}");
        let outcome = session.await.unwrap();
        assert_eq!(outcome.ending.kind, Kind::BrowserLost);
        assert_eq!(outcome.process, Process::Ended(Some(0)));
        drop(page);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_cluster_is_told_within_a_minute() {
    for tty in [true, false] {
        let Legs { mut page, far, session } = legs(endless(), tty).await;
        let (mut told, begun) = (Told::default(), Instant::now());
        read(&mut page, &mut told, begun, DAY).await;
        told.once("cluster_lost", Duration::from_secs(59)..Duration::from_secs(61));
        assert_eq!(told.close, Some(4502));
        let outcome = session.await.unwrap();
        assert_eq!(outcome.ending.kind, Kind::ClusterLost);
        assert_eq!(outcome.process, Process::Unknown);
        drop(far);
    }
}

/// A peer that was silent for most of the minute and then says anything has the minute again.
#[tokio::test(start_paused = true)]
async fn any_frame_is_life() {
    let mut limits = endless();
    // The far ends say something only here, so nobody is asked.
    limits.browser_ping = DAY;
    limits.cluster_ping = DAY;
    let Legs { mut page, mut far, session } = legs(limits, true).await;
    let begun = Instant::now();
    for round in 0..60_u32 {
        sleep(Duration::from_secs(55)).await;
        let message = match round % 3 {
            0 => Message::Ping(Bytes::new()),
            1 => Message::Pong(Bytes::new()),
            _ => Message::binary(&b"\x00x"[..]),
        };
        page.send(message.clone()).await.unwrap();
        far.send(message).await.unwrap();
        assert!(!session.is_finished(), "after {:?}", begun.elapsed());
    }
    let (noticed, lost) = (Instant::now(), session.await.unwrap());
    assert!(matches!(lost.ending.kind, Kind::BrowserLost | Kind::ClusterLost), "{lost:?}");
    let took = noticed.elapsed();
    assert!(took >= Duration::from_secs(59), "{took:?}");
}

/// Thirty minutes without a key, with a warning one minute before. Output is no key.
#[tokio::test(start_paused = true)]
async fn an_idle_session_is_warned_and_ended() {
    let Legs { mut page, mut far, session } = legs(Limits::default(), true).await;
    let (mut told, begun) = (Told::default(), Instant::now());
    let talk = tokio::spawn(async move {
        // A program that never stops to talk, at an API server that answers pings.
        loop {
            let often = sleep(Duration::from_secs(10));
            tokio::pin!(often);
            loop {
                tokio::select! {
                    () = &mut often => break,
                    next = far.next() => if !matches!(next, Some(Ok(_))) { return },
                }
            }
            if far.send(Message::binary(&b"\x01tick\r\n"[..])).await.is_err() {
                return;
            }
        }
    });
    read(&mut page, &mut told, begun, DAY).await;
    told.once("idle_warning", about(29 * MINUTE));
    told.once("idle", about(30 * MINUTE));
    assert_eq!(told.messages.last().unwrap().1["type"], "exit");
    assert_eq!(told.messages.last().unwrap().1["retry"], true);
    assert_eq!(told.close, Some(4408));
    assert_eq!(session.await.unwrap().ending.kind, Kind::Idle);
    talk.await.unwrap();
}

/// What somebody types resets it, warned or not; what a page does by itself does not.
#[tokio::test(start_paused = true)]
async fn typing_ends_idleness_and_a_page_of_its_own_does_not() {
    let Legs { mut page, far, session } = legs(Limits::default(), true).await;
    let far = tokio::spawn(api_server(far));
    let (mut told, begun) = (Told::default(), Instant::now());
    // Behind the warning.
    read(&mut page, &mut told, begun, 29 * MINUTE + MINUTE / 2).await;
    told.once("idle_warning", about(29 * MINUTE));
    page.send(Message::text(r#"{"type":"input","input":"x"}"#)).await.unwrap();
    // Before the next warning is due, and a page that only keeps itself busy behind that.
    read(&mut page, &mut told, begun, 20 * MINUTE).await;
    page.send(Message::binary(&b"y"[..])).await.unwrap();
    let typed = begun.elapsed();
    for round in 0..100 {
        read(&mut page, &mut told, begun, MINUTE).await;
        let message = match round % 3 {
            0 => r#"{"type":"ping","id":1}"#,
            1 => r#"{"type":"ack","bytes":2}"#,
            _ => r#"{"type":"nonsense"}"#,
        };
        if page.send(Message::text(message)).await.is_err() {
            break;
        }
    }
    told.once("idle", about(typed + 30 * MINUTE));
    let warnings = told.of("idle_warning");
    assert_eq!(warnings.len(), 2, "{told:?}");
    assert!(about(typed + 29 * MINUTE).contains(&warnings[1].0), "{told:?}");
    assert_eq!(session.await.unwrap().ending.kind, Kind::Idle);
    assert!(far.await.unwrap().hung_up.is_some());
}

/// Twelve hours at most, whatever is typed, with a warning one minute before.
#[tokio::test(start_paused = true)]
async fn the_longest_session_is_warned_and_ended() {
    let Legs { mut page, far, session } = legs(Limits::default(), true).await;
    let far = tokio::spawn(api_server(far));
    let (mut told, begun) = (Told::default(), Instant::now());
    while told.close.is_none() {
        read(&mut page, &mut told, begun, 10 * MINUTE).await;
        // The last one may be too late.
        let _ = page.send(Message::text(r#"{"type":"input","input":"x"}"#)).await;
    }
    told.once("max_session_warning", about(719 * MINUTE));
    told.once("max_session", about(720 * MINUTE));
    assert!(told.of("idle_warning").is_empty(), "{told:?}");
    assert_eq!(told.close, Some(4408));
    assert_eq!(session.await.unwrap().ending.kind, Kind::MaxSession);
    assert!(far.await.unwrap().hung_up.is_some());
}
/// Whatever else is said at the same moments, a cluster that answers is asked in time.
#[tokio::test(start_paused = true)]
async fn pings_that_are_rare_keep_a_session_alive() {
    for (ping, dead_after) in [(30, 40), (60, 70), (20, 30), (7, 8)] {
        let mut limits = endless();
        limits.browser_ping = Duration::from_secs(ping);
        limits.cluster_ping = Duration::from_secs(ping);
        limits.dead_after = Duration::from_secs(dead_after);
        let Legs { mut page, far, session } = legs(limits, true).await;
        let far = tokio::spawn(api_server(far));
        let (mut told, begun) = (Told::default(), Instant::now());
        read(&mut page, &mut told, begun, DAY).await;
        assert!(!session.is_finished(), "every {ping} s, {dead_after} s: {told:?}");
        drop(page);
        assert_eq!(session.await.unwrap().ending.kind, Kind::BrowserLost);
        assert!(far.await.unwrap().hung_up.is_some());
    }
}

/// A process that has ended leaves its last output and the status with a server that has closed:
/// whatever is said to it is answered with a reset, and what it still had to send is lost. So
/// nothing is said to a cluster that is not read, nor while output flows.
#[tokio::test(start_paused = true)]
async fn a_cluster_that_waits_for_us_is_not_asked_and_told_nothing() {
    for pause in [Duration::from_mins(4), Duration::from_secs(1)] {
        let mut limits = endless();
        // The page's own pauses are not what this is about.
        limits.dead_after = DAY;
        limits.slow_browser = DAY;
        let Legs { mut page, far, session } = legs(limits, true).await;
        let (mut sink, mut stream) = far.split();
        // More than the page takes in twenty pauses.
        let flood = async {
            let frame = [&[1], vec![b'x'; 16 * 1024].as_slice()].concat();
            for _ in 0..512 {
                sink.send(Message::binary(frame.clone())).await.unwrap();
            }
        };
        let frames = async {
            let mut frames = Vec::new();
            while let Some(Ok(frame)) = stream.next().await {
                frames.push(frame);
            }
            frames
        };
        let reads = async {
            for _ in 0..20 {
                sleep(pause).await;
                let next = page.next().await;
                assert!(matches!(next, Some(Ok(_))), "{next:?}");
            }
            page.close(None).await.unwrap();
            while let Some(Ok(_)) = page.next().await {}
        };
        let (frames, (), ()) = tokio::join!(frames, flood, reads);
        // The first size, then the keys of the hang-up and a close.
        let keys = frames
            .iter()
            .position(|it| it.is_binary() && it.len() == 2 && it.clone().into_data()[0] == 0);
        let pings = frames.iter().filter(|it| it.is_ping()).count();
        assert_eq!((pings, keys), (0, Some(1)), "pause {pause:?}: {} frames", frames.len());
        assert_eq!(session.await.unwrap().ending.kind, Kind::BrowserClosed);
    }
}
