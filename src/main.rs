//! Podwire, the program: reads the settings, binds, serves, and ends with a code.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use podwire::config::{Auth, Command, Config, parse};
use podwire::server::{Listener, serve};
use podwire::{Clusters, Own};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

/// Wrong usage or configuration.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let config = match parse(std::env::args_os(), |name| std::env::var(name).ok()) {
        Ok(Command::Serve(config)) => config,
        Ok(Command::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(message) => return fail(WRONG, &message),
    };
    log::set_max_level(config.log_level);
    // Setting the logger fails only if there is one, and this is the first line that could.
    let _ = log::set_logger(&Stderr);
    let prepared = clusters(&config).and_then(|clusters| Ok((clusters, tls(&config)?)));
    let (clusters, tls) = match prepared {
        Ok(prepared) => prepared,
        Err(message) => return fail(WRONG, &message),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("no runtime: {error}")),
    };
    runtime.block_on(run(*config, clusters, tls))
}

async fn run(config: Config, clusters: Clusters, tls: Option<TlsAcceptor>) -> ExitCode {
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        return fail(1, "no signal handlers");
    };
    let listener = match Listener::bind(&config).await {
        Ok(listener) => listener,
        Err(error) => return fail(1, &format!("cannot listen on {:?}: {error}", config.listen)),
    };
    log::info!("clusters from {}", clusters.source());
    println!("ready {}", listener.url(&config));
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    serve(listener, tls, config, clusters, stop).await;
    ExitCode::SUCCESS
}

/// A named kubeconfig, else the pod's service account, else `$KUBECONFIG`, else the usual file.
fn clusters(config: &Config) -> Result<Clusters, String> {
    let own = if config.auth == Auth::Own { Own::Included } else { Own::Excluded };
    if config.kubeconfig.is_none()
        && let Some(clusters) = Clusters::in_cluster(own)
    {
        return clusters;
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    let variable = || std::env::var_os("KUBECONFIG").filter(|it| !it.is_empty()).map(PathBuf::from);
    match config.kubeconfig.clone().or_else(variable).or_else(home) {
        Some(path) => {
            Clusters::from_kubeconfig(&path, config.context.as_deref(), &config.clusters, own)
        }
        None => Err("no kubeconfig: name one with --kubeconfig".to_owned()),
    }
}

fn tls(config: &Config) -> Result<Option<TlsAcceptor>, String> {
    let Some((chain, key)) = &config.tls else { return Ok(None) };
    let wrong = |flag: &str, error: &dyn std::fmt::Display| format!("--tls-{flag}: {error}");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect);
    let chain = chain.map_err(|error| wrong("cert", &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("key", &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|it| it.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| wrong("cert", &error))?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("podwire: {message}");
    ExitCode::from(code)
}

/// Log lines on stderr.
struct Stderr;

impl log::Log for Stderr {
    /// Only our own lines: at trace level some libraries print what goes through them.
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("podwire") || metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            // Nobody is left to tell if stderr is closed.
            let level = record.level().as_str().to_ascii_lowercase();
            let _ = writeln!(std::io::stderr().lock(), "{level:5} {}", record.args());
        }
    }

    fn flush(&self) {}
}
