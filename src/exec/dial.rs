//! Connects to an API server: its name, TCP, a proxy if there is one, TLS. All of it has one
//! deadline, and each step its own words for what went wrong.

use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::Uri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;

use super::line::{Either, Line, Tcp, Wire};
use super::proxy;
use super::reason::{late, name_reason, tls_reason, unreachable};
use super::via::{Proxy, Scheme, Via, bare};
use crate::proto::ending::{Ending, Kind};
use crate::read_ahead::ReadAhead;
use crate::socket;
use crate::tls::Tls;

/// The next address of a name is tried when the one before has not answered for so long; it goes on
/// to be waited for (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// How many addresses of a name are tried: more than a cluster has API servers.
const ADDRESSES_MAX: usize = 32;

const ACCEPT: &str = "accept a connection in time";

/// Where a connection leads, and on which way.
pub(crate) struct Dial<'a> {
    /// What it is called in whatever is said about it.
    pub(crate) peer: &'static str,
    pub(crate) server: &'a Uri,
    pub(crate) via: &'a Via,
    /// Whom the cluster's certificate must be for.
    pub(crate) name: &'a ServerName<'static>,
    /// For the cluster, with what is shown to it.
    pub(crate) tls: &'a Arc<ClientConfig>,
    /// For a proxy that is reached by TLS: nothing of ours is shown to that.
    pub(crate) trust: &'a Tls,
    pub(crate) limit: Duration,
}

impl Dial<'_> {
    /// Connects, as far as the end of the handshake of TLS.
    pub(super) async fn connect(&self) -> Result<Line, Ending> {
        let deadline = Instant::now() + self.limit;
        let wire = self.wire(deadline).await?;
        if self.server.scheme_str() == Some("http") {
            return Ok(Either::One(wire));
        }
        let way = self.via.proxy().map(|proxy| format!(" (through {proxy})")).unwrap_or_default();
        let connector = TlsConnector::from(Arc::clone(self.tls));
        match timeout_at(deadline, connector.connect(self.name.clone(), wire)).await {
            Err(_) => Err(late(&self.peer, &format!("{ACCEPT}{way}"))),
            Ok(Err(error)) => Err(unreachable(&self.peer, &format!("{}{way}", tls_reason(&error)))),
            Ok(Ok(tls)) => Ok(Either::Other(tls)),
        }
    }

    /// Connects as far as the cluster, without TLS of its own.
    pub(super) async fn wire(&self, deadline: Instant) -> Result<Wire, Ending> {
        let host = bare(self.server.host().unwrap_or_default());
        let usual = if self.server.scheme_str() == Some("http") { 80 } else { 443 };
        let port = self.server.port_u16().unwrap_or(usual);
        match self.via.proxy() {
            None => Ok(Either::One(self.tcp(&self.peer, host, port, deadline).await?)),
            Some(proxy) => Box::pin(self.through(proxy, host, port, deadline)).await,
        }
    }

    /// A connection that a proxy has extended to the cluster.
    async fn through(
        &self,
        proxy: &Proxy,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Wire, Ending> {
        let tcp = self.tcp(proxy, &proxy.host, proxy.port, deadline).await?;
        let wire = if proxy.scheme == Scheme::Https {
            let name = ServerName::try_from(proxy.host.clone())
                .map_err(|_| unreachable(proxy, &"no certificate can be for such a name"))?;
            let connector = TlsConnector::from(self.trust.config(None)?);
            match timeout_at(deadline, connector.connect(name, tcp)).await {
                Err(_) => return Err(late(proxy, ACCEPT)),
                Ok(Err(error)) => return Err(unreachable(proxy, &tls_reason(&error))),
                Ok(Ok(tls)) => Either::Other(Box::new(tls)),
            }
        } else {
            Either::One(tcp)
        };
        match timeout_at(deadline, proxy::tunnel(proxy, wire, host, port)).await {
            Err(_) => Err(late(proxy, "answer in time")),
            Ok(Err(why)) => Err(Ending::new(Kind::ClusterUnreachable, format!("{proxy} {why}"))),
            Ok(Ok(wire)) => Ok(wire),
        }
    }

    async fn tcp(
        &self,
        peer: &(dyn Display + Sync),
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Tcp, Ending> {
        let addresses = match timeout_at(deadline, resolve(host, port)).await {
            Err(_) => {
                let message = format!("cannot reach {peer}: {host} was not looked up in time");
                return Err(Ending::new(Kind::ClusterTimeout, message));
            }
            Ok(Err(error)) => return Err(unreachable(peer, &name_reason(host, &error))),
            Ok(Ok(addresses)) => addresses,
        };
        match timeout_at(deadline, race(addresses, self.limit)).await {
            Err(_) => Err(late(peer, ACCEPT)),
            Ok(Err(error)) => Err(unreachable(peer, &error)),
            Ok(Ok(stream)) => {
                socket::cluster(&stream);
                Ok(ReadAhead::new(stream))
            }
        }
    }
}

/// The addresses of a host, in the order in which they are to be tried.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(lookup_host((host, port)).await?.take(ADDRESSES_MAX).collect())
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Connects to the first of these addresses that answers. Each gets a head start before the next,
/// so short that all are tried in half of the limit.
///
/// hyper-util has this for two families of addresses only: of two API servers of one family, a dead
/// first one would cost half of the limit.
pub(super) async fn race(addresses: Vec<SocketAddr>, limit: Duration) -> io::Result<TcpStream> {
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let stagger = STAGGER.min(limit / 2 / count);
    let mut waiting = addresses.into_iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut failure = None;
    loop {
        match waiting.next() {
            Some(address) => attempts.push(Box::pin(TcpStream::connect(address))),
            None if attempts.is_empty() => {
                let nothing = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                return Err(failure.unwrap_or_else(nothing));
            }
            None => {}
        }
        let result = if waiting.len() == 0 {
            first_of(&mut attempts).await
        } else {
            tokio::select! {
                result = first_of(&mut attempts) => result,
                () = sleep(stagger) => continue,
            }
        };
        match result {
            Ok(stream) => return Ok(stream),
            // The first address is the one that the system thinks best.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
}

/// The first of these that is done, which is taken out.
async fn first_of(attempts: &mut Vec<Attempt>) -> io::Result<TcpStream> {
    poll_fn(|cx| {
        for index in 0..attempts.len() {
            if let Poll::Ready(result) = attempts[index].as_mut().poll(cx) {
                drop(attempts.swap_remove(index));
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    })
    .await
}
