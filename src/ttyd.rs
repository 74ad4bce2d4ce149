//! HTTP for ttyd's page: it asks for a token before it opens its WebSocket, and needs none.

use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};

use crate::accept::{Body, Refusal};

/// What follows the base path's slash.
const ADDRESS: &str = "token";

/// The same for everybody: there is nothing in it.
const ANSWER: &str = r#"{"token":""}"#;

/// The answer; nothing if this is another address.
pub(crate) fn respond<B>(
    path: &str,
    request: &Request<B>,
) -> Result<Option<Response<Body>>, Refusal> {
    if path != ADDRESS {
        return Ok(None);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let message = "only GET and HEAD";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message).with(ALLOW, "GET, HEAD"));
    }
    let mut response = Response::new(Body::from(ANSWER));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(Some(response))
}
