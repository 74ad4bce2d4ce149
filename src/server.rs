//! The program's server: addresses, rules, and sessions.
//!
//! It is the library's first user and has no privileges: it decides with `route` and
//! `origin` what a request may do, and leaves the rest to [`crate::accept()`],
//! [`Connector::open`] and [`crate::relay()`]. What it must never know: frames, channels.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::accept::{Body, Refusal, Upgrade, accept, offered};
use crate::config::{Auth, Config};
use crate::credential::Token;
use crate::exec::{ClusterIo, Connector};
use crate::kubeconfig::Clusters;
use crate::origin;
use crate::proto::ending::{Ending, Kind};
use crate::proto::session::Outcome;
use crate::relay::{Browser, Cluster, refuse, relay};
use crate::route::{self, Wanted};
use crate::target::Target;

/// For a request's head, and before it for TLS: a client that sends a byte now and then must not
/// hold a connection for long.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The longest head; what nginx allows in sum, because login proxies put large cookies into it.
const HEAD_MAX: usize = 32 * 1024;
/// The most header fields, as hyper and most others have it.
const FIELDS_MAX: usize = 100;
/// A pause after a failed accept: out of file descriptors, trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For all sessions to end after a signal; Kubernetes kills after 30 s.
const DRAIN_TIME: Duration = Duration::from_secs(22);
/// How the token travels in a browser, which cannot set headers
/// (`k8s.io/apiserver/pkg/authentication/request/websocket`).
const BEARER_SUBPROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// A socket that browsers connect to.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Everything that all sessions share.
#[derive(Debug)]
struct Shared {
    config: Config,
    clusters: Clusters,
    /// Becomes true when sessions are to end.
    stopping: watch::Receiver<bool>,
}

/// Serves until `stop` completes, then ends every session as a drain and returns when the last is
/// over, or after 22 s at the latest: a browser that takes nothing is not waited for.
///
/// `tls` is what browsers speak, if given.
pub async fn serve(
    listener: Listener,
    tls: Option<TlsAcceptor>,
    config: Config,
    clusters: Clusters,
    stop: impl Future<Output = ()>,
) {
    let (stopping, stopping_seen) = watch::channel(false);
    let shared = Arc::new(Shared { config, clusters, stopping: stopping_seen });
    tokio::select! {
        () = accept_all(listener, tls, shared) => {}
        () = stop => {}
    }
    // Every session and every connection holds a receiver; the last one that is dropped ends this.
    let _ = stopping.send(true);
    if timeout(DRAIN_TIME, stopping.closed()).await.is_err() {
        log::warn!("some sessions were not over in time");
    }
}

