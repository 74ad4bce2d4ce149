//! Where the clusters are: kubeconfig files and the service account of a pod.
//!
//! This is the room for everything that is known of clusters before one is dialled. Today it
//! reads one kubeconfig in JSON, which `kubectl config view --raw --flatten -o json` writes, and
//! the service account. What it must never know: requests, sessions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::credential::{Bearer, Certificate, Credential, Token};
use crate::exec::{Connector, OpenLimits};
use crate::tls::Tls;

/// Where a pod finds its service account (`k8s.io/client-go/rest`, `InClusterConfig`).
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Whose identity a [`Connector`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// The identity of the kubeconfig's user, or of the service account.
    Included,
    /// None: every caller brings a token. The user's certificate is not presented either.
    Excluded,
}

/// The clusters that callers may name, and the one they mean when they name none.
#[derive(Clone, Debug)]
pub struct Clusters {
    source: String,
    default: Connector,
    by_name: BTreeMap<String, Connector>,
}

impl Clusters {
    /// One cluster by its name, or the default one.
    pub fn get(&self, name: Option<&str>) -> Option<&Connector> {
        name.map_or(Some(&self.default), |name| self.by_name.get(name))
    }

    /// The cluster that callers mean when they name none.
    pub fn default(&self) -> &Connector {
        &self.default
    }

    /// The same clusters with these limits.
    #[must_use]
    pub fn with_limits(self, limits: OpenLimits) -> Self {
        let by_name = self.by_name.into_iter();
        Self {
            default: self.default.with_limits(limits),
            by_name: by_name.map(|(name, it)| (name, it.with_limits(limits))).collect(),
            ..self
        }
    }

    /// Where they come from, for people.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The clusters of a named kubeconfig, else those of `$KUBECONFIG`, else the pod's own, else
    /// those of the usual file. `context` and `others` are as in [`Clusters::from_kubeconfig`]; a
    /// pod's own cluster has no contexts to choose from.
    ///
    /// # Errors
    ///
    /// What is wrong and what to do about it, in one sentence.
    pub fn find(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
        others: &[String],
        own: Own,
    ) -> Result<Self, String> {
        let path = match kubeconfig {
            Some(path) => Some(path.to_owned()),
            None => from_environment()?,
        };
        if path.is_none()
            && let Some(clusters) = Self::in_cluster(own)
        {
            if context.is_some() || !others.is_empty() {
                return Err("--context and --clusters need a kubeconfig, and this pod uses its \
                            service account: name one with --kubeconfig"
                    .to_owned());
            }
            return clusters;
        }
        let home = || std::env::var_os("HOME").filter(|home| !home.is_empty());
        let usual = || home().map(|home| PathBuf::from(home).join(".kube/config"));
        match path.or_else(usual) {
            Some(path) => Self::from_kubeconfig(&path, context, others, own),
            None => Err("no kubeconfig: name one with --kubeconfig".to_owned()),
        }
    }

    /// The cluster that this pod runs in, under the name `in-cluster`; nothing if this is no pod.
    ///
    /// # Errors
    ///
    /// What is missing in the pod, in one sentence.
    pub fn in_cluster(own: Own) -> Option<Result<Self, String>> {
        let host = std::env::var("KUBERNETES_SERVICE_HOST").ok()?;
        let port = std::env::var("KUBERNETES_SERVICE_PORT").ok()?;
        let name = "in-cluster";
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let connector = || {
            let folder = Path::new(SERVICE_ACCOUNT);
            let authority = read(&folder.join("ca.crt"))?;
            let credential = match own {
                Own::Included => {
                    Credential { token: Bearer::File(folder.join("token")), certificate: None }
                }
                Own::Excluded => Credential::default(),
            };
            let tls = tls(&authority)?;
            Connector::new(name, &format!("https://{host}:{port}"), tls, None, credential)
        };
        Some(connector().map(|it| Self {
            source: "the pod's service account".to_owned(),
            by_name: BTreeMap::from([(name.to_owned(), it.clone())]),
            default: it,
        }))
    }

