//! Every byte arrives, once and in order, however it is cut.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use bytes::Bytes;
use common::{Browser, Kind, MASK, Random, both, pipes, scripted, session, upgrade, within};
use fake_cluster::wire::{channel, close, frame, opcode, raw};
use fake_cluster::{Gate, Script, Step, Upgrade};
use futures_util::{SinkExt, StreamExt};
use podwire::bytes;
use ring::digest::{Context, SHA256};
use tokio_tungstenite::tungstenite::Message;

const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;

on_every_cluster!(
    random_bytes_go_there_and_back_in_podwire_v1,
    random_text_goes_there_and_back_in_the_seed_dialect,
);

/// More than every buffer on the way can hold.
const AMOUNT: usize = 64 * 1024 * 1024;

async fn random_bytes_go_there_and_back_in_podwire_v1(kind: Kind) {
    let (_cluster, relay) = both(kind).await;
    let script = format!("head -c {AMOUNT} | tee >(sha256sum >&2)");
    let browser = relay.v1(&pipes(&script)).await;
    // A block again and again: making 64 MiB of random bytes takes longer than relaying them.
    let mut random = Random(1);
    let block = random.bytes(1024 * 1024 + 7);
    let (sent, came) = echo(browser, &block, &mut random, Message::binary).await;
    assert_eq!(came.hash, sent);
    let stderr = came.stderr();
    assert_eq!(stderr, format!("{}  -\n", hex(&sent)), "what the process read");
}

async fn random_text_goes_there_and_back_in_the_seed_dialect(kind: Kind) {
    let (_cluster, relay) = both(kind).await;
    let browser = relay.seed(&pipes(&format!("head -c {AMOUNT}"))).await;
    let mut random = Random(2);
    let mut block = String::new();
    while block.len() < 1024 * 1024 {
        block.push(char::from_u32(u32::try_from(random.below(0x11_0000)).unwrap()).unwrap_or('x'));
    }
    // Text that ends with a whole character has no replacement at its end.
    let block = block.into_bytes();
    let message = |piece: Bytes| match std::str::from_utf8(&piece) {
        Ok(text) if text.len() < 1024 => {
            let json = serde_json::json!({"type": "input", "input": text});
            Message::text(json.to_string())
        }
        _ => Message::binary(piece),
    };
    let (sent, came) = echo(browser, &block, &mut random, message).await;
    assert_eq!(came.hash, sent);
}

/// What came back.
struct Came {
    hash: Vec<u8>,
    messages: Vec<String>,
}

impl Came {
    fn stderr(&self) -> String {
        use base64::Engine;
        let engine = base64::engine::general_purpose::STANDARD;
        let messages = self.messages.iter().map(|text| serde_json::from_str(text).unwrap());
        let bytes = messages
            .filter(|it: &serde_json::Value| it["type"] == "stderr")
            .flat_map(|it| engine.decode(it["data"].as_str().unwrap()).unwrap())
            .collect();
        String::from_utf8(bytes).unwrap()
    }
}

/// Sends [`AMOUNT`] bytes in pieces of random sizes and takes what comes meanwhile. In the seed
/// dialect text is output, in the other one a message.
async fn echo(
    browser: Browser,
    block: &[u8],
    random: &mut Random,
    message: impl Fn(Bytes) -> Message,
) -> (Vec<u8>, Came) {
    let is_seed = !browser.response.headers().contains_key("sec-websocket-protocol");
    let (mut sink, mut stream) = browser.socket.split();
    let send = async {
        let mut hash = Context::new(&SHA256);
        let mut left = AMOUNT;
        while left > 0 {
            for piece in random.pieces(&block[..left.min(block.len())]) {
                hash.update(piece);
                sink.feed(message(Bytes::copy_from_slice(piece))).await.unwrap();
                left -= piece.len();
            }
        }
        sink.flush().await.unwrap();
        hash.finish().as_ref().to_vec()
    };
    let take = async {
        let mut hash = Context::new(&SHA256);
        let mut count = 0;
        let mut messages = Vec::new();
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Text(text) if !is_seed || count == AMOUNT => {
                    messages.push(text.to_string());
                }
                Message::Text(_) | Message::Binary(_) => {
                    let bytes = message.into_data();
                    count += bytes.len();
                    hash.update(&bytes);
                }
                Message::Close(frame) => assert_eq!(u16::from(frame.unwrap().code), 1000),
                _ => {}
            }
        }
        assert_eq!(count, AMOUNT);
        Came { hash: hash.finish().as_ref().to_vec(), messages }
    };
    within("64 MiB each way", async { tokio::join!(send, take) }).await
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The cluster sends the rest only when the page has shown all whole characters before the cut.
#[tokio::test]
async fn text_may_be_cut_at_every_offset() {
    let text = "a\u{e4}\u{20ac}\u{1f600}\u{10ffff}\u{7ff}\u{800}\u{ffff}z";
    let bytes = text.as_bytes();
    for cut in 1..bytes.len() {
        let (before, after) = bytes.split_at(cut);
        let whole = match std::str::from_utf8(before) {
            Ok(whole) => whole,
            Err(error) => &text[..error.valid_up_to()],
        };
        let gate = Gate::new();
        let rest = [channel(1, after), channel(3, SUCCESS.as_bytes()), close(1000)].concat();
        let cluster = scripted(Script::new([
            Step::Upgrade(Upgrade::honest()),
            Step::Send(channel(1, before).into()),
            Step::Wait(gate.clone()),
            Step::Send(rest.into()),
        ]))
        .await;
        let relay = common::Relay::start(&cluster).await;
        let mut browser = relay.seed(&pipes("")).await;
        browser.until_output(whole).await;
        assert_eq!(browser.text(), whole, "cut at {cut}");
        gate.open();
        assert_eq!(browser.ended().await.code, 1000);
        assert_eq!(browser.text(), format!("{text}\r\n[podwire: exit code 0]\r\n"), "at {cut}");
    }
}

