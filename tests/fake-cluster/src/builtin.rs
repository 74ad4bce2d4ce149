//! Commands that need no process, for benches only: no fork, no pipe, no scheduler in the
//! figures, and a thousand idle sessions that cost a thousand tasks.
//!
//! * `podwire-test-idle`: says `idle\n`, reads its input until it ends or `exit` comes.
//! * `podwire-test-flood BYTES`: writes so many bytes (0 for no end), byte `n` being `n % 251`
//!   within each 32 KiB frame, then exits 0.
//! * `podwire-test-sink`: reads its input to the end, prints how many bytes there were.
//! * `podwire-test-echo`: writes back what it reads.

use std::ffi::OsString;

use crate::output::{Ears, STDOUT};
use crate::stdin::Outlet;
use crate::wire::{HEADROOM, OUTPUT_MAX_BYTES};

/// A command of the list above.
pub(crate) enum Builtin {
    Idle,
    Flood(u64),
    Sink,
    Echo,
}

/// The built-in command that these words name, if they do.
pub(crate) fn find(argv: &[OsString]) -> Option<Builtin> {
    let words: Vec<&str> = argv.iter().filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        ["podwire-test-idle"] => Some(Builtin::Idle),
        ["podwire-test-flood", bytes] => bytes.parse().ok().map(Builtin::Flood),
        ["podwire-test-sink"] => Some(Builtin::Sink),
        ["podwire-test-echo"] => Some(Builtin::Echo),
        _ => None,
    }
}

impl Builtin {
    pub(crate) async fn run(self, outlet: &mut Outlet, ears: &Ears) -> i32 {
        match self {
            Builtin::Idle => {
                ears.link.data(STDOUT, b"idle\n").await;
                while let Some(bytes) = outlet.next().await {
                    if bytes.starts_with(b"exit") {
                        return 0;
                    }
                }
                // The peer has left: a shell would live on, and this stands for one.
                std::future::pending().await
            }
            Builtin::Flood(bytes) => {
                flood(bytes, ears).await;
                0
            }
            Builtin::Sink => {
                let mut total = 0;
                while let Some(bytes) = outlet.next().await {
                    total += bytes.len() as u64;
                }
                ears.link.data(STDOUT, format!("{total}\n").as_bytes()).await;
                0
            }
            Builtin::Echo => {
                while let Some(bytes) = outlet.next().await {
                    ears.link.data(STDOUT, &bytes).await;
                }
                0
            }
        }
    }
}

async fn flood(bytes: u64, ears: &Ears) {
    let pattern = (0..=250_u8).cycle().take(OUTPUT_MAX_BYTES);
    let mut buffer: Vec<u8> = std::iter::repeat_n(0, HEADROOM).chain(pattern).collect();
    let mut left = if bytes == 0 { u64::MAX } else { bytes };
    while left > 0 {
        let length = OUTPUT_MAX_BYTES.min(usize::try_from(left).unwrap_or(usize::MAX));
        if !ears.link.output(&mut buffer, length, STDOUT).await {
            return;
        }
        left -= length as u64;
    }
}
