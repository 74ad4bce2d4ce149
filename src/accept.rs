//! The browser's door: checks an upgrade request and answers it.
//!
//! It knows HTTP and the WebSocket handshake. What it must never know: clusters, credentials,
//! which requests are allowed to do what.

use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING,
    UPGRADE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use crate::line::Line;
use crate::proto::ending::{Answer, Ending, Kind};
use crate::proto::message::{Dialect, status};
use crate::relay::Browser;
use crate::route::Query;

/// The body of every response of ours.
pub type Body = Full<bytes::Bytes>;

/// The type of most of them.
pub(crate) const JSON: &str = "application/json";

/// How a token travels in a browser, which cannot set headers. It stands among the subprotocols
/// and is none (`k8s.io/apiserver/pkg/authentication/request/websocket`).
pub(crate) const BEARER_SUBPROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// How long a caller who met a limit should wait before it tries again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// kubectl asks like this once its WebSocket was refused, and shows this answer in place of that one.
const NO_SPDY: &str = "this relay has no SPDY; kubectl asks for it when its WebSocket was refused, \
    and says with -v=4 why that was";

/// A request that is answered with an HTTP status, because no WebSocket could be opened or the
/// caller is no browser and can read it.
#[derive(Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// Why.
    pub ending: Ending,
    header: Option<(HeaderName, HeaderValue)>,
    /// Whether an API server's own words are passed on.
    passes_on: bool,
}

impl Refusal {
    /// A refusal with a status that no ending has, such as 405.
    pub(crate) fn new(status: StatusCode, message: &'static str) -> Self {
        let ending = Ending::new(Kind::BadRequest, message);
        Self { status, ending, header: None, passes_on: false }
    }

    /// Why there is no session, in the way of a dialect: a caller that speaks Kubernetes' language
    /// gets the answer of the API server as it is, if that is where it was refused.
    pub fn of(ending: Ending, dialect: Dialect) -> Self {
        let mut refusal = Self::from(ending);
        if let Some(answer) = refusal.ending.answer.as_deref().filter(|_| dialect.kube().is_some())
            && let Ok(status) = StatusCode::from_u16(answer.status)
        {
            refusal.status = status;
            refusal.passes_on = true;
        }
        refusal
    }

    /// 405, in these words, where others are allowed.
    pub(crate) fn method(message: &'static str, allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message).with(ALLOW, allowed)
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, HeaderValue::from_static(value)));
        self
    }

    /// The HTTP response: JSON in the shape of `metav1.Status`, as Kubernetes' clients expect it.
    pub fn into_response(self) -> Response<Body> {
        let answer = self.ending.answer.as_deref().filter(|_| self.passes_on);
        let body = match answer {
            Some(Answer { body, .. }) if !body.is_empty() => body.clone(),
            _ => status(&self.ending, self.status.as_u16()),
        };
        let mut response = response(JSON, body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        // What follows a refused upgrade may be frames; it must not be taken for a request.
        let mut connection = HeaderValue::from_static("close");
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110 section 15.5.22: say which protocol would do.
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            connection = HeaderValue::from_static("Upgrade, close");
        }
        headers.insert(CONNECTION, connection);
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 15.5.2: say which credential would do.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&self.status) {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        response
    }
}

/// Fails for what is no reading.
pub(crate) fn only_get(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::method("only GET and HEAD", "GET, HEAD")),
    }
}

/// An answer that nobody keeps, because the next may be another. hyper leaves the body out where the
/// method is HEAD, and keeps its length.
pub(crate) fn response(content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl From<Ending> for Refusal {
    fn from(ending: Ending) -> Self {
        let status = ending.kind.facts().http_status.and_then(|it| StatusCode::from_u16(it).ok());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, ending, header: None, passes_on: false }
    }
}

/// A browser's end that exists once the response was sent.
#[derive(Debug)]
pub struct Upgrade {
    upgraded: OnUpgrade,
    dialect: Dialect,
}

/// A connection whose HTTP part is over.
pub type BrowserIo = Line;

