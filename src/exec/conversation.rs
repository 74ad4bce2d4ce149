//! One HTTP/1.1 exchange with an API server, with a deadline for every step.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection as Connects};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::OpenLimits;
use crate::proto::ending::{Ending, Kind};
use crate::read_ahead::ReadAhead;
use crate::socket;

/// The longest head of a response; real ones are under 2 KiB.
const HEAD_MAX: usize = 64 * 1024;

/// The connection, in the clothes that hyper wants.
pub(super) type HttpIo = MaybeHttpsStream<TokioIo<ReadAhead<TcpStream>>>;

/// An exchange whose response has begun.
pub(super) struct Conversation {
    /// The head of the response.
    pub(super) response: Response<Incoming>,
    connection: Connection<HttpIo, Full<Bytes>>,
    pub(super) limits: OpenLimits,
}

impl Conversation {
    /// Connects, sends the request, and reads the head of the response.
    pub(super) async fn begin(
        mut https: HttpsConnector<Dial>,
        server: Uri,
        request: Request<Full<Bytes>>,
        limits: OpenLimits,
    ) -> Result<Self, Ending> {
        let io = match timeout(limits.connect, https.call(server)).await {
            Err(_) => return Err(late("accept a connection")),
            Ok(Err(error)) => return Err(unreachable(&*error)),
            Ok(Ok(io)) => io,
        };
        let talk = async {
            let (mut sender, mut connection) =
                http1::Builder::new().max_buf_size(HEAD_MAX).handshake(io).await?;
            let response = drive(&mut connection, sender.send_request(request)).await?;
            Ok::<_, hyper::Error>(Self { response, connection, limits })
        };
        match timeout(limits.response, talk).await {
            Err(_) => Err(late("answer")),
            Ok(Err(error)) if error.is_parse() => {
                let message = format!("the cluster does not speak HTTP/1.1 as it should: {error}");
                Err(Ending::new(Kind::ClusterProtocol, message))
            }
            Ok(Err(error)) => Err(unreachable(&error)),
            Ok(Ok(conversation)) => Ok(conversation),
        }
    }

    /// Reads the body to its end, to `max` bytes or for the time of [`OpenLimits::error`],
    /// whichever is first. Late or broken, what has come is what there is.
    pub(super) async fn body(mut self, max: usize) -> Vec<u8> {
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
    pub(super) async fn into_upgraded(self) -> Result<(HttpIo, Bytes), Ending> {
        let Self { response, mut connection, limits } = self;
        drop(response);
        // hyper has nothing to do any more but to hand over the socket.
        let finished = poll_fn(|cx| connection.poll_without_shutdown(cx));
        match timeout(limits.connect, finished).await {
            Err(_) => Err(late("finish its answer")),
            Ok(Err(error)) => {
                Err(Ending::new(Kind::ClusterLost, format!("the cluster closed: {error}")))
            }
            Ok(Ok(())) => {
                let parts = connection.into_parts();
                Ok((parts.io, parts.read_buf))
            }
        }
    }
}

/// Polls a connection for as long as something on it is awaited. The connection's own end is only
/// an answer if the other has none.
async fn drive<T>(
    connection: &mut Connection<HttpIo, Full<Bytes>>,
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

fn late(what: &str) -> Ending {
    Ending::new(Kind::ClusterTimeout, format!("the cluster did not {what} in time"))
}

fn unreachable(error: &(dyn Error + 'static)) -> Ending {
    // The innermost cause is the one that says something: a refused connection, a bad certificate.
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Ending::new(Kind::ClusterUnreachable, format!("cannot reach the cluster: {cause}"))
}

/// Dials TCP. hyper-rustls puts TLS on top of it where the URL says so.
#[derive(Clone, Copy)]
pub(super) struct Dial;

impl Service<Uri> for Dial {
    type Response = TokioIo<ReadAhead<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port =
                uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
            let stream = TcpStream::connect((host, port)).await?;
            socket::cluster(&stream);
            Ok(TokioIo::new(ReadAhead::new(stream)))
        })
    }
}

impl Connects for ReadAhead<TcpStream> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