    /// The clusters of a kubeconfig: each context is a cluster by its name. `context` names the
    /// default one instead of the file's current context; `others` may be named by callers, too.
    ///
    /// # Errors
    ///
    /// The file, the field and what to do about it, in one sentence.
    pub fn from_kubeconfig(
        path: &Path,
        context: Option<&str>,
        others: &[String],
        own: Own,
    ) -> Result<Self, String> {
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&read(path)?, folder, context, others, own)
            .map(|it| Self { source: format!("{}, {}", path.display(), it.source), ..it })
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The same from the text of a kubeconfig; `folder` is where its relative paths begin.
    ///
    /// # Errors
    ///
    /// The field and what to do about it, in one sentence.
    pub fn parse(
        text: &[u8],
        folder: &Path,
        context: Option<&str>,
        others: &[String],
        own: Own,
    ) -> Result<Self, String> {
        let file: File = serde_json::from_slice(text).map_err(|error| {
            // What serde says itself shows the value that it did not expect, perhaps a token.
            let what = if error.is_data() { "a field is wrong or missing" } else { "malformed" };
            let (line, column) = (error.line(), error.column());
            format!(
                "not a kubeconfig in JSON ({what} at line {line}, column {column}); \
                 write one with: kubectl config view --raw --flatten -o json"
            )
        })?;
        let name = context.unwrap_or(&file.current_context);
        if name.is_empty() {
            return Err("no current-context; name one with --context".to_owned());
        }
        let default = file.connector(name, folder, own)?;
        let mut by_name = BTreeMap::from([(name.to_owned(), default.clone())]);
        for other in others {
            by_name.insert(other.clone(), file.connector(other, folder, own)?);
        }
        Ok(Self { source: format!("context {name}"), default, by_name })
    }
}

/// The types of `k8s.io/client-go/tools/clientcmd/api/v1`, as far as they are read.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default, deserialize_with = "null_is_empty")]
    clusters: Vec<NamedCluster>,
    #[serde(default, deserialize_with = "null_is_empty")]
    users: Vec<NamedUser>,
    #[serde(default, deserialize_with = "null_is_empty")]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    current_context: String,
}

/// As in Go, where `null` is an empty list: kubectl 1.37 writes it.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    proxy_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    username: Option<IgnoredAny>,
    password: Option<IgnoredAny>,
    r#as: Option<IgnoredAny>,
    as_uid: Option<IgnoredAny>,
    as_groups: Option<IgnoredAny>,
    as_user_extra: Option<IgnoredAny>,
}

impl File {
    fn connector(&self, name: &str, folder: &Path, own: Own) -> Result<Connector, String> {
        let context = self.contexts.iter().find(|it| it.name == name);
        let context = &context.ok_or_else(|| format!("no context {name}"))?.context;
        let cluster = self.clusters.iter().find(|it| it.name == context.cluster);
        let cluster = &cluster.ok_or_else(|| format!("no cluster {}", context.cluster))?.cluster;
        let nobody = User::default();
        let user = match (own, context.user.as_str()) {
            // A context without a user is allowed: it is anonymous.
            (Own::Excluded, _) | (_, "") => &nobody,
            (Own::Included, name) => {
                let user = self.users.iter().find(|it| it.name == name);
                &user.ok_or_else(|| format!("no user {name}"))?.user
            }
        };
        if cluster.insecure_skip_tls_verify || cluster.proxy_url.is_some() {
            let field =
                if cluster.proxy_url.is_some() { "proxy-url" } else { "insecure-skip-tls-verify" };
            return Err(format!("cluster {}: {field} is not supported yet", context.cluster));
        }
        if let Some(field) = user.unsupported() {
            return Err(format!(
                "user {}: {field} is not supported yet; \
                 use a token, a tokenFile or a client certificate",
                context.user
            ));
        }
        let authority = data_or_file(
            "certificate-authority",
            cluster.certificate_authority_data.as_deref(),
            cluster.certificate_authority.as_deref(),
            folder,
        )?;
        if authority.is_none() && cluster.server.starts_with("https:") {
            let name = &context.cluster;
            return Err(format!("cluster {name}: no certificate-authority, inline or as a file"));
        }
        let tls = tls(&authority.unwrap_or_default())?;
        let server_name = cluster.tls_server_name.as_deref();
        Connector::new(name, &cluster.server, tls, server_name, user.credential(folder)?)
    }
}

