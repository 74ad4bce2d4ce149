//! Podwire without a cluster: a pretend one, the relay in front of it, and the terminal page, in
//! one process and on loopback only. Its shells are real shells of this machine.
//!
//! `cargo run --release --example demo [-- --listen 127.0.0.1:8080]`, then open the printed
//! address. Ctrl-C ends it, a second one at once.

use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use fake_cluster::{FakeCluster, Options};
use podwire::config::{Command, parse};
use podwire::listener::{Listeners, tls};
use podwire::server::serve_in_threads;
use podwire::sources::Sources;
use podwire::{Clusters, Own};
use tokio::sync::watch;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    // The relay's own flags, under the one mode that asks for no token, and without operators.
    for flag in ["--auth", "--admin-listen"] {
        if std::env::args_os().any(|given| given.to_string_lossy().starts_with(flag)) {
            let own = "--auth own --admin-listen off";
            return Err(format!("the demo always runs {own}: leave {flag} out").into());
        }
    }
    let own = ["podwire", "--auth=own", "--admin-listen=off"].map(OsString::from);
    let arguments = own.into_iter().chain(std::env::args_os().skip(1));
    let mut config = match parse(arguments, |name| std::env::var(name).ok())? {
        Command::Serve(config) if config.is_loopback() => *config,
        Command::Serve(_) => return Err("the demo listens on loopback only".into()),
        Command::Check(_) => return Err("the demo has nothing to check".into()),
        Command::Print(text) => {
            print!("{text}");
            return Ok(());
        }
    };
    // Nobody sends new sessions here while it ends, and nobody wants to wait for it.
    config.drain_delay = Duration::ZERO;
    config.drain_timeout = config.drain_timeout.min(Duration::from_secs(4));
    let cluster = FakeCluster::start(Options::default()).await?;
    let kubeconfig = cluster.kubeconfig();
    let clusters =
        Clusters::parse(kubeconfig.as_bytes(), Path::new("."), None, &[], Own::Included)?;
    let tls = tls(&config)?;
    let listeners = Listeners::bind(&config.listen, config.threads).await?;
    println!("ready {}?namespace=demo&pod=shell", listeners.first.url(&config));
    let stop = async {
        // Without a handler Ctrl-C ends the process anyway.
        let _ = tokio::signal::ctrl_c().await;
        tokio::spawn(async {
            let _ = tokio::signal::ctrl_c().await;
            std::process::exit(1)
        });
    };
    let (_sender, sources) = watch::channel(Sources { clusters, tls });
    Ok(serve_in_threads(listeners, None, config, sources, stop).await?)
}
