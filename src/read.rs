//! What may be asked before there is a session: which containers a pod has, for whoever lets people
//! choose one, and what there is at all, which kubectl wants to know first.
//!
//! It is read with the identity that a session would have, and reduced to what it takes to begin
//! one. What it must never know: sessions.

use std::time::Duration;

use hyper::Response;
use hyper::header::{HeaderName, HeaderValue, ORIGIN, UPGRADE};
use serde::Serialize;
use tokio::time::timeout;

use crate::accept::{Body, JSON, Refusal, only_get, response};
use crate::attend::Shared;
use crate::auth::Asked;
use crate::exec::Pod;
use crate::proto::ending::{Ending, Kind};
use crate::proto::message::Dialect;
use crate::route::{Form, Found};
use crate::trace::Trace;

/// No constant of hyper's.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// So many pods are read at once, for all callers together. Each is a connection to a cluster, and
/// under `passthrough` anybody may have one tried with a token that is made up.
pub(crate) const READS_MAX: usize = 32;

/// For all of a read. A person waits for it, and a cluster that does not answer must not keep the
/// places from those of the others.
const TIME: Duration = Duration::from_secs(10);

/// Answers a caller who may have a session. A read that is refused is no session that was, so it is
/// neither counted nor logged as one.
pub(crate) async fn respond(shared: &Shared, asked: &Asked<'_>, found: Found) -> Response<Body> {
    read(shared, asked, found).await.unwrap_or_else(|refusal| {
        let Ending { kind, message, .. } = &refusal.ending;
        let status = refusal.status.as_u16();
        log::debug!(kind = kind.facts().name, status, message = message.as_ref(); "read refused");
        refusal.into_response()
    })
}

async fn read(shared: &Shared, asked: &Asked<'_>, found: Found) -> Result<Response<Body>, Refusal> {
    only_get(asked.method)?;
    if asked.headers.contains_key(UPGRADE) {
        // Somebody forgot the end of another address.
        return Err(Ending::new(Kind::NotFound, "no such address; sessions are at …/exec").into());
    }
    not_for_others(asked)?;
    let mut wanted = found.wanted;
    // A ticket is for one session, and not for looking around.
    let granted = shared.gate.decide(asked, &mut wanted).await?;
    let mut wanted = wanted?;
    let connector = granted.connector.or_else(|| {
        let sources = shared.sources.borrow();
        sources.clusters.get(wanted.cluster.as_deref()).cloned()
    });
    let connector = connector.ok_or_else(|| Ending::new(Kind::NotFound, "no such cluster"))?;
    if let Form::Discovery(document) = found.form {
        return Ok(json(document));
    }
    if found.form == Form::Namespace {
        // Where a pod is not found kubectl looks for its namespace, and shows what it hears of that
        // if it is another 404; else what it heard of the pod.
        return Err(Ending::new(Kind::Forbidden, "this relay tells nothing of namespaces").into());
    }
    wanted.check()?;
    wanted.target.trace = Trace::of(asked.headers);
    let busy = |_| Ending::new(Kind::Limit, "too many pods are being read");
    let _permit = shared.reads.try_acquire().map_err(busy)?;
    let connector = connector.with_limits(shared.config.open);
    let late = |_| Ending::new(Kind::ClusterTimeout, "the cluster did not tell of the pod in time");
    let pod =
        timeout(TIME, connector.pod(&wanted.target, &granted.identity)).await.map_err(late)?;
    // Who reads a pod here speaks Kubernetes' language, and hears an API server's refusal as it is.
    let pod = pod.map_err(|ending| Refusal::of(ending, Dialect::KubeV5))?;
    let typed = Typed { kind: "Pod", api_version: "v1", pod: &pod };
    // Serializing strings into a vector has no way to fail.
    Ok(json(serde_json::to_vec(&typed).unwrap_or_default()))
}

/// Fails for what another site's page asks for without saying its origin, as for an image: it cannot
/// read the answer, but what a browser adds by itself would be used for it (Fetch Metadata, W3C).
fn not_for_others(asked: &Asked<'_>) -> Result<(), Ending> {
    let site = asked.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if asked.headers.contains_key(ORIGIN) || !matches!(site, Some(b"cross-site" | b"same-site")) {
        return Ok(());
    }
    Err(Ending::new(Kind::Forbidden, "a page of another origin may not read here"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typed<'a> {
    kind: &'static str,
    api_version: &'static str,
    #[serde(flatten)]
    pod: &'a Pod,
}

fn json(body: impl Into<Body>) -> Response<Body> {
    let mut response = response(JSON, body);
    let headers = response.headers_mut();
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    response
}
