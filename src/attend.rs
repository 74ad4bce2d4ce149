//! The task of one session: admitted, opened, relayed, seen off, told of.
//!
//! It begins when a request was found in order, before there is an answer, and ends when nothing
//! of the session is left. What it must never know: addresses, rules, frames.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::Level;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::accept::{BrowserIo, Upgrade};
use crate::auth::{Gate, Granted};
use crate::config::{Config, Hangup};
use crate::exec::{ClusterIo, Connector};
use crate::hangup::Farewell;
use crate::metrics::{HungUp, Metrics};
use crate::proto::ending::{Ending, Kind};
use crate::proto::message::Place;
use crate::proto::session::{Leaving, Limits, Outcome, Process};
use crate::recheck::Recheck;
use crate::registry::{Entry, Permit, Registry, State};
use crate::relay::{Again, Browser, Cluster, hang_up, refuse, relay};
use crate::shell::{self, Candidates, Started};
use crate::sources::Sources;
use crate::target::{Target, Verb};

/// Everything that all sessions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    /// Those of each session.
    pub(crate) limits: Arc<Limits>,
    /// The newest clusters.
    pub(crate) sources: watch::Receiver<Sources>,
    /// Who decides what a request may do.
    pub(crate) gate: Gate,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
    /// How many pods may be read besides those that are being read.
    pub(crate) reads: Semaphore,
    /// Becomes true when sessions are to end.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// What a session is to be.
pub(crate) struct Wish {
    /// None if there is no such cluster.
    pub(crate) connector: Option<Connector>,
    pub(crate) target: Target,
    /// What else to start where that is not there, or why nothing may be started.
    pub(crate) candidates: Result<Candidates, Ending>,
    /// Whose rights it has, and how long.
    pub(crate) granted: Granted,
    /// Where the connection comes from.
    pub(crate) remote: Arc<str>,
}

/// Who waits for an answer.
pub(crate) struct Caller {
    pub(crate) upgrade: Upgrade,
    /// A page cannot read a failed handshake, so it is told inside a WebSocket.
    pub(crate) is_page: bool,
    /// Lets the 101 go out, or an HTTP status in its place.
    pub(crate) answer: oneshot::Sender<Result<(), Ending>>,
}

impl Caller {
    /// Says why there is no session.
    async fn refuse(self, ending: Ending, limits: &Arc<Limits>) {
        if !self.is_page {
            let _ = self.answer.send(Err(ending));
        } else if let Some(browser) = self.browser().await {
            refuse(browser, ending, Arc::clone(limits)).await;
        }
    }

    /// Answers 101, and gives the browser's end unless the browser has left.
    async fn browser(self) -> Option<Browser<BrowserIo>> {
        self.answer.send(Ok(())).ok()?;
        self.upgrade.browser().await.ok()
    }
}

/// A session from its first byte to its last.
///
/// It is a task of its own before there is an answer to the browser, and owns both ends from the
/// start: whenever the browser leaves, a process that was started by then is hung up and not
/// forgotten.
pub(crate) async fn session(shared: Arc<Shared>, wish: Box<Wish>, caller: Caller) {
    // What comes before and after is boxed: a task is as large as the largest of its steps, and
    // most of its life is spent in the relay.
    let Some(begun) = Box::pin(begin(Arc::clone(&shared), wish, caller)).await else { return };
    let Begun { account, farewell, granted, limits, browser, cluster } = begun;
    let entry = Arc::clone(&account.entry);
    let hook = shared.config.hook;
    let stop = Box::pin(async {
        if let Some(hook) = hook {
            hook(&farewell.target);
        }
        tokio::select! {
            ending = reason_to_stop(shared.stopping.clone(), &entry) => ending,
            ending = access_lost(&shared, &farewell, granted) => ending,
        }
    });
    let outcome = if let Some(browser) = browser {
        relay(browser, cluster, limits, stop).await
    } else {
        drop(stop);
        Box::pin(hang_up(cluster, limits)).await
    };
    entry.set_state(State::HangingUp);
    let (outcome, hung_up) = Box::pin(farewell.see_off(outcome)).await;
    // The session ends here: its place is free, and what is said of it is said.
    account.over(outcome, hung_up);
}

