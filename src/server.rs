//! The program's server: addresses, rules, and sessions.
//!
//! It is the library's first user and has no privileges: it decides with `route` and
//! `origin` what a request may do, and leaves the rest to [`crate::accept()`] and to `attend`,
//! which is the task of a session. What it must never know: frames, channels.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use log::Level;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::accept::{Body, Refusal, Upgrade, accept};
use crate::admin::{self, Admin};
use crate::attend::{Caller, Shared, Wish, session};
use crate::auth::{self, Asked, Gate, forwarded};
use crate::config::{Auth, Config};
use crate::door::{Door, Remote, accept_all, http};
use crate::line::Line;
use crate::listener::{Listener, Listeners, Unattended};
use crate::metrics::Metrics;
use crate::origin;
use crate::proto::ending::{Ending, Kind};
use crate::read;
use crate::registry::{Capacity, Registry};
use crate::relay::refuse;
use crate::route::{self, Form};
use crate::secure::Secure;
use crate::shell;
use crate::socket;
use crate::sources::Sources;
use crate::threads::{Threads, Until};
use crate::trace::Trace;
use crate::ttyd;

/// The part of the drain that users may have to read why: the hang-up needs the rest.
const NOTICE_PART: u32 = 4;

/// Every address on the public port but those of the page, without the base path, and with names for
/// what varies; for tests, which must not forget one.
#[doc(hidden)]
pub fn addresses(config: &Config) -> Vec<String> {
    route::addresses(&config.routes)
}

/// Serves until `stop` completes, then drains: is not ready any more, accepts for
/// [`Config::drain_delay`] all the same, because whoever sends callers here needs a while to see
/// it, and ends every session. Returns when the last one is over, or after
/// [`Config::drain_timeout`] at the latest: a browser that takes nothing is not waited for.
///
/// `admin` is where operators connect, if anywhere. New `sources` count from the next connection
/// and the next session on; who sends none drops the sender.
///
/// All of it is done in tasks of the caller's own runtime; [`Config::threads`] is for
/// [`serve_in_threads`].
pub async fn serve(
    listener: Listener,
    admin: Option<Listener>,
    config: Config,
    sources: watch::Receiver<Sources>,
    stop: impl Future<Output = ()>,
) {
    let served = serve_in_threads(listener.into(), admin, config, sources, stop);
    if let Err(why) = served.await {
        log::error!("{why}");
    }
}

/// Serves like [`serve`], in as many threads as there are listeners. All limits are those of all
/// threads together.
///
/// # Errors
///
/// Why it could not begin, or which thread ended by a panic: the sessions of the others are drained
/// then.
pub async fn serve_in_threads(
    listeners: Listeners,
    admin: Option<Listener>,
    config: Config,
    sources: watch::Receiver<Sources>,
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let mut limits = config.limits.clone();
    limits.drain_notice = limits.drain_notice.min(config.drain_timeout / NOTICE_PART);
    let (config, limits) = (Arc::new(config), Arc::new(limits));
    let registry = Arc::new(Registry::new(Capacity {
        sessions: config.max_sessions,
        per_user: config.max_sessions_per_user,
        rate: config.session_rate,
    }));
    let metrics = Arc::new(Metrics::new());
    let operators = Admin {
        config: Arc::clone(&config),
        registry: Arc::clone(&registry),
        metrics: Arc::clone(&metrics),
    };
    let (stopping, stopping_seen) = watch::channel(false);
    let gate = Gate::new(&config)?;
    auth::warn(&config);
    let reads = Semaphore::new(read::READS_MAX);
    let shared =
        Shared { config, limits, sources, gate, registry, metrics, reads, stopping: stopping_seen };
    let browsers = Browsers { shared: Arc::new(shared) };
    let Listeners { first, further } = listeners;
    let mut threads = Threads::start(further.into_iter().map(|it| browsers.beside(it)).collect())
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let stop = async {
        tokio::select! { () = stop => {}, () = threads.lost() => {} }
    };
    tokio::select! {
        () = serve_browsers(first, browsers, stopping, stop) => {}
        // It goes on until all sessions are over, so that somebody can see how that goes.
        () = admin::serve(admin, operators) => {}
    }
    threads.end().await
}

