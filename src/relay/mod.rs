//! The one loop: two connections, one session, one timer, one reason to stop.
//!
//! It moves bytes and knows no meaning: every decision is the session's. Nothing in it spawns,
//! locks or queues. The buffers belong to the thread and are borrowed for the length of one turn,
//! so a thousand idle sessions own none.

mod ends;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

pub use self::ends::{Again, Browser, Cluster, Meter, Opening};
use crate::proto::ending::{Ending, Kind};
use crate::proto::message::Dialect;
use crate::proto::session::{Limits, Options, Outcome, Process, Session, Time};

/// What one read may bring. A turn's output is about as much, and goes out in one write.
const READ_MAX: usize = 64 * 1024;

/// Turns in a row before other sessions of the thread get theirs: a flooding session moves at
/// most a megabyte while a neighbour's keystroke waits.
const TURNS_MAX: usize = 16;

/// Relays between the two until the session is over, and says how it ended.
///
/// `stop` is the one door for every reason from outside: a drain, a right that was withdrawn, a
/// wish of the caller's. When it completes, its ending is told to the browser, the process is
/// hung up, and the relay returns within [`Limits::hangup_grace`] and twice
/// [`Limits::close_wait`], unless output is still owed to a browser that takes it. Before a
/// [`Kind::Drain`] the user is told and has [`Limits::drain_notice`].
/// `std::future::pending()` never stops anything.
///
/// # Cancellation
///
/// Dropping the future closes both connections at once: no last words, and the process goes on
/// living. Use `stop` to end a session.
pub fn relay<B, C>(
    browser: Browser<B>,
    cluster: Cluster<C>,
    limits: impl Into<Arc<Limits>>,
    stop: impl Future<Output = Ending>,
) -> impl Future<Output = Outcome>
where
    B: AsyncRead + AsyncWrite + Unpin,
    C: AsyncRead + AsyncWrite + Unpin,
{
    let Browser { io, early, dialect } = browser;
    let mut relay = between(Some(io), early, dialect, cluster, limits.into());
    // An `async fn` would keep its arguments beside what was made of them for the session's life.
    async move { relay.run(pin!(stop)).await }
}

fn between<B, C>(
    browser: Option<B>,
    early: Bytes,
    dialect: Dialect,
    cluster: Cluster<C>,
    limits: Arc<Limits>,
) -> Relay<B, C>
where
    B: AsyncRead + AsyncWrite + Unpin,
    C: AsyncRead + AsyncWrite + Unpin,
{
    let session = Session::new(Options {
        dialect,
        subprotocol: cluster.subprotocol,
        place: cluster.place,
        stdin: cluster.stdin,
        stderr: cluster.stderr,
        size: cluster.size,
        leaving: cluster.leaving,
        attached: cluster.attached,
        again: cluster.again.is_some(),
        mask_seed: mask_seed(),
        limits,
    });
    let mut relay = Relay::new(browser, Some(cluster.io), session);
    relay.again = cluster.again;
    relay.meter = cluster.meter;
    relay.early(early, cluster.early);
    relay
}

/// Tells a browser why its session could not be begun, and closes.
///
/// # Cancellation
///
/// Dropping the future closes the connection at once.
pub async fn refuse<B>(
    browser: Browser<B>,
    ending: Ending,
    limits: impl Into<Arc<Limits>>,
) -> Outcome
where
    B: AsyncRead + AsyncWrite + Unpin,
{
    let session = Session::refused(browser.dialect, limits.into(), ending);
    // The type of the end that is not there is that of the other one, for whoever has one type for
    // both has one loop then.
    let mut relay = Relay::<B, B>::new(Some(browser.io), None, session);
    relay.early(browser.early, Bytes::new());
    relay.run(pin!(std::future::pending())).await
}

/// Ends a process whose browser left before there was a session: [`relay()`] without a browser.
///
/// An opened cluster's end must come to one of the two, because dropping it leaves the process
/// running.
///
/// # Cancellation
///
/// Dropping the future closes the connection at once, and the process goes on living.
pub async fn hang_up<C>(cluster: Cluster<C>, limits: impl Into<Arc<Limits>>) -> Outcome
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (nobody, early) = (None::<C>, Bytes::new());
    let mut relay = between(nobody, early, Dialect::Seed, cluster, limits.into());
    relay.session.on_browser_end(relay.began.elapsed());
    relay.run(pin!(std::future::pending())).await
}

/// A number that nobody can guess. Without a source of randomness there would have been no
/// handshake either, so the fallback only spares a panic.
fn mask_seed() -> u64 {
    getrandom::u64().unwrap_or_default()
}

/// The buffers of one thread.
struct Scratch {
    read: Vec<u8>,
    for_browser: Vec<u8>,
    for_cluster: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        read: vec![0; READ_MAX],
        for_browser: Vec::with_capacity(READ_MAX),
        for_cluster: Vec::new(),
    });
}

