//! How the bytes of a leg are cut into reads means nothing: the peers hear the same, and the
//! session ends the same.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use podwire::proto::channel::Subprotocol;
use podwire::proto::message::Dialect;
use podwire::proto::session::{Outcome, Traffic};
use std::sync::Arc;

use session::readers::{Sent, Told};
use session::tape::Random;
use session::{
    Rig, SUCCESS, browser_close, browser_frame, cluster_close, exit_status, frame, ms, on_channel,
    options, resize, size, status, stdout, text, typed,
};

/// What one peer says without being interrupted by the other.
#[derive(Clone, Copy)]
enum Says<'a> {
    Browser(&'a [u8]),
    Cluster(&'a [u8]),
}

/// Everything that can be known of a session from outside.
#[derive(Debug, PartialEq)]
struct Heard {
    told: Vec<Told>,
    sent: Vec<Sent>,
    /// A size that is followed by another at once may be left out, so only the last one counts.
    last_size: Option<(u64, u64)>,
    ending: podwire::proto::ending::Ending,
    process: podwire::proto::session::Process,
    traffic: Traffic,
}

struct Scene {
    dialect: Dialect,
    subprotocol: Subprotocol,
    tty: bool,
}

impl Scene {
    /// Plays the script; `cut` says where a piece of so many bytes ends.
    fn play(&self, script: &[Says], mut cut: impl FnMut(usize, usize) -> usize) -> Heard {
        let mut options = options(self.dialect, self.tty);
        options.subprotocol = self.subprotocol;
        options.size = size(80, 24);
        Arc::make_mut(&mut options.limits).message_max = 2000;
        Arc::make_mut(&mut options.limits).cluster_frame_max = 2000;
        let mut rig = Rig::new(options);
        rig.drain();
        for (index, says) in script.iter().enumerate() {
            let (Says::Browser(mut bytes) | Says::Cluster(mut bytes)) = *says;
            while !bytes.is_empty() {
                let (piece, rest) = bytes.split_at(cut(index, bytes.len()).clamp(1, bytes.len()));
                match says {
                    Says::Browser(_) => rig.browser_sends(piece),
                    Says::Cluster(_) => rig.cluster_sends(piece),
                }
                bytes = rest;
                rig.drain();
            }
            rig.wait(ms(60));
            rig.drain();
        }
        let Outcome { ending, process, traffic, .. } = rig.finish();
        let last_size = rig.cluster.sizes().last().copied();
        let sent = rig.cluster.without_sizes();
        Heard { told: rig.browser.told, sent, last_size, ending, process, traffic }
    }

    /// The whole against every single cut, bytewise, and cuts at random.
    fn judge(&self, script: &[Says]) {
        let whole = self.play(script, |_, len| len);
        assert_eq!(self.play(script, |_, _| 1), whole, "byte by byte");
        for (cut_in, says) in script.iter().enumerate() {
            let (Says::Browser(bytes) | Says::Cluster(bytes)) = says;
            for at in 1..bytes.len() {
                let mut first = true;
                let heard = self.play(script, |index, len| {
                    if index == cut_in && std::mem::take(&mut first) { at } else { len }
                });
                assert_eq!(heard, whole, "step {cut_in}, cut at {at}");
            }
        }
        for seed in 0..50 {
            let mut random = Random(seed);
            let heard = self.play(script, |_, _| random.len(200));
            assert_eq!(heard, whole, "seed {seed}");
        }
    }
}

fn scenes() -> Vec<Scene> {
    let mut scenes = Vec::new();
    for dialect in [Dialect::Seed, Dialect::V1] {
        for subprotocol in [Subprotocol::V5, Subprotocol::V4, Subprotocol::V1] {
            for tty in [false, true] {
                scenes.push(Scene { dialect, subprotocol, tty });
            }
        }
    }
    scenes
}

/// A bit of everything that a browser may say while a session goes on.
fn browser_talk() -> Vec<u8> {
    [
        text(r#"{"type":"input","input":"h\u00e9 世😀\r\u0003"}"#),
        typed(b"raw \xff\x00"),
        browser_frame(0x01, br#"{"type":"inp"#),
        browser_frame(0x89, b"are you there"),
        browser_frame(0x00, b""),
        browser_frame(0x80, "ut\",\"input\":\"é\"}".as_bytes()),
        resize(100, 30),
        resize(101, 31),
        text("{}"),
        text("[]"),
        text(r#"{"type":"ping","id":9}"#),
        text(r#"{"type":"ack","bytes":3}"#),
        browser_frame(0x02, b"in "),
        browser_frame(0x00, b"three "),
        browser_frame(0x80, &[b'p'; 130]),
        text(r#"{"type":"eof"}"#),
        typed(b"behind the end of input"),
        browser_frame(0x8a, b"unasked"),
    ]
    .concat()
}

/// A bit of everything that a cluster may say before the status.
fn cluster_talk() -> Vec<u8> {
    [
        vec![0x82, 1, 1],
        stdout("aé世😀z".as_bytes()),
        stdout(b"\xe4\xb8"),
        on_channel(2, "err \u{4e16} \u{fffd}".as_bytes()),
        frame(0x89, b"ping", None),
        stdout(b"\x96 \xff\xc0 \xf0\x9f"),
        on_channel(7, b"unknown"),
        frame(0x02, b"\x01frag", None),
        frame(0x8a, b"", None),
        frame(0x80, b"mented", None),
        stdout(&[b'l'; 200]),
    ]
    .concat()
}

#[test]
fn any_cut_of_an_ordinary_session_gives_the_same_result() {
    let (front, back) = SUCCESS.split_at(11);
    let ends = [
        [status(&exit_status("3")), cluster_close(1000)].concat(),
        [status(front), stdout(b"late"), status(back), cluster_close(1000)].concat(),
        [status(b"nonsense"), status(SUCCESS), cluster_close(1000)].concat(),
        cluster_close(1001),
    ];
    let (browser, cluster) = (browser_talk(), cluster_talk());
    for scene in scenes() {
        let talk = [Says::Cluster(&cluster), Says::Browser(&browser)];
        scene.judge(&[talk[0], talk[1], Says::Cluster(&ends[0])]);
        for end in &ends[1..] {
            scene.judge(&[Says::Browser(b"\x82\x81\0\0\0\0x"), Says::Cluster(end)]);
        }
    }
}

#[test]
fn any_cut_of_a_broken_protocol_breaks_it_the_same() {
    let from_browser = [
        [0xc2, 0x80, 1, 2, 3, 4].to_vec(),
        [0x82, 5].to_vec(),
        frame(0x81, "é世".as_bytes(), None),
        browser_frame(0x81, b"{\"type\":\"input\",\"input\":\"\xe4\xb8\x80\xed\xa0\x80\"}"),
        browser_frame(0x81, b"cut \xe4\xb8"),
        browser_frame(0x82, &[b'x'; 2001]),
        browser_frame(0x88, b"x"),
        browser_frame(0x88, b"\x03\xed"),
        text("[").repeat(10),
        browser_close(1001),
    ];
    let from_cluster = [
        frame(0x81, b"text", None),
        frame(0x82, b"masked", Some([1, 2, 3, 4])),
        frame(0x82, &[1; 2001], None),
        frame(0xa2, b"\x01reserved", None),
    ];
    let status = status(SUCCESS);
    for scene in scenes() {
        for broken in &from_browser {
            let broken = [typed(b"before"), broken.clone(), typed(b"behind")].concat();
            scene.judge(&[Says::Browser(&broken), Says::Cluster(&status)]);
        }
        for broken in &from_cluster {
            let broken = [stdout(b"before"), broken.clone(), stdout(b"behind")].concat();
            scene.judge(&[Says::Cluster(&broken)]);
        }
    }
}

#[test]
fn text_that_is_split_anywhere_is_the_same_text() {
    let samples: [&[u8]; 4] = [
        "aé世😀z\u{10ffff}".as_bytes(),
        b"\xf0\x9f\x98 \xe4\xb8 \xc3 \x80 \xff\xfe",
        b"\xed\xa0\x80\xf4\x90\x80\x80\xc0\xaf",
        b"\xe4\xe4\xb8\x96\xf0\xf0\x9f\x98\x80\xe4\xb8",
    ];
    for sample in samples {
        let expected = String::from_utf8_lossy(sample);
        for first in 0..=sample.len() {
            for second in first..=sample.len() {
                let mut rig = Rig::new(options(Dialect::Seed, true));
                for piece in [&sample[..first], &sample[first..second], &sample[second..]] {
                    rig.cluster_sends(&stdout(piece));
                    rig.drain();
                }
                rig.cluster_sends(&[status(SUCCESS), cluster_close(1000)].concat());
                rig.finish();
                let text = String::from_utf8(rig.browser.output()).unwrap();
                let text = text.strip_suffix("\r\n[podwire: exit code 0]\r\n").unwrap();
                assert_eq!(text, expected, "cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn a_character_may_be_split_around_the_other_channel() {
    for at in 1..4 {
        let (front, back) = "😀".as_bytes().split_at(at);
        let mut rig = Rig::new(options(Dialect::Seed, false));
        for (channel, piece) in [(1, front), (2, &b"\xe4"[..]), (1, back), (2, b"\xb8\x96")] {
            rig.cluster_sends(&on_channel(channel, piece));
            rig.drain();
        }
        assert_eq!(rig.browser.output(), "😀世".as_bytes());
    }
}