async fn serve_browsers(
    listener: Listener,
    browsers: Browsers,
    stopping: watch::Sender<bool>,
    stop: impl Future<Output = ()>,
) {
    tokio::select! {
        () = accept_all(&listener, &browsers) => {}
        () = stop => {}
    }
    let registry = Arc::clone(&browsers.shared.registry);
    let Config { drain_delay: delay, drain_timeout: all, .. } = *browsers.shared.config;
    registry.drain();
    log::info!(sessions = registry.count(); "draining");
    // It never ends by itself.
    let _ = timeout(delay, accept_all(&listener, &browsers)).await;
    drop((listener, browsers));
    // Every session and every connection holds a receiver; the last one that is dropped ends this.
    let _ = stopping.send(true);
    let begun = Instant::now();
    let in_time = timeout(all, stopping.closed()).await.is_ok();
    let (sessions, seconds) = (registry.count(), begun.elapsed().as_secs());
    if in_time {
        log::info!(seconds; "drained");
    } else {
        log::warn!(seconds, sessions; "some sessions were not over in time");
    }
}

/// The public door.
struct Browsers {
    shared: Arc<Shared>,
}

impl Browsers {
    /// What a further thread does: it lets in whoever comes until sessions are to end, and is there
    /// until the last one is over.
    fn beside(&self, listener: Unattended) -> impl AsyncFnOnce(Until) + Send + use<> + 'static {
        let browsers = Self { shared: Arc::clone(&self.shared) };
        async move |until: Until| {
            let mut stopping = browsers.shared.stopping.clone();
            match listener.attend() {
                Ok(listener) => tokio::select! {
                    () = accept_all(&listener, &browsers) => {}
                    _ = stopping.wait_for(|stopping| *stopping) => {}
                },
                // It ends untold then.
                Err(error) => return log::error!("a thread cannot listen: {error}"),
            }
            // Whoever ends the sessions waits for all of these.
            drop((browsers, stopping));
            until.end().await;
        }
    }
}

impl Door for Browsers {
    fn prepare(&self, stream: &TcpStream) {
        let Shared { config, limits, .. } = &*self.shared;
        socket::browser(stream, limits.slow_browser, config.browser_buffer);
    }

    fn enter(&self, stream: Line, remote: Remote) {
        let shared = Arc::clone(&self.shared);
        let tls = shared.sources.borrow().tls.clone();
        tokio::spawn(async move {
            let time = shared.config.head.time;
            let stream = match tls {
                None => stream,
                // The future of the handshake is kilobytes, and gone when the first request comes.
                Some(tls) => match Box::pin(timeout(time, Secure::accept(stream, tls))).await {
                    Ok(Ok(stream)) => Line::Caller(Box::new(stream)),
                    Ok(Err(error)) => return log::debug!("TLS handshake failed: {error}"),
                    Err(_) => return log::debug!("TLS handshake took too long"),
                },
            };
            let result = serve_connection(stream, remote, shared).await;
            if let Err(error) = result {
                log::debug!("connection ended: {error}");
            }
        });
    }
}

async fn serve_connection(stream: Line, remote: Remote, shared: Arc<Shared>) -> hyper::Result<()> {
    let mut stopping = shared.stopping.clone();
    let http = http(&shared.config.head);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, &remote, request).await) }
    });
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        _ = stopping.wait_for(|stopping| *stopping) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// One request, one response. Never an error of its own making: what cannot be done is a refusal.
async fn answer(
    shared: &Arc<Shared>,
    remote: &Remote,
    mut request: Request<Incoming>,
) -> Response<Body> {
    respond(shared, remote, &mut request).await.unwrap_or_else(|refusal| {
        shared.metrics.rejected(refusal.ending.kind, Some(refusal.status.as_u16()));
        let Ending { kind, message, .. } = &refusal.ending;
        // Whoever sets up a gateway meets a rule first, and the browser says nothing of it.
        let is_rule = refusal.ending.kind == Kind::Forbidden;
        let level = if is_rule { Level::Info } else { Level::Debug };
        log::log!(
            level,
            remote = forwarded::remote(&shared.config, request.headers(), remote),
            kind = kind.facts().name, status = refusal.status.as_u16(),
            message = message.as_ref();
            "request refused"
        );
        refusal.into_response()
    })
}

