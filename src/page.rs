//! HTTP for the terminal page and its assets (feature `ui`).

use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, Response, StatusCode};

use crate::accept::{Body, Refusal, only_get};
use crate::origin::Origin;
use crate::ui::{Accepts, asset};

/// No constant of hyper's.
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// xterm.js 6 makes style elements at run time, hence the one `unsafe-inline`; no script does.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'self'";

/// The policy with the other pages that may frame this one.
fn policy(frames: &[Origin]) -> HeaderValue {
    let policy = frames.iter().fold(POLICY.to_owned(), |policy, it| format!("{policy} {it}"));
    // An origin has no character that a header may not have.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static(POLICY))
}

/// The page or one of its assets; nothing if this path has none.
pub(crate) fn respond<B>(
    path: &str,
    request: &Request<B>,
    frames: &[Origin],
) -> Result<Option<Response<Body>>, Refusal> {
    let Some(asset) = asset(path, accepts(request)) else { return Ok(None) };
    only_get(request.method())?;
    let mut response = Response::new(Body::default());
    let headers = response.headers_mut();
    let caching = if asset.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(ETAG, HeaderValue::from_static(asset.etag));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if path.is_empty() {
        headers.insert(CONTENT_SECURITY_POLICY, policy(frames));
        // A page that opened this one must not be able to steer its window.
        headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    }
    if request.headers().get(IF_NONE_MATCH).is_some_and(|tag| tag == asset.etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(Some(response));
    }
    if let Some(encoding) = asset.encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    // hyper leaves the body out where the method is HEAD, and keeps its length.
    *response.body_mut() = Body::from(asset.body);
    Ok(Some(response))
}

/// What the caller can unpack. `q=0` is a no; how much less something else is liked is not asked.
fn accepts<B>(request: &Request<B>) -> Accepts {
    let accepts = |wanted: &str| {
        let values = request.headers().get_all(ACCEPT_ENCODING).iter();
        let words = values.filter_map(|value| value.to_str().ok()).flat_map(|it| it.split(','));
        words.map(|word| word.split_once(';').unwrap_or((word, ""))).any(|(name, rest)| {
            let quality = rest.trim().strip_prefix("q=").and_then(|it| it.parse::<f32>().ok());
            name.trim().eq_ignore_ascii_case(wanted) && quality.unwrap_or(1.0) > 0.0
        })
    };
    Accepts { brotli: accepts("br"), gzip: accepts("gzip") }
}

/// From the base path without its last slash to the one with it. Relative, so that it works
/// behind a gateway that strips a prefix.
pub(crate) fn redirect<B>(request: &Request<B>) -> Result<Response<Body>, Refusal> {
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    let query = request.uri().query().map_or(String::new(), |query| format!("?{query}"));
    let location = HeaderValue::try_from(format!("{last}/{query}"))
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the address is malformed"))?;
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}
