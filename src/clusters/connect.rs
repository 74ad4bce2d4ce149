//! From a context to a cluster that can be dialled, field by field.
//!
//! What this must never know: where kubeconfigs are looked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use rustls::RootCertStore;

use super::Own;
use super::file::{Entry, Kubeconfig, names};
use super::plugin;
use crate::credential::{
    Bearer, Certificate, CertificateFiles, Credential, Part, Proof, Token, TokenFile, Unfit,
};
use crate::exec::{Connector, Via};
use crate::tls::{Tls, authorities, of_this_machine};

/// What to type where a context is not there.
pub(crate) const NAME_ONE: &str = "name one with --context";

/// What to type where a credential is of no use.
const SIGN_IN: &str = "use a token, a tokenFile, a client certificate or an exec plugin";

/// What is made of a kubeconfig's contexts.
pub(super) struct Builder<'a> {
    pub(super) config: &'a Kubeconfig,
    pub(super) own: Own,
    /// The credential plugins that may be run.
    pub(super) plugins: &'a [String],
    /// Credentials that contexts share, so that each is fetched once: by user, and by cluster
    /// where it depends on it.
    credentials: BTreeMap<(String, Option<String>), Credential>,
    /// The authorities of this machine, once somebody needs them.
    roots: Option<Arc<RootCertStore>>,
    /// What somebody should know, although it is not wrong.
    pub(super) warnings: Vec<String>,
}

/// A cluster that can be dialled.
pub(super) struct Built {
    pub(super) connector: Connector,
    pub(super) server: String,
    /// Whose credential is shown, for people.
    pub(super) shown: String,
    pub(super) about: About,
}

/// What else is known of a cluster, for whoever looks for what is wrong with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// The namespace that the context is in, if it names one.
    pub(crate) namespace: Option<String>,
    /// The field with the address, such as `clusters[dev].cluster.server`, if that has a path.
    pub(crate) path_in: Option<String>,
    /// Whether a proxy that is used is that of the environment.
    pub(crate) has_proxy_of_environment: bool,
}

impl<'a> Builder<'a> {
    pub(super) fn new(config: &'a Kubeconfig, own: Own, plugins: &'a [String]) -> Self {
        let (credentials, warnings) = (BTreeMap::new(), Vec::new());
        Self { config, own, plugins, credentials, roots: None, warnings }
    }

    /// The cluster of a context.
    pub(super) fn build(&mut self, name: &str) -> Result<Built, String> {
        let config = self.config;
        let Some(context) = config.contexts.get(name) else {
            let (prefix, names) = (config.prefix(), names(config.contexts.keys()));
            return Err(format!("{prefix}no context {name}; {names}; {NAME_ONE}"));
        };
        let Some(cluster_name) = context.text("cluster")? else {
            let remedy = format!("kubectl config set-context {name} --cluster=CLUSTER");
            return Err(context.wrong("cluster", &format!("is missing; set it with: {remedy}")));
        };
        let Some(cluster) = config.clusters.get(cluster_name) else {
            let names = names(config.clusters.keys());
            let remedy = format!("kubectl config set-context {name} --cluster=CLUSTER");
            let what = format!("names {cluster_name}, which is not among the clusters ({names})");
            return Err(context.wrong("cluster", &format!("{what}; set it with: {remedy}")));
        };
        let server = server(cluster, cluster_name)?;
        let tls = self.tls(cluster, server.scheme_str() == Some("https"))?;
        let proxy = cluster.text("proxy-url")?;
        let has_path = !server.path().trim_end_matches('/').is_empty();
        let about = About {
            namespace: context.text("namespace")?.map(str::to_owned),
            path_in: has_path.then(|| format!("clusters[{cluster_name}].cluster.server")),
            has_proxy_of_environment: proxy.is_none(),
        };
        let via = match proxy {
            Some(url) => Via::parse(url).map_err(|why| cluster.wrong("proxy-url", &colon(&why)))?,
            None => Via::from_environment(&server, |name| std::env::var(name).ok())?,
        };
        let (credential, shown) = self.credential(context, cluster, cluster_name)?;
        let url = server.to_string();
        let tls_name = cluster.text("tls-server-name")?;
        if tls_name.is_some_and(|name| !is_tls_name(name)) {
            let what = "is not a name or an address; write one that the certificate has";
            return Err(cluster.wrong("tls-server-name", what));
        }
        let connector = Connector::new(name, &url, tls, tls_name, credential)
            .map_err(|why| cluster.wrong("server", &colon(&why)))?;
        Ok(Built { connector: connector.via(via), server: url, shown, about })
    }

