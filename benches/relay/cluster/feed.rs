//! Output that is known in advance: frames made once and sent again and again.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::wire::records::{RECORD, Sealer};
use crate::wire::{STDOUT, frame};

/// How many bytes of frames are made, at least: enough to be no pattern to anybody's cache.
const CYCLE: usize = 256 * 1024;

/// What Go's WebSocket library buffers before it writes, which bounds the first record of a frame.
const GO_BUFFER: usize = 4096;

/// What one turn sends at most: eight records, or as many single ones. More would make whoever
/// types wait for it, less would be more writes.
const TURN: usize = 8 * RECORD;
const TURN_SINGLE: usize = 32;

/// The lengths of frames in the recordings of 200 MiB, in parts of a hundred: most are 4 KiB and a
/// byte, a quarter is as long as they get.
const RECORDED: [(usize, usize); 8] = [
    (4097, 58),
    (32769, 26),
    (8193, 5),
    (12289, 4),
    (16385, 2),
    (20481, 2),
    (24577, 1),
    (28673, 2),
];

/// The longest frame that is asked for: what the relay's default limit lets through.
pub(super) const FRAME_MAX: usize = 1024 * 1024;

/// How frames are put into TLS records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Records {
    /// Full records, whatever frames are in them, eight in a write.
    Packed,
    /// As Go does it: a frame begins a record, and each record is a write of its own.
    Single,
    /// The same records, but many in a write: what a relay that was away for a moment finds.
    Gathered,
}

/// Frames as they go over the line, one after another, and where they end.
pub(super) struct Cycle {
    bytes: Vec<u8>,
    /// For each frame where it ends, its header's length, and the output in it and before it.
    frames: Vec<Frame>,
    output: u64,
}

struct Frame {
    end: usize,
    header: usize,
    before: u64,
    output: u64,
}

impl Cycle {
    /// Frames of `len` bytes with the channel; with 0, of the lengths of the recordings.
    pub(super) fn new(len: usize) -> Self {
        let mut cycle = Self { bytes: Vec::new(), frames: Vec::new(), output: 0 };
        // Words and line ends, as a terminal shows them: seed dialects look for characters.
        let line = b"the quick brown fox jumps over the lazy dog and then types it all again\r\n";
        let text: Vec<u8> = line.iter().copied().cycle().take(FRAME_MAX).collect();
        if len > 0 {
            while cycle.bytes.len() < CYCLE {
                cycle.push(&text[..len - 1]);
            }
            return cycle;
        }
        let all = RECORDED.iter().flat_map(|(len, times)| std::iter::repeat_n(*len, *times));
        let all: Vec<usize> = all.collect();
        // 37 has no divisor in common with 100: each is taken once, and the long ones are spread.
        for n in 0..all.len() {
            cycle.push(&text[..all[n * 37 % all.len()] - 1]);
        }
        cycle
    }

    fn push(&mut self, output: &[u8]) {
        let start = self.bytes.len();
        frame::append(&mut self.bytes, frame::BINARY, &[&[STDOUT], output], false);
        let (end, len) = (self.bytes.len(), output.len() as u64);
        let header = end - start - output.len();
        self.frames.push(Frame { end, header, before: self.output, output: len });
        self.output += len;
    }

    /// The frame that the byte at `at` belongs to, and where it starts.
    fn frame_at(&self, at: usize) -> (&Frame, usize) {
        let n = self.frames.partition_point(|frame| frame.end <= at);
        let start = if n == 0 { 0 } else { self.frames[n - 1].end };
        (&self.frames[n], start)
    }
}

/// Output on its way: whole frames of a cycle, then some frames of its own.
pub(super) struct Feed {
    cycle: Arc<Cycle>,
    records: Records,
    at: usize,
    /// How many bytes of the cycle are still to be sent.
    left: u64,
    tail: VecDeque<Vec<u8>>,
}

