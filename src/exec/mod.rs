//! The cluster's door: opens an exec WebSocket at an API server.
//!
//! One HTTP/1.1 GET (HTTP/2 cannot be upgraded), with a deadline for every step. What it must
//! never know: browsers, and how one is answered.

mod conversation;
mod dial;
mod pod;
mod probe;
mod proxy;
mod reason;
mod refused;
mod review;
mod via;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use hyper::http::request::Builder as RequestBuilder;
use hyper::{Method, Request, StatusCode, Uri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

pub(crate) use self::conversation::Conversation;
pub(crate) use self::dial::Dial;
pub(crate) use self::pod::Pod;
use self::reason::CLUSTER;
use self::refused::Refused;
use self::via::{bare, port_of};
use crate::credential::{Credential, Identity, Impersonated, Shown};
use crate::line::Line;
use crate::proto::channel::Subprotocol;
use crate::proto::ending::{Ending, Kind};
use crate::proto::message::Place;
use crate::relay::Cluster;
use crate::target::{Target, Verb};
use crate::tls::Tls;
use crate::trace::TRACEPARENT;

pub(crate) use self::probe::{Fault, Handshake, Shows, Tried};
pub(crate) use self::review::Access;
pub use self::via::Via;

/// The first request, and one more for each of: a newer credential, an older subprotocol, a
/// container's name.
const REQUESTS_MAX: usize = 4;

/// How long the cluster may take until a process runs, and how much it may say if none does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenLimits {
    /// For the connection: DNS, TCP and TLS.
    pub connect: Duration,
    /// From the request to the whole head of the answer: an API server asks webhooks meanwhile.
    pub response: Duration,
    /// For the body of a refusal; what has come by then is used.
    pub error: Duration,
    /// How much of that body is read, in bytes; as much as client-go reads by default.
    pub error_max: usize,
    /// What the kernel keeps each way of the connection, in bytes; nothing leaves it to the kernel.
    pub buffer: Option<usize>,
}

impl Default for OpenLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            response: Duration::from_secs(30),
            error: Duration::from_secs(5),
            error_max: 64 * 1024,
            // With the kernel's bookkeeping it is still within what Linux allows by default.
            buffer: Some(192 * 1024),
        }
    }
}

/// One cluster's API server, and how to talk to it. A clone is a pointer: each session has some.
#[derive(Clone)]
pub struct Connector {
    inner: Arc<Api>,
}

#[derive(Clone)]
struct Api {
    /// The cluster's name, as the browser is told it.
    name: Arc<str>,
    /// Scheme and authority.
    server: Uri,
    /// The server URL's path, without a slash at its end.
    prefix: Arc<str>,
    via: Via,
    tls: Tls,
    /// Whom the server's certificate must be for.
    server_name: ServerName<'static>,
    own: Credential,
    limits: OpenLimits,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({} at {})", self.inner.name, self.inner.server)
    }
}

/// The connection to a cluster.
pub type ClusterIo = Line;

