//! A pod as far as anybody needs it who wants to get into it: its containers, and how it is.

use bytes::Bytes;
use hyper::header::ACCEPT;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::conversation::Conversation;
use super::refused::Refused;
use super::{Connector, Way};
use crate::credential::Identity;
use crate::proto::ending::{Ending, Kind};
use crate::target::Target;

/// The most that is read of a pod: etcd keeps nothing above 1.5 MiB.
const POD_MAX: usize = 2 * 1024 * 1024;

/// What is kept of a pod. What else it has, such as an environment, is not even read.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pod {
    #[serde(default)]
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize, Serialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Default, Deserialize, Serialize)]
struct Annotations {
    /// The annotation by which kubectl chooses, too.
    #[serde(
        rename = "kubectl.kubernetes.io/default-container",
        skip_serializing_if = "Option::is_none"
    )]
    default_container: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    containers: Vec<Container>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Container>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ephemeral_containers: Vec<Container>,
}

#[derive(Deserialize, Serialize)]
struct Container {
    name: String,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    phase: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    container_statuses: Vec<Readiness>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Readiness {
    name: String,
    #[serde(default)]
    ready: bool,
    // Kubernetes' own definition says that the rest is there, and python's client insists. It is
    // told nothing by it.
    #[serde(skip_deserializing)]
    image: String,
    #[serde(skip_deserializing, rename = "imageID")]
    image_id: String,
    #[serde(skip_deserializing)]
    restart_count: u32,
}

impl Pod {
    /// The container that kubectl would choose.
    fn into_default_container(self) -> Option<String> {
        let names = || self.spec.containers.iter().map(|it| &it.name);
        let annotated = self.metadata.annotations.default_container.as_ref();
        annotated.filter(|wanted| names().any(|name| name == *wanted)).or(names().next()).cloned()
    }
}

impl Connector {
    /// Reads the target's pod with the rights of this identity.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, within the times of [`super::OpenLimits`], twice as long where our
    /// own credential has to be renewed.
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn pod(&self, target: &Target, identity: &Identity) -> Result<Pod, Ending> {
        let mut way = self.way(identity).await?;
        let mut answer = self.ask_for_pod(target, &way).await?;
        if answer.response.status() == StatusCode::UNAUTHORIZED
            && self.is_stale(identity, &way).await
        {
            way = self.way(identity).await?;
            answer = self.ask_for_pod(target, &way).await?;
        }
        if answer.response.status() != StatusCode::OK {
            return Err(Refused::read(answer, &way.shown).await.ending(identity));
        }
        let broken = |_| Ending::new(Kind::ClusterProtocol, "what the cluster answered is no pod");
        serde_json::from_slice(&answer.body(POD_MAX).await).map_err(broken)
    }

    /// The container that kubectl would choose, if the pod may be read.
    pub(super) async fn find_container(&self, target: &Target, way: &Way<'_>) -> Option<String> {
        let answer = self.ask_for_pod(target, way).await.ok()?;
        if answer.response.status() != StatusCode::OK {
            return None;
        }
        let pod: Pod = serde_json::from_slice(&answer.body(POD_MAX).await).ok()?;
        pod.into_default_container()
    }

    async fn ask_for_pod(&self, target: &Target, way: &Way<'_>) -> Result<Conversation, Ending> {
        let request = self
            .request(Method::GET, &target.pod_path(), way, target)
            .header(ACCEPT, "application/json");
        self.send(request, Bytes::new(), way).await
    }
}
