//! Misbehaviour by name: what an exec gets in place of an honest session. Each is one of the
//! relay's test cases; a test that needs another writes a [`Script`] of its own.

use std::time::Duration;

use bytes::Bytes;

use crate::script::{Script, Step, Until, Upgrade};
use crate::status::{exit_code, refusal, success};
use crate::wire::{channel, close, frame, head, opcode, raw};

/// What every session says first.
const FIRST: [u8; 3] = [0x82, 1, 1];
/// A mask, where a server must not have one.
const KEY: [u8; 4] = [1, 2, 3, 4];

/// All names, each with what it does.
pub const LIST: &[(&str, &str)] = &[
    ("no-status", "output, then Close 1000 without a status"),
    ("status-then-reset", "status of exit 3, then a TCP reset without Close"),
    ("status-then-eof", "status of exit 3, then FIN without Close or TLS goodbye"),
    ("reset", "output, then a TCP reset"),
    ("eof", "output, then FIN without Close or TLS goodbye"),
    ("split-status", "status of exit 3 in two frames"),
    ("two-statuses", "status of exit 3, then one of success"),
    ("malformed-status", "half of a status, then Close 1000"),
    ("empty-status", "the status {}"),
    ("status-without-cause", "a NonZeroExitCode with no exit code in it"),
    ("status-not-a-number", "a NonZeroExitCode whose exit code is abc"),
    ("status-256", "a NonZeroExitCode of 256"),
    ("huge-status", "a status of more than 1 MiB"),
    ("status-before-output", "status of exit 3, then output, then Close"),
    ("close-1011", "output, then Close 1011 without a status"),
    ("text-frame", "output as a text frame"),
    ("fragmented", "output as a message of three fragments, with a ping between"),
    ("masked", "a masked frame"),
    ("rsv", "a frame with a reserved bit"),
    ("frame-2mib", "a frame of 2 MiB"),
    ("frame-2pow40", "a frame that declares 2^40 bytes"),
    ("unknown-channels", "frames on channels 0, 4, 9, 200 and 255, an empty one, then exit 0"),
    ("ping-125", "a ping of 125 bytes, then waits for its pong, then exit 0"),
    ("split-utf8", "text cut inside its characters, then exit 0"),
    ("early-frames", "output and status in the same write as the 101"),
    ("wrong-accept", "a 101 whose accept key belongs to somebody else"),
    ("missing-accept", "a 101 without an accept key"),
    ("no-subprotocol", "a 101 without a subprotocol"),
    ("empty-subprotocol", "a 101 with an empty subprotocol"),
    ("unoffered-subprotocol", "a 101 with a subprotocol nobody offered"),
    ("two-subprotocols", "a 101 with two subprotocols"),
    ("redirect", "302 with a Location"),
    ("ok-body", "200 with a body"),
    ("401", "401 as the API server writes it"),
    ("403-empty", "403 without a body, as for an unknown subprotocol"),
    ("403-status", "403 with a Status"),
    ("403-html", "403 with HTML"),
    ("404", "404 as the API server writes it"),
    ("429", "429 with Retry-After: 60 and text"),
    ("500-text", "500 with text that has control characters"),
    ("502-html", "502 with HTML"),
    ("503", "503 with text"),
    ("100-continue", "100 Continue, then an honest answer"),
    ("endless-body", "502 with a body that does not end"),
    ("stuck-body", "502 with a body that stops half-way"),
    ("endless-head", "a response head that does not end"),
    ("silence", "no answer at all"),
    ("silence-after-101", "101 and nothing after it, reads nothing"),
    ("slow-head", "the 101 one byte at a time"),
    ("garbage", "bytes that are not HTTP"),
];

/// The script of this name, if there is one.
pub fn named(name: &str) -> Option<Script> {
    session(name).or_else(|| handshake(name)).or_else(|| refused(name))
}

fn status(text: &str) -> Vec<u8> {
    channel(3, text.as_bytes())
}

/// An honest 101, the first frame and these bytes, then these steps.
fn upgraded(bytes: &[&[u8]], rest: impl IntoIterator<Item = Step>) -> Script {
    let sent = [&FIRST, bytes.concat().as_slice()].concat();
    let begin = [Step::Upgrade(Upgrade::honest()), Step::Send(sent.into())];
    Script::new(begin.into_iter().chain(rest))
}

