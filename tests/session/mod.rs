//! What the session's tests share: frames as the two peers write them, strict readers for what the
//! machine writes, and a rig that moves bytes and time by hand.

// Every test program uses its own part of this.
#![allow(dead_code)]

pub(crate) mod model;
pub(crate) mod readers;
pub(crate) mod speak;
pub(crate) mod table;
pub(crate) mod tape;

use std::sync::Arc;
use std::time::Duration;

use podwire::proto::channel::{Size, Subprotocol};
use podwire::proto::ending::{Ending, Kind};
use podwire::proto::message::{Dialect, Place};
use podwire::proto::session::{Limits, Options, Outcome, Session, Time};

use readers::{BrowserReader, ClusterReader};

pub(crate) const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;

/// The status of a process that ended with `code`.
pub(crate) fn exit_status(code: &str) -> Vec<u8> {
    format!(
        r#"{{"metadata":{{}},"status":"Failure","message":"command terminated with non-zero exit code: command terminated with exit code {code}","reason":"NonZeroExitCode","details":{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}}}"#
    )
    .into_bytes()
}

/// The status of a command that was not started.
pub(crate) fn internal_error(sentence: &str) -> Vec<u8> {
    format!(
        r#"{{"metadata":{{}},"status":"Failure","message":"Internal error occurred: {sentence}","reason":"InternalError","details":{{"causes":[{{"message":"{sentence}"}}]}},"code":500}}"#
    )
    .into_bytes()
}

/// A frame with any first byte, masked if there is a key, and with a length that need not be true.
pub(crate) fn frame(first: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    let mut wire = vec![first];
    match payload.len() {
        len @ 0..=125 => wire.push(mask_bit | u8::try_from(len).unwrap()),
        len @ 126..=0xffff => {
            wire.push(mask_bit | 0x7e);
            wire.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            wire.push(mask_bit | 0x7f);
            wire.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    wire.extend_from_slice(key.as_ref().map_or(&[], |key| &key[..]));
    let key = key.unwrap_or_default();
    wire.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    wire
}

const KEY: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);

/// A frame of the browser's.
pub(crate) fn browser_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, KEY)
}

/// A text message of the browser's.
pub(crate) fn text(message: &str) -> Vec<u8> {
    browser_frame(0x81, message.as_bytes())
}

/// A binary message of the browser's: bytes that were typed.
pub(crate) fn typed(bytes: &[u8]) -> Vec<u8> {
    browser_frame(0x82, bytes)
}