    /// How the server is verified.
    fn tls(&mut self, cluster: &Entry, is_https: bool) -> Result<Tls, String> {
        let (name, data) = ("certificate-authority", "certificate-authority-data");
        let is_blind = cluster.flag("insecure-skip-tls-verify")?;
        let part = part(cluster, name)?;
        if is_blind {
            if part.is_some() {
                let field = "insecure-skip-tls-verify";
                let what = "makes no sense with a certificate-authority; delete one of them";
                return Err(cluster.wrong(field, what));
            }
            let what = "is set: whoever answers there is believed";
            self.warnings.push(cluster.wrong("insecure-skip-tls-verify", what));
            return Ok(Tls::blind());
        }
        let embed = "kubectl config set-cluster CLUSTER --embed-certs --certificate-authority=FILE";
        match part {
            Some(Part::Inline(pem)) => authorities(&pem)
                .map(Tls::roots)
                .map_err(|why| cluster.wrong(data, &format!("{why}; set it with: {embed}"))),
            Some(Part::File(path)) => Tls::file(path.clone()).map_err(|why| {
                let what = format!("({}) {why}; give the path of the authority", path.display());
                cluster.wrong(name, &format!("{what} in PEM, or set it with: {embed}"))
            }),
            None if is_https => {
                // They are many; all clusters that need them share them.
                let roots = self.roots.get_or_insert_with(|| of_this_machine().into());
                if roots.is_empty() {
                    let what = "is missing, and this machine has no authorities of its own";
                    return Err(cluster.wrong(data, &format!("{what}; set it with: {embed}")));
                }
                Ok(Tls::roots(Arc::clone(roots)))
            }
            None => Ok(Tls::roots(RootCertStore::empty())),
        }
    }

    /// The credential of a context's user, and what it is.
    fn credential(
        &mut self,
        context: &Entry,
        cluster: &Entry,
        cluster_name: &str,
    ) -> Result<(Credential, String), String> {
        if self.own == Own::Excluded {
            return Ok((Credential::default(), "the callers' tokens".to_owned()));
        }
        let nobody = || (Credential::default(), "no credential".to_owned());
        let Some(name) = context.text("user")? else { return Ok(nobody()) };
        let Some(user) = self.config.users.get(name) else {
            let what = format!("names {name}, who is not among the users: the cluster sees nobody");
            self.warnings.push(context.wrong("user", &what));
            return Ok(nobody());
        };
        refuse(user, name)?;
        let depends = plugin::depends_on_cluster(user)?.then(|| cluster_name.to_owned());
        let key = (name.to_owned(), depends);
        let credential = if let Some(credential) = self.credentials.get(&key) {
            credential.clone()
        } else {
            let bearer = self.bearer(user, cluster)?;
            let credential = Credential { bearer, proof: proof(user, name)? };
            self.credentials.insert(key, credential.clone());
            credential
        };
        let kind = match (&credential.bearer, &credential.proof) {
            (Bearer::Token(_), _) => "a token",
            (Bearer::File(_), _) => "a token file",
            (Bearer::Plugin(_), _) => "a plugin",
            (Bearer::None, Proof::None) => "nothing",
            (Bearer::None, _) => "a certificate",
        };
        Ok((credential, format!("{kind} of user {name}")))
    }

    /// The token: a file wins over one in place, which stands in for it, and both over a plugin.
    fn bearer(&mut self, user: &Entry, cluster: &Entry) -> Result<Bearer, String> {
        let token = match user.text("token")? {
            None => None,
            Some(text) => Some(Token::new(text).ok_or_else(|| {
                let what = "has characters that no token has; put the token there and nothing else";
                user.wrong("token", what)
            })?),
        };
        if let Some(path) = user.text("tokenFile")? {
            let file = TokenFile::new(user.path(path), token);
            if let Some(why) = file.problem() {
                // Whoever writes it may be late.
                self.warnings.push(user.wrong("tokenFile", &colon(&why)));
            }
            return Ok(Bearer::File(Arc::new(file)));
        }
        if let Some(token) = token {
            return Ok(Bearer::Token(token));
        }
        match user.fields("exec")? {
            None => Ok(Bearer::None),
            Some(exec) => {
                let plugin = plugin::build(&exec, cluster, self.plugins)?;
                Ok(Bearer::Plugin(Arc::new(plugin)))
            }
        }
    }
}