impl Upgrade {
    /// How the browser wants to be talked to.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Waits until the response was sent, and gives the connection.
    ///
    /// # Errors
    ///
    /// The browser left before that.
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes the connection.
    pub async fn browser(self) -> hyper::Result<Browser<BrowserIo>> {
        let (io, early) = match self.upgraded.await?.downcast::<TokioIo<Line>>() {
            Ok(Parts { io, read_buf, .. }) => (io.into_inner(), read_buf),
            // The server is an embedder's, and what it had read too much is inside.
            Err(upgraded) => (Line::Other(Box::new(TokioIo::new(upgraded))), bytes::Bytes::new()),
        };
        Ok(Browser { io, early, dialect: self.dialect })
    }
}

/// Checks that a request opens a WebSocket (RFC 6455 section 4.2.1), and gives the 101 for it and
/// the browser's end that exists once it was sent.
///
/// The dialect is the first of the offered subprotocols that names one. If none is offered it is the
/// one that the parameter `proto` names, else [`Dialect::Seed`]. A subprotocol that carries a token
/// counts as no offer. No extension is ever agreed to.
///
/// Whether the request is *allowed* is the caller's to decide, before or after.
///
/// # Errors
///
/// The response that says what is missing: 405, 426 or 400.
pub fn accept<B>(request: &mut Request<B>) -> Result<(Response<Body>, Upgrade), Refusal> {
    if request.method() != Method::GET {
        let is_spdy =
            request.headers().get(UPGRADE).is_some_and(|it| it.as_bytes().starts_with(b"SPDY/"));
        let message = if is_spdy { NO_SPDY } else { "only GET opens a WebSocket" };
        return Err(Refusal::method(message, "GET"));
    }
    let has_body = request.headers().get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_body || request.headers().contains_key(TRANSFER_ENCODING) {
        // A body would be taken for frames; two ideas of where a request ends are how requests
        // are smuggled.
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "an upgrade has no body"));
    }
    if request.headers().get_all("sec-websocket-key").iter().count() > 1 {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "two Sec-WebSocket-Key headers"));
    }
    let mut response = create_response_with_body(request, Body::default).map_err(refusal)?;
    let (dialect, name) = dialect(request)?;
    if let Some(name) = name {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    let upgraded = hyper::upgrade::on(request);
    Ok((response, Upgrade { upgraded, dialect }))
}

/// The dialect, and the subprotocol to answer if one was offered.
fn dialect<B>(request: &Request<B>) -> Result<(Dialect, Option<&'static str>), Refusal> {
    if let Some(dialect) = offered(request.headers()).find_map(Dialect::from_subprotocol) {
        return Ok((dialect, dialect.subprotocol()));
    }
    // A browser that offered something fails a handshake that chose nothing, after a session was
    // opened for it (WHATWG WebSockets, "establish a WebSocket connection").
    if offered(request.headers()).any(|name| !name.starts_with(BEARER_SUBPROTOCOL)) {
        let message = "none of the offered subprotocols is known: offer podwire.v1";
        return Err(Ending::new(Kind::BadRequest, message).into());
    }
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    match query.one(&["proto"])? {
        None => Ok((Dialect::Seed, None)),
        Some(name) => match Dialect::from_name(name) {
            Some(dialect) => Ok((dialect, None)),
            None => Err(Ending::new(Kind::BadRequest, "proto names no known dialect").into()),
        },
    }
}

/// The subprotocols that a request offers, in its order, over all header lines. Empty members of a
/// list do not count (RFC 9110 section 5.6.1.2).
pub(crate) fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let names = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    names.map(str::trim).filter(|name| !name.is_empty())
}

fn refusal(error: Error) -> Refusal {
    let Error::Protocol(error) = error else {
        return Ending::new(Kind::Internal, "the response could not be built").into();
    };
    match error {
        ProtocolError::WrongHttpVersion => {
            Refusal::new(StatusCode::BAD_REQUEST, "a WebSocket needs HTTP/1.1")
        }
        ProtocolError::MissingSecWebSocketVersionHeader => {
            Refusal::new(StatusCode::UPGRADE_REQUIRED, "Sec-WebSocket-Version must be 13")
                .with(SEC_WEBSOCKET_VERSION, "13")
        }
        ProtocolError::MissingConnectionUpgradeHeader
        | ProtocolError::MissingUpgradeWebSocketHeader => Refusal::new(
            StatusCode::UPGRADE_REQUIRED,
            "a WebSocket upgrade is required; if you sent one, a proxy stripped its headers",
        ),
        _ => Refusal::new(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing or malformed"),
    }
}
