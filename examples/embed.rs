//! A gateway with routes and users of its own. Run: `cargo run --example embed -- KUBECONFIG`
use std::{convert::Infallible, error::Error, path::Path, sync::Arc};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use podwire::{Body, Clusters, Ending, Kind, Limits, Outcome, Own, Refusal, Target, accept, relay};
use tokio::{net::TcpListener, sync::Notify, sync::mpsc};

/// What this gateway knows.
pub(crate) struct Gateway {
    pub(crate) clusters: Clusters,
    pub(crate) throw_out: Notify,
    pub(crate) outcomes: mpsc::UnboundedSender<Outcome>,
}

pub(crate) async fn serve(listener: TcpListener, gateway: Arc<Gateway>) -> std::io::Result<()> {
    loop {
        let io = TokioIo::new(listener.accept().await?.0);
        let gateway = Arc::clone(&gateway);
        let service = service_fn(move |request| answer(Arc::clone(&gateway), request));
        tokio::spawn(http1::Builder::new().serve_connection(io, service).with_upgrades());
    }
}

type Answer = Response<Body>;
async fn answer(gateway: Arc<Gateway>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    Ok(match (request.uri().path(), request.headers().get("x-user")) {
        ("/terminal", Some(user)) if user == "ada" => {
            terminal(gateway, request).await.unwrap_or_else(Refusal::into_response)
        }
        ("/terminal", _) => Refusal::from(Ending::new(Kind::Forbidden, "not you")).into_response(),
        _ => Response::new("hello\n".into()),
    })
}

async fn terminal(gateway: Arc<Gateway>, mut of: Request<Incoming>) -> Result<Answer, Refusal> {
    let (response, upgrade) = accept(&mut of)?;
    let target = Target::new("demo", "shell");
    let cluster = gateway.clusters.default().open(&target, None).await?;
    tokio::spawn(async move {
        let Ok(browser) = upgrade.browser().await else { return };
        let thrown_out = async {
            gateway.throw_out.notified().await;
            Ending::new(Kind::Revoked, "you were thrown out")
        };
        let outcome = relay(browser, cluster, Limits::default(), thrown_out).await;
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
    let listener = TcpListener::bind("127.0.0.1:8081").await?;
    Ok(serve(listener, Arc::new(gateway)).await?)
}
