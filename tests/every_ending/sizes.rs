//! A size that a server cannot read, or one too many where there is no terminal, stops its reading
//! for good (recordings `client_resize_malformed`, `resize_to_nontty`): no input, no pong, no
//! answer to a close. So none is ever sent, whatever a page says.

use std::time::Duration;

use fake_cluster::{Behaviour, FakeCluster, Frame, Image, Session};
use futures_util::future::join_all;
use podwire::proto::message::Dialect;
use serde_json::Value;

use crate::common::{Kind, Relay, Start, cluster, pipes, session, terminal, within};
use crate::page::Page;

/// What pages may say of a size, sensible or not.
const SILLY: [&str; 14] = [
    r#"{"type":"resize","rows":0,"cols":0}"#,
    r#"{"type":"resize","rows":0,"cols":80}"#,
    r#"{"type":"resize","rows":-1,"cols":80}"#,
    r#"{"type":"resize","rows":65536,"cols":65536}"#,
    r#"{"type":"resize","rows":70000,"cols":1e9}"#,
    r#"{"type":"resize","rows":1e300,"cols":80}"#,
    r#"{"type":"resize","rows":1e999,"cols":80}"#,
    r#"{"type":"resize","rows":1.5,"cols":80}"#,
    r#"{"type":"resize","rows":"24","cols":"80"}"#,
    r#"{"type":"resize","rows":null,"cols":80}"#,
    r#"{"type":"resize","rows":[24],"cols":{}}"#,
    r#"{"type":"resize","cols":80}"#,
    r#"{"type":"resize"}"#,
    r#"{"type":"resize","rows":18446744073709551616,"cols":80}"#,
];

/// And in an address.
const QUERIES: [&str; 8] = [
    "&cols=0&rows=0",
    "&cols=-1&rows=24",
    "&cols=99999&rows=99999",
    "&cols=1e3&rows=24",
    "&cols=&rows=",
    "&cols=99999999999999999999&rows=24",
    "&cols=80",
    "&cols=%7B%7D&rows=24",
];

