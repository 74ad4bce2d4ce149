//! What an identity may do, asked of the API server itself.
//!
//! A WebSocket exec needs the verb `get` on `pods/exec`; from Kubernetes 1.35 on it needs `create`,
//! too (`pkg/registry/core/pod/rest/authorize.go`, gate
//! `AuthorizePodWebsocketUpgradeCreatePermission`), and its lack is not named by the server.

use bytes::Bytes;
use hyper::Method;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::Connector;
use super::refused::Refused;
use crate::credential::Identity;
use crate::proto::ending::{Ending, Kind};
use crate::target::Target;

/// The first minor version of Kubernetes 1 in which the second verb counts.
const BOTH_VERBS: u64 = 35;

/// Where an access review is asked for.
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// What an identity may do with a pod's `exec` or `attach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) get: bool,
    pub(crate) create: bool,
}

#[derive(Deserialize)]
struct Review {
    status: ReviewStatus,
}

#[derive(Deserialize)]
struct ReviewStatus {
    #[serde(default)]
    allowed: bool,
}

/// The answer of `/version`.
#[derive(Deserialize)]
struct Version {
    major: String,
    minor: String,
}

impl Connector {
    /// Whether this identity may open the target, verb by verb.
    ///
    /// # Errors
    ///
    /// The cluster could not be asked. [`Kind::Unauthorized`] means that it does not know the
    /// identity any more.
    pub(crate) async fn review(
        &self,
        target: &Target,
        identity: &Identity,
    ) -> Result<Access, Ending> {
        let (get, create) = tokio::try_join!(
            self.is_allowed(target, identity, "get"),
            self.is_allowed(target, identity, "create"),
        )?;
        Ok(Access { get, create })
    }

    /// Whether this identity may still open the target. The first no is the answer, whatever else
    /// could not be found out.
    ///
    /// # Errors
    ///
    /// As of [`Connector::review`].
    pub(crate) async fn is_open_to(
        &self,
        target: &Target,
        identity: &Identity,
    ) -> Result<bool, Ending> {
        if !self.is_allowed(target, identity, "get").await? {
            return Ok(false);
        }
        if self.is_allowed(target, identity, "create").await? {
            return Ok(true);
        }
        // On older servers one verb is enough; only who can read the version can rely on it.
        match self.minor_version(target, identity).await {
            Ok(minor) => Ok(minor.is_some_and(|minor| minor < BOTH_VERBS)),
            Err(why) if matches!(why.kind, Kind::Forbidden | Kind::NotFound) => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// The 36 of Kubernetes 1.36, or nothing if it is something else.
    pub(crate) async fn minor_version(
        &self,
        target: &Target,
        identity: &Identity,
    ) -> Result<Option<u64>, Ending> {
        let answer = self.api(Method::GET, "/version", None, target, identity).await?;
        let version: Option<Version> = serde_json::from_slice(&answer).ok();
        // Some clouds write `36+`.
        let minor = |version: Version| version.minor.trim_end_matches('+').parse().ok();
        Ok(version.filter(|version| version.major == "1").and_then(minor))
    }

    async fn is_allowed(
        &self,
        target: &Target,
        identity: &Identity,
        verb: &str,
    ) -> Result<bool, Ending> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "namespace": target.namespace,
                "verb": verb,
                "group": "",
                "version": "v1",
                "resource": "pods",
                "subresource": target.verb.name(),
                "name": target.pod,
            }},
        });
        let answer = self.api(Method::POST, REVIEWS, Some(review), target, identity).await?;
        let review: Review = serde_json::from_slice(&answer).map_err(|_| {
            Ending::new(Kind::ClusterProtocol, "the cluster's access review makes no sense")
        })?;
        Ok(review.status.allowed)
    }

    /// The body of the answer to a request that is no stream and had success; cut at [`OpenLimits::error_max`](super::OpenLimits::error_max).
    pub(crate) async fn api(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
        target: &Target,
        identity: &Identity,
    ) -> Result<Vec<u8>, Ending> {
        let mut way = self.way(identity).await?;
        let mut is_renewed = false;
        loop {
            let mut request =
                self.request(method.clone(), path, &way, target).header(ACCEPT, "application/json");
            let mut bytes = Bytes::new();
            if let Some(body) = &body {
                request = request.header(CONTENT_TYPE, "application/json");
                bytes = body.to_string().into();
            }
            // Boxed: a session waits for this now and then, and lives without it.
            let answer = Box::pin(self.send(request, bytes, &way)).await?;
            if answer.response.status().is_success() {
                return Ok(Box::pin(answer.body(self.inner.limits.error_max)).await);
            }
            let refused = Box::pin(Refused::read(answer, &way.shown)).await;
            if !is_renewed && refused.is_about_credential() && self.is_stale(identity, &way).await {
                is_renewed = true;
                way = self.way(identity).await?;
                continue;
            }
            return Err(refused.of_api(identity));
        }
    }

    /// A refusal in words that say what is missing and what to type, as far as that can be found
    /// out in a short while.
    pub(super) async fn explain(
        &self,
        refused: Ending,
        target: &Target,
        identity: &Identity,
    ) -> Ending {
        if refused.kind != Kind::Forbidden {
            return refused;
        }
        let verb = target.verb.name();
        let review =
            timeout(self.inner.limits.error, Box::pin(self.review(target, identity))).await;
        let hint = match review {
            Ok(Ok(Access { get: true, create: true })) => {
                format!("{verb} itself is allowed: something else forbids it, such as a webhook")
            }
            Ok(Ok(access)) => {
                let missing = match access {
                    Access { get: true, .. } => "create is",
                    Access { create: true, .. } => "get is",
                    Access { .. } => "both are",
                };
                let user = user_in(&refused.message);
                format!(
                    "{verb} needs the verbs get and create on pods/{verb}, and {missing} missing; \
                     to grant them: {}",
                    role(target, &user)
                )
            }
            Ok(Err(_)) | Err(_) => {
                format!("{verb} needs the verbs get and create on pods/{verb}")
            }
        };
        let message = format!("{} ({hint})", refused.message.trim_end());
        Ending { answer: refused.answer, ..Ending::new(Kind::Forbidden, message) }
    }
}

/// Whom the server's sentence is about, as `kubectl create rolebinding` takes it.
fn user_in(sentence: &str) -> String {
    let name = sentence.split_once("User \"").and_then(|(_, rest)| rest.split_once('"'));
    let harmless =
        |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || ":.-_@".contains(c));
    match name.map(|(name, _)| name).filter(harmless) {
        None => "--user=NAME".to_owned(),
        Some(name) => match name.strip_prefix("system:serviceaccount:") {
            Some(account) => format!("--serviceaccount={account}"),
            None => format!("--user={name}"),
        },
    }
}

/// What to apply so that a user may open the target, as two commands in one line.
pub(crate) fn role(target: &Target, user: &str) -> String {
    let Target { namespace, verb, .. } = target;
    let verb = verb.name();
    format!(
        "kubectl create role podwire-{verb} -n {namespace} --verb=get,create --resource=pods/{verb} \
         && kubectl create rolebinding podwire-{verb} -n {namespace} --role=podwire-{verb} {user}"
    )
}
