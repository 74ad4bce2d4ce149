//! What the program reads from files: at its start, and again when it is told to.
//!
//! Flags stay as they are for as long as the program runs; clusters and certificates do not. What
//! this must never know: requests, sessions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::auth::Gate;
use crate::clusters::{Choice, Clusters, Own};
use crate::config::{Auth, Config};
use crate::{admin, listener, metrics};

/// How long reading the files again may take: they are small, and network file systems slow.
const READ_MAX: Duration = Duration::from_secs(10);

/// The clusters, and the certificate that browsers see.
#[derive(Clone)]
pub struct Sources {
    /// The clusters that callers may name.
    pub clusters: Clusters,
    /// What browsers speak besides plain HTTP, if anything.
    pub tls: Option<Arc<ServerConfig>>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sources({:?})", self.clusters)
    }
}

impl Sources {
    /// Reads everything, and looks for what would be found wrong only while serving.
    ///
    /// # Errors
    ///
    /// The flag or the file, what is wrong with it and what to do about it, in one sentence.
    pub fn read(config: &Config) -> Result<Self, String> {
        admin::check(config)?;
        Gate::new(config)?;
        let own = if config.auth == Auth::Passthrough { Own::Excluded } else { Own::Included };
        let clusters = Clusters::find(&Choice {
            kubeconfig: config.kubeconfig.as_deref(),
            context: config.context.as_deref(),
            others: &config.clusters,
            own,
            plugins: &config.allow_exec_plugin,
        })?;
        // Here, so that sessions have nothing to change and share what they point to.
        let clusters = clusters.with_limits(config.open);
        let tls = listener::tls(config)?;
        for warning in clusters.warnings() {
            log::warn!("{warning}");
        }
        Ok(Self { clusters, tls })
    }
}

/// Reads everything again at each signal. What cannot be read changes nothing: whatever was right
/// before stays, and the log and the metrics say so.
///
/// # Cancellation
///
/// Dropping the future ends the watch.
pub async fn reread(mut signal: Signal, config: Config, sources: watch::Sender<Sources>) {
    while signal.recv().await.is_some() {
        let config = config.clone();
        // In a thread of its own: a file may be one that blocks, such as a pipe.
        let reading = tokio::task::spawn_blocking(move || Sources::read(&config));
        let read = match timeout(READ_MAX, reading).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => Err("the files could not be read".to_owned()),
            Err(_) => Err(format!("the files were not read within {} s", READ_MAX.as_secs())),
        };
        metrics::note_reload(read.is_ok());
        match read {
            Ok(read) => {
                log::info!(clusters = read.clusters.source(); "configuration read again");
                sources.send_replace(read);
            }
            Err(why) => log::error!(message = why.as_str(); "configuration unchanged"),
        }
    }
}
