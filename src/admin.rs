//! The port for operators: health, metrics, the list of sessions, and the end of one.
//!
//! It is a listener of its own, so that what stands on the public one can be anybody's. What it
//! must never know: clusters, credentials of users, frames.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use subtle::ConstantTimeEq;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::accept::{Body, JSON, Refusal, only_get, response};
use crate::config::Config;
use crate::credential::Token;
use crate::door::{Door, Remote, accept_all, http};
use crate::line::Line;
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::origin;
use crate::proto::ending::{Ending, Kind};
use crate::registry::{Facts, Registry};

/// What Prometheus reads.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What operators may see.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) config: Arc<Config>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Whether the operators' token can be read: found out at the start, and not when it is needed.
pub(crate) fn check(config: &Config) -> Result<(), String> {
    match &config.admin_token_file {
        Some(path) if token_in(path).is_none() => {
            Err(format!("--admin-token-file {}: no token can be read from it", path.display()))
        }
        _ => Ok(()),
    }
}

/// Serves operators for ever. Dropping it closes their connections.
pub(crate) async fn serve(listener: Option<Listener>, admin: Admin) {
    let Some(listener) = listener else { return std::future::pending().await };
    let is_loopback = match &listener {
        Listener::Tcp(tcp) => tcp.local_addr().is_ok_and(|address| address.ip().is_loopback()),
        Listener::Unix(_) => true,
    };
    // Whoever waits for a change of the receiver sees that the sender is dropped.
    let (_open, over) = watch::channel(());
    let desk = Arc::new(Desk { admin, is_loopback });
    accept_all(&listener, &Operators { desk, over }).await;
}

/// The door for operators.
struct Operators {
    desk: Arc<Desk>,
    over: watch::Receiver<()>,
}

impl Door for Operators {
    /// Nothing in here lasts.
    fn prepare(&self, _stream: &TcpStream) {}

    fn enter(&self, stream: Line, _remote: Remote) {
        let (desk, mut over) = (Arc::clone(&self.desk), self.over.clone());
        tokio::spawn(async move {
            let http = http(&desk.admin.config.head);
            let service = service_fn(move |request| {
                let answer = desk.answer(&request);
                async { Ok::<_, Infallible>(answer) }
            });
            tokio::select! {
                _ = http.serve_connection(TokioIo::new(stream), service) => {}
                _ = over.changed() => {}
            }
        });
    }
}

struct Desk {
    admin: Admin,
    /// Whether only this machine can connect.
    is_loopback: bool,
}

impl Desk {
    fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        self.respond(request).unwrap_or_else(Refusal::into_response)
    }

    fn respond<B>(&self, request: &Request<B>) -> Result<Response<Body>, Refusal> {
        let Admin { config, registry, metrics } = &self.admin;
        if self.is_loopback {
            origin::check_host(&origin::host(request)?, &config.allow_host)?;
        }
        // A page elsewhere must not end sessions through an operator's browser.
        origin::check_origin(request.headers(), "http", &[])?;
        match request.uri().path() {
            "/livez" | "/healthz" => {
                only_get(request.method())?;
                Ok(response(TEXT, "ok\n"))
            }
            "/readyz" => {
                only_get(request.method())?;
                if !registry.is_draining() {
                    return Ok(response(TEXT, "ok\n"));
                }
                let mut response = response(TEXT, "draining\n");
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                Ok(response)
            }
            "/metrics" => {
                only_get(request.method())?;
                let (active, totals) = (registry.count(), registry.totals());
                let text = metrics.render(active, totals, registry.is_draining());
                Ok(response(METRICS, text))
            }
            "/sessions" if self.may_see_sessions(request.headers()) => {
                only_get(request.method())?;
                let entries = registry.list();
                let facts: Vec<Facts> = entries.iter().map(|entry| entry.facts()).collect();
                // Serializing strings and numbers into a vector has no way to fail.
                let body = serde_json::to_vec(&facts).unwrap_or_default();
                Ok(response(JSON, body))
            }
            path => match path.strip_prefix("/sessions/") {
                Some(id) if self.may_see_sessions(request.headers()) => {
                    end_session(registry, request.method(), id)
                }
                _ => Err(not_found("no such address")),
            },
        }
    }

    /// Whether the list of sessions is there for this caller. Who may not see it cannot tell it
    /// from an address that does not exist.
    fn may_see_sessions(&self, headers: &HeaderMap) -> bool {
        let Some(path) = &self.admin.config.admin_token_file else { return self.is_loopback };
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let brought = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| Token::new(token)).flatten()
        });
        let (Some(brought), Some(wanted)) = (brought, token_in(path)) else { return false };
        // How long this takes must not tell how much of a guess is right.
        bool::from(brought.header().as_bytes().ct_eq(wanted.header().as_bytes()))
    }
}

/// Read for each request, because somebody may rotate it.
fn token_in(path: &Path) -> Option<Token> {
    Token::new(&std::fs::read_to_string(path).ok()?)
}

fn end_session(registry: &Registry, method: &Method, id: &str) -> Result<Response<Body>, Refusal> {
    if method != Method::DELETE {
        return Err(Refusal::method("only DELETE", "DELETE"));
    }
    if !registry.stop(id) {
        return Err(not_found("no such session"));
    }
    // It is told, and its process hung up, after this answer.
    let mut response = response(TEXT, "ending\n");
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

fn not_found(message: &'static str) -> Refusal {
    Ending::new(Kind::NotFound, message).into()
}
