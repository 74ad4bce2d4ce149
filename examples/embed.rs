//! A gateway with routes and users of its own. Run: `cargo run --example embed -- KUBECONFIG`
use std::{convert::Infallible, error::Error, future::ready, path::Path, sync::Arc};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use podwire::{Body, Clusters, Ending, Identity, Kind, Limits, Outcome, Own, Refusal, Target};
use podwire::{accept, check_origin, hang_up, refuse, relay};
use tokio::{net::TcpListener, sync::Notify, sync::mpsc};

/// What this gateway knows.
pub(crate) struct Gateway {
    pub(crate) clusters: Clusters,
    pub(crate) throw_out: Notify,
    pub(crate) outcomes: mpsc::UnboundedSender<Outcome>,
}

pub(crate) async fn serve(listener: TcpListener, gateway: Arc<Gateway>) -> std::io::Result<()> {
    loop {
        let io = hyper_util::rt::TokioIo::new(listener.accept().await?.0);
        let gateway = Arc::clone(&gateway);
        let service = service_fn(move |it| ready(Ok::<_, Infallible>(answer(&gateway, it))));
        tokio::spawn(http1::Builder::new().serve_connection(io, service).with_upgrades());
    }
}

fn answer(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() != "/terminal" {
        return Response::new("hello\n".into());
    }
    terminal(Arc::clone(gateway), request).unwrap_or_else(Refusal::into_response)
}

fn terminal(gateway: Arc<Gateway>, mut of: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    if of.headers().get("x-user").is_none_or(|user| user != "ada") {
        return Err(Ending::new(Kind::Forbidden, "not you").into());
    }
    check_origin(of.headers(), "http", &[])?;
    let (response, upgrade) = accept(&mut of)?;
    tokio::spawn(async move {
        let opened =
            gateway.clusters.default().open(&Target::new("demo", "shell"), &Identity::Own).await;
        let (limits, throw_out) = (Limits::default(), gateway.throw_out.notified());
        let stop = async { (throw_out.await, Ending::new(Kind::Revoked, "you were thrown out")).1 };
        let outcome = match (upgrade.browser().await, opened) {
            (Ok(browser), Ok(cluster)) => relay(browser, cluster, limits, stop).await,
            (Ok(browser), Err(ending)) => refuse(browser, ending, limits).await,
            (Err(_), Ok(cluster)) => hang_up(cluster, limits).await,
            (Err(_), Err(_)) => return,
        };
        let _ = gateway.outcomes.send(outcome);
    });
    Ok(response)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: embed KUBECONFIG")?;
    let clusters = Clusters::from_kubeconfig(Path::new(&path), None, &[], Own::Included)?;
    let gateway =
        Gateway { clusters, throw_out: Notify::new(), outcomes: mpsc::unbounded_channel().0 };
    Ok(serve(TcpListener::bind("127.0.0.1:8081").await?, Arc::new(gateway)).await?)
}
