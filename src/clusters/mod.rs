//! Where the clusters are: kubeconfig files and the service account of a pod.
//!
//! This is the room for everything that is known of clusters before one is dialled, read as kubectl
//! reads it (`k8s.io/client-go/tools/clientcmd`). What it must never know: requests, sessions.

mod connect;
mod file;
mod in_cluster;
mod plugin;
mod tree;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hyper::Uri;

pub(crate) use self::connect::{About, NAME_ONE};
use self::connect::{Builder, Built};
use self::file::{Kubeconfig, names};
use crate::exec::{Connector, OpenLimits};
use crate::proto::ending::is_odd;

/// Whose identity a [`Connector`] has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Own {
    /// The identity of the kubeconfig's user, or of the service account.
    Included,
    /// None: every caller brings a token. The user's certificate is not presented either.
    #[default]
    Excluded,
}

/// Which clusters are wanted, and with whose identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// The kubeconfig, if it was named.
    pub kubeconfig: Option<&'a Path>,
    /// The context of the default cluster, if it was named.
    pub context: Option<&'a str>,
    /// Further contexts that callers may name.
    pub others: &'a [String],
    /// Whose identity the relay has.
    pub own: Own,
    /// The credential plugins that the kubeconfig may name: `aws` for the program of that name in
    /// `$PATH`, or a path for the program there.
    pub plugins: &'a [String],
}

/// The clusters that callers may name, and the one they mean when they name none.
#[derive(Clone, Debug)]
pub struct Clusters {
    source: String,
    default_name: String,
    default: Connector,
    by_name: BTreeMap<String, Named>,
    warnings: Vec<String>,
    about: About,
}

#[derive(Clone, Debug)]
struct Named {
    connector: Connector,
    server: Option<Address>,
}

/// What two URLs of the same API server have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    is_https: bool,
    host: String,
    port: u16,
    path: String,
}

