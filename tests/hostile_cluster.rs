//! A cluster that goes wrong after its 101, and whose every ending is told once and never
//! invented.
//!
//! One row for each input; the ids are those of the project's list. P7 (64 MiB) and P8 (cut
//! characters) are in `relay_bytes.rs`, P18 (unread input) in `backpressure.rs`, P15, P17 and more
//! of P18 (silence) in `every_ending/silence.rs`; `every_ending` knows where everything is.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Kind, both, pipes, session};
use fake_cluster::wire::{channel, close, frame, head, opcode, raw};
use fake_cluster::{Behaviour, Script, Step, misbehaviour};

const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;

fn failure(reason: &str, message: &str) -> Vec<u8> {
    let text = serde_json::json!({
        "metadata": {}, "status": "Failure", "message": message, "reason": reason,
    });
    channel(3, text.to_string().as_bytes())
}

fn exited(code: &str) -> Vec<u8> {
    let text = serde_json::json!({
        "metadata": {}, "status": "Failure", "message": "", "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code}]},
    });
    channel(3, text.to_string().as_bytes())
}

fn named(name: &str) -> Script {
    misbehaviour::named(name).unwrap()
}

/// Output, these bytes, and the end of the connection.
fn hello_and(bytes: &[u8]) -> Script {
    Script::after_upgrade([&channel(1, b"hello\r\n"), bytes].concat())
}