fn size(cols: u32, rows: u32) -> String {
    format!(r#"{{"type":"resize","cols":{cols},"rows":{rows}}}"#)
}

async fn open(relay: &Relay, target: &str) -> Page {
    let page = Page::open(relay, Dialect::Seed, target, "").await;
    page.unwrap_or_else(|answer| panic!("{target}: {answer:?}"))
}

fn of_channel_4(frames: &[Frame]) -> Vec<String> {
    let sizes = frames.iter().filter(|frame| frame.channel() == Some(4));
    sizes.map(|frame| String::from_utf8(frame.payload[1..].to_vec()).unwrap()).collect()
}

/// The sizes that a cluster was sent, each of which must be one to its letter.
fn sizes(seen: &Session, what: &str) -> Vec<(u64, u64)> {
    let facts = seen.facts();
    assert!(!facts.wedged, "{what}: the read loop stands still");
    let sizes = of_channel_4(&facts.frames).into_iter().map(|text| {
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{what}: {text}"));
        let side = |name: &str| json[name].as_u64().unwrap_or_default();
        let (width, height) = (side("Width"), side("Height"));
        assert_eq!(text, format!(r#"{{"Width":{width},"Height":{height}}}"#), "{what}");
        let allowed = 1..=u64::from(u16::MAX);
        assert!(allowed.contains(&width) && allowed.contains(&height), "{what}: {text}");
        (width, height)
    });
    sizes.collect()
}

async fn until_size(seen: &Session, text: &str) {
    let sent = seen
        .until(|facts| of_channel_4(&facts.frames).iter().any(|size| size == text).then_some(()));
    within(text, sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_terminal_no_size_is_ever_sent() {
    join_all([Kind::V5, Kind::V5ApiServer, Kind::V4].map(async |kind| {
        let cluster = cluster(kind.behaviour()).await;
        let relay = Start::flags(&["--size-keepalive", "1s"]).before(&cluster).await;
        let attach = "/api/v1/namespaces/demo/pods/shell/attach?container=side&tty=false\
                      &stdin=true&stdout=true&stderr=true";
        let targets = [
            pipes("echo up; cat"),
            pipes("echo up; cat") + "&cols=100&rows=30",
            "/exec?namespace=demo&pod=shell&container=main&tty=false&cols=100&rows=30".to_owned(),
            attach.to_owned(),
        ];
        for (number, target) in targets.iter().enumerate() {
            let mut page = open(&relay, target).await;
            for side in 2..40 {
                page.say(&size(100 + side, 20 + side)).await;
            }
            for silly in SILLY.iter().take(6) {
                page.say(silly).await;
            }
            page.say(r#"{"type":"input","input":"echo here\n"}"#).await;
            page.until_output("here").await;
            // Longer than a terminal's size would stay unsaid.
            page.lives_for(Duration::from_millis(2500), "no terminal").await;
            page.say(&size(7, 7)).await;
            page.say(r#"{"type":"input","input":"echo there\n"}"#).await;
            page.until_output("there").await;
            let seen = session(&cluster, number).await;
            page.leave().await;
            let closed = seen.until(|facts| facts.closed.then_some(()));
            within("the session is over", closed).await;
            assert_eq!(sizes(&seen, target), [], "{kind:?} {target}");
        }
        for seen in cluster.sessions() {
            assert_eq!(sizes(&seen, "every exec"), []);
        }
    }))
    .await;
}

/// An exec that is tried after another that was not there is one without a terminal, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_candidate_gets_a_size_without_a_terminal_and_each_gets_one_with_it() {
    let image = Image::NoSh { has: vec!["ash".to_owned(), "cat".to_owned()] };
    let cluster = cluster(Behaviour::of_image(image)).await;
    let relay = Relay::start(&cluster).await;
    for tty in [false, true] {
        let before = cluster.sessions().len();
        let target = format!("/exec?namespace=demo&pod=shell&container=main&tty={tty}");
        let mut page = open(&relay, &target).await;
        page.say(&size(91, 31)).await;
        page.say(r#"{"type":"input","input":"echo he''re\n"}"#).await;
        page.until_output("here").await;
        if tty {
            // The one that runs has the newest size.
            let last = cluster.sessions().pop().unwrap();
            let has = last.until(|facts| (facts.sizes.last() == Some(&(91, 31))).then_some(()));
            within("the terminal's size", has).await;
        }
        page.leave().await;
        let execs = cluster.sessions().split_off(before);
        assert!(execs.len() > 1, "there was more than one exec");
        for seen in execs {
            let sent = sizes(&seen, &target);
            assert!(tty || sent.is_empty(), "{sent:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silly_sizes_never_get_there() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--size-keepalive", "1s"]).before(&cluster).await;
    let script = "stty -echo; echo up; while read line; do echo \"said $line\"; done";
    let mut number = 0;
    for query in QUERIES {
        let target = terminal(script) + query;
        let page = Page::open(&relay, Dialect::Seed, &target, "").await;
        let Ok(mut page) = page else {
            let answer = page.err().unwrap();
            answer.assert_refusal(400, "bad_request", query);
            continue;
        };
        page.until_output("up").await;
        let seen = session(&cluster, number).await;
        number += 1;
        for (count, silly) in SILLY.iter().enumerate() {
            page.say(silly).await;
            // The tenth message that is not understood would end the session.
            if count % 3 == 0 {
                page.say(&size(80 + u32::try_from(count).unwrap(), 24)).await;
            }
        }
        page.say(&size(101, 41)).await;
        until_size(&seen, r#"{"Width":101,"Height":41}"#).await;
        // It is said again, and that harms nobody.
        let again = seen.until(|facts| {
            let last = of_channel_4(&facts.frames);
            let [.., one, two] = &last[..] else { return None };
            (one == two).then_some(())
        });
        within("the size is said again", again).await;
        page.say(r#"{"type":"input","input":"here\n"}"#).await;
        page.until_output("said here").await;
        assert_eq!(sizes(&seen, query).last(), Some(&(101, 41)), "{query}");
        // A size on the way out is no harm either: the keys of the hang-up are read behind it.
        page.say(&size(3, 3)).await;
        page.leave().await;
        let ended = seen.until(|facts| facts.exit_code);
        within("the process is hung up", ended).await;
        sizes(&seen, "all of it");
    }
    assert!(number > 2, "some of these addresses are in order");
}

/// A container's own process, which has a terminal: two sizes, and never one too many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_attaches_gets_sizes_that_can_be_read() {
    let cluster: FakeCluster = cluster(Behaviour::default()).await;
    let relay = Relay::start(&cluster).await;
    let target = "/api/v1/namespaces/demo/pods/shell/attach?container=main&tty=true\
                  &stdin=true&stdout=true&cols=65535&rows=1";
    let mut page = open(&relay, target).await;
    let seen = session(&cluster, 0).await;
    until_size(&seen, r#"{"Width":65535,"Height":1}"#).await;
    page.say(&size(100_000, 2)).await;
    page.say(r#"{"type":"input","input":"here\n"}"#).await;
    page.until_output("main: here").await;
    page.leave().await;
    sizes(&seen, "attached");
}
