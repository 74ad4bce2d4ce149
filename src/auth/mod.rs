//! Who asks, by the rules of `--auth`, what that allows, and for how long.
//!
//! One file for each mode. What all of it must never know: frames, sessions, how a cluster is
//! reached.

pub(crate) mod forwarded;
mod headers;
mod hook;
mod passthrough;
mod ticket;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::header::HeaderMap;
use hyper::{Method, Response, Uri};
use tokio::sync::watch;

use self::hook::{Hook, Question};
use self::ticket::Tickets;
use crate::accept::{Body, Refusal};
use crate::config::{Auth, Config};
use crate::credential::{Identity, Token};
use crate::door::Remote;
use crate::exec::{self, Connector};
use crate::origin;
use crate::proto::ending::{Ending, Kind};
use crate::proto::session::Limits;
use crate::route::Wanted;
use crate::sources::Sources;

/// A request before anybody knows whether it may do anything.
pub(crate) struct Asked<'a> {
    pub(crate) config: &'a Config,
    pub(crate) sources: &'a watch::Receiver<Sources>,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    /// Path and query as they came.
    pub(crate) uri: &'a Uri,
    /// Who is at the other end of the connection.
    pub(crate) remote: &'a Remote,
}

impl Asked<'_> {
    /// Fails for a foreign page: whatever a browser sends by itself may have been sent for one.
    pub(crate) fn same_origin(&self) -> Result<(), Ending> {
        let own = forwarded::own_origin(self.config, self.headers, self.remote);
        origin::check_against(own.as_ref(), self.headers, &self.config.allow_origin)
    }

    /// Fails for a page without an origin; for a credential that no foreign page can have.
    pub(crate) fn any_origin(&self) -> Result<(), Ending> {
        origin::check_any(self.headers)
    }
}

/// Somebody who can be told from others.
#[derive(Clone, Debug)]
pub(crate) enum User {
    /// By a token, which is never shown.
    Token(Token),
    /// By a name.
    Name(Arc<str>),
}

/// What a request may do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Granted {
    /// With whose rights.
    pub(crate) identity: Identity,
    /// Whose session it is, where users are told apart.
    pub(crate) user: Option<User>,
    /// When the credential ends by its own word.
    pub(crate) expires: Option<SystemTime>,
    /// What else was laid down for this session.
    pub(crate) terms: Terms,
    /// What somebody else was asked about it, to be asked again.
    pub(crate) question: Option<Arc<Question>>,
    /// The cluster, where that was settled earlier; else it is the one that is named.
    pub(crate) connector: Option<Connector>,
}

/// What somebody else decided about a session: only ever less than the flags allow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) max_session: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
}

impl Terms {
    /// The limits of a session under these terms.
    pub(crate) fn applied_to(&self, limits: &Arc<Limits>) -> Arc<Limits> {
        if self.max_session.is_none() && self.idle_timeout.is_none() {
            return Arc::clone(limits);
        }
        let shorter = |limit: Option<Duration>, term: Option<Duration>| match (limit, term) {
            (Some(limit), Some(term)) => Some(limit.min(term)),
            (limit, term) => limit.or(term),
        };
        Arc::new(Limits {
            max_session: shorter(limits.max_session, self.max_session),
            idle_timeout: shorter(limits.idle_timeout, self.idle_timeout),
            ..Limits::clone(limits)
        })
    }
}

/// Why a request may do nothing.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) ending: Ending,
    /// Whether it is somebody else's word about a caller who may ask, so that a page is told.
    pub(crate) in_band: bool,
}

impl From<Ending> for Denied {
    fn from(ending: Ending) -> Self {
        Self { ending, in_band: false }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        denied.ending.into()
    }
}

/// What outlives a request: the tickets that were given out, and the way to whoever decides.
#[derive(Debug)]
pub(crate) struct Gate {
    hook: Option<Hook>,
    tickets: Option<Tickets>,
}