/// A session whose process runs, as far as anybody knows.
struct Begun {
    account: Account,
    farewell: Box<Farewell>,
    granted: Granted,
    limits: Arc<Limits>,
    /// None if it left before there was an answer.
    browser: Option<Browser<BrowserIo>>,
    cluster: Cluster<ClusterIo>,
}

/// Opens the cluster's side and answers the browser. Nothing if there is no session, which is
/// said and counted then.
async fn begin(shared: Arc<Shared>, wish: Box<Wish>, caller: Caller) -> Option<Begun> {
    let limits = wish.granted.terms.applied_to(&shared.limits);
    let limits = &limits;
    // The session begins here: it has a place among the others from now on, and whatever becomes
    // of this task, its account gives the place back, counts it and logs how it ended.
    let mut account = Account::new(Arc::clone(&shared), &wish, &caller);
    let connector = match account.admit(&wish) {
        Ok(connector) => connector,
        Err(ending) => {
            drop(account.refused(&ending));
            caller.refuse(ending, limits).await;
            return None;
        }
    };
    let entry = Arc::clone(&account.entry);
    let stop = reason_to_stop(shared.stopping.clone(), &entry);
    let mut cluster = match open(connector, &wish, stop).await {
        Opened::Yes(cluster) => *cluster,
        Opened::No(ending) => {
            drop(account.refused(&ending));
            caller.refuse(ending, limits).await;
            return None;
        }
        Opened::Stopped(ending, open) => {
            // The process may run by now although nobody was told, so that is awaited, and counts
            // as a session until then.
            let place = account.refused(&ending);
            entry.set_state(State::HangingUp);
            let forget = async {
                if let Ok(mut cluster) = open.await {
                    let farewell = farewell(&shared.config, &wish, &mut cluster);
                    let outcome = hang_up(cluster, Arc::clone(limits)).await;
                    let (_, hung_up) = farewell.see_off(outcome).await;
                    shared.metrics.hung_up(hung_up);
                }
                drop(place);
            };
            tokio::join!(caller.refuse(ending, limits), forget);
            return None;
        }
    };
    account.opened(&cluster);
    let farewell = Box::new(farewell(&shared.config, &wish, &mut cluster));
    cluster.meter = Some(Arc::clone(&entry.meter));
    let (granted, limits) = (wish.granted.clone(), Arc::clone(limits));
    cluster.again = again(*wish, &cluster.place);
    let browser = caller.browser().await;
    Some(Begun { account, farewell, granted, limits, browser, cluster })
}

/// Completes when the session's rights are lost.
async fn access_lost(shared: &Shared, farewell: &Farewell, granted: Granted) -> Ending {
    let Some(connector) = &farewell.connector else { return std::future::pending().await };
    let recheck = Recheck {
        gate: &shared.gate,
        sources: &shared.sources,
        connector,
        target: &farewell.target,
        identity: &farewell.identity,
        every: shared.config.recheck,
        grace: shared.config.recheck_grace,
    };
    recheck.lost(granted).await
}

/// What is to be done about the process if the session ends first; the cluster's end is told, too.
fn farewell(config: &Config, wish: &Wish, cluster: &mut Cluster<ClusterIo>) -> Farewell {
    let keys = config.hangup != Hangup::None && !cluster.attached;
    cluster.leaving = if keys { Leaving::HangUp } else { Leaving::Nothing };
    Farewell {
        connector: wish.connector.clone(),
        target: Target {
            session: wish.target.session.clone(),
            trace: wish.target.trace.clone(),
            container: cluster.place.container.clone(),
            // It may be long, and is not needed any more.
            command: Vec::new(),
            verb: wish.target.verb,
            ..Target::new(wish.target.namespace.clone(), wish.target.pod.clone())
        },
        identity: Mutex::new(wish.granted.identity.clone()),
        keys,
        signal: config.hangup == Hangup::Signal,
        shell: wish.candidates.as_ref().map_or_else(|_| Started::default(), Candidates::started),
    }
}