impl Address {
    fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let is_https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return None;
        }
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        Some(Self { is_https, host, port, path: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl Clusters {
    /// One cluster by its name, or the default one.
    pub fn get(&self, name: Option<&str>) -> Option<&Connector> {
        name.map_or(Some(&self.default), |name| self.by_name.get(name).map(|it| &it.connector))
    }

    /// The cluster that callers mean when they name none.
    pub fn default(&self) -> &Connector {
        &self.default
    }

    /// The names by which callers may ask for a cluster.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The name of a cluster whose API server has this URL, however it is written.
    pub fn by_server(&self, url: &str) -> Option<&str> {
        let address = Some(Address::parse(url)?);
        let mut found = self.by_name.iter().filter(|(_, it)| it.server == address);
        let (first, _) = found.clone().next()?;
        // Several contexts may be of one cluster; the default one is meant if it is among them.
        let default = found.find(|(name, _)| **name == self.default_name);
        Some(default.map_or(first, |(name, _)| name))
    }

    /// The same clusters with these limits.
    #[must_use]
    pub fn with_limits(self, limits: OpenLimits) -> Self {
        let limited = |(name, it): (String, Named)| {
            (name, Named { connector: it.connector.with_limits(limits), ..it })
        };
        Self {
            default: self.default.with_limits(limits),
            by_name: self.by_name.into_iter().map(limited).collect(),
            ..self
        }
    }

    /// Where they come from, for people.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What somebody should know about them, although it is not wrong: each a sentence.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What else is known of the default one.
    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    /// The clusters of a named kubeconfig, else the pod's own, else those of the files in
    /// `$KUBECONFIG`, else those of the usual file. A pod's own cluster has no contexts to choose
    /// from.
    ///
    /// # Errors
    ///
    /// What is wrong and what to do about it, in one sentence on one line.
    pub fn find(choice: &Choice<'_>) -> Result<Self, String> {
        Self::look(choice).map_err(|why| plain(&why))
    }

    fn look(choice: &Choice<'_>) -> Result<Self, String> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let list = variable("KUBECONFIG").unwrap_or_default();
        let list: Vec<PathBuf> =
            std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect();
        if let Some(path) = choice.kubeconfig {
            return Self::build(&load(path)?, choice);
        }
        if let Some(clusters) = Self::in_cluster(choice.own) {
            if choice.context.is_some() || !choice.others.is_empty() {
                return Err("--context and --clusters need a kubeconfig, and this pod uses its \
                            service account: name one with --kubeconfig"
                    .to_owned());
            }
            let mut clusters = clusters?;
            if !list.is_empty() {
                let warning = "$KUBECONFIG is not read in a pod: name the file with --kubeconfig";
                clusters.warnings.push(warning.to_owned());
            }
            return Ok(clusters);
        }
        if !list.is_empty() {
            return Self::build(&load_all(&list)?, choice);
        }
        match variable("HOME").map(|home| PathBuf::from(home).join(".kube/config")) {
            Some(path) => Self::build(&load(&path)?, choice),
            None => Err("no kubeconfig: name one with --kubeconfig".to_owned()),
        }
    }

    /// The cluster that this pod runs in, under the name `in-cluster`; nothing if this is no pod.
    ///
    /// # Errors
    ///
    /// What is missing in the pod, in one sentence.
    pub fn in_cluster(own: Own) -> Option<Result<Self, String>> {
        let host = std::env::var("KUBERNETES_SERVICE_HOST").ok().filter(|host| !host.is_empty())?;
        let port = std::env::var("KUBERNETES_SERVICE_PORT").ok().filter(|port| !port.is_empty())?;
        Some(Self::of_service_account(&host, &port, Path::new(in_cluster::FOLDER), own))
    }

    /// The same for a service account that is mounted elsewhere.
    ///
    /// # Errors
    ///
    /// What is missing, in one sentence.
    pub fn of_service_account(
        host: &str,
        port: &str,
        folder: &Path,
        own: Own,
    ) -> Result<Self, String> {
        let (built, warnings) =
            in_cluster::build(host, port, folder, own).map_err(|it| plain(&it))?;
        let name = in_cluster::NAME;
        let source = format!("the pod's service account at {}", built.server);
        Ok(Self::of(name, source, BTreeMap::new(), built, &warnings))
    }

    /// The clusters of a kubeconfig: each context is a cluster by its name. `context` names the
    /// default one instead of the file's current context; `others` may be named by callers, too.
    /// No plugin is run; for that there is [`Clusters::find`].
    ///
    /// # Errors
    ///
    /// The file, the field and what to do about it, in one sentence on one line.
    pub fn from_kubeconfig(
        path: &Path,
        context: Option<&str>,
        others: &[String],
        own: Own,
    ) -> Result<Self, String> {
        let kubeconfig = Some(path);
        Self::find(&Choice { kubeconfig, context, others, own, plugins: &[] })
    }

    /// The same from the text of a kubeconfig; `folder` is where its relative paths begin.
    ///
    /// # Errors
    ///
    /// The field and what to do about it, in one sentence on one line.
    pub fn parse(
        text: &[u8],
        folder: &Path,
        context: Option<&str>,
        others: &[String],
        own: Own,
    ) -> Result<Self, String> {
        let choice = Choice { kubeconfig: None, context, others, own, plugins: &[] };
        Kubeconfig::parse(text, None, folder)
            .and_then(|config| Self::build(&config, &choice))
            .map_err(|why| plain(&why))
    }

    fn build(config: &Kubeconfig, choice: &Choice<'_>) -> Result<Self, String> {
        let Some(name) = choice.context.or(config.current.as_deref()) else {
            let (prefix, has) = (config.prefix(), names(config.contexts.keys()));
            if config.contexts.is_empty() {
                let remedy = "write one with: kubectl config view --raw --flatten";
                return Err(format!("{prefix}no contexts; {remedy}"));
            }
            return Err(format!("{prefix}no current-context; {has}; {NAME_ONE}"));
        };
        let mut builder = Builder::new(config, choice.own, choice.plugins);
        let default = builder.build(name)?;
        let mut by_name = BTreeMap::new();
        for other in choice.others.iter().filter(|other| *other != name) {
            let Built { connector, server, .. } = builder.build(other)?;
            let server = Address::parse(&server);
            by_name.insert(other.clone(), Named { connector, server });
        }
        let separator = if config.source.is_empty() { "" } else { ", " };
        let source = format!(
            "{}{separator}context {name} at {}, {}",
            config.source, default.server, default.shown
        );
        Ok(Self::of(name, source, by_name, default, &builder.warnings))
    }

    fn of(
        name: &str,
        source: String,
        mut by_name: BTreeMap<String, Named>,
        default: Built,
        warnings: &[String],
    ) -> Self {
        let Built { connector, server, about, .. } = default;
        let server = Address::parse(&server);
        by_name.insert(name.to_owned(), Named { connector: connector.clone(), server });
        let warnings = warnings.iter().map(|it| plain(it)).collect();
        let default_name = name.to_owned();
        Self { source, default_name, default: connector, by_name, warnings, about }
    }
}

/// One file, which must be there.
fn load(path: &Path) -> Result<Kubeconfig, String> {
    let text = file::read(path).map_err(|error| {
        format!("{}: {error}; name a kubeconfig with --kubeconfig", path.display())
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    Kubeconfig::parse(&text, Some(path), folder)
}

/// Those files of a list that are there.
fn load_all(paths: &[PathBuf]) -> Result<Kubeconfig, String> {
    let mut all: Option<Kubeconfig> = None;
    for path in paths {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            _ => {}
        }
        let one = load(path)?;
        all = Some(all.unwrap_or_default().and(one));
    }
    all.ok_or_else(|| {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        let paths = paths.join(":");
        format!("$KUBECONFIG: no such file: {paths}; name a kubeconfig with --kubeconfig")
    })
}

/// One line that drives no terminal, whatever stands in a file.
fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if is_odd(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
        line
    })
}
