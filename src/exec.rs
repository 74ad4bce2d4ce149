//! The cluster's door: opens an exec WebSocket at an API server.
//!
//! One HTTP/1.1 GET (HTTP/2 cannot be upgraded), with a deadline for every step. What it must
//! never know: browsers, and how one is answered.

use std::error::Error;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use hyper::http::request::Builder as RequestBuilder;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector};
use hyper_rustls::{MaybeHttpsStream, ResolveServerName};
use hyper_util::client::legacy::connect::{Connected, Connection as Connects};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower_service::Service;

use crate::proto::channel::{Size, Subprotocol};
use crate::proto::ending::{Ending, Kind};
use crate::proto::message::Place;
use crate::read_ahead::ReadAhead;
use crate::relay::Cluster;

/// DNS, TCP and TLS together.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// From the request to the whole head of the response: an API server asks webhooks meanwhile.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// For the body of a refusal; what has come by then is used.
const BODY_TIME: Duration = Duration::from_secs(5);
/// The most that is read of a refusal, as client-go does it.
const BODY_MAX: usize = 64 * 1024;
/// The most that is read of a pod: etcd keeps nothing above 1.5 MiB.
const POD_MAX: usize = 2 * 1024 * 1024;
/// The longest head of a response; real ones are under 2 KiB.
const HEAD_MAX: usize = 64 * 1024;

/// Everything but the unreserved characters of RFC 3986 is escaped. Go drops a pair with a bare
/// `;`, and takes a bare `+` for a space.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What to run, and where in the cluster. The names must be valid (DNS-1123).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools)] // The five are Kubernetes' own parameters.
pub struct Target {
    /// The session's id, a UUID. The cluster's audit log has it as `Audit-ID`.
    pub session: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container; may be left out if the pod has only one.
    pub container: Option<String>,
    /// Whether to choose a container as kubectl does, when none is named and there are several:
    /// by the pod's annotation, else the first. That needs the right to read the pod.
    pub find_container: bool,
    /// The command and its arguments. No shell is involved unless it is one.
    pub command: Vec<String>,
    /// Whether the process gets input.
    pub stdin: bool,
    /// Whether its output is wanted.
    pub stdout: bool,
    /// Whether its error output is wanted; never with a TTY, where all is output.
    pub stderr: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// The terminal's first size.
    pub size: Option<Size>,
}

impl Target {
    /// `sh` on a terminal of 80×24, in the container that kubectl would choose; a new session.
    pub fn new(namespace: impl Into<String>, pod: impl Into<String>) -> Self {
        Self {
            session: uuid::Uuid::new_v4().to_string(),
            namespace: namespace.into(),
            pod: pod.into(),
            container: None,
            find_container: true,
            command: vec!["sh".to_owned()],
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
            size: Some(Size::DEFAULT),
        }
    }
}