#[tokio::test]
async fn only_what_no_rest_could_mend_is_replaced() {
    let table: [(&[&[u8]], &str); 5] = [
        (&[b"a\x80b"], "a\u{fffd}b"),
        (&[b"a\xe2\x82", b"b"], "a\u{fffd}b"),
        (&[b"a\xf0", b"\x9f", b"\x98", b"\x80"], "a\u{1f600}"),
        (&[b"a\xed\xa0\x80"], "a\u{fffd}\u{fffd}\u{fffd}"),
        (&[b"a\xe2\x82"], "a\u{fffd}"),
    ];
    for (pieces, text) in table {
        let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| channel(1, piece)).collect();
        bytes.extend([channel(3, SUCCESS.as_bytes()), close(1000)].concat());
        let cluster = scripted(Script::after_upgrade(bytes)).await;
        let relay = common::Relay::start(&cluster).await;
        let mut browser = relay.seed(&pipes("")).await;
        browser.ended().await;
        assert_eq!(browser.text(), format!("{text}\r\n[podwire: exit code 0]\r\n"));
    }
}

/// All of a frame in the same segment as the request, or some of it.
#[tokio::test]
async fn frames_that_come_with_the_request_are_input() {
    let (_cluster, relay) = both(Kind::V5).await;
    let frame = raw(0x80 | opcode::BINARY, MASK, b"early\n");
    let rows = [("H19 a frame", frame.len()), ("H19 its head", 6), ("H19 one byte of it", 1)];
    for (id, count) in rows {
        let mut request = upgrade(&pipes("read x; echo \"<$x>\""), "").into_bytes();
        request.extend_from_slice(&frame[..count]);
        let answer = common::exchange(relay.addr(), &request).await;
        let (answer, rest, tcp) = answer.expect("an answer");
        assert_eq!(answer.status, 101, "{id}");
        let mut browser = Browser::continued(tcp, rest).await;
        browser.raw(&frame[count..]).await.unwrap();
        browser.ended().await;
        assert!(browser.text().starts_with("<early>\n"), "{id}: {}", browser.text());
    }
}

/// F17: more than one read of them, while the cluster has not answered yet.
#[tokio::test]
async fn input_from_before_the_session_arrives_in_order() {
    let cluster = common::cluster(fake_cluster::Behaviour::default()).await;
    let gate = Gate::new();
    cluster.script_next(Script::new([Step::Wait(gate.clone()), Step::Honest]));
    let relay = common::Relay::start(&cluster).await;
    let mut random = Random(3);
    let input = random.bytes(300_000);
    let mut request = upgrade(&pipes("head -c 300000 | sha256sum"), "").into_bytes();
    for piece in random.pieces(&input) {
        request.extend(raw(0x80 | opcode::BINARY, MASK, piece));
    }
    let answer = tokio::spawn({
        let addr = relay.addr();
        async move { common::exchange(addr, &request).await.expect("an answer") }
    });
    session(&cluster, 0).await;
    gate.open();
    let (answer, rest, tcp) = answer.await.unwrap();
    assert_eq!(answer.status, 101);
    let mut browser = Browser::continued(tcp, rest).await;
    browser.ended().await;
    assert!(browser.text().starts_with(&common::sha256(&input)), "{}", browser.text());
}

/// S18: output, status and close in the same segment as the cluster's 101.
#[tokio::test]
async fn output_that_comes_with_the_answer_is_told() {
    let frames = [
        frame(opcode::BINARY, &[1]),
        channel(1, b"hello"),
        channel(3, SUCCESS.as_bytes()),
        close(1000),
    ];
    let with = Bytes::from(frames.concat());
    let upgrade = Upgrade { with, ..Upgrade::honest() };
    let cluster = scripted(Script::new([Step::Upgrade(upgrade), Step::Close])).await;
    let relay = common::Relay::start(&cluster).await;
    let mut browser = relay.v1(&pipes("")).await;
    browser.assert_exit("exit", Some(0), 1000, "all at once").await;
    assert_eq!(browser.text(), "hello");
}
