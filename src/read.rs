//! What may be asked before there is a session: which containers a pod has, for whoever lets people
//! choose one, and what there is at all, which kubectl wants to know first.
//!
//! It is read with the identity that a session would have, and reduced to what it takes to begin
//! one. What it must never know: sessions.

use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::accept::{Body, Refusal};
use crate::attend::Shared;
use crate::auth::Asked;
use crate::exec::Pod;
use crate::proto::ending::{Ending, Kind};
use crate::proto::message::Dialect;
use crate::route::{Form, Found};
use crate::trace::Trace;

/// So many pods are read at once, for all callers together. Each is a connection to a cluster, and
/// under `passthrough` anybody may have one tried with a token that is made up.
const READS_MAX: usize = 32;

static READS: Semaphore = Semaphore::const_new(READS_MAX);

/// Answers a caller who may have a session.
pub(crate) async fn respond(
    shared: &Shared,
    asked: &Asked<'_>,
    found: Found,
) -> Result<Response<Body>, Refusal> {
    if asked.method != Method::GET && asked.method != Method::HEAD {
        let message = "only GET and HEAD";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message).with(ALLOW, "GET, HEAD"));
    }
    let mut wanted = found.wanted;
    let granted = shared.gate.grant(asked, &mut wanted).await?;
    if let Form::Discovery(document) = found.form {
        return Ok(json(Body::from(document)));
    }
    let mut wanted = wanted?;
    wanted.check()?;
    wanted.target.trace = Trace::of(asked.headers);
    let connector = granted.connector.or_else(|| {
        let sources = shared.sources.borrow();
        sources.clusters.get(wanted.cluster.as_deref()).cloned()
    });
    let connector = connector.ok_or_else(|| Ending::new(Kind::NotFound, "no such cluster"))?;
    let busy = |_| Ending::new(Kind::Limit, "too many pods are being read");
    let _permit = READS.try_acquire().map_err(busy)?;
    let connector = connector.with_limits(shared.config.open);
    // Who reads a pod here speaks Kubernetes' language, and hears an API server's refusal as it is.
    let refused = |ending| Refusal::of(ending, Dialect::KubeV5);
    let pod = connector.pod(&wanted.target, &granted.identity).await.map_err(refused)?;
    let typed = Typed { kind: "Pod", api_version: "v1", pod: &pod };
    // Serializing strings into a vector has no way to fail.
    Ok(json(Body::from(serde_json::to_vec(&typed).unwrap_or_default())))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typed<'a> {
    kind: &'static str,
    api_version: &'static str,
    #[serde(flatten)]
    pod: &'a Pod,
}

fn json(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