/// A bearer token. It prints as nothing.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// Takes a token as it stands in a file or a header, without surrounding white space. Nothing
    /// if it is empty or could not stand in a header.
    pub fn new(token: &str) -> Option<Self> {
        let token = token.trim();
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        (!token.is_empty()).then_some(Self(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The identity that a [`Connector`] has of its own, apart from a client certificate in its TLS
/// configuration.
#[derive(Clone, Debug, Default)]
pub enum Credential {
    /// No token.
    #[default]
    None,
    /// A token that does not change.
    Token(Token),
    /// A file with a token, read anew for each session because somebody rotates it.
    TokenFile(PathBuf),
}

impl Credential {
    fn token(&self) -> Result<Option<Token>, Ending> {
        match self {
            Self::None => Ok(None),
            Self::Token(token) => Ok(Some(token.clone())),
            Self::TokenFile(path) => {
                let token = std::fs::read_to_string(path).ok().and_then(|text| Token::new(&text));
                // An empty bearer would make the caller anonymous instead of refused.
                token.map(Some).ok_or_else(|| {
                    let message = format!("no token in {}", path.display());
                    Ending::new(Kind::ClusterProtocol, message)
                })
            }
        }
    }
}

/// One cluster's API server, and how to talk to it. Cheap to clone; clones share the TLS
/// configuration and its session tickets.
#[derive(Clone)]
pub struct Connector {
    /// The cluster's name, as the browser is told it.
    name: Arc<str>,
    /// Scheme and authority.
    server: Uri,
    /// The server URL's path, without a slash at its end.
    prefix: Arc<str>,
    https: HttpsConnector<Dial>,
    own: Credential,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({} at {})", self.name, self.server)
    }
}

/// The connection to a cluster.
pub type ClusterIo = TokioIo<HttpIo>;
type HttpIo = MaybeHttpsStream<TokioIo<ReadAhead<TcpStream>>>;
type Conversation = Connection<HttpIo, Empty<Bytes>>;

impl Connector {
    /// An API server under this URL, which may have a path. `tls` must offer no ALPN protocol, or
    /// `http/1.1` only. `server_name` is verified instead of the URL's host, if given.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL or the name, in one sentence.
    pub fn new(
        name: &str,
        url: &str,
        tls: Arc<ClientConfig>,
        server_name: Option<&str>,
        own: Credential,
    ) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("{url}: not an address such as https://host:6443"));
        };
        if scheme != "https" && !(scheme == "http" && is_loopback(authority.host())) {
            return Err(format!("{url}: only https, or http on loopback"));
        }
        let resolver: Arc<dyn ResolveServerName + Send + Sync> = match server_name {
            None => Arc::new(DefaultServerNameResolver::default()),
            Some(name) => match ServerName::try_from(name.to_owned()) {
                Ok(name) => Arc::new(FixedServerNameResolver::new(name)),
                Err(error) => return Err(format!("{name}: {error}")),
            },
        };
        let https = HttpsConnector::new(Dial, tls, false, resolver);
        let prefix = uri.path().trim_end_matches('/').into();
        Ok(Self { name: name.into(), server: uri, prefix, https, own })
    }

    /// Runs the target's command, as whoever the token stands for or else with the connector's own
    /// credential, and gives the cluster's end of the session. `session` is a UUID; the cluster's audit log has it as `Audit-ID`.
    ///
    /// `v5.channel.k8s.io` and v4 are offered; a server that refuses both with an empty 403 is
    /// asked once more with the oldest version, which every server knows.
    ///
    /// # Errors
    ///
    /// Why there is no session, as an [`Ending`]: within 10 s for the connection, 30 s for the
    /// head of the response and 5 s for the body of a refusal; twice as long where a second
    /// request is needed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes the connection. A process that was started already lives on.
    pub async fn open(
        &self,
        target: &Target,
        token: Option<&Token>,
    ) -> Result<Cluster<ClusterIo>, Ending> {
        let own = if token.is_none() { self.own.token()? } else { None };
        let (token, is_own) = (token.or(own.as_ref()), token.is_none());
        // The futures of the handshakes are kilobytes, and gone when the session begins.
        let mut container = target.container.clone();
        let mut offer = Subprotocol::OFFER;
        let refused = |refused: Refused| refused.ending(is_own);
        for _ in 0..3 {
            let attempt = Attempt { target, container: container.as_deref(), offer };
            match Box::pin(self.attempt(&attempt, token)).await? {
                Answer::Open(io, early, subprotocol) => {
                    return Ok(Cluster {
                        io: TokioIo::new(*io),
                        early,
                        subprotocol,
                        place: self.place(target, container, subprotocol),
                        stdin: target.stdin,
                        size: target.size.filter(|_| target.tty),
                    });
                }
                Answer::Refused(answer)
                    if answer.is_about_subprotocol() && offer != Subprotocol::LAST_RESORT =>
                {
                    offer = Subprotocol::LAST_RESORT;
                }
                Answer::Refused(answer)
                    if answer.wants_container() && target.find_container && container.is_none() =>
                {
                    let found = Box::pin(self.find_container(target, token)).await;
                    container = Some(found.ok_or_else(|| refused(answer))?);
                }
                Answer::Refused(answer) => return Err(refused(answer)),
            }
        }
        Err(Ending::new(Kind::ClusterProtocol, "the cluster refused three requests in a row"))
    }

    fn place(&self, target: &Target, container: Option<String>, subprotocol: Subprotocol) -> Place {
        Place {
            session: target.session.clone(),
            protocol: subprotocol.name(),
            cluster: self.name.as_ref().to_owned(),
            namespace: target.namespace.clone(),
            pod: target.pod.clone(),
            container,
            tty: target.tty,
        }
    }

    async fn attempt(
        &self,
        attempt: &Attempt<'_>,
        token: Option<&Token>,
    ) -> Result<Answer, Ending> {
        let key = generate_key();
        let request = self
            .request(&attempt.path(), token, &attempt.target.session)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            // In one line: the API server reads no second one.
            .header(SEC_WEBSOCKET_PROTOCOL, attempt.offer);
        let (response, mut connection) = self.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let refused = Refused::read(response, &mut connection).await;
            return Ok(Answer::Refused(refused));
        }
        let subprotocol = check_handshake(&response, &key, attempt.offer)?;
        drop(response);
        // The connection has nothing to do any more but to hand over its socket.
        let finished = poll_fn(|cx| connection.poll_without_shutdown(cx));
        timeout(CONNECT_TIME, finished).await.map_err(|_| late("finish its answer"))?.map_err(
            |error| Ending::new(Kind::ClusterLost, format!("the cluster closed: {error}")),
        )?;
        let parts = connection.into_parts();
        Ok(Answer::Open(Box::new(parts.io), parts.read_buf, subprotocol))
    }

    /// A request that is built from nothing: no header of a caller's ever gets into it.
    fn request(&self, path: &str, token: Option<&Token>, session: &str) -> RequestBuilder {
        let host = self.server.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::get(format!("{}{path}", self.prefix))
            .header(HOST, host)
            .header(USER_AGENT, concat!("podwire/", env!("CARGO_PKG_VERSION")))
            .header("audit-id", session);
        if let Some(Token(value)) = token {
            request = request.header(AUTHORIZATION, value);
        }
        request
    }

    async fn send(
        &self,
        request: RequestBuilder,
    ) -> Result<(Response<Incoming>, Conversation), Ending> {
        let request = request
            .body(Empty::new())
            .map_err(|error| Ending::new(Kind::Internal, format!("no such request: {error}")))?;
        let connecting = self.https.clone().call(self.server.clone());
        let io = match timeout(CONNECT_TIME, connecting).await {
            Err(_) => return Err(late("accept a connection")),
            Ok(Err(error)) => return Err(unreachable(&*error)),
            Ok(Ok(io)) => io,
        };
        let talk = async {
            let (mut sender, mut connection) = http1::Builder::new()
                .max_buf_size(HEAD_MAX)
                .handshake::<_, Empty<Bytes>>(io)
                .await?;
            let response = drive(&mut connection, sender.send_request(request)).await?;
            Ok::<_, hyper::Error>((response, connection))
        };
        match timeout(HEAD_TIME, talk).await {
            Err(_) => Err(late("answer")),
            Ok(Err(error)) if error.is_parse() => {
                let message = format!("the cluster does not speak HTTP/1.1 as it should: {error}");
                Err(Ending::new(Kind::ClusterProtocol, message))
            }
            Ok(Err(error)) => Err(unreachable(&error)),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    /// The container that kubectl would choose, if the pod may be read.
    async fn find_container(&self, target: &Target, token: Option<&Token>) -> Option<String> {
        let path = format!("/api/v1/namespaces/{}/pods/{}", target.namespace, target.pod);
        let request =
            self.request(&path, token, &target.session).header(ACCEPT, "application/json");
        let (response, mut connection) = self.send(request).await.ok()?;
        if response.status() != StatusCode::OK {
            return None;
        }
        let body = read_body(response, &mut connection, POD_MAX).await;
        let pod: Pod = serde_json::from_slice(&body).ok()?;
        let names: Vec<String> = pod.spec.containers.into_iter().map(|it| it.name).collect();
        let annotated = pod.metadata.annotations.default_container;
        annotated.filter(|name| names.contains(name)).or_else(|| names.into_iter().next())
    }
}

/// One request for a session.
struct Attempt<'a> {
    target: &'a Target,
    container: Option<&'a str>,
    offer: &'static str,
}

