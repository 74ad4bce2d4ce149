//! The program's server: addresses, rules, and sessions.
//!
//! It is the library's first user and has no privileges: it decides with `route` and
//! `origin` what a request may do, and leaves the rest to [`crate::accept()`] and to `attend`,
//! which is the task of a session. What it must never know: frames, channels.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::accept::{Body, Refusal, accept};
use crate::attend::{Wish, session};
use crate::caller;
use crate::config::{Auth, Config};
use crate::kubeconfig::Clusters;
use crate::listener::Listener;
use crate::origin;
use crate::proto::ending::{Ending, Kind};
use crate::route;
use crate::shell;

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

/// Everything that all sessions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) clusters: Clusters,
    /// Becomes true when sessions are to end.
    pub(crate) stopping: watch::Receiver<bool>,
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
    respond(shared, &mut request).await.unwrap_or_else(|refusal| {
        log::debug!("refused: {}", refusal.ending);
        refusal.into_response()
    })
}

async fn respond(
    shared: &Arc<Shared>,
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
    let token = caller::token(config, request.headers())?;
    let mut wanted = wanted?.ok_or_else(no_such_address)?;
    shell::put_shell(config, &mut wanted)?;
    let connector = shared.clusters.get(wanted.cluster.as_deref()).cloned();
    let wish = Wish { connector, target: wanted.target, token };
    let is_page = origin::is_browser(request.headers());
    let (answer, answered) = oneshot::channel();
    tokio::spawn(session(Arc::clone(shared), Box::new(wish), upgrade, is_page, answer));
    match answered.await {
        Ok(Ok(())) => Ok(response),
        Ok(Err(ending)) => Err(ending.into()),
        Err(_) => Err(Ending::new(Kind::Internal, "the session failed").into()),
    }
}
