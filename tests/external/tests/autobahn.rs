//! Autobahn's cases against the WebSocket codec, as the side that accepts and the side that opens.
//!
//! The cases are Autobahn's own, run by `kosoku` (`pip install kosoku==0.1.0`), which is found by
//! `PODWIRE_TEST_KOSOKU` or on the `PATH`. Groups 1 to 7 and 10 are what RFC 6455 says about
//! frames; 9 is about sizes far above our limits, 12 and 13 about a compression we do not offer.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use podwire::proto::frame::{self, Event, Kind, Masking, Opcode, Parser};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const GROUPS: [&str; 8] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"];

/// How many cases these groups have: a run that skips some is no proof.
const CASES: usize = 247;

/// Far above the 64 KiB of the largest case.
const MESSAGE_MAX: usize = 1 << 20;

/// A peer that is silent for so long has hung, and the test fails. No case waits this long.
const SILENCE_MAX: Duration = Duration::from_mins(1);

#[test]
fn every_case_passes_when_we_accept() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || accept(stream.unwrap()));
        }
    });
    let reports = reports_folder("accepting");
    let mut kosoku = kosoku()
        .args(["--mode", "fuzzingclient", "--parallelism", "8", "--outdir"])
        .arg(&reports)
        .arg(&address)
        .start();
    kosoku.0.wait().unwrap();
    judge(&reports);
}

#[test]
fn every_case_passes_when_we_open() {
    let reports = reports_folder("opening");
    let mut kosoku = kosoku()
        .args(["--mode", "fuzzingserver", "--outdir"])
        .arg(&reports)
        .arg("127.0.0.1:0")
        .stderr(Stdio::piped())
        .start();
    let mut stderr = BufReader::new(kosoku.0.stderr.take().unwrap());
    let mut ready = String::new();
    stderr.read_line(&mut ready).unwrap();
    let address = ready.trim().rsplit("ws://").next().unwrap().to_owned();
    // A full pipe would stop it.
    thread::spawn(move || io::copy(&mut stderr, &mut io::stderr()));

    let count = open(&address, "/getCaseCount").expect("a number of cases");
    let count: usize = count.parse().unwrap();
    for case in 1..=count {
        open(&address, &format!("/runCase?case={case}&agent=podwire"));
    }
    open(&address, "/updateReports?agent=podwire");
    kosoku.0.wait().unwrap();
    judge(&reports);
}

trait Start {
    fn start(&mut self) -> Running;
}

impl Start for Command {
    fn start(&mut self) -> Running {
        match self.stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
            Ok(child) => Running(child),
            Err(error) => panic!(
                "kosoku does not start ({error}): install it with `pip install kosoku==0.1.0`, \
                 or say where it is in PODWIRE_TEST_KOSOKU"
            ),
        }
    }
}

/// A program that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kosoku() -> Command {
    let mut command = Command::new(env::var_os("PODWIRE_TEST_KOSOKU").unwrap_or("kosoku".into()));
    command.args(GROUPS.map(|group| format!("--include={group}")));
    command
}

fn reports_folder(role: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("autobahn").join(role);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    folder
}

/// Reads the report rather than the exit status, to name every case that failed.
fn judge(reports: &Path) {
    let index = fs::read(reports.join("index.json")).expect("a report");
    let index: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_slice(&index).unwrap();
    let cases: Vec<_> = index.into_values().flatten().collect();
    let passes = |verdict: &serde_json::Value| {
        matches!(verdict.as_str(), Some("OK" | "NON-STRICT" | "INFORMATIONAL"))
    };
    let failed: Vec<_> = cases
        .iter()
        .filter(|(_, case)| !passes(&case["behavior"]) || !passes(&case["behaviorClose"]))
        .map(|(id, case)| format!("{id}: {}, close {}", case["behavior"], case["behaviorClose"]))
        .collect();
    assert!(failed.is_empty(), "cases failed: {failed:#?}");
    assert_eq!(cases.len(), CASES);
}

/// Answers the opening handshake, then echoes.
fn accept(stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    let head = read_head(&mut reader);
    let key = field(&head, "sec-websocket-key").expect("a key");
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nServer: podwire\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
    echo(reader, Masking::Masked, None);
}

/// Makes the opening handshake, then echoes; returns the last text that came.
fn open(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    let key = generate_key();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let head = read_head(&mut reader);
    assert!(head[0].starts_with("HTTP/1.1 101 "), "{}", head[0]);
    assert_eq!(field(&head, "sec-websocket-accept"), Some(&*derive_accept_key(key.as_bytes())));
    echo(reader, Masking::Plain, Some([0x1d, 0x2c, 0x3b, 0x4a]))
}

/// The lines up to the empty one. What was read too far stays in the reader: it is frames already.
fn read_head(reader: &mut BufReader<TcpStream>) -> Vec<String> {
    reader.get_ref().set_read_timeout(Some(SILENCE_MAX)).unwrap();
    reader.get_ref().set_nodelay(true).unwrap();
    reader.lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect()
}

fn field<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    head.iter()
        .filter_map(|line| line.split_once(':'))
        .find(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// Sends every message back, answers pings and the close, until the peer hangs up.
fn echo(mut stream: BufReader<TcpStream>, peer: Masking, key: Option<[u8; 4]>) -> Option<String> {
    let mut parser = Parser::new(peer, MESSAGE_MAX);
    let mut message = Vec::new();
    let mut last_text = None;
    // Small, so that most messages come in several reads.
    let mut scratch = [0; 1000];
    loop {
        let n = stream.read(&mut scratch).unwrap_or_default();
        if n == 0 {
            return last_text;
        }
        let mut input = &mut scratch[..n];
        let mut output = Vec::new();
        loop {
            match parser.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::Data { kind, payload, end })) => {
                    message.extend_from_slice(payload);
                    if !end {
                        continue;
                    }
                    let opcode = match kind {
                        Kind::Text => Opcode::Text,
                        Kind::Binary => Opcode::Binary,
                    };
                    frame::append(&mut output, opcode, &message, key);
                    last_text = String::from_utf8(std::mem::take(&mut message)).ok();
                }
                Ok(Some(Event::Ping(ping))) => {
                    frame::append(&mut output, Opcode::Pong, ping.as_slice(), key);
                }
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Close(Some(code)))) => {
                    frame::append_close(&mut output, code, "", key);
                }
                Ok(Some(Event::Close(None))) => {
                    frame::append(&mut output, Opcode::Close, &[], key);
                }
                Err(error) => {
                    frame::append_close(&mut output, error.close_code(), &error.to_string(), key);
                }
            }
        }
        // A peer that has gone is told nothing, and the next read says so.
        let _ = stream.get_mut().write_all(&output);
        if parser.is_finished() && peer == Masking::Masked {
            // Whoever accepted the connection hangs up first (RFC 6455 section 7.1.1).
            let _ = stream.get_ref().shutdown(Shutdown::Write);
        }
    }
}