impl Attempt<'_> {
    fn path(&self) -> String {
        let target = self.target;
        let mut path = format!("/api/v1/namespaces/{}/pods/{}/exec?", target.namespace, target.pod);
        let mut add = |name: &str, value: &str| {
            if !path.ends_with('?') {
                path.push('&');
            }
            path.push_str(name);
            path.push('=');
            path.extend(utf8_percent_encode(value, STRICT));
        };
        for word in &target.command {
            add("command", word);
        }
        if let Some(container) = self.container {
            add("container", container);
        }
        // Absent means false, so only what is wanted is said.
        let flags = [
            ("stdin", target.stdin),
            ("stdout", target.stdout),
            ("stderr", target.stderr && !target.tty),
            ("tty", target.tty),
        ];
        for (name, _) in flags.into_iter().filter(|(_, wanted)| *wanted) {
            add(name, "true");
        }
        path
    }
}

enum Answer {
    Open(Box<HttpIo>, Bytes, Subprotocol),
    Refused(Refused),
}

/// An answer that is not 101.
struct Refused {
    status: StatusCode,
    /// The server's sentence, or an empty one.
    message: String,
    /// Whether the server said it in JSON. Errors of the kubelet and of proxies are text.
    is_status: bool,
    is_empty: bool,
}

#[derive(Deserialize)]
struct StatusBody {
    message: String,
}