impl Connector {
    /// An API server under this URL, which may have a path. `server_name` is verified instead of
    /// the URL's host, if given.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL or the name, in one sentence.
    pub fn new(
        name: &str,
        url: &str,
        tls: Tls,
        server_name: Option<&str>,
        own: Credential,
    ) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("{url}: not an address such as https://host:6443"));
        };
        if authority.as_str().contains('@') {
            // It would stand in the Host header and in every log line about this server.
            return Err("a login before the host is not used, and must be taken out".to_owned());
        }
        if scheme != "https" && !(scheme == "http" && is_loopback(authority.host())) {
            return Err(format!("{url}: only https, or http on loopback"));
        }
        if port_of(authority).is_err() {
            return Err(format!("{url}: its port is none"));
        }
        let server_name = server_name.unwrap_or(bare(authority.host()));
        let server_name = ServerName::try_from(server_name.to_owned())
            .map_err(|error| format!("{server_name}: {error}"))?;
        let prefix = uri.path().trim_end_matches('/').into();
        let (name, via, limits) = (name.into(), Via::default(), OpenLimits::default());
        let server = uri;
        let inner = Api { name, server, prefix, via, tls, server_name, own, limits };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Whether the other one is at the same address.
    pub(crate) fn is_at_the_same(&self, other: &Self) -> bool {
        self.inner.server == other.inner.server
    }

    /// The same, reached this way.
    #[must_use]
    pub fn via(mut self, via: Via) -> Self {
        Arc::make_mut(&mut self.inner).via = via;
        self
    }

    /// The same with these limits.
    #[must_use]
    pub fn with_limits(mut self, limits: OpenLimits) -> Self {
        if self.inner.limits != limits {
            Arc::make_mut(&mut self.inner).limits = limits;
        }
        self
    }

    /// Runs the target's command or attaches, with the rights of this identity, and gives the
    /// cluster's end of the session.
    ///
    /// `v5.channel.k8s.io` and v4 are offered; a server that refuses both with an empty 403 is
    /// asked once more with the oldest version, which every server knows.
    ///
    /// # Errors
    ///
    /// Why there is no session, as an [`Ending`]: within the times of [`OpenLimits`], twice as
    /// long where a second request is needed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes the connection. A process that was started already lives on.
    pub async fn open(
        &self,
        target: &Target,
        identity: &Identity,
    ) -> Result<Cluster<ClusterIo>, Ending> {
        self.open_offering(Subprotocol::OFFER, target, identity).await
    }

    /// [`Connector::open`] with other subprotocols on offer.
    pub(crate) async fn open_offering(
        &self,
        mut offer: &'static str,
        target: &Target,
        identity: &Identity,
    ) -> Result<Cluster<ClusterIo>, Ending> {
        let mut way = self.way(identity).await?;
        let mut is_renewed = false;
        let mut container = target.container.clone();
        let refused = |refused: Refused| refused.ending(identity);
        for _ in 0..REQUESTS_MAX {
            // The futures of the handshakes are kilobytes, and gone when the session begins.
            match Box::pin(self.attempt(target, container.as_deref(), offer, &way)).await? {
                Answer::Open(io, early, subprotocol) => {
                    let place = self.place(target, container, subprotocol);
                    return Ok(Cluster {
                        early,
                        stdin: target.stdin,
                        stderr: target.stderr,
                        size: target.size.filter(|_| target.tty),
                        attached: target.verb == Verb::Attach,
                        ..Cluster::new(io, subprotocol, place)
                    });
                }
                Answer::Refused(answer)
                    if answer.is_about_credential()
                        && !is_renewed
                        && self.is_stale(identity, &way).await =>
                {
                    is_renewed = true;
                    way = self.way(identity).await?;
                }
                Answer::Refused(answer)
                    if answer.is_about_subprotocol() && offer != Subprotocol::LAST_RESORT =>
                {
                    offer = Subprotocol::LAST_RESORT;
                }
                Answer::Refused(answer)
                    if answer.wants_container() && target.find_container && container.is_none() =>
                {
                    let found = Box::pin(self.find_container(target, &way)).await;
                    container = Some(found.ok_or_else(|| refused(answer))?);
                }
                Answer::Refused(answer) => {
                    return Err(Box::pin(self.explain(refused(answer), target, identity)).await);
                }
            }
        }
        Err(Ending::new(Kind::ClusterProtocol, "the cluster refused several requests in a row"))
    }

    /// What is shown for this identity. Beside a caller's token nothing of our own is: an API server
    /// takes a certificate first, and the caller would be us.
    async fn way<'a>(&self, identity: &'a Identity) -> Result<Way<'a>, Ending> {
        let (shown, impersonated) = match identity {
            Identity::Own => (self.inner.own.show().await?, None),
            Identity::Impersonated(it) => (self.inner.own.show().await?, Some(it.as_ref())),
            Identity::Token(token) => {
                (Shown { token: Some(token.clone()), certificate: None }, None)
            }
        };
        let tls = self.inner.tls.config(shown.certificate.as_ref())?;
        Ok(Way { tls, shown, impersonated })
    }

    /// Whether a credential that was refused is our own, and there is a newer one by now.
    async fn is_stale(&self, identity: &Identity, way: &Way<'_>) -> bool {
        !matches!(identity, Identity::Token(_)) && self.inner.own.refused(&way.shown).await
    }

    fn place(&self, target: &Target, container: Option<String>, subprotocol: Subprotocol) -> Place {
        Place {
            session: target.session.clone(),
            protocol: subprotocol.name(),
            cluster: self.inner.name.as_ref().to_owned(),
            namespace: target.namespace.clone(),
            pod: target.pod.clone(),
            container,
            tty: target.tty,
        }
    }

    async fn attempt(
        &self,
        target: &Target,
        container: Option<&str>,
        offer: &'static str,
        way: &Way<'_>,
    ) -> Result<Answer, Ending> {
        let key = generate_key();
        let request = self
            .request(Method::GET, &target.path(container), way, target)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            // In one line: the API server reads no second one.
            .header(SEC_WEBSOCKET_PROTOCOL, offer);
        let answer = self.send(request, Bytes::new(), way).await?;
        if answer.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Answer::Refused(Refused::read(answer, &way.shown).await));
        }
        let subprotocol = check_handshake(answer.response.headers(), &key, offer)?;
        let (io, early) = answer.into_upgraded().await?;
        Ok(Answer::Open(io, early, subprotocol))
    }

    /// A request that is built from nothing: no header of a caller's gets into it but the trace,
    /// which was checked.
    fn request(
        &self,
        method: Method,
        path: &str,
        way: &Way<'_>,
        target: &Target,
    ) -> RequestBuilder {
        let host = self.inner.server.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.inner.prefix))
            .header(HOST, host)
            .header(USER_AGENT, concat!("podwire/", env!("CARGO_PKG_VERSION")))
            .header("audit-id", &target.session);
        if let Some(trace) = &target.trace {
            request = request.header(TRACEPARENT, trace.header());
        }
        if let Some(token) = &way.shown.token {
            request = request.header(AUTHORIZATION, token.header());
        }
        if let Some(Impersonated { user, groups }) = way.impersonated {
            request = request.header("impersonate-user", user);
            for group in groups {
                request = request.header("impersonate-group", group);
            }
        }
        request
    }

    async fn send(
        &self,
        request: RequestBuilder,
        body: Bytes,
        way: &Way<'_>,
    ) -> Result<Conversation, Ending> {
        let request = request
            .body(Full::new(body))
            .map_err(|error| Ending::new(Kind::Internal, format!("no such request: {error}")))?;
        let dial = Dial {
            peer: CLUSTER,
            server: &self.inner.server,
            via: &self.inner.via,
            name: &self.inner.server_name,
            tls: &way.tls,
            trust: &self.inner.tls,
            limit: self.inner.limits.connect,
            buffer: self.inner.limits.buffer,
        };
        Conversation::begin(dial, request, self.inner.limits).await
    }
}

