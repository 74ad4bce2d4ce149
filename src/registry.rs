//! Every session that is opening or open: how many there may be, what they are, how to stop one.
//!
//! A [`Permit`] is a session's place in here, and goes with it whatever becomes of its task. What
//! this must never know: requests, clusters, frames.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::auth;
use crate::metrics::Totals;
use crate::proto::ending::{Ending, Kind};
use crate::proto::message::{Dialect, Place};
use crate::relay::Meter;
use crate::target::Target;
use crate::trace::Trace;

/// How many may be begun at once after a quiet time: what one second allows.
const BURST: Duration = Duration::from_secs(1);

/// How many sessions there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// At the same time.
    pub(crate) sessions: usize,
    /// At the same time for one user, where users are told apart.
    pub(crate) per_user: usize,
    /// Begun within a second.
    pub(crate) rate: u32,
}

/// A user, by name or as far as one can be told from another without being known: by a hash of the
/// token whose key is this process's own, so that nobody can find the token by trying.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum User {
    Token(u64),
    Name(Arc<str>),
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Half of the hash is enough to follow somebody through the log.
            Self::Token(hash) => write!(f, "token:{:08x}", hash >> 32),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// All sessions of a relay.
#[derive(Debug)]
pub(crate) struct Registry {
    capacity: Capacity,
    key: RandomState,
    /// Held for a few instructions, never while something is awaited.
    inner: Mutex<Inner>,
    draining: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    entries: HashMap<String, Arc<Entry>>,
    /// Only those who have a session.
    users: HashMap<User, usize>,
    /// When all that was begun would have been begun at exactly the allowed rate.
    paid_until: Instant,
    /// What the sessions moved that are over.
    finished: Totals,
}

impl Registry {
    /// An empty one.
    pub(crate) fn new(capacity: Capacity) -> Self {
        let inner = Inner {
            entries: HashMap::new(),
            users: HashMap::new(),
            paid_until: Instant::now(),
            finished: Totals::default(),
        };
        let (key, inner) = (RandomState::new(), Mutex::new(inner));
        Self { capacity, key, inner, draining: AtomicBool::new(false) }
    }

    /// Nobody should send new sessions here any more; those that come are still taken for a while.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the relay is being stopped.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Who this is, without what must not be shown.
    pub(crate) fn user(&self, user: &auth::User) -> User {
        match user {
            auth::User::Token(token) => User::Token(self.key.hash_one(token.header().as_bytes())),
            auth::User::Name(name) => User::Name(Arc::clone(name)),
        }
    }

    /// Makes room for a session, until its permit is dropped.
    ///
    /// # Errors
    ///
    /// The limit that is reached. A session that is not begun does not count against the rate.
    pub(crate) fn admit(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Permit, Ending> {
        let Capacity { sessions, per_user, rate } = self.capacity;
        let over = |message: String| Err(Ending::new(Kind::Limit, message));
        let mut inner = self.lock();
        if inner.entries.len() >= sessions {
            return over(format!("no more than {sessions} sessions at a time; try again later"));
        }
        let own =
            entry.user.as_ref().and_then(|user| inner.users.get(user)).copied().unwrap_or_default();
        if own >= per_user {
            return over(format!(
                "no more than {per_user} sessions for one user; close another one"
            ));
        }
        // What a bucket of tokens does, told by the time at which it would be full again.
        let now = Instant::now();
        let paid_until = inner.paid_until.max(now) + BURST / rate.max(1);
        if paid_until.duration_since(now) > BURST {
            return over(format!("no more than {rate} sessions a second; try again"));
        }
        inner.paid_until = paid_until;
        if let Some(user) = entry.user.clone() {
            *inner.users.entry(user).or_default() += 1;
        }
        inner.entries.insert(entry.id.clone(), Arc::clone(entry));
        Ok(Permit { registry: Arc::clone(self), entry: Arc::clone(entry) })
    }

    /// How many sessions there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().entries.len()
    }

    /// What all sessions have moved, those that are over and those that are not.
    pub(crate) fn totals(&self) -> Totals {
        let inner = self.lock();
        inner.entries.values().fold(inner.finished, |sum, entry| sum + entry.totals())
    }