/// How the session goes on if nothing was started. What was attached to was.
fn again(wish: Wish, place: &Place) -> Option<Again<ClusterIo>> {
    let Wish { connector: Some(connector), target, granted, candidates: Ok(candidates), .. } = wish
    else {
        return None;
    };
    if target.verb == Verb::Attach {
        return None;
    }
    let target = Target { container: place.container.clone().or(target.container), ..target };
    Some(shell::again(connector, target, granted.identity, candidates))
}

/// What became of the wish to open a session.
enum Opened<'a> {
    Yes(Box<Cluster<ClusterIo>>),
    No(Ending),
    /// It is not wanted any more, and the cluster has not answered yet.
    Stopped(Ending, Opening<'a>),
}

type Opening<'a> = Pin<Box<dyn Future<Output = Result<Cluster<ClusterIo>, Ending>> + Send + 'a>>;

async fn open<'a>(
    connector: &'a Connector,
    wish: &'a Wish,
    stop: impl Future<Output = Ending>,
) -> Opened<'a> {
    // Boxed, so that a session does not keep room for the handshakes while it lasts.
    let mut open: Opening<'a> = Box::pin(connector.open(&wish.target, &wish.granted.identity));
    tokio::select! {
        biased;
        ending = stop => Opened::Stopped(ending, open),
        opened = open.as_mut() => match opened {
            Ok(cluster) => Opened::Yes(Box::new(cluster)),
            Err(ending) => Opened::No(ending),
        },
    }
}

/// Completes when the relay is being stopped, or an operator ends this session.
async fn reason_to_stop(mut stopping: watch::Receiver<bool>, entry: &Entry) -> Ending {
    tokio::select! {
        // An error means that the sender is gone, which is a stop, too.
        _ = stopping.wait_for(|stopping| *stopping) => {
            Ending::new(Kind::Drain, "the relay is being stopped")
        }
        () = entry.stopped() => Ending::new(Kind::Revoked, "ended by an operator"),
    }
}

/// A line of the log about a session, with the same facts in each.
macro_rules! say {
    ($level:expr, $facts:expr, { $($name:ident = $value:expr,)* } $message:literal) => {
        log::log!(
            $level,
            session = $facts.id,
            remote = $facts.remote,
            user = $facts.user.as_deref(),
            trace_id = $facts.trace_id,
            cluster = $facts.cluster,
            namespace = $facts.namespace,
            pod = $facts.pod,
            container = $facts.container,
            protocol = $facts.protocol,
            dialect = $facts.dialect,
            tty = $facts.tty
            $(, $name = $value)*;
            $message
        )
    };
}

/// How far a session has come, for the one line and the one count at its end.
enum Stage {
    Opening,
    Refused,
    Open,
}

/// What is said and counted of a session: once, whatever becomes of its task.
struct Account {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    permit: Option<Permit>,
    stage: Stage,
    /// How it ended, what is known of the process, and what was done about it.
    end: Option<(Ending, Process, HungUp)>,
}

impl Account {
    fn new(shared: Arc<Shared>, wish: &Wish, caller: &Caller) -> Self {
        let user = wish.granted.user.as_ref().map(|user| shared.registry.user(user));
        let dialect = caller.upgrade.dialect();
        // A name of nothing may be of any length, and belongs into no log.
        let cluster = wish.connector.as_ref().map(|connector| connector.name().to_owned());
        let entry = Entry::new(&wish.target, cluster, dialect, user, Arc::clone(&wish.remote));
        Self { shared, entry: Arc::new(entry), permit: None, stage: Stage::Opening, end: None }
    }

