//! HTTP for ttyd's page: it asks for a token before it opens its WebSocket, and needs none.

use hyper::{Request, Response};

use crate::accept::{Body, JSON, Refusal, only_get, response};

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
    only_get(request.method())?;
    Ok(Some(response(JSON, ANSWER)))
}