    /// All sessions as they are now, the oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Entry>> {
        let mut entries: Vec<_> = self.lock().entries.values().cloned().collect();
        entries.sort_by_key(|entry| entry.began);
        entries
    }

    /// Tells a session to end, if there is such a one.
    pub(crate) fn stop(&self, id: &str) -> bool {
        let entry = self.lock().entries.get(id).cloned();
        entry.is_some_and(|entry| {
            entry.stop.send_replace(true);
            true
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here stops half-way, so what a panic left behind is in order.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// The cluster has not answered yet.
    Opening,
    /// Relaying, saying its last words, or typing the keys of a hang-up.
    Open,
    /// The browser's part is over; what is left of the process, or may yet start, is seen off.
    HangingUp,
}

/// A session: what was known of it before it was opened, and what became of it.
#[derive(Debug)]
pub(crate) struct Entry {
    /// A UUID.
    id: String,
    trace: Option<Trace>,
    /// As they were named; what was left out is found when the cluster answers.
    cluster: Option<String>,
    namespace: String,
    pod: String,
    container: Option<String>,
    tty: bool,
    dialect: Dialect,
    /// Whose session it is, where users are told apart.
    user: Option<User>,
    /// Where the connection comes from.
    remote: Arc<str>,
    /// What the cluster's answer added.
    found: OnceLock<Found>,
    state: AtomicU8,
    started: SystemTime,
    began: Instant,
    stop: watch::Sender<bool>,
    /// Where its relay notes what it moves.
    pub(crate) meter: Arc<Meter>,
}

#[derive(Debug)]
struct Found {
    cluster: String,
    container: Option<String>,
    protocol: &'static str,
}

impl Entry {
    /// A session that begins now.
    pub(crate) fn new(
        target: &Target,
        cluster: Option<String>,
        dialect: Dialect,
        user: Option<User>,
        remote: Arc<str>,
    ) -> Self {
        Self {
            id: target.session.clone(),
            trace: target.trace.clone(),
            cluster,
            namespace: target.namespace.clone(),
            pod: target.pod.clone(),
            container: target.container.clone(),
            tty: target.tty,
            dialect,
            user,
            remote,
            found: OnceLock::new(),
            state: AtomicU8::new(State::Opening as u8),
            started: SystemTime::now(),
            began: Instant::now(),
            stop: watch::channel(false).0,
            meter: Arc::default(),
        }
    }

    /// The cluster has answered.
    pub(crate) fn open(&self, place: &Place) {
        let found = Found {
            cluster: place.cluster.clone(),
            container: place.container.clone(),
            protocol: place.protocol,
        };
        // It answers once; if it ever did twice, the first answer would stay.
        let _ = self.found.set(found);
        self.set_state(State::Open);
    }

    /// Notes how far it has come.
    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// How long it has lasted.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// What it has moved so far.
    pub(crate) fn totals(&self) -> Totals {
        (&*self.meter).into()
    }

    /// Completes when somebody tells it to end.
    pub(crate) async fn stopped(&self) {
        // The sender lives as long as this does, so there is no other way out.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// What is said of it, in the list and in the log.
    pub(crate) fn facts(&self) -> Facts<'_> {
        let found = self.found.get();
        Facts {
            id: &self.id,
            state: match self.state.load(Ordering::Relaxed) {
                state if state == State::Opening as u8 => State::Opening,
                state if state == State::Open as u8 => State::Open,
                _ => State::HangingUp,
            },
            cluster: found.map(|found| found.cluster.as_str()).or(self.cluster.as_deref()),
            namespace: &self.namespace,
            pod: &self.pod,
            container: found.map_or(&self.container, |found| &found.container).as_deref(),
            tty: self.tty,
            protocol: found.map(|found| found.protocol),
            dialect: self.dialect.name(),
            user: self.user.as_ref().map(ToString::to_string),
            trace_id: self.trace.as_ref().map(Trace::id),
            remote: &self.remote,
            started: humantime::format_rfc3339_millis(self.started).to_string(),
            age_seconds: self.age().as_secs(),
            traffic: self.totals(),
        }
    }
}

/// What is said of a session. No token and no byte of a terminal is among it.
#[derive(Debug, Serialize)]
pub(crate) struct Facts<'a> {
    pub(crate) id: &'a str,
    pub(crate) state: State,
    pub(crate) cluster: Option<&'a str>,
    pub(crate) namespace: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) container: Option<&'a str>,
    pub(crate) tty: bool,
    pub(crate) protocol: Option<&'a str>,
    pub(crate) dialect: &'a str,
    pub(crate) user: Option<String>,
    pub(crate) trace_id: Option<&'a str>,
    pub(crate) remote: &'a str,
    pub(crate) started: String,
    pub(crate) age_seconds: u64,
    #[serde(flatten)]
    pub(crate) traffic: Totals,
}

