//! Podwire, the program: reads the settings, binds, serves, and ends with a code.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use podwire::config::{Command, Config, parse};
use podwire::listener::{Listener, Listeners};
use podwire::logging;
use podwire::server::serve_in_threads;
use podwire::sources::{Sources, reread};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

/// musl's own takes a third more time for an open (benches/profile.md).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Wrong usage or configuration.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let config = match parse(std::env::args_os(), |name| std::env::var(name).ok()) {
        Ok(Command::Serve(config)) => config,
        Ok(Command::Check(config)) => return podwire::check::run(&config),
        Ok(Command::Print(text)) => {
            // Who closed stdout, such as `head`, wants no more of it.
            let _ = write!(stdout().lock(), "{text}");
            return ExitCode::SUCCESS;
        }
        Err(message) => return fail(WRONG, &message),
    };
    logging::start(config.log_level, config.log_format);
    let sources = match Sources::read(&config) {
        Ok(sources) => sources,
        Err(message) => return fail(WRONG, &message),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("no runtime: {error}")),
    };
    let code = runtime.block_on(run(*config, sources));
    // A name that is still looked up must not hold up the end.
    runtime.shutdown_background();
    code
}

async fn run(config: Config, sources: Sources) -> ExitCode {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let [Ok(terminate), Ok(interrupt), Ok(hangup)] = kinds.map(signal) else {
        return fail(1, "no signal handlers");
    };
    let listeners = match Listeners::bind(&config.listen, config.threads).await {
        Ok(listeners) => listeners,
        Err(error) => return fail(1, &format!("cannot listen on {}: {error}", config.listen)),
    };
    let admin = match Listener::for_operators(config.admin_listen.as_ref()).await {
        Ok(admin) => admin,
        Err(why) => return fail(1, &why),
    };
    let url = listeners.first.url(&config);
    let operators = admin.as_ref().map(Listener::address).and_then(Result::ok);
    log::info!(
        version = env!("CARGO_PKG_VERSION"), listen = url, auth:% = config.auth,
        clusters = sources.clusters.source(), hangup:% = config.hangup,
        admin = operators.map_or_else(|| "off".to_owned(), |address| address.to_string());
        "start"
    );
    // Nobody has to wait for it.
    let _ = writeln!(stdout().lock(), "ready {url}");
    let (begin, begun) = oneshot::channel();
    tokio::spawn(signals(terminate, interrupt, begin));
    let stop = async {
        // Without signals there is nobody to ask for an end either.
        let _ = begun.await;
    };
    let (sender, sources) = watch::channel(sources);
    tokio::spawn(reread(hangup, config.clone(), sender));
    let served = serve_in_threads(listeners, admin, config, sources, stop).await;
    served.map_or_else(|why| fail(1, &why), |()| ExitCode::SUCCESS)
}

/// The first signal begins the end, the second one is the end.
async fn signals(mut terminate: Signal, mut interrupt: Signal, begin: oneshot::Sender<()>) {
    let mut next = async || {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    next().await;
    let _ = begin.send(());
    next().await;
    log::warn!("ended by a second signal");
    std::process::exit(1)
}

fn fail(code: u8, message: &str) -> ExitCode {
    let _ = writeln!(stderr().lock(), "podwire: {message}");
    ExitCode::from(code)
}
