//! Looks again, while a session lasts, whether it may go on.
//!
//! An API server authenticates the request that opens an exec and never looks again: the session
//! outlives its token and the right to have it. So we ask: the cluster by an access review, whoever
//! decided about the session by the hook, and the clock. What it must never know: frames, sockets.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::auth::{Gate, Granted};
use crate::credential::Identity;
use crate::exec::Connector;
use crate::proto::ending::{Ending, Kind};
use crate::sources::Sources;
use crate::target::Target;

/// How far ahead a timer is set: a token's own idea of when it expires may be any number.
const FAR: Duration = Duration::from_hours(24 * 365);

/// What is looked at, and how often.
pub(crate) struct Recheck<'a> {
    pub(crate) gate: &'a Gate,
    /// Where newer credentials of our own may have been read.
    pub(crate) sources: &'a watch::Receiver<Sources>,
    /// Where the session is.
    pub(crate) connector: &'a Connector,
    pub(crate) target: &'a Target,
    /// Whose rights the session has; kept up to date for what is done after it.
    pub(crate) identity: &'a Mutex<Identity>,
    /// Never, if there is none: then only the clock counts.
    pub(crate) every: Option<Duration>,
    /// For how long it may be impossible to look.
    pub(crate) grace: Duration,
}

impl Recheck<'_> {
    /// Completes when access is lost.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives up what it asks at that moment.
    pub(crate) async fn lost(&self, mut granted: Granted) -> Ending {
        let mut seen = Instant::now();
        let mut looked = seen;
        loop {
            let look = self.every.map(|every| looked + every);
            let expiry = granted.expires.map(from_now);
            let Some(wake) = look.into_iter().chain(expiry).min() else {
                return std::future::pending().await;
            };
            sleep_until(wake).await;
            if granted.expires.is_some_and(is_past) {
                return expired();
            }
            if look.is_none_or(|look| look > wake) {
                // The clock was set, or this was as far ahead as a timer is set.
                continue;
            }
            looked = Instant::now();
            // Boxed: a session lasts hours, and this a moment.
            match Box::pin(self.look(&granted)).await {
                Ok(renewed) => {
                    seen = looked;
                    if let Some(renewed) = renewed {
                        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) =
                            renewed.identity.clone();
                        granted = renewed;
                    }
                }
                Err(ending) if ending.kind == Kind::Revoked => return ending,
                Err(why) => {
                    let (session, kind) = (self.target.session.as_str(), why.kind.facts().name);
                    log::warn!(session, kind, message = why.message.as_ref(); "access not checked");
                    if seen.elapsed() >= self.grace {
                        let message = format!("access could not be checked: {}", why.message);
                        return Ending::new(Kind::Revoked, message);
                    }
                }
            }
        }
    }

    /// One look: what was granted anew, if anybody but the cluster was asked.
    ///
    /// # Errors
    ///
    /// [`Kind::Revoked`] if access is lost; any other if that could not be found out.
    async fn look(&self, granted: &Granted) -> Result<Option<Granted>, Ending> {
        let expiry = granted.expires.map(from_now);
        let expired = async {
            match expiry {
                None => std::future::pending().await,
                Some(expiry) => sleep_until(expiry).await,
            }
            Err(expired())
        };
        // Whoever answers slowly must not lengthen the life of a token.
        tokio::select! {
            answer = self.ask(granted) => answer,
            ending = expired => ending,
        }
    }

    async fn ask(&self, granted: &Granted) -> Result<Option<Granted>, Ending> {
        let renewed = self.gate.again(granted).await?;
        let identity = &renewed.as_ref().unwrap_or(granted).identity;
        let is_open = match self.newest()?.is_open_to(self.target, identity).await {
            Err(ending) if ending.kind == Kind::Unauthorized => {
                let message = "the cluster does not accept the credential any more";
                return Err(Ending::new(Kind::Revoked, message));
            }
            is_open => is_open?,
        };
        if is_open {
            Ok(renewed)
        } else {
            let verb = self.target.verb.name();
            Err(Ending::new(Kind::Revoked, format!("the right to {verb} was withdrawn")))
        }
    }
}

impl Recheck<'_> {
    /// The session's cluster as it was last read. One that has moved is asked where it was: the
    /// session is still there.
    fn newest(&self) -> Result<Connector, Ending> {
        let sources = self.sources.borrow();
        match sources.clusters.get(Some(self.connector.name())) {
            None => Err(Ending::new(Kind::Revoked, "this cluster is not configured any more")),
            Some(newest) if newest.is_at_the_same(self.connector) => Ok(newest.clone()),
            Some(_) => Ok(self.connector.clone()),
        }
    }
}

fn is_past(time: SystemTime) -> bool {
    time <= SystemTime::now()
}

/// When to look whether this time has come.
fn from_now(time: SystemTime) -> Instant {
    let left = time.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now() + left.min(FAR)
}

fn expired() -> Ending {
    Ending::new(Kind::Revoked, "the credential has expired")
}