/// A session's place among the others. Dropping it gives the place back, in every case.
#[derive(Debug)]
pub(crate) struct Permit {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        // In one step, so that the totals never fall.
        inner.entries.remove(&self.entry.id);
        inner.finished = inner.finished + self.entry.totals();
        let Some(user) = &self.entry.user else { return };
        if let Some(own) = inner.users.get_mut(user) {
            *own -= 1;
            if *own == 0 {
                inner.users.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 1000;

    fn token(text: &str) -> auth::User {
        auth::User::Token(crate::credential::Token::new(text).unwrap())
    }

    fn registry(sessions: usize, per_user: usize, rate: u32) -> Arc<Registry> {
        Arc::new(Registry::new(Capacity { sessions, per_user, rate }))
    }

    fn entry(user: Option<User>) -> Arc<Entry> {
        let target = Target::new("demo", "shell");
        Arc::new(Entry::new(&target, None, Dialect::V1, user, "here".into()))
    }

    fn refused(admitted: Result<Permit, Ending>) -> String {
        let ending = admitted.expect_err("a limit");
        assert_eq!(ending.kind, Kind::Limit);
        ending.message.into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_whatever_becomes_of_its_session() {
        let registry = registry(2, MANY, 1000);
        let first = registry.admit(&entry(None)).unwrap();
        let second = registry.admit(&entry(None)).unwrap();
        assert!(refused(registry.admit(&entry(None))).contains("2 sessions at a time"));
        drop(first);
        let third = registry.admit(&entry(None)).unwrap();
        let task = tokio::spawn(async move {
            let _third = third;
            panic!("a mistake");
        });
        assert!(task.await.is_err());
        assert_eq!(registry.count(), 1);
        let entry = entry(None);
        let fourth = registry.admit(&entry).unwrap();
        let waiting = tokio::spawn(async move {
            let _fourth = fourth;
            std::future::pending::<()>().await;
        });
        waiting.abort();
        assert!(waiting.await.is_err());
        drop(second);
        assert_eq!((registry.count(), registry.list().len()), (0, 0));
        assert!(!registry.stop(&entry.id), "it is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_has_a_limit_of_their_own_and_nobody_has_none() {
        let registry = registry(MANY, 1, 1000);
        let [anna, bert] = ["anna", "bert"].map(|name| registry.user(&token(name)));
        assert_ne!(anna, bert);
        assert_eq!(anna, registry.user(&token("anna")));
        assert_eq!(anna.to_string().len(), "token:".len() + 8);
        let own = registry.admit(&entry(Some(anna.clone()))).unwrap();
        assert!(
            refused(registry.admit(&entry(Some(anna.clone())))).contains("1 sessions for one user")
        );
        let other = registry.admit(&entry(Some(bert.clone()))).unwrap();
        let nobody = [entry(None), entry(None)].map(|entry| registry.admit(&entry).unwrap());
        drop(own);
        drop(registry.admit(&entry(Some(anna.clone()))).unwrap());
        drop((other, nobody));
        assert!(registry.lock().users.is_empty(), "who has no session is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_are_begun_within_a_second_as_may_be() {
        for rate in [1, 3, 7, 50] {
            let registry = registry(MANY, MANY, rate);
            let begin = || registry.admit(&entry(None)).map(drop);
            let burst = || (0..rate).for_each(|_| begin().unwrap());
            burst();
            assert!(begin().unwrap_err().message.contains(&format!("{rate} sessions a second")));
            // What was refused does not count.
            tokio::time::advance(BURST / rate).await;
            begin().unwrap();
            assert!(begin().is_err());
            // A quiet hour allows no more than a quiet second.
            tokio::time::advance(Duration::from_hours(1)).await;
            burst();
            assert!(begin().is_err());
        }
    }

    #[tokio::test]
    async fn totals_never_fall() {
        let registry = registry(MANY, MANY, 1000);
        let entry = entry(None);
        let permit = registry.admit(&entry).unwrap();
        entry.meter.input_bytes.store(7, Ordering::Relaxed);
        assert_eq!(registry.totals().input_bytes, 7);
        drop(permit);
        assert_eq!(registry.totals().input_bytes, 7);
    }

    #[tokio::test]
    async fn a_session_can_be_told_to_end_before_it_listens() {
        let registry = registry(MANY, MANY, 1000);
        let entry = entry(None);
        let _permit = registry.admit(&entry).unwrap();
        assert!(registry.stop(&entry.id) && registry.stop(&entry.id));
        entry.stopped().await;
    }

    #[tokio::test]
    async fn the_list_says_what_is_known_and_no_more() {
        let registry = registry(MANY, MANY, 1000);
        let user = registry.user(&token("secret-token"));
        let entry = entry(Some(user.clone()));
        let _permit = registry.admit(&entry).unwrap();
        let facts = || serde_json::to_value(registry.list()[0].facts()).unwrap();
        let before = facts();
        assert_eq!((&before["state"], &before["cluster"]), (&"opening".into(), &().into()));
        let place = Place { cluster: "c".into(), container: Some("main".into()), ..entry.place() };
        entry.open(&place);
        let after = facts();
        assert_eq!((&after["state"], &after["cluster"]), (&"open".into(), &"c".into()));
        assert_eq!((&after["container"], &after["tty"]), (&"main".into(), &true.into()));
        assert_eq!(after["user"], user.to_string());
        assert_eq!(after["input_bytes"], 0);
        assert!(after["started"].as_str().unwrap().ends_with('Z'), "{after}");
        assert!(!after.to_string().contains("secret"), "{after}");
    }

    impl Entry {
        fn place(&self) -> Place {
            let (session, namespace) = (self.id.clone(), self.namespace.clone());
            Place { session, namespace, pod: self.pod.clone(), tty: self.tty, ..Place::default() }
        }
    }
}
