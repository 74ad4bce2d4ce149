//! A recording: its lines as events.

use std::path::PathBuf;

use serde_json::Value;

/// Who a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// A frame as recorded. Long payloads are known by their hash only.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub opcode: u8,
    pub fin: bool,
    pub masked: bool,
    pub length: usize,
    pub payload: Option<Vec<u8>>,
    pub sha256: Option<String>,
}

/// What happened, in the order in which the recorder saw it.
#[derive(Clone, Debug)]
pub enum Event {
    Request {
        line: String,
        headers: Vec<(String, String)>,
    },
    Response {
        line: String,
        headers: Vec<(String, String)>,
    },
    Body(String),
    Frame(Side, Recorded),
    Eof(Side),
    Reset,
    /// The client left and these processes were seen after the longest wait.
    Left(Vec<String>),
    Abort,
    Disruption,
    /// Payload bytes of the server by channel, channel byte excluded.
    Totals(Vec<(u8, u64)>),
}

/// Reads `tests/recordings/NAME.jsonl`, the first connection in it.
pub fn read(name: &str) -> Vec<Event> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../recordings");
    let path = folder.join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&path).expect("the recording is in tests/recordings");
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.filter_map(|line| event(&serde_json::from_str(line).unwrap())).collect()
}

fn event(line: &Value) -> Option<Event> {
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let side = |word: &str| if word == "server" { Side::Server } else { Side::Client };
    let from = if line["dir"] == "s>c" { Side::Server } else { Side::Client };
    Some(match line["ev"].as_str()? {
        "request" => Event::Request { line: text("line"), headers: headers(line) },
        "response" => Event::Response { line: text("line"), headers: headers(line) },
        "body" => Event::Body(text("body")),
        "frame" => Event::Frame(from, frame(line)),
        "eof" => Event::Eof(side(line["by"].as_str()?)),
        "socket_error" if line["by"] == "client" && text("err").contains("Reset") => Event::Reset,
        "note" => match line["text"].as_str()? {
            "client left: abort" => Event::Abort,
            "disruption starts" => Event::Disruption,
            "processes left" => {
                let longest = line["processes"].as_object()?.values().next_back()?;
                let names = longest.as_array()?.iter().filter_map(Value::as_str);
                Event::Left(names.map(str::to_owned).collect())
            }
            _ => return None,
        },
        "summary" if from == Side::Server => {
            let channels = line["per_channel_frames_bytes"].as_object()?.iter();
            let total =
                |(name, pair): (&String, &Value)| Some((name.parse().ok()?, pair[1].as_u64()?));
            Event::Totals(channels.filter_map(total).collect())
        }
        _ => return None,
    })
}

fn headers(line: &Value) -> Vec<(String, String)> {
    let pair = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()));
    line["headers"].as_array().unwrap().iter().filter_map(pair).collect()
}

fn frame(line: &Value) -> Recorded {
    let opcode = match line["op"].as_str().unwrap() {
        "cont" => 0,
        "text" => 1,
        "bin" => 2,
        "close" => 8,
        "ping" => 9,
        "pong" => 10,
        other => panic!("opcode {other}"),
    };
    Recorded {
        opcode,
        fin: line["fin"] == 1,
        masked: line["masked"] == true,
        length: usize::try_from(line["len"].as_u64().unwrap()).unwrap(),
        payload: line["hex"].as_str().map(unhex),
        sha256: line["sha256"].as_str().map(str::to_owned),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(byte).collect()
}

impl Recorded {
    /// The payload to send. What is known by its hash only is made again: the recorder's client
    /// sent counting bytes or the letter y behind the channel byte.
    pub fn bytes(&self) -> Vec<u8> {
        if let Some(payload) = &self.payload {
            return payload.clone();
        }
        let counting = (0..=255_u8).cycle();
        let letters = std::iter::repeat(b'y');
        let made = [
            std::iter::once(0).chain(counting).take(self.length).collect::<Vec<u8>>(),
            std::iter::once(0).chain(letters).take(self.length).collect(),
        ];
        made.into_iter()
            .find(|payload| Some(sha256(payload)) == self.sha256)
            .expect("the payload can be made again")
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
