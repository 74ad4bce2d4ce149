//! Tickets: who has a credential gets a short word for one session, for a browser that can send
//! nothing else.
//!
//! They live in this process's memory, so an upgrade must come to the relay that gave the ticket out.
//! What this must never know: what decides about credentials, sessions.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_LENGTH, HeaderMap,
    HeaderValue, ORIGIN, TRANSFER_ENCODING, VARY,
};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use subtle::ConstantTimeEq;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::{Asked, Granted, User};
use crate::accept::{Body, JSON, Refusal, response};
use crate::origin::Origin;
use crate::proto::ending::{Ending, Kind};
use crate::route::{Query, Wanted};
use crate::target::Target;

/// How long a ticket is good: a page uses it at once, and addresses end up in logs.
const LIFE: Duration = Duration::from_secs(30);

/// How many bytes of chance are in a ticket: nobody guesses 256 bits.
const SECRET: usize = 32;

/// How many may be outstanding: what [`LIFE`] needs at more than a hundred sessions a second.
const TICKETS_MAX: usize = 4096;

/// How many of one user.
const TICKETS_OF_ONE_MAX: usize = TICKETS_MAX / 16;

/// How much of requests, in bytes, is kept for all of them: most have less than 2 KiB, but anybody
/// may ask with a head of many.
const KEPT_MAX: usize = 16 * 1024 * 1024;

/// How many callers may wait at once for a cluster to say that it knows their token. Each has two
/// connections to it, and whoever can reach the relay can be one of them.
const ASKING_MAX: usize = 64;

/// What a word of a command takes besides its letters, in bytes.
const WORD: usize = 64;

/// The longest body that is overlooked. None is needed.
const BODY_MAX: u64 = 4096;

/// The tickets that were given out and are not used.
pub(super) struct Tickets {
    /// This process's own, so that nothing can be found by trying.
    key: RandomState,
    asking: Semaphore,
    /// By a hash of their secret.
    inner: Mutex<HashMap<u64, Ticket>>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

/// What a ticket is good for.
struct Ticket {
    secret: [u8; SECRET],
    until: Instant,
    /// A hash of whoever got it, where users are told apart.
    owner: Option<u64>,
    /// The page that may use it; any, if it was no page that asked for it.
    origin: Option<Origin>,
    /// What was asked for, and what became of it.
    asked: Wanted,
    wanted: Wanted,
    granted: Granted,
    /// The size of the request for it.
    kept: usize,
}

/// What the caller gets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Given<'a> {
    ticket: &'a str,
    expires_in_seconds: u64,
}