impl Refused {
    async fn read(response: Response<Incoming>, connection: &mut Conversation) -> Self {
        let status = response.status();
        let body = read_body(response, connection, BODY_MAX).await;
        let json: Option<StatusBody> = serde_json::from_slice(&body).ok();
        let is_status = json.is_some();
        let message = json.map_or_else(|| readable(&body), |json| json.message);
        Self { status, message, is_status, is_empty: body.is_empty() }
    }

    /// A 403 without a word means that none of the subprotocols offered is known
    /// (`golang.org/x/net/websocket`, recorded as `unknown_subprotocol`).
    fn is_about_subprotocol(&self) -> bool {
        self.status == StatusCode::FORBIDDEN && self.is_empty
    }

    fn wants_container(&self) -> bool {
        self.status == StatusCode::BAD_REQUEST
            && self.message.starts_with("a container name must be specified")
    }

    /// `is_own` tells whose credential it was: a caller cannot mend ours.
    fn ending(&self, is_own: bool) -> Ending {
        let kind = match self.status.as_u16() {
            400 if self.message.contains("Upgrade request required") => {
                let message = "a proxy on the way to the cluster strips the Upgrade header";
                return Ending::new(Kind::ClusterProtocol, message);
            }
            400 => match Kind::of_failure(&self.message) {
                Kind::NotFound => Kind::NotFound,
                _ => Kind::BadRequest,
            },
            401 if is_own => {
                let message = "the cluster refuses the relay's own credential";
                return Ending::new(Kind::ClusterProtocol, message);
            }
            401 => Kind::Unauthorized,
            403 => return self.forbidden(),
            404 => Kind::NotFound,
            429 => Kind::Limit,
            500..=599 => match Kind::of_failure(&self.message) {
                Kind::NotFound => Kind::NotFound,
                _ => Kind::ClusterUnreachable,
            },
            _ => Kind::ClusterProtocol,
        };
        Ending::new(kind, self.sentence())
    }

