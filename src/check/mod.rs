//! `podwire check`: goes the way of a session step by step, and says what is wrong with it.
//!
//! Each step is a line on stdout, and one that fails says what, why that may be, and what to do. It
//! is the program's second command; a session's rules are not here but where sessions are.

mod access;
mod certificate;
mod cluster;
mod reach;
mod reasons;
mod report;
mod trip;

use std::io::{Stdout, stdout};
use std::process::ExitCode;

pub(crate) use self::certificate::authorities;
use self::report::{Report, Trouble};
use crate::auth::Gate;
use crate::clusters::{About, Choice, Clusters, NAME_ONE, Own};
use crate::config::Config;
use crate::credential::{Identity, Token};
use crate::exec::Connector;
use crate::route::Wanted;
use crate::target::Target;
use crate::{admin, listener, logging};

/// The variable with a token to take instead of the kubeconfig's user.
const TOKEN: &str = "PODWIRE_TOKEN";

/// Wrong configuration, as the program's other command ends then.
const WRONG: u8 = 2;

/// The namespace that is asked about when neither we nor the context name one, as kubectl has it.
const NAMESPACE: &str = "default";

/// The name of the one cluster that a pod knows, which is no context.
const IN_CLUSTER: &str = "in-cluster";

/// A pod's name that is one, where no pod was named.
const NO_POD: &str = "none";

/// The steps after the first, in order.
const REACH: [&str; 4] = ["DNS", "TCP", "TLS", "ALPN"];
const TALK: [&str; 6] =
    ["token", "version", "subprotocol", "RBAC get", "RBAC create", "round trip"];

/// Checks with these settings, prints what comes of it, and gives the program's exit code: 0 if all
/// steps passed, 1 if one failed, 2 if the configuration is wrong.
pub fn run(config: &Config) -> ExitCode {
    logging::start(config.log_level, config.log_format);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log::error!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(check(config));
    // A name that is still looked up must not hold up the end.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// What is checked.
struct Subject<'a> {
    config: &'a Config,
    connector: Connector,
    identity: Identity,
    /// Where, and whether there is a pod in it at all.
    wanted: Wanted,
    has_pod: bool,
    about: About,
}

async fn check(config: &Config) -> u8 {
    let mut report = Report::new(stdout());
    let (subject, clusters) = match prepare(config) {
        Ok(prepared) => prepared,
        Err(message) => {
            report.failed("config", &Trouble::new(message));
            report.skipped(&REACH, "config");
            report.skipped(&TALK, "config");
            report.end();
            return WRONG;
        }
    };
    let shows = cluster::config(&mut report, &subject, &clusters).await;
    if let Err(step) = reach::go(&mut report, &subject).await {
        report.skipped(&TALK, step);
        report.end();
        return 1;
    }
    cluster::go(&mut report, &subject, shows).await;
    u8::from(!report.end())
}

/// Everything that can be wrong before anything is dialled.
fn prepare(config: &Config) -> Result<(Subject<'_>, Clusters), String> {
    admin::check(config)?;
    Gate::new(config)?;
    listener::tls(config)?;
    let asked = &config.subject;
    let identity = match std::env::var(TOKEN) {
        Err(std::env::VarError::NotPresent) => Identity::Own,
        Ok(token) if Token::new(&token).is_some() => {
            Token::new(&token).map_or(Identity::Own, Identity::Token)
        }
        _ => {
            return Err(format!(
                "${TOKEN} is empty or has odd characters: put a token into it, or unset it \
                 to be the kubeconfig's user"
            ));
        }
    };
    // Whoever checks may look at every context that there is.
    let cluster = asked.cluster.as_deref();
    let context = cluster.filter(|name| *name != IN_CLUSTER).or(config.context.as_deref());
    let own = if matches!(identity, Identity::Own) { Own::Included } else { Own::Excluded };
    let clusters = Clusters::find(&Choice {
        kubeconfig: config.kubeconfig.as_deref(),
        context,
        others: &config.clusters,
        own,
        plugins: &config.allow_exec_plugin,
    })
    .map_err(|why| match why.strip_suffix(NAME_ONE) {
        Some(rest) if cluster.is_some() => format!("{rest}name one with --cluster"),
        _ => why,
    })?
    .with_limits(config.open);
    let connector = clusters.get(cluster).ok_or_else(|| {
        let names: Vec<&str> = clusters.names().collect();
        format!("no such cluster: --cluster takes {}", names.join(", "))
    })?;
    let connector = connector.clone();
    let has_pod = asked.pod.is_some();
    let about = clusters.about().clone();
    let wanted = wanted(config, about.namespace.as_deref())?;
    Ok((Subject { config, connector, identity, wanted, has_pod, about }, clusters))
}

/// Where to look, by the rules that names have in every request; `namespace` is the context's own.
fn wanted(config: &Config, namespace: Option<&str>) -> Result<Wanted, String> {
    let asked = &config.subject;
    if asked.container.is_some() && asked.pod.is_none() {
        return Err("--container needs --pod: add the one that the container is in".to_owned());
    }
    let namespace = asked.namespace.as_deref().or(namespace).unwrap_or(NAMESPACE);
    let pod = asked.pod.as_deref().unwrap_or(NO_POD);
    let target = Target {
        container: asked.container.clone(),
        // A shell is put in, as with every session that names no command.
        command: Vec::new(),
        ..Target::new(namespace, pod)
    };
    let mut wanted = Wanted::new(target);
    wanted
        .check()
        .map_err(|ending| format!("{}: see --namespace, --pod and --container", ending.message))?;
    if asked.pod.is_none() {
        // Asked about is the right for every pod then.
        wanted.target.pod.clear();
    }
    Ok(wanted)
}

type Printed = Report<Stdout>;