/// What goes wrong after a good 101.
fn session(name: &str) -> Option<Script> {
    let hello = channel(1, b"hello\r\n");
    let (bye, over) = (close(1000), status(&success()));
    let exit3 = status(&exit_code(3));
    let failure = |cause: &str| {
        status(&format!(
            "{{\"metadata\":{{}},\"status\":\"Failure\",\"message\":\"command failed\",\
             \"reason\":\"NonZeroExitCode\"{cause}}}"
        ))
    };
    let code = |code: &str| {
        failure(&format!(
            ",\"details\":{{\"causes\":[{{\"reason\":\"ExitCode\",\"message\":\"{code}\"}}]}}"
        ))
    };
    let closing = |bytes: &[&[u8]]| upgraded(bytes, [Step::Close]);
    Some(match name {
        "no-status" => closing(&[&hello, &bye]),
        "status-then-reset" => upgraded(&[&hello, &exit3], [Step::Reset]),
        "status-then-eof" => upgraded(&[&hello, &exit3], [Step::Eof]),
        "reset" => upgraded(&[&hello], [Step::Reset]),
        "eof" => upgraded(&[&hello], [Step::Eof]),
        "split-status" => {
            let text = exit_code(3);
            let (one, two) = text.split_at(text.len() / 2);
            closing(&[&hello, &status(one), &status(two), &bye])
        }
        "two-statuses" => closing(&[&hello, &exit3, &over, &bye]),
        "malformed-status" => closing(&[&status("{\"metadata\":{},\"status\":\"Succ"), &bye]),
        "empty-status" => closing(&[&status("{}"), &bye]),
        "status-without-cause" => closing(&[&failure(""), &bye]),
        "status-not-a-number" => closing(&[&code("abc"), &bye]),
        "status-256" => closing(&[&code("256"), &bye]),
        "huge-status" => {
            let text = success();
            closing(&[&status(&format!("{}{text}", " ".repeat(1024 * 1024))), &bye])
        }
        "status-before-output" => closing(&[&exit3, &hello, &bye]),
        "close-1011" => closing(&[&hello, &close(1011)]),
        "text-frame" => closing(&[&frame(opcode::TEXT, b"\x01hello"), &over, &bye]),
        "fragmented" => {
            let [one, two, three] = [(2, "\x01he"), (0, "ll"), (0x80, "o\r\n")]
                .map(|(first, text)| raw(first, None, text.as_bytes()));
            closing(&[&one, &frame(opcode::PING, b"between"), &two, &three, &over, &bye])
        }
        "masked" => closing(&[&raw(0x82, Some(KEY), b"\x01hello"), &over, &bye]),
        "rsv" => closing(&[&raw(0xc2, None, b"\x01hello"), &over, &bye]),
        "frame-2mib" => closing(&[&channel(1, &vec![b'x'; 2 * 1024 * 1024]), &over, &bye]),
        "frame-2pow40" => upgraded(&[&head(0x82, false, 1 << 40), b"\x01hello"], [Step::Hang]),
        "unknown-channels" => {
            let odd = [0, 4, 9, 200, 255].map(|number| channel(number, b"odd"));
            closing(&[&odd.concat(), &frame(opcode::BINARY, b""), &hello, &over, &bye])
        }
        "ping-125" => upgraded(
            &[&hello, &frame(opcode::PING, &[b'p'; 125])],
            [
                Step::Read(Until::Opcode(opcode::PONG)),
                Step::Send([over, bye].concat().into()),
                Step::Close,
            ],
        ),
        "split-utf8" => {
            let cuts = "a\u{e4}\u{20ac}\u{1f600}z".as_bytes().chunks(1);
            let frames: Vec<u8> = cuts.flat_map(|byte| channel(1, byte)).collect();
            closing(&[&frames, &over, &bye])
        }
        "silence-after-101" => upgraded(&[], [Step::Hang]),
        _ => return None,
    })
}

