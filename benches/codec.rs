//! The rows of `counts` in time, and tungstenite with the same bytes in memory.
#![allow(clippy::unwrap_used, missing_docs)] // A bench that meets something impossible may stop.

#[path = "counts/rows.rs"]
mod rows;

use std::hint::black_box;
use std::io::{Cursor, Read, Write};

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use podwire::proto::message::Dialect::{Seed, V1};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

use self::rows::Message::{self, Characters, Key, KeyInJson, Output, Paste, Single};
use self::rows::{FRAMES, LARGE, READ, SMALL, Work};

/// Medians of so many, each a thousand messages.
const SAMPLES: u32 = 30;

fn main() {
    divan::Divan::from_args().sample_count(SAMPLES).sample_size(1).main();
}

/// Times one row, made anew for each sample.
fn time(bencher: Bencher, message: Message, row: impl Fn(Message) -> Work) {
    bencher
        .counter(BytesCount::new(message.stream().0.len()))
        .counter(ItemsCount::new(FRAMES))
        .with_inputs(|| row(message))
        .bench_local_refs(|work| work());
}

#[divan::bench(args = [Output(LARGE), Output(SMALL), Key, Paste])]
fn codec(bencher: Bencher, message: Message) {
    time(bencher, message, rows::codec);
}

#[divan::bench(args = [Output(LARGE), Output(SMALL), Single(SMALL), Key, KeyInJson, Paste])]
fn session(bencher: Bencher, message: Message) {
    time(bencher, message, |message| rows::session(V1, message));
}

#[divan::bench(args = [Output(LARGE), Output(SMALL), Characters])]
fn session_of_text(bencher: Bencher, message: Message) {
    time(bencher, message, |message| rows::session(Seed, message));
}

#[divan::bench(args = [Output(LARGE), Output(SMALL), Single(SMALL), Key, KeyInJson, Paste])]
fn whole_loop(bencher: Bencher, message: Message) {
    time(bencher, message, rows::whole);
}

#[divan::bench(args = [Output(LARGE), Output(SMALL), Single(SMALL), Key, Paste])]
fn tungstenite(bencher: Bencher, message: Message) {
    time(bencher, message, theirs);
}

/// Counts what is written and hands out reads of at most so many bytes.
struct Pipe(Cursor<Vec<u8>>, usize, usize);

impl Read for Pipe {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = out.len().min(self.1);
        self.0.read(&mut out[..n])
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.2 += black_box(bytes).len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A message in, the same message out, of which output loses its channel. What comes one by one is
/// flushed one by one.
fn theirs(message: Message) -> Work {
    let config = WebSocketConfig::default().read_buffer_size(READ);
    let (stream, read) = message.stream();
    let (from, to, skip) = match message {
        Output(_) | Single(_) | Characters => (Role::Client, Role::Server, 1),
        _ => (Role::Server, Role::Client, 0),
    };
    let pipe = Pipe(Cursor::new(stream), read, 0);
    let mut from = WebSocket::from_raw_socket(pipe, from, Some(config));
    let pipe = Pipe(Cursor::default(), 0, 0);
    let mut to = WebSocket::from_raw_socket(pipe, to, Some(config));
    Box::new(move || {
        while let Ok(message) = from.read() {
            to.write(message.into_data().slice(skip..).into()).unwrap();
            if read < READ {
                to.flush().unwrap();
            }
        }
        to.flush().unwrap();
        to.get_ref().2
    })
}