    fn forbidden(&self) -> Ending {
        if self.is_about_subprotocol() {
            let message = "the cluster knows none of the subprotocols offered";
            return Ending::new(Kind::ClusterProtocol, message);
        }
        // From 1.35 on the second verb is needed and its lack is not named.
        let hint = "exec needs the verbs get and create on pods/exec";
        Ending::new(Kind::Forbidden, format!("{} ({hint})", self.sentence().trim_end()))
    }

    fn sentence(&self) -> String {
        if self.message.is_empty() || self.status.is_redirection() {
            format!("the cluster answered {}", self.status)
        } else if self.is_status {
            self.message.clone()
        } else {
            format!("the cluster answered {}: {}", self.status, self.message)
        }
    }
}

/// The text of a body that is not JSON, unless it is a page made for people with a browser.
fn readable(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.starts_with('<') { String::new() } else { text.to_owned() }
}

/// Exactly the accept value of RFC 6455 section 4.2.2, and exactly one of the offered
/// subprotocols. `Connection` may be a list, because proxies make it one.
fn check_handshake(
    response: &Response<Incoming>,
    key: &str,
    offer: &str,
) -> Result<Subprotocol, Ending> {
    let broken = |message: &'static str| Ending::new(Kind::ClusterProtocol, message);
    let headers = response.headers();
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

/// Polls a connection for as long as something on it is awaited. The connection's own end is only
/// an answer if the other has none.
async fn drive<T>(
    connection: &mut Conversation,
    awaited: impl Future<Output = hyper::Result<T>>,
) -> hyper::Result<T> {
    let mut awaited = pin!(awaited);
    let mut over = false;
    poll_fn(|cx| {
        if let Poll::Ready(result) = awaited.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        if !over && let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
            over = true;
            result?;
            return awaited.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

/// Reads a body to its end, to `max` bytes or for [`BODY_TIME`], whichever is first.
async fn read_body(
    response: Response<Incoming>,
    connection: &mut Conversation,
    max: usize,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut body = response.into_body();
    let reading = async {
        while bytes.len() < max {
            let Some(Ok(frame)) = body.frame().await else { break };
            let data = frame.into_data().unwrap_or_default();
            bytes.extend_from_slice(&data[..data.len().min(max - bytes.len())]);
        }
        Ok(())
    };
    // Late or broken, what has come is what there is.
    let _ = timeout(BODY_TIME, drive(connection, reading)).await;
    bytes
}

fn late(what: &str) -> Ending {
    Ending::new(Kind::ClusterTimeout, format!("the cluster did not {what} in time"))
}

fn unreachable(error: &(dyn Error + 'static)) -> Ending {
    // The innermost cause is the one that says something: a refused connection, a bad certificate.
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Ending::new(Kind::ClusterUnreachable, format!("cannot reach the cluster: {cause}"))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// The part of a pod that tells its containers.
#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: PodMetadata,
    spec: PodSpec,
}

#[derive(Default, Deserialize)]
struct PodMetadata {
    #[serde(default)]
    annotations: PodAnnotations,
}

#[derive(Default, Deserialize)]
struct PodAnnotations {
    /// The annotation by which kubectl chooses, too.
    #[serde(rename = "kubectl.kubernetes.io/default-container")]
    default_container: Option<String>,
}

#[derive(Deserialize)]
struct PodSpec {
    containers: Vec<PodContainer>,
}

#[derive(Deserialize)]
struct PodContainer {
    name: String,
}

/// Dials TCP. hyper-rustls puts TLS on top of it where the URL says so.
#[derive(Clone, Copy)]
struct Dial;

impl Service<Uri> for Dial {
    type Response = TokioIo<ReadAhead<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port =
                uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
            let stream = TcpStream::connect((host, port)).await?;
            // A keystroke must not wait for the acknowledgement of the one before.
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(ReadAhead::new(stream)))
        })
    }
}

impl Connects for ReadAhead<TcpStream> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