/// What is wrong with the 101 itself, or comes in a strange way.
fn handshake(name: &str) -> Option<Script> {
    let upgrade = |upgrade: Upgrade| Script::new([Step::Upgrade(upgrade), Step::Hang]);
    let honest = Upgrade::honest;
    Some(match name {
        "early-frames" => {
            let frames =
                [&FIRST, &*channel(1, b"hello\r\n"), &*status(&exit_code(3)), &*close(1000)];
            let with = Bytes::from(frames.concat());
            Script::new([Step::Upgrade(Upgrade { with, ..honest() }), Step::Close])
        }
        "wrong-accept" => {
            let accept = Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned());
            upgrade(Upgrade { accept, ..honest() })
        }
        "missing-accept" => {
            let mut without = honest();
            without.headers.retain(|(name, _)| name != "Sec-WebSocket-Accept");
            upgrade(without)
        }
        "no-subprotocol" => upgrade(Upgrade::without_protocol()),
        "empty-subprotocol" => upgrade(Upgrade::with_protocol("")),
        "unoffered-subprotocol" => upgrade(Upgrade::with_protocol("v9.channel.k8s.io")),
        "two-subprotocols" => {
            upgrade(Upgrade::with_protocol("v5.channel.k8s.io, v4.channel.k8s.io"))
        }
        "100-continue" => {
            let head = Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n");
            Script::new([Step::Send(head), Step::Honest])
        }
        "silence" => Script::new([Step::Hang]),
        "slow-head" => {
            let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: ";
            let pause = Duration::from_millis(1);
            let slow = Step::SendSlowly(Bytes::from_static(head), pause);
            Script::new([slow, Step::Hang])
        }
        "garbage" => Script::answer(&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..]),
        _ => return None,
    })
}

/// What comes in place of a 101.
fn refused(name: &str) -> Option<Script> {
    let response = |head: &str, body: &str| {
        let length = body.len();
        Script::answer(format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}"))
    };
    let json = |line: &str, body: &str| {
        response(&format!("{line}\r\nContent-Type: application/json"), &format!("{body}\n"))
    };
    let html = |line: &str| {
        let body = "<html><body><h1>a proxy says no</h1><script>alert(1)</script></body></html>";
        response(&format!("{line}\r\nContent-Type: text/html"), body)
    };
    let text = |head: &str, body: &str| {
        response(&format!("{head}\r\nContent-Type: text/plain; charset=utf-8"), body)
    };
    let about = Some(("shell", "pods"));
    let chunked = "HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n";
    let send = |text: &str| Step::Send(Bytes::copy_from_slice(text.as_bytes()));
    Some(match name {
        "redirect" => response("302 Found\r\nLocation: https://198.51.100.7/steal", ""),
        "ok-body" => text("200 OK", "hello"),
        "401" => {
            let body = refusal(401, Some("Unauthorized"), "Unauthorized", None);
            json("401 Unauthorized", &body)
        }
        "403-empty" => Script::answer(&b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n"[..]),
        "403-status" => {
            let message = "pods \"shell\" is forbidden: User \"u\" cannot get resource \
                 \"pods/exec\" in API group \"\" in the namespace \"demo\"";
            json("403 Forbidden", &refusal(403, Some("Forbidden"), message, about))
        }
        "403-html" => html("403 Forbidden"),
        "404" => {
            let message = "pods \"shell\" not found";
            json("404 Not Found", &refusal(404, Some("NotFound"), message, about))
        }
        "429" => text("429 Too Many Requests\r\nRetry-After: 60", "maximum number exceeded"),
        "500-text" => text("500 Internal Server Error", "bad\u{1b}[31m\u{7}thing\r\nhappened"),
        "502-html" => html("502 Bad Gateway"),
        "503" => text("503 Service Unavailable", "upstream connect error"),
        "endless-body" => {
            let part = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
            Script::new([send(chunked), Step::Repeat(part.into())])
        }
        "stuck-body" => {
            let half = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 1000\r\n\r\nhalf";
            Script::new([send(half), Step::Hang])
        }
        "endless-head" => {
            let part = format!("X-More: {}\r\n", "x".repeat(8000));
            Script::new([send("HTTP/1.1 101 Switching Protocols\r\n"), Step::Repeat(part.into())])
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_name_has_a_script() {
        for (name, _) in super::LIST {
            assert!(super::named(name).is_some(), "{name}");
        }
    }
}