/// How a request is sent: over which TLS, with which credential, in whose stead.
struct Way<'a> {
    tls: Arc<ClientConfig>,
    shown: Shown,
    impersonated: Option<&'a Impersonated>,
}

enum Answer {
    Open(ClusterIo, Bytes, Subprotocol),
    Refused(Refused),
}

/// Exactly the accept value of RFC 6455 section 4.2.2, and exactly one of the offered
/// subprotocols. `Connection` may be a list, because proxies make it one.
fn check_handshake(headers: &HeaderMap, key: &str, offer: &str) -> Result<Subprotocol, Ending> {
    let broken = |message: &'static str| Ending::new(Kind::ClusterProtocol, message);
    let says = |name, word: &str| {
        let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|it| it.trim().eq_ignore_ascii_case(word))
    };
    if !says(UPGRADE, "websocket") || !says(CONNECTION, "upgrade") {
        return Err(broken("the cluster switched to something that is no WebSocket"));
    }
    let accepts = headers.get_all(SEC_WEBSOCKET_ACCEPT);
    if !accepts.iter().eq([derive_accept_key(key.as_bytes()).as_str()]) {
        return Err(broken("the cluster's Sec-WebSocket-Accept is wrong"));
    }
    let mut chosen = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    match (chosen.next().and_then(|name| name.to_str().ok()), chosen.next()) {
        (Some(name), None) if offer.split(", ").any(|offered| offered == name) => {
            Subprotocol::from_name(name).ok_or_else(|| broken("no such subprotocol"))
        }
        (None | Some(""), None) => Err(broken("the cluster chose no subprotocol")),
        _ => Err(broken("the cluster chose a subprotocol that was not offered")),
    }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}
