//! One HTTP/1.1 exchange with an API server, with a deadline for every step.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::OpenLimits;
use super::dial::Dial;
use super::reason::{late, reason, unreachable};
use crate::line::Line;
use crate::proto::ending::{Ending, Kind};

/// The longest head of a response; real ones are under 2 KiB.
const HEAD_MAX: usize = 64 * 1024;

/// An exchange whose response has begun.
pub(crate) struct Conversation {
    /// The head of the response.
    pub(crate) response: Response<Incoming>,
    peer: &'static str,
    connection: Connection<TokioIo<Line>, Full<Bytes>>,
    pub(super) limits: OpenLimits,
}

impl Conversation {
    /// Connects, sends the request, and reads the head of the response.
    pub(crate) async fn begin(
        dial: Dial<'_>,
        request: Request<Full<Bytes>>,
        limits: OpenLimits,
    ) -> Result<Self, Ending> {
        let peer = dial.peer;
        let io = TokioIo::new(dial.connect().await?);
        let talk = async {
            let (mut sender, mut connection) =
                http1::Builder::new().max_buf_size(HEAD_MAX).handshake(io).await?;
            let response = drive(&mut connection, sender.send_request(request)).await?;
            Ok::<_, hyper::Error>(Self { response, peer, connection, limits })
        };
        match timeout(limits.response, talk).await {
            Err(_) => Err(late(&peer, "answer in time")),
            Ok(Err(error)) if error.is_parse() => {
                let message = format!("{peer} does not speak HTTP/1.1 as it should: {error}");
                Err(Ending::new(Kind::ClusterProtocol, message))
            }
            Ok(Err(error)) => Err(unreachable(&peer, &reason(&error))),
            Ok(Ok(conversation)) => Ok(conversation),
        }
    }

    /// Reads the body to its end, to `max` bytes or for the time of [`OpenLimits::error`],
    /// whichever is first. Late or broken, what has come is what there is.
    pub(crate) async fn body(mut self, max: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut body = self.response.into_body();
        let reading = async {
            while bytes.len() < max {
                let Some(Ok(frame)) = body.frame().await else { break };
                let data = frame.into_data().unwrap_or_default();
                bytes.extend_from_slice(&data[..data.len().min(max - bytes.len())]);
            }
            Ok(())
        };
        let _ = timeout(self.limits.error, drive(&mut self.connection, reading)).await;
        bytes
    }

    /// The connection after a 101, and what was read of it already.
    pub(super) async fn into_upgraded(self) -> Result<(Line, Bytes), Ending> {
        let Self { response, peer, connection, limits } = self;
        drop(response);
        match timeout(limits.connect, hand_over(connection)).await {
            Err(_) => Err(late(&peer, "finish its answer in time")),
            Ok(Err(error)) => {
                Err(Ending::new(Kind::ClusterLost, format!("the cluster closed: {error}")))
            }
            Ok(Ok(all)) => Ok(all),
        }
    }
}

/// Polls a connection for as long as something on it is awaited. The connection's own end is only
/// an answer if the other has none.
pub(super) async fn drive<T>(
    connection: &mut Connection<TokioIo<Line>, Full<Bytes>>,
    awaited: impl Future<Output = hyper::Result<T>>,
) -> hyper::Result<T> {
    let mut awaited = pin!(awaited);
    let mut over = false;
    poll_fn(|cx| {
        if let Poll::Ready(result) = awaited.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        if !over && let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
            over = true;
            result?;
            return awaited.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

/// The socket that an exchange leaves behind, when hyper has nothing to do any more but to hand it
/// over, and what was read of it already.
pub(super) async fn hand_over(
    mut connection: Connection<TokioIo<Line>, Full<Bytes>>,
) -> hyper::Result<(Line, Bytes)> {
    poll_fn(|cx| connection.poll_without_shutdown(cx)).await?;
    let parts = connection.into_parts();
    Ok((parts.io.into_inner(), parts.read_buf))
}