/// What is expected: output, kind, exit code, close code.
type Row = (&'static str, Script, &'static str, &'static str, Option<u8>, u16);

fn exits() -> Vec<Row> {
    let bye = close(1000);
    let and_bye = |bytes: Vec<u8>| hello_and(&[bytes, bye.clone()].concat());
    let exit = |id, script, code| (id, script, "hello\r\n", "exit", Some(code), 1000);
    let mut rows = vec![
        exit(
            "P1 empty first frames",
            {
                let firsts = [1, 2, 3].map(|number| channel(number, b"")).concat();
                Script::after_upgrade(
                    [firsts, channel(1, b"hello\r\n"), channel(3, SUCCESS.as_bytes()), bye.clone()]
                        .concat(),
                )
            },
            0,
        ),
        exit(
            "P3 empty message",
            {
                let empty = frame(opcode::BINARY, b"");
                and_bye([empty, channel(3, SUCCESS.as_bytes())].concat())
            },
            0,
        ),
        exit("P4 unknown channels", named("unknown-channels"), 0),
        exit("P6 fragments", named("fragmented"), 0),
        exit("P6 ping", named("ping-125"), 0),
        exit("P9 success", and_bye(channel(3, SUCCESS.as_bytes())), 0),
        exit("P10 in two frames", named("split-status"), 3),
        exit("P10 two statuses", named("two-statuses"), 3),
        exit("P11 reset", named("status-then-reset"), 3),
        exit("P11 end", named("status-then-eof"), 3),
        exit("P14 before output", named("status-before-output"), 3),
        exit("S18 with the 101", named("early-frames"), 3),
    ];
    for code in [1, 2, 126, 127, 137, 255] {
        rows.push(exit("P10 code", and_bye(exited(&code.to_string())), code));
    }
    rows
}

fn losses() -> Vec<Row> {
    let lost = |id, script| (id, script, "hello\r\n", "cluster_lost", None, 4502);
    vec![
        lost("P12", named("no-status")),
        lost("P13 1002", hello_and(&close(1002))),
        lost("P13 1011", named("close-1011")),
        lost("P13 no code", hello_and(&frame(opcode::CLOSE, b""))),
        lost("P13 no close", hello_and(b"")),
        lost("P13 end", named("eof")),
        lost("P13 reset", named("reset")),
        lost("P13 in a frame", hello_and(&channel(1, b"cut")[..3])),
    ]
}

fn nonsense() -> Vec<Row> {
    let bye = close(1000);
    let and_bye = |bytes: Vec<u8>| hello_and(&[bytes, bye.clone()].concat());
    let row = |id, script, output| (id, script, output, "cluster_protocol", None, 4502);
    let hello = |id, script| row(id, script, "hello\r\n");
    vec![
        row("P2 text frame", named("text-frame"), ""),
        row("P5 2 MiB", named("frame-2mib"), ""),
        row("P5 2^40", named("frame-2pow40"), ""),
        hello("P5 1 MiB + 1", {
            let head = head(0x82, false, 1024 * 1024 + 1);
            Script::new([
                Step::Upgrade(fake_cluster::Upgrade::honest()),
                Step::Send([channel(1, b"hello\r\n"), head].concat().into()),
                Step::Hang,
            ])
        }),
        row("P6 masked", named("masked"), ""),
        row("P6 reserved bit", named("rsv"), ""),
        hello("P13 1006", hello_and(&close(1006))),
        hello("P6 opcode", hello_and(&raw(0x83, None, b"x"))),
        hello("P6 long ping", hello_and(&frame(opcode::PING, &[0; 126]))),
        hello("P6 continuation", hello_and(&raw(0x80, None, b"x"))),
        hello("P10 256", and_bye(exited("256"))),
        hello("P10 0", and_bye(exited("0"))),
        hello("P10 -1", and_bye(exited("-1"))),
        hello("P10 abc", and_bye(exited("abc"))),
        hello("P10 no cause", and_bye(failure("NonZeroExitCode", ""))),
        hello("P10 no object", and_bye(channel(3, b"[]"))),
        hello("P10 binary", and_bye(channel(3, b"\x00\xff"))),
        row("P10 empty object", named("empty-status"), ""),
        row("P10 half", named("malformed-status"), ""),
        row("P10 1 MiB", named("huge-status"), ""),
    ]
}

fn failures() -> Vec<Row> {
    let internal = "Internal error occurred: ";
    let twice = format!("{internal}{internal}error executing command in container");
    let row = |id, message: &str, kind, code| {
        let status = failure("InternalError", message);
        (id, Script::after_upgrade([status, close(1000)].concat()), "", kind, None, code)
    };
    vec![
        row("P16 twice", &twice, "failed", 4422),
        row("P16 sending", "error sending request: Post", "cluster_unreachable", 4502),
        row("P16 dialing", "error dialing backend: dial tcp", "cluster_unreachable", 4502),
        row("P16 container", "container not found (\"x\")", "not_found", 4404),
        row("P16 control", "\u{1b}]0;x\u{7}\r\n", "failed", 4422),
        row("P16 empty", "", "failed", 4422),
        row("P16 long", &"x".repeat(50_000), "failed", 4422),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_which_a_session_ends_is_told() {
    let (cluster, relay) = both(Kind::V5).await;
    let mut witness = relay.v1(&pipes("cat")).await;
    session(&cluster, 0).await;
    witness.message("ready").await;
    let before = relay.descriptors();

    let rows = [exits(), losses(), nonsense(), failures()].concat();
    for (id, script, output, kind, code, close_code) in rows.clone() {
        cluster.set_behaviour(Behaviour::scripted(script));
        let mut page = relay.v1(&pipes("")).await;
        page.assert_exit(kind, code, close_code, id).await;
        assert_eq!(page.text(), output, "{id}");
        let message = page.messages.last().unwrap()["message"].as_str().unwrap().to_owned();
        assert!(!message.contains(char::is_control) && message.len() < 1200, "{id}: {message:?}");
        assert!(!message.contains("Internal error occurred"), "{id}: {message}");

        let mut page = relay.seed(&pipes("")).await;
        let close = page.ended().await;
        assert_eq!(close.code, close_code, "{id}");
        let line = format!("{output}\r\n[podwire: {message}]\r\n");
        assert_eq!(page.text(), line, "{id}");
    }

    witness.input("still here\n").await;
    witness.until_output("still here").await;
    relay.until_descriptors(before).await;
    // Each session has exactly one ending.
    relay.until_logged("session end", 2 * rows.len()).await;
    assert_eq!(relay.logged("session end"), 2 * rows.len());
    assert_eq!(relay.logged("session start"), 2 * rows.len() + 1);
}

/// The pong carries the ping's payload, and goes out masked as everything of a client's.
#[tokio::test]
async fn a_ping_of_the_clusters_is_answered() {
    let (cluster, relay) = both(Kind::V5).await;
    cluster.set_behaviour(Behaviour::scripted(named("ping-125")));
    relay.v1(&pipes("")).await.assert_exit("exit", Some(0), 1000, "a pong").await;
    let frames = session(&cluster, 0).await.facts().frames;
    let pong = frames.iter().find(|frame| frame.opcode == opcode::PONG).unwrap();
    assert_eq!((&*pong.payload, pong.masked, pong.fin), (&[b'p'; 125][..], true, true));
}
