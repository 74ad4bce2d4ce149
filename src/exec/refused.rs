//! Answers of an API server that are not 101, and the endings they come to.

use hyper::StatusCode;
use serde::Deserialize;

use super::conversation::Conversation;
use crate::credential::{Identity, Shown};
use crate::proto::ending::{Answer, Ending, Kind};

/// An answer that is not 101.
pub(super) struct Refused {
    status: StatusCode,
    /// The server's sentence, or an empty one.
    message: String,
    /// Whether the server said it in JSON. Errors of the kubelet and of proxies are text.
    is_status: bool,
    is_empty: bool,
    /// What it said, if that is a whole `metav1.Status`.
    body: Vec<u8>,
}

#[derive(Deserialize)]
struct StatusBody {
    #[serde(default)]
    kind: String,
    message: String,
}

impl Refused {
    /// Reads what there is to read, but for what was shown: nobody shall find it in a log.
    pub(super) async fn read(answer: Conversation, shown: &Shown) -> Self {
        let status = answer.response.status();
        let max = answer.limits.error_max;
        let refused = Self::of(status, &answer.body(max).await);
        match &shown.token {
            None => refused,
            Some(token) => {
                let body = String::from_utf8_lossy(&refused.body);
                let body = token.taken_out_of(&body).into_bytes();
                Self { message: token.taken_out_of(&refused.message), body, ..refused }
            }
        }
    }

    /// The answer with this status and body.
    pub(super) fn of(status: StatusCode, body: &[u8]) -> Self {
        let json: Option<StatusBody> = serde_json::from_slice(body).ok();
        let is_status = json.is_some();
        let is_whole = json.as_ref().is_some_and(|json| json.kind == "Status");
        let message = json.map_or_else(|| readable(body), |json| json.message);
        let is_empty = body.is_empty();
        let body = if is_whole { body.to_vec() } else { Vec::new() };
        Self { status, message, is_status, is_empty, body }
    }

    /// A 403 without a word means that none of the subprotocols offered is known
    /// (`golang.org/x/net/websocket`, recorded as `unknown_subprotocol`).
    pub(super) fn is_about_subprotocol(&self) -> bool {
        self.status == StatusCode::FORBIDDEN && self.is_empty
    }

    /// Who it came from was not recognised.
    pub(super) fn is_about_credential(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    pub(super) fn wants_container(&self) -> bool {
        self.status == StatusCode::BAD_REQUEST
            && self.message.starts_with("a container name must be specified")
    }

    /// The identity tells whose credential it was: a caller cannot mend ours.
    pub(super) fn ending(&self, identity: &Identity) -> Ending {
        let is_own = !matches!(identity, Identity::Token(_));
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
            403 if self.is_about_impersonation(identity) => {
                let message = format!("the relay may not impersonate: {}", self.sentence());
                return Ending::new(Kind::ClusterProtocol, message);
            }
            403 if self.is_about_subprotocol() => {
                let message = "the cluster knows none of the subprotocols offered";
                return Ending::new(Kind::ClusterProtocol, message);
            }
            403 => Kind::Forbidden,
            404 => Kind::NotFound,
            429 => Kind::Limit,
            500..=599 => match Kind::of_failure(&self.message) {
                Kind::NotFound => Kind::NotFound,
                _ => Kind::ClusterUnreachable,
            },
            _ => Kind::ClusterProtocol,
        };
        let ending = Ending::new(kind, self.sentence());
        let answer = || Box::new(Answer { status: self.status.as_u16(), body: self.body.clone() });
        Ending { answer: self.is_api_servers().then(answer), ..ending }
    }

    /// Whether it is an API server's own refusal, or could be: what else a gateway on the way says,
    /// such as 407 of its own, is nothing that a Kubernetes client could act on. Where a redirect
    /// leads is nobody's business.
    fn is_api_servers(&self) -> bool {
        match self.status.as_u16() {
            400 | 401 | 403 | 404 | 409 | 429 | 500..=599 => true,
            402..=499 => !self.body.is_empty(),
            _ => false,
        }
    }

    /// The same for a request that is no stream.
    pub(super) fn of_api(&self, identity: &Identity) -> Ending {
        match self.status {
            StatusCode::UNAUTHORIZED => Ending::new(Kind::Unauthorized, self.sentence()),
            StatusCode::FORBIDDEN if !self.is_about_impersonation(identity) => {
                Ending::new(Kind::Forbidden, self.sentence())
            }
            _ => self.ending(identity),
        }
    }

    fn is_about_impersonation(&self, identity: &Identity) -> bool {
        matches!(identity, Identity::Impersonated(_)) && self.message.contains("cannot impersonate")
    }

    pub(super) fn sentence(&self) -> String {
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