async fn accept_all(listener: Listener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let accepted = match &listener {
            Listener::Tcp(tcp) => match tcp.accept().await {
                Ok((stream, _)) => {
                    // A keystroke's echo must not wait for the acknowledgement of the one before.
                    let _ = stream.set_nodelay(true);
                    spawn_connection(stream, tls.clone(), Arc::clone(&shared));
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Listener::Unix(unix) => match unix.accept().await {
                Ok((stream, _)) => {
                    spawn_connection(stream, tls.clone(), Arc::clone(&shared));
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = accepted {
            log::warn!("cannot accept a connection: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn spawn_connection<S>(stream: S, tls: Option<TlsAcceptor>, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    tokio::spawn(async move {
        let result = match tls {
            None => serve_connection(stream, shared).await,
            Some(tls) => match timeout(HEAD_TIME, tls.accept(stream)).await {
                Ok(Ok(stream)) => serve_connection(stream, shared).await,
                Ok(Err(error)) => return log::debug!("TLS handshake failed: {error}"),
                Err(_) => return log::debug!("TLS handshake took too long"),
            },
        };
        if let Err(error) = result {
            log::debug!("connection ended: {error}");
        }
    });
}

async fn serve_connection<S>(stream: S, shared: Arc<Shared>) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stopping = shared.stopping.clone();
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_MAX)
        .max_headers(FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        _ = stopping.wait_for(|stopping| *stopping) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// One request, one response. Never an error of its own making: what cannot be done is a refusal.
async fn answer(shared: &Arc<Shared>, mut request: Request<Incoming>) -> Response<Body> {
    let is_11 = request.version() == Version::HTTP_11;
    match respond(shared, &mut request).await {
        Ok(response) => response,
        Err(refusal) => {
            log::debug!("refused: {}", refusal.ending);
            let mut response = refusal.into_response();
            // What follows a refused upgrade may be frames; it must not be taken for a request.
            if is_11 {
                let close = hyper::header::HeaderValue::from_static("close");
                response.headers_mut().entry(hyper::header::CONNECTION).or_insert(close);
            }
            response
        }
    }
}

async fn respond(
    shared: &Arc<Shared>,
    request: &mut Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let config = &shared.config;
    if config.auth == Auth::Own && config.is_loopback() {
        origin::check_host(request.headers(), &config.allow_host)?;
    }
    let no_such_address = || Ending::new(Kind::NotFound, "no such address");
    let uri = request.uri().clone();
    let Some(path) = uri.path().strip_prefix(config.base_path.as_str()) else {
        #[cfg(feature = "ui")]
        if !uri.path().is_empty() && uri.path() == config.base_path.trim_end_matches('/') {
            return crate::page::redirect(request);
        }
        return Err(no_such_address().into());
    };
    #[cfg(feature = "ui")]
    if let Some(response) = crate::page::respond(path, request)? {
        return Ok(response);
    }
    // The address decides first, then what it needs; what it asks for is looked at last, so that
    // nobody learns anything about parameters without a credential.
    let wanted = route::find(path, uri.query().unwrap_or_default(), &config.routes);
    if matches!(wanted, Ok(None)) {
        return Err(no_such_address().into());
    }
    let (response, upgrade) = accept(request)?;
    let token = credential(config, request.headers())?;
    let mut wanted = wanted?.ok_or_else(no_such_address)?;
    put_shell(config, &mut wanted)?;
    let opened = match shared.clusters.get(wanted.cluster.as_deref()) {
        None => Err(Ending::new(Kind::NotFound, "no such cluster")),
        Some(connector) => open(shared, connector.clone(), wanted.target, token).await,
    };
    match opened {
        Ok(cluster) => {
            tokio::spawn(run(Arc::clone(shared), upgrade, cluster));
            Ok(response)
        }
        // A page cannot read a failed handshake, so it is told inside a WebSocket.
        Err(ending) if origin::is_browser(request.headers()) => {
            tokio::spawn(run_refused(Arc::clone(shared), upgrade, ending));
            Ok(response)
        }
        Err(ending) => Err(ending.into()),
    }
}

/// Who the caller is, and whether a foreign page may have made a browser ask.
fn credential(config: &Config, headers: &HeaderMap) -> Result<Option<Token>, Ending> {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let same_origin = || origin::check(headers, scheme, &config.allow_origin);
    match config.auth {
        Auth::Own => same_origin().map(|()| None),
        Auth::Passthrough => {
            // No page can have a token that is not its own, so any origin may bring one this way.
            if let Some(token) = subprotocol_token(headers)? {
                return Ok(Some(token));
            }
            same_origin()?;
            let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let token = header.and_then(|value| {
                let (scheme, token) = value.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| Token::new(token)).flatten()
            });
            token.map(Some).ok_or_else(|| {
                Ending::new(
                    Kind::Unauthorized,
                    "a bearer token is needed: in the Authorization header, or as the subprotocol \
                     base64url.bearer.authorization.k8s.io.TOKEN",
                )
            })
        }
    }
}

/// The token among the offered subprotocols, by Kubernetes' rules: exactly one, base64url without
/// padding, and never alone.
fn subprotocol_token(headers: &HeaderMap) -> Result<Option<Token>, Ending> {
    let wrong = |message: &'static str| Ending::new(Kind::Unauthorized, message);
    let mut tokens = offered(headers).filter_map(|name| name.strip_prefix(BEARER_SUBPROTOCOL));
    let Some(encoded) = tokens.next() else { return Ok(None) };
    if tokens.next().is_some() {
        return Err(wrong("two bearer subprotocols are offered"));
    }
    if offered(headers).count() < 2 {
        return Err(wrong("a bearer subprotocol needs another one beside it, such as podwire.v1"));
    }
    let decoded = URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|it| String::from_utf8(it).ok());
    let token = decoded.and_then(|text| Token::new(&text));
    token.map(Some).ok_or_else(|| wrong("the bearer subprotocol is not base64url"))
}

/// Without a command a shell is wanted: one `sh -c` that finds the best, or the one that was
/// named, and becomes it. The session's id in its environment is how it is found again.
fn put_shell(config: &Config, wanted: &mut Wanted) -> Result<(), Ending> {
    if !wanted.target.command.is_empty() {
        if config.no_command {
            return Err(Ending::new(Kind::Forbidden, "free commands are switched off"));
        }
        return Ok(());
    }
    let shells = &config.shells;
    let exec = match wanted.shell.as_deref().unwrap_or("auto") {
        "auto" => format!(
            "for s in {}; do command -v \"$s\" >/dev/null 2>&1 && exec \"$s\"; done; exec sh",
            shells.join(" ")
        ),
        name if shells.iter().any(|shell| shell == name) => format!("exec {name}"),
        _ => return Err(Ending::new(Kind::BadRequest, "shell names none of --shells")),
    };
    let session = &wanted.target.session;
    let script = format!(
        "TERM=xterm-256color PODWIRE_SESSION={session}; export TERM PODWIRE_SESSION; {exec}"
    );
    wanted.target.command = vec!["sh".to_owned(), "-c".to_owned(), script];
    Ok(())
}

/// Opens the cluster's leg in a task of its own: if the browser leaves meanwhile, the process may
/// have been started, and is hung up instead of forgotten.
async fn open(
    shared: &Arc<Shared>,
    connector: Connector,
    target: Target,
    token: Option<Token>,
) -> Result<Cluster<ClusterIo>, Ending> {
    let (hand_over, handed_over) = tokio::sync::oneshot::channel();
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let opened = connector.open(&target, token.as_ref()).await;
        if let Err(Ok(cluster)) = hand_over.send(opened) {
            run_alone(shared, cluster).await;
        }
    });
    let lost = |_| Err(Ending::new(Kind::Internal, "opening the session failed"));
    handed_over.await.unwrap_or_else(lost)
}

/// A session from its 101 to its end.
async fn run(shared: Arc<Shared>, upgrade: Upgrade, cluster: Cluster<ClusterIo>) {
    match upgrade.browser().await {
        Ok(browser) => {
            let place = &cluster.place;
            let session = place.session.clone();
            log::info!(
                "session start session={session} cluster={} namespace={} pod={} container={} \
                 protocol={} tty={}",
                place.cluster,
                place.namespace,
                place.pod,
                place.container.as_deref().unwrap_or("-"),
                place.protocol,
                place.tty,
            );
            let stop = drain(shared.stopping.clone());
            let limits = shared.config.limits.clone();
            log_end(&session, &relay(browser, cluster, limits, stop).await);
        }
        Err(_) => run_alone(shared, cluster).await,
    }
}

/// A session whose browser left before it could begin: only the hang-up is left to do.
async fn run_alone(shared: Arc<Shared>, cluster: Cluster<ClusterIo>) {
    let session = cluster.place.session.clone();
    let dialect = crate::proto::message::Dialect::Seed;
    let browser = Browser { io: tokio::io::empty(), early: bytes::Bytes::new(), dialect };
    let limits = shared.config.limits.clone();
    let outcome = relay(browser, cluster, limits, std::future::pending()).await;
    log_end(&session, &outcome);
}

/// A session that is only its ending.
async fn run_refused(shared: Arc<Shared>, upgrade: Upgrade, ending: Ending) {
    log::info!("session refused: {ending}");
    if let Ok(browser) = upgrade.browser().await {
        refuse(browser, ending, shared.config.limits.clone()).await;
    }
}

fn log_end(session: &str, outcome: &Outcome) {
    log::info!(
        "session end session={session} kind={} exit_code={} process={:?} input={} output={} \
         message={:?}",
        outcome.ending.kind.facts().name,
        outcome.ending.exit_code.map_or("-".to_owned(), |code| code.to_string()),
        outcome.process,
        outcome.traffic.input,
        outcome.traffic.output,
        outcome.ending.message,
    );
}

async fn drain(mut stopping: watch::Receiver<bool>) -> Ending {
    // An error means that the sender is gone, which is a stop, too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
    Ending::new(Kind::Drain, "the relay is being stopped")
}

impl Listener {
    /// Binds the configured address. A Unix socket is only for its owner (mode 0600); one that
    /// an earlier run left behind is replaced.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn bind(config: &Config) -> io::Result<Self> {
        match &config.listen {
            crate::config::Listen::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            crate::config::Listen::Unix(path) => {
                use std::os::unix::fs::{FileTypeExt, PermissionsExt};
                if std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket()) {
                    std::fs::remove_file(path)?;
                }
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                Ok(Self::Unix(listener))
            }
        }
    }

    /// The bound address as a URL.
    pub fn url(&self, config: &Config) -> String {
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        match self {
            Self::Tcp(tcp) => match tcp.local_addr() {
                Ok(address) => format!("{scheme}://{address}{}", config.base_path),
                Err(error) => format!("{scheme}://?{error}"),
            },
            Self::Unix(_) => match &config.listen {
                crate::config::Listen::Unix(path) => format!("unix:{}", path.display()),
                crate::config::Listen::Tcp(address) => format!("{scheme}://{address}"),
            },
        }
    }
}