/// Fails for a field that would change who the cluster sees: without it that would be somebody
/// else, perhaps with more rights.
fn refuse(user: &Entry, name: &str) -> Result<(), String> {
    if let Some(provider) = user.fields("auth-provider")? {
        let instead = match provider.text("name")?.unwrap_or_default() {
            "gcp" => {
                "install gke-gcloud-auth-plugin and type: gcloud container clusters \
                      get-credentials CLUSTER"
            }
            "azure" => "install kubelogin and type: kubelogin convert-kubeconfig",
            "oidc" => "install kubelogin and type: kubectl oidc-login setup",
            _ => "let an exec plugin do it, or use a token",
        };
        return Err(user.wrong("auth-provider", &format!("exists no more; {instead}")));
    }
    for field in ["username", "password"] {
        if user.has(field) {
            let what = format!("is understood by no cluster since Kubernetes 1.19; {SIGN_IN}");
            return Err(user.wrong(field, &what));
        }
    }
    for field in ["as", "as-uid", "as-groups", "as-user-extra"] {
        if user.has(field) {
            let what = format!(
                "is not supported; use a credential of whoever is meant, made with: \
                 kubectl create token ACCOUNT, then kubectl config set-credentials {name} --token"
            );
            return Err(user.wrong(field, &what));
        }
    }
    Ok(())
}

/// A certificate of our own.
fn proof(user: &Entry, name: &str) -> Result<Proof, String> {
    let remedy = format!(
        "set both with: kubectl config set-credentials {name} --embed-certs \
         --client-certificate=FILE --client-key=FILE"
    );
    let parts = [part(user, "client-certificate")?, part(user, "client-key")?];
    let parts = match parts {
        [None, None] => return Ok(Proof::None),
        [Some(chain), Some(key)] => [chain, key],
        [chain, _] => {
            let missing = if chain.is_none() { "client-certificate" } else { "client-key" };
            let what = format!("or {missing}-data is missing; {remedy}");
            return Err(user.wrong(missing, &what));
        }
    };
    let fields = ["client-certificate", "client-key"].into_iter().zip(&parts);
    let fields: Vec<String> = fields
        .map(|(field, part)| match part {
            Part::Inline(_) => format!("{field}-data"),
            Part::File(_) => field.to_owned(),
        })
        .collect();
    let read = |index: usize| {
        parts[index].read().map_err(|error| {
            let path = match &parts[index] {
                Part::File(path) => path.display().to_string(),
                Part::Inline(_) => String::new(),
            };
            let what = format!("({path}) cannot be read: {error}; {remedy}");
            user.wrong(&fields[index], &what)
        })
    };
    let read = [read(0)?, read(1)?];
    let unfit = |unfit| match unfit {
        Unfit::Certificate(why) => user.wrong(&fields[0], &format!("{why}; {remedy}")),
        Unfit::Key(why) => user.wrong(&fields[1], &format!("{why}; {remedy}")),
    };
    if let [Part::Inline(chain), Part::Inline(key)] = &parts {
        let certificate = Certificate::from_pem(chain, key).map_err(unfit)?;
        return Ok(Proof::Certificate(Arc::new(certificate)));
    }
    Ok(Proof::Files(Arc::new(CertificateFiles::new(parts, read).map_err(unfit)?)))
}

/// What a field holds: base64 in place, which wins, or the path of a file.
pub(super) fn part(entry: &Entry, field: &str) -> Result<Option<Part>, String> {
    let data = format!("{field}-data");
    if let Some(text) = entry.text(&data)? {
        let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let bytes = STANDARD.decode(text).map_err(|_| {
            let what = format!("is not base64; write it with: base64 -w0 FILE, or give {field}");
            entry.wrong(&data, &what)
        })?;
        return Ok(Some(Part::Inline(bytes)));
    }
    Ok(entry.text(field)?.map(|path| Part::File(entry.path(path))))
}

/// A cluster's address.
fn server(cluster: &Entry, name: &str) -> Result<Uri, String> {
    let remedy =
        format!("set it with: kubectl config set-cluster {name} --server=https://HOST:6443");
    let wrong = |what: &str| cluster.wrong("server", &format!("{what}; {remedy}"));
    let Some(text) = cluster.text("server")? else { return Err(wrong("is missing")) };
    let uri: Uri = text.parse().map_err(|_| wrong("is not an address"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong("is not an address that begins with https://"));
    };
    if authority.as_str().contains('@') {
        return Err(wrong("has a user's name or password"));
    }
    if uri.query().is_some() {
        return Err(wrong("has a question mark"));
    }
    match scheme {
        "https" => {}
        "http" if crate::exec::is_loopback(authority.host()) => {}
        "http" => return Err(wrong("is http, which only this machine may be reached by")),
        _ => return Err(wrong("does not begin with https://")),
    }
    Ok(uri)
}

fn is_tls_name(name: &str) -> bool {
    rustls::pki_types::ServerName::try_from(name).is_ok()
}

/// A reason behind the name of a field.
fn colon(why: &str) -> String {
    format!("is of no use: {why}")
}