/// Checks what a request for a ticket must be before anybody's credential is looked at.
pub(super) fn check(asked: &Asked<'_>) -> Result<(), Refusal> {
    if asked.method != Method::POST {
        return Err(Refusal::method("a ticket is asked for with POST", "POST"));
    }
    let length = asked.headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    if length.unwrap_or(0) > BODY_MAX || asked.headers.contains_key(TRANSFER_ENCODING) {
        let message = "a ticket is asked for in the query, without a body";
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(())
}

/// The ticket that an upgrade brings, if it brings one.
pub(super) fn brought(asked: &Asked<'_>) -> Result<Option<String>, Ending> {
    // A query that makes no sense has no ticket in it.
    let Ok(query) = Query::parse(asked.uri.query().unwrap_or_default()) else { return Ok(None) };
    query.one(&["ticket"]).map(|it| it.map(str::to_owned)).map_err(|_| not_valid())
}

/// One sentence for all that can be wrong with a ticket: which of it is nobody's business.
fn not_valid() -> Ending {
    let message = "the ticket is not valid: it is good for one session, for 30 s, from the page \
                   and for the target that it was asked for";
    Ending::new(Kind::Unauthorized, message)
}

impl Tickets {
    pub(super) fn new() -> Self {
        let asking = Semaphore::new(ASKING_MAX);
        Self { key: RandomState::new(), asking, inner: Mutex::default() }
    }

    /// A place among those whom a cluster is asked about.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub(super) fn asking(&self) -> Result<SemaphorePermit<'_>, Ending> {
        let message = "too many callers wait for a ticket; try again later";
        self.asking.try_acquire().map_err(|_| Ending::new(Kind::Limit, message))
    }

    /// Gives out a ticket for what was granted.
    ///
    /// # Errors
    ///
    /// There are too many already.
    pub(super) fn give(
        &self,
        asked: &Asked<'_>,
        before: &Wanted,
        wanted: Wanted,
        granted: Granted,
    ) -> Result<Response<Body>, Ending> {
        let mut secret = [0; SECRET];
        getrandom::fill(&mut secret)
            .map_err(|error| Ending::new(Kind::Internal, format!("no random bytes: {error}")))?;
        let ticket = Ticket {
            secret,
            until: Instant::now() + LIFE,
            owner: granted.user.as_ref().map(|user| self.owner(user)),
            origin: origin(asked.headers)?,
            kept: size(asked) + weight(before) + weight(&wanted),
            asked: bound(before),
            wanted,
            granted,
        };
        self.keep(ticket)?;
        let ticket = URL_SAFE_NO_PAD.encode(secret);
        let given = Given { ticket: &ticket, expires_in_seconds: LIFE.as_secs() };
        // Serializing strings and numbers into a vector has no way to fail.
        let mut response = response(JSON, serde_json::to_vec(&given).unwrap_or_default());
        *response.status_mut() = StatusCode::CREATED;
        let headers = response.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        // It was allowed to ask, so it may read the answer (WHATWG Fetch, "CORS protocol").
        if let Some(origin) = asked.headers.get(ORIGIN) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        Ok(response)
    }

    fn keep(&self, ticket: Ticket) -> Result<(), Ending> {
        let over = |message: &'static str| Err(Ending::new(Kind::Limit, message));
        let mut tickets = self.swept();
        let kept: usize = tickets.values().map(|it| it.kept).sum();
        if tickets.len() >= TICKETS_MAX || kept + ticket.kept > KEPT_MAX {
            return over("too many tickets are not used yet; try again later");
        }
        let of_owner = tickets.values().filter(|it| it.owner == ticket.owner).count();
        if ticket.owner.is_some() && of_owner >= TICKETS_OF_ONE_MAX {
            return over("too many tickets of one user are not used yet; try again later");
        }
        tickets.insert(self.key.hash_one(ticket.secret), ticket);
        Ok(())
    }

    /// Takes a ticket for a session. Whatever is wrong, it is used up.
    ///
    /// # Errors
    ///
    /// It is not valid.
    pub(super) fn redeem(
        &self,
        text: &str,
        headers: &HeaderMap,
        wanted: &mut Result<Wanted, Ending>,
    ) -> Result<Granted, Ending> {
        let mut secret = [0; SECRET];
        let is_one = URL_SAFE_NO_PAD.decode_slice(text, &mut secret) == Ok(SECRET);
        let ticket = self.swept().remove(&self.key.hash_one(secret));
        let ticket = ticket.filter(|it| is_one && bool::from(it.secret.ct_eq(&secret)));
        let Some(ticket) = ticket else { return Err(not_valid()) };
        let is_its_page = match &ticket.origin {
            None => true,
            page => origin(headers).is_ok_and(|origin| origin == *page),
        };
        let asked = wanted.as_ref().map_err(|_| not_valid())?;
        if !is_its_page || bound(asked) != ticket.asked {
            return Err(not_valid());
        }
        let Target { find_container, size, .. } = asked.target;
        let mut granted = ticket.wanted;
        granted.target = Target { find_container, size, ..granted.target };
        *wanted = Ok(granted);
        Ok(ticket.granted)
    }

    /// All that are still good.
    fn swept(&self) -> MutexGuard<'_, HashMap<u64, Ticket>> {
        // Nothing in here stops half-way, so what a panic left behind is in order.
        let mut tickets = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tickets.retain(|_, ticket| now < ticket.until);
        tickets
    }

    fn owner(&self, user: &User) -> u64 {
        match user {
            User::Token(token) => self.key.hash_one(token.header().as_bytes()),
            User::Name(name) => self.key.hash_one(name.as_bytes()),
        }
    }
}

/// What must be the same when a ticket is used: all but what makes each session another one, and
/// the size of a window.
fn bound(wanted: &Wanted) -> Wanted {
    let mut bound = wanted.clone();
    bound.target =
        Target { session: String::new(), size: None, find_container: true, ..bound.target };
    bound
}

/// The page that a request comes from, if it comes from one.
fn origin(headers: &HeaderMap) -> Result<Option<Origin>, Ending> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (None, _) => return Ok(None),
        (Some(origin), None) => origin.to_str().ok().and_then(|text| Origin::parse(text).ok()),
        (Some(_), Some(_)) => None,
    };
    let nowhere = || Ending::new(Kind::Forbidden, "a page without an origin gets no ticket");
    origin.map(Some).ok_or_else(nowhere)
}

/// How many bytes what is asked for takes, about.
fn weight(wanted: &Wanted) -> usize {
    wanted.target.command.iter().map(|word| word.len() + WORD).sum()
}

