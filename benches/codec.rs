//! The frame codec and the session machine beside tungstenite, on the same bytes in memory.
#![allow(clippy::unwrap_used, missing_docs)] // A bench that meets something impossible may stop.

use std::hint::black_box;
use std::io::{Cursor, Read, Write};
use std::time::{Duration, Instant};

use podwire::proto::channel::Subprotocol;
use podwire::proto::frame::{Opcode, append};
use podwire::proto::message::{Dialect, Place};
use podwire::proto::session::{Options, Session, Time};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

/// What one read brings.
const READ: usize = 64 * 1024;
const ROUNDS: usize = 15;
/// Long enough for a clock, short enough for a coffee.
const STREAM: usize = 64 * 1024 * 1024;

/// A cluster's output: channel 1, binary frames of this many bytes with the channel.
fn stream(frame: usize) -> Vec<u8> {
    let mut payload = vec![b'x'; frame];
    payload[0] = 1;
    let mut bytes = Vec::new();
    while bytes.len() < STREAM {
        append(&mut bytes, Opcode::Binary, &payload, None);
    }
    bytes
}

/// Bytes in, bytes out, in the thread's buffers, as the loop does it.
fn ours(stream: &[u8]) -> usize {
    let (dialect, subprotocol) = (Dialect::V1, Subprotocol::V5);
    let mut session = Session::new(Options::new(dialect, subprotocol, Place::default(), 0));
    let (mut read, mut for_browser, mut for_cluster) = (vec![0; READ], Vec::new(), Vec::new());
    let mut written = 0;
    for piece in stream.chunks(READ) {
        let read = &mut read[..piece.len()];
        read.copy_from_slice(piece);
        session.lend(&mut for_browser, &mut for_cluster);
        session.on_cluster(read, Time::ZERO);
        let n = black_box(session.to_browser()).len();
        session.browser_took(n, Time::ZERO);
        session.browser_flushed(Time::ZERO);
        session.reclaim(&mut for_browser, &mut for_cluster);
        written += n;
    }
    written
}

/// Counts what is written and hands out reads of at most [`READ`].
struct Pipe<'a>(Cursor<&'a [u8]>, usize);

impl Read for Pipe<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = out.len().min(READ);
        self.0.read(&mut out[..n])
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1 += black_box(bytes).len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A message in, the same message without its channel byte out.
fn tungstenite(stream: &[u8]) -> usize {
    let config = WebSocketConfig::default().read_buffer_size(READ);
    let mut cluster =
        WebSocket::from_raw_socket(Pipe(Cursor::new(stream), 0), Role::Client, Some(config));
    let mut browser =
        WebSocket::from_raw_socket(Pipe(Cursor::new(&[]), 0), Role::Server, Some(config));
    while let Ok(Message::Binary(payload)) = cluster.read() {
        browser.write(Message::Binary(payload.slice(1..))).unwrap();
    }
    browser.flush().unwrap();
    browser.get_ref().1
}

fn time(run: impl Fn(&[u8]) -> usize, stream: &[u8]) -> Duration {
    let begun = Instant::now();
    black_box(run(black_box(stream)));
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn main() {
    for (name, frame) in [("32 KiB frames", 32_769), ("100-byte lines", 101)] {
        let stream = stream(frame);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            a.push(time(ours, &stream));
            b.push(time(tungstenite, &stream));
        }
        let (a, b) = (median(a), median(b));
        #[allow(clippy::cast_precision_loss)] // For people.
        let gigabytes = stream.len() as f64 / 1e9;
        println!(
            "{name}: {:.2} GB/s, {:.2} times tungstenite's {:.2} GB/s",
            gigabytes / a,
            b / a,
            gigabytes / b,
        );
    }
}
