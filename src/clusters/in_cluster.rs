//! The service account of a pod (`k8s.io/client-go/rest`, `InClusterConfig`).

use std::path::Path;
use std::sync::Arc;

use super::Own;
use super::connect::{About, Built};
use crate::credential::{Bearer, Credential, Proof, TokenFile};
use crate::exec::Connector;
use crate::tls::Tls;

/// Where a pod finds its service account.
pub(super) const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The name of a pod's own cluster.
pub(super) const NAME: &str = "in-cluster";

/// The cluster, and what somebody should know about it.
pub(super) fn build(
    host: &str,
    port: &str,
    folder: &Path,
    own: Own,
) -> Result<(Built, Vec<String>), String> {
    let remedy = "mount the service account (automountServiceAccountToken), \
                  or name a kubeconfig with --kubeconfig";
    let authority = folder.join("ca.crt");
    let tls = Tls::file(authority.clone())
        .map_err(|why| format!("{} {why}; {remedy}", authority.display()))?;
    let mut warnings = Vec::new();
    let credential = match own {
        Own::Excluded => Credential::default(),
        Own::Included => {
            let file = TokenFile::new(folder.join("token"), None);
            // The kubelet may be late.
            warnings.extend(file.problem().map(|why| format!("{why}; {remedy}")));
            Credential { bearer: Bearer::File(Arc::new(file)), proof: Proof::None }
        }
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let server = format!("https://{host}:{port}");
    let connector = Connector::new(NAME, &server, tls, None, credential).map_err(|why| {
        format!("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT make no address: {why}")
    })?;
    // Where nobody says otherwise, kubectl looks where the pod is itself.
    let namespace = std::fs::read_to_string(folder.join("namespace")).ok();
    let namespace = namespace.map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
    let about = About { namespace, ..About::default() };
    Ok((Built { connector, server, shown: String::new(), about }, warnings))
}
