//! The task of one session: opened, relayed, told, forgotten.
//!
//! It begins when a request was found in order, before there is an answer, and ends when nothing
//! of the session is left. What it must never know: addresses, rules, frames.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use crate::accept::Upgrade;
use crate::credential::Token;
use crate::exec::Connector;
use crate::proto::ending::{Ending, Kind};
use crate::proto::message::Place;
use crate::proto::session::Outcome;
use crate::relay::{hang_up, refuse, relay};
use crate::server::Shared;
use crate::target::Target;

/// What a session is to be.
pub(crate) struct Wish {
    /// None if there is no such cluster.
    pub(crate) connector: Option<Connector>,
    pub(crate) target: Target,
    pub(crate) token: Option<Token>,
}

/// A session from its first byte to its last.
///
/// It is a task of its own before there is an answer to the browser, and owns both ends from the
/// start: whenever the browser leaves, a process that was started by then is hung up and not
/// forgotten. `answer` lets the 101 go out.
pub(crate) async fn session(
    shared: Arc<Shared>,
    wish: Box<Wish>,
    upgrade: Upgrade,
    is_page: bool,
    answer: oneshot::Sender<Result<(), Ending>>,
) {
    let opened = match &wish.connector {
        None => Err(Ending::new(Kind::NotFound, "no such cluster")),
        Some(connector) => connector.open(&wish.target, wish.token.as_ref()).await,
    };
    let limits = shared.config.limits.clone();
    let cluster = match opened {
        Ok(cluster) => cluster,
        Err(ending) => {
            log_refused(&wish.target, &ending);
            // A page cannot read a failed handshake, so it is told inside a WebSocket.
            if !is_page {
                let _ = answer.send(Err(ending));
            } else if answer.send(Ok(())).is_ok()
                && let Ok(browser) = upgrade.browser().await
            {
                refuse(browser, ending, limits).await;
            }
            return;
        }
    };
    // A session may last for hours, and needs none of this any more.
    drop(wish);
    let id = log_start(&cluster.place);
    let browser = match answer.send(Ok(())) {
        Ok(()) => upgrade.browser().await.ok(),
        Err(_) => None,
    };
    let outcome = match browser {
        Some(browser) => relay(browser, cluster, limits, drain(shared.stopping.clone())).await,
        None => hang_up(cluster, limits).await,
    };
    log_end(&id, &outcome);
}

fn log_start(place: &Place) -> String {
    log::info!(
        "session start session={} cluster={} namespace={} pod={} container={} protocol={} tty={}",
        place.session,
        place.cluster,
        place.namespace,
        place.pod,
        place.container.as_deref().unwrap_or("-"),
        place.protocol,
        place.tty,
    );
    place.session.clone()
}

fn log_refused(target: &Target, ending: &Ending) {
    log::info!(
        "session refused session={} namespace={} pod={} kind={} message={:?}",
        target.session,
        target.namespace,
        target.pod,
        ending.kind.facts().name,
        ending.message,
    );
}

fn log_end(session: &str, outcome: &Outcome) {
    log::info!(
        "session end session={session} kind={} exit_code={} process={:?} input={} output={} \
         message={:?}",
        outcome.ending.kind.facts().name,
        outcome.ending.exit_code.map_or("-".to_owned(), |code| code.to_string()),
        outcome.process,
        outcome.traffic.input,
        outcome.traffic.output,
        outcome.ending.message,
    );
}

async fn drain(mut stopping: watch::Receiver<bool>) -> Ending {
    // An error means that the sender is gone, which is a stop, too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
    Ending::new(Kind::Drain, "the relay is being stopped")
}