impl Feed {
    /// `output` bytes, the channel bytes not counted; the last frame may be shorter.
    pub(super) fn new(cycle: &Arc<Cycle>, records: Records, output: u64) -> Self {
        let rounds = output / cycle.output;
        let mut rest = output % cycle.output;
        let mut left = rounds * cycle.bytes.len() as u64;
        let whole = cycle.frames.partition_point(|frame| frame.before + frame.output <= rest);
        if let Some(last) = whole.checked_sub(1).and_then(|n| cycle.frames.get(n)) {
            left += last.end as u64;
            rest -= last.before + last.output;
        }
        let mut tail = VecDeque::new();
        if rest > 0 {
            let (next, start) = cycle.frame_at(cycle.frames[..whole].last().map_or(0, |f| f.end));
            let text = &cycle.bytes[start + next.header..];
            let text = &text[..usize::try_from(rest).unwrap_or(text.len())];
            let mut bytes = Vec::new();
            frame::append(&mut bytes, frame::BINARY, &[&[STDOUT], text], false);
            tail.push_back(bytes);
        }
        Self { cycle: Arc::clone(cycle), records, at: 0, left, tail }
    }

    /// Whether there is nothing more to send.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0 && self.tail.is_empty()
    }

    /// How much of the current frame was not sent; 0 between frames.
    fn rest_of_frame(&self) -> usize {
        let (frame, start) = self.cycle.frame_at(self.at);
        if self.left == 0 || self.at == start { 0 } else { frame.end - self.at }
    }

    /// Whether something else may be sent now.
    pub(super) fn is_between(&self) -> bool {
        self.rest_of_frame() == 0
    }

    /// Sends no more than the rest of the current frame.
    pub(super) fn stop(&mut self) {
        self.left = self.rest_of_frame() as u64;
        self.tail.clear();
    }

    /// Whether each record is to be written by itself.
    pub(super) fn is_single(&self) -> bool {
        self.records == Records::Single
    }

    /// How often a turn may fill.
    pub(super) fn fills(&self) -> usize {
        if self.is_single() { TURN_SINGLE } else { 1 }
    }

    /// Appends records and says how much output is in them. With `between` it stops where the
    /// current frame does.
    pub(super) fn fill(
        &mut self,
        sealer: &mut Sealer,
        out: &mut Vec<u8>,
        between: bool,
    ) -> Result<u64, String> {
        let before = self.output_at();
        let mut sent = 0;
        if self.left > 0 {
            let mut most = usize::try_from(self.left).map_or(TURN, |left| left.min(TURN));
            if between {
                most = self.rest_of_frame().min(most);
            }
            while sent < most {
                let len = self.record_len().min(most - sent);
                let start = Sealer::begin(out);
                self.copy(out, len);
                sealer.finish(out, start)?;
                sent += len;
                if self.is_single() {
                    break;
                }
            }
            self.left -= sent as u64;
            let rounds = (before.1 + sent) / self.cycle.bytes.len();
            return Ok(self.output_at().0 + rounds as u64 * self.cycle.output - before.0);
        }
        if let Some(frame) = self.tail.pop_front() {
            sealer.seal_all(out, &frame)?;
            // The channel and the header: a tail is a frame of the same kind.
            return Ok(output_of(&frame));
        }
        Ok(0)
    }

    /// How long the next record is.
    fn record_len(&self) -> usize {
        if self.records == Records::Packed {
            return RECORD;
        }
        let (frame, start) = self.cycle.frame_at(self.at);
        match self.at - start {
            0 => GO_BUFFER.min(frame.end - start),
            _ => RECORD.min(frame.end - self.at),
        }
    }

    /// Copies the next bytes of the cycle, beginning again at its end.
    fn copy(&mut self, out: &mut Vec<u8>, mut len: usize) {
        while len > 0 {
            let piece = len.min(self.cycle.bytes.len() - self.at);
            out.extend_from_slice(&self.cycle.bytes[self.at..self.at + piece]);
            self.at = (self.at + piece) % self.cycle.bytes.len();
            len -= piece;
        }
    }

    /// How much output of the cycle is before the current place, and the place.
    fn output_at(&self) -> (u64, usize) {
        let (frame, start) = self.cycle.frame_at(self.at);
        let inside = (self.at - start).saturating_sub(frame.header);
        (frame.before + inside as u64, self.at)
    }
}

/// The output in a frame that is not masked.
pub(super) fn output_of(frame: &[u8]) -> u64 {
    let header = match frame.get(1) {
        Some(127) => 10,
        Some(126) => 4,
        _ => 2,
    };
    frame.len().saturating_sub(header + 1) as u64
}