struct Relay<B, C> {
    /// Dropped as soon as the session does not need it, which closes it.
    browser: Option<B>,
    cluster: Option<C>,
    session: Session,
    began: Instant,
    /// What the timer is set to. It may be earlier than need be: what is due moves on with every
    /// byte, and to set a timer each time costs more than to look once too often.
    armed: Option<Time>,
    /// TLS may hold written bytes back until it is flushed.
    flush_browser: bool,
    flush_cluster: bool,
    stopped: bool,
    /// How to go on when nothing was started; see [`Again`].
    again: Option<Again<C>>,
    opening: Option<Opening<C>>,
    meter: Option<Arc<Meter>>,
}

impl<B, C> Relay<B, C>
where
    B: AsyncRead + AsyncWrite + Unpin,
    C: AsyncRead + AsyncWrite + Unpin,
{
    fn new(browser: Option<B>, cluster: Option<C>, session: Session) -> Self {
        Self {
            browser,
            cluster,
            session,
            began: Instant::now(),
            armed: None,
            flush_browser: false,
            flush_cluster: false,
            stopped: false,
            again: None,
            opening: None,
            meter: None,
        }
    }

    fn early(&mut self, from_browser: Bytes, from_cluster: Bytes) {
        let now = self.began.elapsed();
        if !from_cluster.is_empty() {
            self.session.on_cluster(&mut Vec::from(from_cluster), now);
        }
        if !from_browser.is_empty() {
            self.session.on_browser(&mut Vec::from(from_browser), now);
        }
    }

    async fn run(&mut self, mut stop: Pin<&mut impl Future<Output = Ending>>) -> Outcome {
        let mut timer = pin!(sleep_until(self.began));
        let mut panics = 0;
        poll_fn(|cx| {
            let turn = || {
                if !self.stopped
                    && let Poll::Ready(ending) = stop.as_mut().poll(cx)
                {
                    self.stopped = true;
                    self.session.on_stop(ending, self.began.elapsed());
                }
                self.poll(cx, timer.as_mut())
            };
            // A mistake of ours costs the session that met it, and no other: the browser is told
            // and the process hung up. What broke may be broken for that, too; then both
            // connections are dropped.
            catch_unwind(AssertUnwindSafe(turn)).unwrap_or_else(|_| {
                let ending = Ending::new(Kind::Internal, "the relay made a mistake");
                self.stopped = true;
                panics += 1;
                if panics > 1 {
                    return Poll::Ready(self.broken(ending));
                }
                let stop = || self.session.on_stop(ending.clone(), self.began.elapsed());
                if catch_unwind(AssertUnwindSafe(stop)).is_err() {
                    return Poll::Ready(self.broken(ending));
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
        })
        .await
    }

    fn broken(&mut self, ending: Ending) -> Outcome {
        (self.browser, self.cluster, self.opening) = (None, None, None);
        Outcome {
            ending,
            process: Process::Unknown,
            left: true,
            traffic: self.session.traffic(self.began.elapsed()),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<Outcome> {
        for _ in 0..TURNS_MAX {
            let now = self.began.elapsed();
            let is_due = self.session.deadline().is_some_and(|at| at <= now);
            if is_due {
                self.session.on_timeout(now);
            }
            let moved = self.turn(cx, now) | self.try_another(cx, now);
            self.close_what_is_over(cx);
            if (moved || is_due)
                && let Some(meter) = &self.meter
            {
                meter.note(&self.session.traffic(now));
            }
            if self.again.is_some() && !self.session.may_be_unstarted() {
                // What it would start is kilobytes, and the session may last for hours.
                self.again = None;
            }
            if let Some(outcome) = self.session.outcome() {
                return Poll::Ready(outcome);
            }
            if moved {
                continue;
            }
            let Some(at) = self.session.deadline() else { return Poll::Pending };
            // A limit of an embedder's may be longer than clocks go.
            let Some(due) = self.began.checked_add(at) else { return Poll::Pending };
            if self.armed.is_none_or(|armed| at < armed) {
                timer.as_mut().reset(due);
                self.armed = Some(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.armed = None;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Opens something else where nothing was started. True if that moved on.
    fn try_another(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        if let Some(why) = self.session.unstarted() {
            self.cluster = None;
            self.flush_cluster = false;
            match self.again.as_mut().map_or(Err(why.clone()), |again| again(why)) {
                Ok(opening) => self.opening = Some(opening),
                Err(ending) => self.session.on_no_other(ending, now),
            }
            return true;
        }
        let Some(opening) = &mut self.opening else { return false };
        let Poll::Ready(opened) = opening.as_mut().poll(cx) else { return false };
        self.opening = None;
        match opened {
            Ok(cluster) => {
                self.cluster = Some(cluster.io);
                self.session.on_another(cluster.subprotocol, now);
                if !cluster.early.is_empty() {
                    self.session.on_cluster(&mut Vec::from(cluster.early), now);
                }
            }
            Err(ending) => self.session.on_no_other(ending, now),
        }
        true
    }

    /// One read of each leg that is wanted, and writes of whatever there is. True if anything
    /// moved, so that there may be more.
    fn turn(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        SCRATCH.with_borrow_mut(|scratch| {
            self.session.lend(&mut scratch.for_browser, &mut scratch.for_cluster);
            let mut moved = self.write_browser(cx, now) | self.write_cluster(cx, now);
            if self.session.wants_cluster() {
                moved |= self.read_cluster(cx, now, &mut scratch.read);
                moved |= self.write_browser(cx, now);
            }
            if self.session.wants_browser() {
                moved |= self.read_browser(cx, now, &mut scratch.read);
                moved |= self.write_cluster(cx, now);
            }
            self.session.reclaim(&mut scratch.for_browser, &mut scratch.for_cluster);
            moved
        })
    }

    fn read_browser(&mut self, cx: &mut Context<'_>, now: Time, scratch: &mut [u8]) -> bool {
        let Some(io) = &mut self.browser else { return false };
        match poll_read(io, cx, scratch) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0) | Err(_)) => self.session.on_browser_end(now),
            Poll::Ready(Ok(n)) => self.session.on_browser(&mut scratch[..n], now),
        }
        true
    }

    fn read_cluster(&mut self, cx: &mut Context<'_>, now: Time, scratch: &mut [u8]) -> bool {
        let Some(io) = &mut self.cluster else { return false };
        match poll_read(io, cx, scratch) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0) | Err(_)) => self.session.on_cluster_end(now),
            Poll::Ready(Ok(n)) => self.session.on_cluster(&mut scratch[..n], now),
        }
        true
    }

    fn write_browser(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        let Some(io) = &mut self.browser else { return false };
        let took = |session: &mut Session, n| session.browser_took(n, now);
        let session = &mut self.session;
        let pushed = push(io, cx, &mut self.flush_browser, session, Session::to_browser, took);
        match pushed {
            Pushed::Nothing => return false,
            Pushed::Something => {}
            Pushed::Everything => session.browser_flushed(now),
            Pushed::Broken => session.on_browser_end(now),
        }
        true
    }

    fn write_cluster(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        let Some(io) = &mut self.cluster else { return false };
        let took = Session::cluster_took;
        let session = &mut self.session;
        let pushed = push(io, cx, &mut self.flush_cluster, session, Session::to_cluster, took);
        match pushed {
            Pushed::Nothing => return false,
            Pushed::Something => {}
            Pushed::Everything => session.cluster_flushed(now),
            Pushed::Broken => session.on_cluster_deaf(),
        }
        true
    }

    /// Says goodbye to a connection that is not needed any more and drops it. TLS has a word of
    /// its own for it; if that cannot be sent at once, nobody is listening.
    fn close_what_is_over(&mut self, cx: &mut Context<'_>) {
        if self.session.is_browser_over()
            && let Some(mut io) = self.browser.take()
        {
            let _ = Pin::new(&mut io).poll_shutdown(cx);
        }
        if self.session.is_cluster_over()
            && let Some(mut io) = self.cluster.take()
        {
            let _ = Pin::new(&mut io).poll_shutdown(cx);
        }
    }
}

fn poll_read<S: AsyncRead + Unpin>(
    io: &mut S,
    cx: &mut Context<'_>,
    scratch: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(scratch);
    Pin::new(io).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
}

/// What came of an attempt to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushed {
    /// There was nothing to write, or nothing could be written.
    Nothing,
    /// Some of it was taken, and some of that may be held back.
    Something,
    /// All of it is on its way.
    Everything,
    Broken,
}

/// Writes what a session has for a peer until the socket takes no more, and flushes: TLS may hold
/// back what it took, and `flush` remembers that it may.
fn push<S: AsyncWrite + Unpin>(
    io: &mut S,
    cx: &mut Context<'_>,
    flush: &mut bool,
    session: &mut Session,
    pending: fn(&Session) -> &[u8],
    took: impl Fn(&mut Session, usize),
) -> Pushed {
    let mut pushed = Pushed::Nothing;
    while !pending(session).is_empty() {
        match Pin::new(&mut *io).poll_write(cx, pending(session)) {
            Poll::Pending => break,
            Poll::Ready(Ok(n)) if n > 0 => took(session, n),
            Poll::Ready(_) => {
                *flush = false;
                return Pushed::Broken;
            }
        }
        pushed = Pushed::Something;
        *flush = true;
    }
    if !*flush {
        return pushed;
    }
    match Pin::new(io).poll_flush(cx) {
        Poll::Pending => pushed,
        Poll::Ready(result) => {
            // A broken socket stays broken: to flush it again and again would be a busy loop.
            *flush = false;
            match result {
                Ok(()) if pending(session).is_empty() => Pushed::Everything,
                Ok(()) => pushed,
                Err(_) => Pushed::Broken,
            }
        }
    }
}