pub(crate) fn resize(cols: u32, rows: u32) -> Vec<u8> {
    text(&format!(r#"{{"type":"resize","cols":{cols},"rows":{rows}}}"#))
}

pub(crate) fn browser_close(code: u16) -> Vec<u8> {
    browser_frame(0x88, &code.to_be_bytes())
}

/// A message of the cluster's on a channel.
pub(crate) fn on_channel(channel: u8, payload: &[u8]) -> Vec<u8> {
    frame(0x82, &[&[channel], payload].concat(), None)
}

pub(crate) fn stdout(payload: &[u8]) -> Vec<u8> {
    on_channel(1, payload)
}

pub(crate) fn status(payload: &[u8]) -> Vec<u8> {
    on_channel(3, payload)
}

pub(crate) fn cluster_close(code: u16) -> Vec<u8> {
    frame(0x88, &code.to_be_bytes(), None)
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A session on v5 with input and without a first size.
pub(crate) fn options(dialect: Dialect, tty: bool) -> Options {
    let subprotocol = Subprotocol::V5;
    let place = Place { tty, protocol: subprotocol.name(), ..Place::default() };
    let limits = Arc::new(quiet());
    Options { limits, ..Options::new(dialect, subprotocol, place, 7) }
}

/// Limits under which a session does nothing of its own accord, apart from what the tests that use
/// them are about: `session_timers.rs` has the rest.
pub(crate) fn quiet() -> Limits {
    let mut limits = Limits::default();
    limits.browser_ping = Duration::MAX;
    limits.cluster_ping = Duration::MAX;
    limits.dead_after = Duration::MAX;
    limits.size_keepalive = None;
    limits.data_keepalive = Duration::MAX;
    limits.idle_timeout = None;
    limits.max_session = None;
    limits.drain_notice = Duration::ZERO;
    limits
}

pub(crate) fn size(cols: u64, rows: u64) -> Option<Size> {
    Size::new(cols, rows)
}

/// A session, the bytes that its peers took, and a clock that moves when it is told to.
pub(crate) struct Rig {
    pub(crate) session: Session,
    pub(crate) now: Time,
    pub(crate) browser: BrowserReader,
    pub(crate) cluster: ClusterReader,
    /// Whether buffers are lent for every turn, as the loop does it.
    pub(crate) lends: bool,
    scratch: (Vec<u8>, Vec<u8>),
}

impl Rig {
    pub(crate) fn new(options: Options) -> Self {
        let dialect = options.dialect;
        Self {
            session: Session::new(options),
            now: Time::ZERO,
            browser: BrowserReader::new(dialect),
            cluster: ClusterReader::default(),
            lends: true,
            scratch: (Vec::new(), Vec::new()),
        }
    }

    fn turn(&mut self, act: impl FnOnce(&mut Session, Time)) {
        if self.lends {
            self.session.lend(&mut self.scratch.0, &mut self.scratch.1);
        }
        act(&mut self.session, self.now);
        if self.lends {
            self.session.reclaim(&mut self.scratch.0, &mut self.scratch.1);
            assert!(self.scratch.0.is_empty() && self.scratch.1.is_empty());
        }
    }

    /// One read of the browser's leg.
    pub(crate) fn browser_sends(&mut self, bytes: &[u8]) {
        self.turn(|session, now| session.on_browser(&mut bytes.to_vec(), now));
    }

    /// One read of the cluster's leg.
    pub(crate) fn cluster_sends(&mut self, bytes: &[u8]) {
        self.turn(|session, now| session.on_cluster(&mut bytes.to_vec(), now));
    }

    pub(crate) fn browser_ends(&mut self) {
        self.turn(Session::on_browser_end);
    }

    pub(crate) fn cluster_ends(&mut self) {
        self.turn(Session::on_cluster_end);
    }

    pub(crate) fn timeout(&mut self) {
        self.turn(Session::on_timeout);
    }

    pub(crate) fn stop(&mut self, kind: Kind) {
        self.turn(|session, now| session.on_stop(Ending::new(kind, "stopped"), now));
    }

    /// The browser's socket takes at most `n` bytes.
    pub(crate) fn browser_takes(&mut self, n: usize) {
        let Self { browser, .. } = self;
        let pending = self.session.to_browser();
        let n = n.min(pending.len());
        if n > 0 {
            browser.feed(&pending[..n]);
            self.turn(|session, now| {
                session.browser_took(n, now);
                session.browser_flushed(now);
            });
        }
    }

    /// The cluster's socket takes at most `n` bytes.
    pub(crate) fn cluster_takes(&mut self, n: usize) {
        let Self { cluster, .. } = self;
        let pending = self.session.to_cluster();
        let n = n.min(pending.len());
        if n > 0 {
            cluster.feed(&pending[..n]);
            self.turn(|session, now| {
                session.cluster_took(n);
                session.cluster_flushed(now);
            });
        }
    }

    /// Both sockets take whatever there is.
    pub(crate) fn drain(&mut self) {
        self.browser_takes(usize::MAX);
        self.cluster_takes(usize::MAX);
    }

    /// Lets time pass, and does what is due on its way, exactly when it is due.
    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..1000 {
            match self.session.deadline() {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    self.timeout();
                }
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("the timer never stops: {:?}", self.session);
    }

    /// Says something for as long as it is wanted, which must end; returns how often.
    pub(crate) fn fill(
        &mut self,
        wants: fn(&Session) -> bool,
        mut say: impl FnMut(&mut Self),
    ) -> usize {
        for times in 0..1000 {
            if !wants(&self.session) {
                return times;
            }
            say(self);
        }
        panic!("there is no limit: {} bytes wait", self.session.to_cluster().len());
    }

    /// Both peers take everything and say nothing more; time passes until there is an outcome.
    pub(crate) fn finish(&mut self) -> Outcome {
        for _ in 0..20 {
            self.drain();
            if let Some(outcome) = self.session.outcome() {
                return outcome;
            }
            if let Some(at) = self.session.deadline() {
                self.wait(at.saturating_sub(self.now));
            }
        }
        panic!("there is no outcome: {:?}", self.session);
    }

    /// The process ends, and the cluster closes.
    pub(crate) fn finish_with_status(&mut self) -> Outcome {
        self.cluster_sends(&[status(SUCCESS), cluster_close(1000)].concat());
        self.finish()
    }
}
