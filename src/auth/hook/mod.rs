//! `--auth hook`: somebody else decides about each session, and is asked over HTTP.
//!
//! The authorizer gets the headers that the caller sent and says which target, with whose rights and
//! for how long; it is asked the same again while the session lasts. What this must never know:
//! frames, how a cluster is reached.

mod answer;
mod ask;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use tokio::sync::Semaphore;

use self::answer::Answer;
use self::ask::{Said, Way};
use super::{Asked, Denied, Granted, forwarded, passthrough};
use crate::config::Config;
use crate::proto::ending::{Ending, Kind};
use crate::route::Wanted;

/// How many callers may wait for the authorizer at once. Each holds a connection, and whoever can
/// reach the relay can be one of them.
const ASKED_MAX: usize = 256;

/// Whoever decides about sessions.
pub(super) struct Hook {
    way: Way,
    asking: Semaphore,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// What was asked about a session, to be asked again, and what was decided. It prints as nothing:
/// the caller's cookies are in it.
pub(crate) struct Question {
    headers: HeaderMap,
    decided: Answer,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}

impl Hook {
    /// Whoever is to be asked by these settings, if anybody.
    ///
    /// # Errors
    ///
    /// The flag and what is wrong with it, in one sentence.
    pub(super) fn new(config: &Config) -> Result<Option<Self>, String> {
        let way = config.authorize_url.as_ref().map(|url| Way::new(url, config)).transpose()?;
        Ok(way.map(|way| Self { way, asking: Semaphore::new(ASKED_MAX) }))
    }

    /// Asks about a request, and puts what is decided into what it asks for.
    pub(super) async fn grant(
        &self,
        asked: &Asked<'_>,
        wanted: &mut Result<Wanted, Ending>,
    ) -> Result<Granted, Denied> {
        passthrough::not_alone(asked.headers)?;
        // Whatever the authorizer goes by, a browser may have sent it for a foreign page.
        asked.same_origin()?;
        self.decided(asked, wanted).await.map_err(|ending| {
            let (kind, message) = (ending.kind.facts().name, ending.message.as_ref());
            if !matches!(ending.kind, Kind::Unauthorized | Kind::Forbidden) {
                log::warn!(kind, message; "the authorizer is of no help");
            }
            Denied { ending, in_band: true }
        })
    }

    async fn decided(
        &self,
        asked: &Asked<'_>,
        wanted: &mut Result<Wanted, Ending>,
    ) -> Result<Granted, Ending> {
        let Ok(_permit) = self.asking.try_acquire() else {
            let message = "too many callers wait for the authorizer; try again later";
            return Err(Ending::new(Kind::Limit, message));
        };
        let new = || uuid::Uuid::new_v4().to_string();
        let session = wanted.as_ref().map_or_else(|_| new(), |it| it.target.session.clone());
        let headers = question(asked, &session);
        let answer = match self.way.ask(&headers).await? {
            Said::Yes(json) => Answer::parse(&json)?,
            Said::No(ending) => return Err(ending),
        };
        let granted = answer.granted()?;
        if let Ok(wanted) = wanted {
            answer.put_into(wanted, &asked.sources.borrow().clusters, asked.config)?;
        }
        let question = Question { headers, decided: answer.decided() };
        Ok(Granted { question: Some(Arc::new(question)), ..granted })
    }

    /// Asks the same again: what is granted now.
    ///
    /// # Errors
    ///
    /// `revoked` if that is nothing, or something else than before; any other kind if the
    /// authorizer could not be asked.
    pub(super) async fn again(&self, question: &Arc<Question>) -> Result<Granted, Ending> {
        let answer = match self.way.ask(&question.headers).await? {
            Said::Yes(json) => Answer::parse(&json)?,
            Said::No(_) => {
                let message = "the authorizer does not allow this any more";
                return Err(Ending::new(Kind::Revoked, message));
            }
        };
        let granted = answer.granted()?;
        if answer.decided() != question.decided {
            let message = "the authorizer allows something else by now";
            return Err(Ending::new(Kind::Revoked, message));
        }
        Ok(Granted { question: Some(Arc::clone(question)), ..granted })
    }
}

/// The headers of a question: those of the caller that are meant for whoever is behind us, and what
/// else there is to know.
fn question(asked: &Asked<'_>, session: &str) -> HeaderMap {
    let dropped = listed_in_connection(asked.headers);
    let is_trusted = forwarded::is_trusted(asked.config, asked.remote);
    let mut headers = HeaderMap::with_capacity(asked.headers.len() + 6);
    let mut add = |name: HeaderName, value: &[u8], more: bool| {
        // Copied: a slice of what was read would keep all of it.
        if let Ok(mut value) = HeaderValue::from_bytes(value) {
            value.set_sensitive(true);
            if more {
                headers.append(name, value);
            } else {
                headers.insert(name, value);
            }
        }
    };
    for (name, value) in asked.headers {
        let text = name.as_str();
        let is_said_by_a_proxy = SAID_BY_A_PROXY.iter().any(|it| text.starts_with(it));
        if is_left_out(text)
            // Many frameworks do not tell `x_forwarded_user` from the one with hyphens.
            || text.contains('_')
            || dropped.iter().any(|it| it == text)
            || is_said_by_a_proxy && !is_trusted
        {
            continue;
        }
        add(name.clone(), value.as_bytes(), true);
    }
    let uri = asked.uri.path_and_query().map_or("/", |it| it.as_str());
    let own = HeaderName::from_static;
    add(own("x-original-uri"), uri.as_bytes(), false);
    add(own("x-original-method"), asked.method.as_str().as_bytes(), false);
    let remote = forwarded::remote(asked.config, asked.headers, asked.remote);
    // Without the port; a Unix socket has no address.
    let address = remote.parse::<SocketAddr>().map_or_else(|_| remote.parse(), |it| Ok(it.ip()));
    if let Ok(address) = address {
        add(own("x-forwarded-for"), address.to_canonical().to_string().as_bytes(), false);
    }
    add(own("x-podwire-session"), session.as_bytes(), false);
    add(ACCEPT, b"application/json", false);
    if !asked.headers.contains_key(USER_AGENT) {
        add(USER_AGENT, concat!("podwire/", env!("CARGO_PKG_VERSION")).as_bytes(), false);
    }
    headers
}

/// What a caller can say of itself, and only a trusted proxy of others.
const SAID_BY_A_PROXY: [&str; 6] =
    ["forwarded", "x-forwarded-", "x-real-ip", "x-auth-request-", "remote-", "x-remote-"];

/// Whether a header concerns this hop only (RFC 9110 section 7.6.1), asks for another form of the
/// answer, or is one that we say ourselves.
fn is_left_out(name: &str) -> bool {
    const NAMES: [&str; 13] = [
        "accept",
        "accept-encoding",
        "connection",
        "expect",
        "host",
        "keep-alive",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "x-forwarded-for",
    ];
    const PREFIXES: [&str; 6] =
        ["content-", "if-", "proxy-", "sec-websocket-", "x-original-", "x-podwire-"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The headers that are for this hop because `Connection` says so.
fn listed_in_connection(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(hyper::header::CONNECTION).iter();
    let names = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    names.map(|name| name.trim().to_ascii_lowercase()).collect()
}