impl User {
    /// A field that would change who the cluster sees. Without it the cluster would see somebody
    /// else, perhaps one with more rights.
    fn unsupported(&self) -> Option<&'static str> {
        let fields = [
            ("exec", &self.exec),
            ("auth-provider", &self.auth_provider),
            ("username", &self.username),
            ("password", &self.password),
            ("as", &self.r#as),
            ("as-uid", &self.as_uid),
            ("as-groups", &self.as_groups),
            ("as-user-extra", &self.as_user_extra),
        ];
        fields.into_iter().find_map(|(name, field)| field.as_ref().map(|_| name))
    }

    /// The token; a file wins over an inline one, as in client-go.
    fn credential(&self, folder: &Path) -> Result<Credential, String> {
        let token = match (&self.token_file, &self.token) {
            (Some(path), _) => Bearer::File(folder.join(path)),
            (None, Some(token)) => match Token::new(token) {
                Some(token) => Bearer::Token(token),
                None => return Err("a user's token is empty or has odd characters".to_owned()),
            },
            (None, None) => Bearer::None,
        };
        Ok(Credential { token, certificate: self.certificate(folder)?.map(Arc::new) })
    }

    fn certificate(&self, folder: &Path) -> Result<Option<Certificate>, String> {
        let certificate = data_or_file(
            "client-certificate",
            self.client_certificate_data.as_deref(),
            self.client_certificate.as_deref(),
            folder,
        )?;
        let key = data_or_file(
            "client-key",
            self.client_key_data.as_deref(),
            self.client_key.as_deref(),
            folder,
        )?;
        match (certificate, key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                let key = PrivateKeyDer::from_pem_slice(&key)
                    .map_err(|error| format!("client-key: {error}"))?;
                let chain = certificates("client-certificate", &certificate)?;
                Ok(Some(Certificate { chain, key }))
            }
            _ => Err("client-certificate and client-key go together".to_owned()),
        }
    }
}

/// The file that `$KUBECONFIG` names. It may be a list, and kubectl skips its empty members.
fn from_environment() -> Result<Option<PathBuf>, String> {
    let value = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let mut paths = std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty());
    let first = paths.next();
    match paths.next() {
        None => Ok(first),
        Some(_) => Err("$KUBECONFIG is a list of files, which is not supported yet: \
                        name one with --kubeconfig"
            .to_owned()),
    }
}

/// What a field holds: base64 inline, which wins, or a path relative to the file's folder.
fn data_or_file(
    field: &str,
    data: Option<&str>,
    path: Option<&Path>,
    folder: &Path,
) -> Result<Option<Vec<u8>>, String> {
    match (data, path) {
        (Some(data), _) => match STANDARD.decode(data.trim()) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(format!("{field}-data is not base64: {error}")),
        },
        (None, Some(path)) => read(&folder.join(path)).map(Some),
        (None, None) => Ok(None),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn certificates(field: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(format!("{field} holds no certificate")),
        Err(error) => Err(format!("{field}: {error}")),
    }
}

/// No ALPN protocol is offered: the upgrade needs HTTP/1.1, which is what a server takes then.
fn tls(authority: &[u8]) -> Result<Tls, String> {
    let mut roots = RootCertStore::empty();
    if !authority.is_empty() {
        for certificate in certificates("certificate-authority", authority)? {
            roots.add(certificate).map_err(|error| format!("certificate-authority: {error}"))?;
        }
    }
    Ok(Tls::roots(roots))
}