async fn respond(
    shared: &Arc<Shared>,
    remote: &Remote,
    request: &mut Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let config = &shared.config;
    let host = origin::host(request)?;
    if config.auth == Auth::Own && config.is_loopback() {
        origin::check_host(&host, &config.allow_host)?;
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
    if let Some(response) = crate::page::respond(path, request, &config.frame_ancestors)? {
        return Ok(response);
    }
    if let Some(response) = ttyd::respond(path, request)? {
        return Ok(response);
    }
    // The address decides first, then what it needs; what it asks for is looked at last, so that
    // nobody learns anything about parameters without a credential.
    let query = uri.query().unwrap_or_default();
    let found = route::find(path, query, &config.routes).ok_or_else(no_such_address)?;
    let sources = &shared.sources;
    if matches!(found.form, Form::Pod | Form::Namespace | Form::Discovery(_)) {
        let (method, headers) = (request.method(), request.headers());
        let asked = Asked { config, sources, method, headers, uri: &uri, remote };
        return Ok(read::respond(shared, &asked, found).await);
    }
    if found.form == Form::Ticket {
        let (method, headers) = (request.method(), request.headers());
        let asked = Asked { config, sources, method, headers, uri: &uri, remote };
        let ticket = shared.gate.ticket(&asked, found.wanted).await?;
        return ticket.ok_or_else(|| no_such_address().into());
    }
    // Everybody hears that this is no upgrade, and what is wrong with one only who has a credential.
    let accepted = match accept(request) {
        Err(refusal) if refusal.status != StatusCode::BAD_REQUEST => return Err(refusal),
        accepted => accepted,
    };
    let mut wanted = found.wanted;
    let (method, headers) = (request.method(), request.headers());
    let asked = Asked { config, sources, method, headers, uri: &uri, remote };
    let is_page = origin::is_browser(request.headers());
    let mut granted = match shared.gate.grant(&asked, &mut wanted).await {
        Err(denied) if denied.in_band && is_page => {
            let (response, upgrade) = accepted?;
            tell(shared, upgrade, denied.ending);
            return Ok(response);
        }
        granted => granted?,
    };
    let (response, upgrade) = accepted?;
    let mut wanted = wanted?;
    wanted.check()?;
    wanted.target.trace = Trace::of(request.headers());
    let candidates = shell::put_shell(config, &mut wanted);
    let connector = granted.connector.take().or_else(|| {
        let sources = shared.sources.borrow();
        sources.clusters.get(wanted.cluster.as_deref()).cloned()
    });
    let connector = connector.map(|connector| connector.with_limits(config.open));
    let remote = forwarded::remote(config, request.headers(), remote).into();
    let target = wanted.target;
    let wish = Box::new(Wish { connector, target, candidates, granted, remote });
    let dialect = upgrade.dialect();
    let (answer, answered) = oneshot::channel();
    tokio::spawn(session(Arc::clone(shared), wish, Caller { upgrade, is_page, answer }));
    // What became of a session is counted and logged by its task.
    Ok(match answered.await {
        Ok(Ok(())) => response,
        Ok(Err(ending)) => Refusal::of(ending, dialect).into_response(),
        Err(_) => Refusal::from(Ending::new(Kind::Internal, "the session failed")).into_response(),
    })
}

/// Tells a page why it has no session, inside its WebSocket: it cannot read a failed handshake.
fn tell(shared: &Arc<Shared>, upgrade: Upgrade, ending: Ending) {
    shared.metrics.rejected(ending.kind, None);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        if let Ok(browser) = upgrade.browser().await {
            refuse(browser, ending, Arc::clone(&shared.limits)).await;
        }
    });
}