impl Gate {
    /// What the settings ask for.
    ///
    /// # Errors
    ///
    /// The flag and what is wrong with it, in one sentence.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        Ok(Self { hook: Hook::new(config)?, tickets: config.tickets.then(Tickets::new) })
    }

    /// Decides about a request, by its ticket or else by its credential. `wanted` is what it asks
    /// for, or why that makes no sense: nobody is told so without a credential.
    pub(crate) async fn grant(
        &self,
        asked: &Asked<'_>,
        wanted: &mut Result<Wanted, Ending>,
    ) -> Result<Granted, Denied> {
        if let Some(tickets) = &self.tickets
            && let Some(ticket) = ticket::brought(asked)?
        {
            passthrough::not_alone(asked.headers)?;
            asked.any_origin()?;
            return Ok(tickets.redeem(&ticket, asked.headers, wanted)?);
        }
        self.decide(asked, wanted).await
    }

    /// Gives out a ticket by the rules by which a session is granted. Nothing if there are none.
    pub(crate) async fn ticket(
        &self,
        asked: &Asked<'_>,
        mut wanted: Result<Wanted, Ending>,
    ) -> Result<Option<Response<Body>>, Refusal> {
        let Some(tickets) = &self.tickets else { return Ok(None) };
        ticket::check(asked)?;
        let before = wanted.clone();
        let granted = self.decide(asked, &mut wanted).await?;
        let (before, wanted) = (before?, wanted?);
        wanted.check()?;
        let connector = asked.sources.borrow().clusters.get(wanted.cluster.as_deref()).cloned();
        let connector = connector.ok_or_else(|| Ending::new(Kind::NotFound, "no such cluster"))?;
        if asked.config.auth == Auth::Passthrough {
            // Anybody can make up a token, and tickets that nobody can use keep others from theirs.
            let connector = connector.clone().with_limits(asked.config.open);
            let _permit = tickets.asking()?;
            connector.review(&wanted.target, &granted.identity).await?;
        }
        // Another cluster may have this name when the ticket is used.
        let granted = Granted { connector: Some(connector), ..granted };
        Ok(Some(tickets.give(asked, &before, wanted, granted)?))
    }

    /// Decides by the mode of `--auth`.
    pub(crate) async fn decide(
        &self,
        asked: &Asked<'_>,
        wanted: &mut Result<Wanted, Ending>,
    ) -> Result<Granted, Denied> {
        let granted = match asked.config.auth {
            Auth::Hook => match &self.hook {
                Some(hook) => hook.grant(asked, wanted).await?,
                None => Err(Ending::new(Kind::Internal, "there is nobody to be asked"))?,
            },
            Auth::Headers => headers::granted(asked)?,
            Auth::Own => own(asked)?,
            Auth::Passthrough => passthrough::granted(asked)?,
        };
        if passthrough::is_in_address(asked) {
            // Whoever put it there should know that others have logged it.
            let remote = forwarded::remote(asked.config, asked.headers, asked.remote);
            log::warn!(remote; "a token in the address of a request was not read");
        }
        Ok(granted)
    }

    /// Asks whoever decided about a session once more, if it was not the cluster alone: nothing
    /// then, else what is granted now.
    ///
    /// # Errors
    ///
    /// `revoked` if it is not granted any more; any other kind if nobody could be asked.
    pub(crate) async fn again(&self, granted: &Granted) -> Result<Option<Granted>, Ending> {
        match (&self.hook, &granted.question) {
            (Some(hook), Some(question)) => hook.again(question).await.map(Some),
            _ => Ok(None),
        }
    }
}

/// `--auth own`: everybody who can reach us has our own rights, but for foreign pages.
fn own(asked: &Asked<'_>) -> Result<Granted, Ending> {
    passthrough::not_alone(asked.headers)?;
    asked.same_origin()?;
    Ok(Granted::default())
}

/// Says what is allowed, and not wise.
pub(crate) fn warn(config: &Config) {
    if let Some(name) = &config.token_query {
        let parameter = name.as_str();
        log::warn!(
            parameter;
            "tokens are read from addresses, which browsers, gateways and their logs keep"
        );
    }
    let in_the_clear = config.authorize_url.as_ref().filter(|url| {
        url.scheme_str() == Some("http") && !url.host().is_some_and(exec::is_loopback)
    });
    if let Some(host) = in_the_clear.and_then(Uri::host) {
        log::warn!(host; "what callers send, cookies too, goes to the authorizer in the clear");
    }
}