    /// Takes a place for the session. What cannot be opened at all takes none.
    fn admit<'a>(&mut self, wish: &'a Wish) -> Result<&'a Connector, Ending> {
        if let Err(ending) = &wish.candidates {
            return Err(ending.clone());
        }
        let none = || Ending::new(Kind::NotFound, "no such cluster");
        let connector = wish.connector.as_ref().ok_or_else(none)?;
        self.permit = Some(self.shared.registry.admit(&self.entry)?);
        Ok(connector)
    }

    /// There will be no session. Its place is free before anybody is told so, if the permit that
    /// is given back is dropped.
    fn refused(&mut self, ending: &Ending) -> Option<Permit> {
        self.stage = Stage::Refused;
        self.shared.metrics.rejected(ending.kind, None);
        say!(level(ending.kind), self.entry.facts(), {
            kind = ending.kind.facts().name,
            message = ending.message.as_ref(),
        } "session refused");
        self.permit.take()
    }

    fn opened(&mut self, cluster: &Cluster<ClusterIo>) {
        self.stage = Stage::Open;
        self.entry.open(&cluster.place);
        let facts = self.entry.facts();
        self.shared.metrics.started(facts.dialect, self.entry.age());
        say!(Level::Info, facts, {} "session start");
    }

    /// The last that is heard of a session; what is left is done when the account is dropped.
    fn over(mut self, outcome: Outcome, hung_up: HungUp) {
        let Outcome { ending, process, .. } = outcome;
        self.end = Some((ending, process, hung_up));
    }

    fn ended(&mut self, ending: &Ending, process: Process, hung_up: HungUp) {
        self.permit = None;
        let facts = self.entry.facts();
        self.shared.metrics.ended(ending.kind, hung_up, self.entry.age());
        let (process, code) = match process {
            Process::Ended(code) => ("ended", code),
            Process::Unknown => ("unknown", None),
        };
        say!(level(ending.kind), facts, {
            kind = ending.kind.facts().name,
            exit_code = ending.exit_code,
            close_code = ending.close_code,
            process = process,
            process_code = code,
            hangup = hung_up.name(),
            duration = in_seconds(self.entry.age()),
            input = facts.traffic.input_bytes,
            output = facts.traffic.output_bytes,
            ignored = facts.traffic.ignored,
            message = ending.message.as_ref(),
        } "session end");
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Without an end the task was cut short, by the end of the program or by a mistake of ours,
        // and its sockets are closed.
        let cut = if self.shared.registry.is_draining() {
            Ending::new(Kind::Drain, "the relay ended before the session was over")
        } else {
            Ending::new(Kind::Internal, "the session failed")
        };
        match self.stage {
            Stage::Refused => {}
            Stage::Opening => drop(self.refused(&cut)),
            Stage::Open => {
                let end = self.end.take();
                let (ending, process, hung_up) =
                    end.unwrap_or((cut, Process::Unknown, HungUp::None));
                self.ended(&ending, process, hung_up);
            }
        }
    }
}

/// How loudly an ending is logged: what users do is normal, what clusters do is not.
fn level(kind: Kind) -> Level {
    match kind {
        Kind::Internal => Level::Error,
        Kind::ClusterUnreachable
        | Kind::ClusterLost
        | Kind::ClusterProtocol
        | Kind::ClusterTimeout
        | Kind::Failed
        | Kind::NoShell => Level::Warn,
        _ => Level::Info,
    }
}

/// To the millisecond, and with no more digits than that.
fn in_seconds(time: Duration) -> f64 {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    #[expect(clippy::cast_precision_loss, reason = "it is exact for some hundred thousand years")]
    let ms = ms as f64;
    ms / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// A thousand idle sessions are a thousand of these.
    #[test]
    fn the_task_of_a_session_is_small() {
        let size = size_of_future(session);
        assert!(size <= 2304, "{size} bytes");
    }
}
