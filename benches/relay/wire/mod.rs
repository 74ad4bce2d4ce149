//! What the synthetic cluster and the load generator share: bytes on a line, nothing of a relay.
//!
//! None of this uses the relay's own frame code, so that a mistake in it cannot hide on both sides.

pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod line;
pub(crate) mod records;
pub(crate) mod text;

use std::io::BufRead;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

/// How long a handshake, an answer or a goodbye may take on a machine that is busy with a bench.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The name that the exec WebSocket asks for first.
pub(crate) const V5: &str = "v5.channel.k8s.io";

/// The channels of the exec protocol.
pub(crate) const STDIN: u8 = 0;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STATUS: u8 = 3;
pub(crate) const CLOSE: u8 = 255;

/// What ends an idle shell, alone or behind an interrupt: Ctrl-D.
pub(crate) const END_OF_INPUT: u8 = 0x04;

/// Nanoseconds of the clock that all processes of a machine share.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// An error with what was being done, for one line on stderr.
pub(crate) fn at<E: std::fmt::Display>(doing: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{doing}: {error}")
}

/// The lines of stdin, read by a thread of their own: it has nothing to do under load.
pub(crate) fn stdin_lines() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A thread's worth of runtime: the load must not need more than the core it is pinned to.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // Thousands of sessions need as many descriptors, and the soft limit is often 1024.
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).map_err(at("descriptors"))?;
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(at("runtime"))
}
