//! Podwire, the program: reads the settings, binds, serves, and ends with a code.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use podwire::config::{Auth, Command, Config, parse};
use podwire::listener::{Listener, tls};
use podwire::server::serve;
use podwire::{Clusters, Own};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

/// Wrong usage or configuration.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let config = match parse(std::env::args_os(), |name| std::env::var(name).ok()) {
        Ok(Command::Serve(config)) => config,
        Ok(Command::Print(text)) => {
            // Who closed stdout, such as `head`, wants no more of it.
            let _ = write!(stdout().lock(), "{text}");
            return ExitCode::SUCCESS;
        }
        Err(message) => return fail(WRONG, &message),
    };
    log::set_max_level(config.log_level);
    // Setting the logger fails only if there is one, and this is the first line that could.
    let _ = log::set_logger(&Stderr);
    let own = if config.auth == Auth::Own { Own::Included } else { Own::Excluded };
    let (path, context) = (config.kubeconfig.as_deref(), config.context.as_deref());
    let clusters = Clusters::find(path, context, &config.clusters, own);
    let (clusters, tls) = match clusters.and_then(|clusters| Ok((clusters, tls(&config)?))) {
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
        Err(error) => return fail(1, &format!("cannot listen on {}: {error}", config.listen)),
    };
    log::info!("clusters from {}", clusters.source());
    // Nobody has to wait for it.
    let _ = writeln!(stdout().lock(), "ready {}", listener.url(&config));
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    serve(listener, tls, config, clusters, stop).await;
    ExitCode::SUCCESS
}

fn fail(code: u8, message: &str) -> ExitCode {
    let _ = writeln!(stderr().lock(), "podwire: {message}");
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
            let _ = writeln!(stderr().lock(), "{level:5} {}", record.args());
        }
    }

    fn flush(&self) {}
}