/// How many bytes of a request may be kept for its ticket.
fn size(asked: &Asked<'_>) -> usize {
    let headers = asked.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    asked.uri.path().len() + asked.uri.query().map_or(0, str::len) + headers.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn wanted() -> Wanted {
        Wanted::new(Target::new("demo", "shell"))
    }

    /// A ticket with a secret of its own, and its text.
    fn ticket(number: usize, owner: Option<u64>, kept: usize) -> (Ticket, String) {
        let mut secret = [0; SECRET];
        secret[..8].copy_from_slice(&number.to_be_bytes());
        let ticket = Ticket {
            secret,
            until: Instant::now() + LIFE,
            owner,
            origin: None,
            asked: bound(&wanted()),
            wanted: wanted(),
            granted: Granted::default(),
            kept,
        };
        (ticket, URL_SAFE_NO_PAD.encode(secret))
    }

    fn redeem(tickets: &Tickets, text: &str) -> Result<Granted, Ending> {
        tickets.redeem(text, &HeaderMap::new(), &mut Ok(wanted()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_for_thirty_seconds_and_once() {
        let tickets = Tickets::new();
        let rows = [("U19 in time", 29_999, true), ("U19 expired", 30_000, false)];
        for (id, after, is_good) in rows {
            let (ticket, text) = ticket(7, None, 0);
            tickets.keep(ticket).unwrap();
            advance(Duration::from_millis(after)).await;
            assert_eq!(redeem(&tickets, &text).is_ok(), is_good, "{id}");
            let again = redeem(&tickets, &text).err().map(|why| why.message);
            assert_eq!(again, Some(not_valid().message), "U19 reused, {id}");
        }
    }

    #[tokio::test]
    async fn what_is_no_ticket_is_refused_whatever_its_length() {
        let tickets = Tickets::new();
        let (ticket, text) = ticket(0, None, 0);
        tickets.keep(ticket).unwrap();
        for (id, wrong) in [
            ("U19 empty", String::new()),
            ("U19 short", text[..42].to_owned()),
            ("U19 padded", format!("{text}=")),
            ("U19 long", format!("{text}A")),
            ("U19 odd", "!".repeat(43)),
            ("U19 1 MiB", "A".repeat(1 << 20)),
        ] {
            assert!(redeem(&tickets, &wrong).is_err(), "{id}");
        }
        assert!(tickets.swept().is_empty(), "one with the same hash is used up");
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_outstanding() {
        let tickets = Tickets::new();
        let keep = |number, owner, kept| tickets.keep(ticket(number, owner, kept).0);
        for number in 0..TICKETS_OF_ONE_MAX {
            keep(number, Some(1), 1).unwrap();
        }
        let over = keep(TICKETS_OF_ONE_MAX, Some(1), 1).unwrap_err();
        assert!(over.kind == Kind::Limit && over.message.contains("one user"), "{over:?}");
        for number in TICKETS_OF_ONE_MAX..TICKETS_MAX {
            keep(number, None, 1).unwrap();
        }
        assert_eq!(keep(TICKETS_MAX, None, 1).unwrap_err().kind, Kind::Limit);
        // Those that are not used make room by themselves.
        advance(LIFE).await;
        for number in 0..4 {
            keep(number, None, KEPT_MAX / 4).unwrap();
        }
        assert_eq!(keep(4, None, 1).unwrap_err().kind, Kind::Limit, "bytes");
    }

    #[test]
    fn a_ticket_is_bound_to_all_that_is_asked_for_but_a_windows_size() {
        let with = |change: &dyn Fn(&mut Wanted)| {
            let mut wanted = wanted();
            change(&mut wanted);
            bound(&wanted)
        };
        let same = with(&|_| {});
        assert!(same == with(&|it| it.target.session = "another".to_owned()));
        assert!(same == with(&|it| it.target.size = None));
        assert!(same != with(&|it| it.cluster = Some("c".to_owned())));
        assert!(same != with(&|it| it.shell = Some("sh".to_owned())));
        assert!(same != with(&|it| it.target.namespace = "n".to_owned()));
        assert!(same != with(&|it| it.target.pod = "p".to_owned()));
        assert!(same != with(&|it| it.target.container = Some("c".to_owned())));
        assert!(same != with(&|it| it.target.command.push("c".to_owned())));
        assert!(same != with(&|it| it.target.verb = crate::target::Verb::Attach));
        assert!(same != with(&|it| it.target.tty = false));
        assert!(same != with(&|it| it.target.stdin = false));
    }
}
