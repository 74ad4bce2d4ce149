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

use super::proxy;
use super::reason::{late, name_reason, tls_reason, unreachable};
use super::via::{Proxy, Scheme, Via, bare};
use crate::line::Line;
use crate::proto::ending::{Ending, Kind};
use crate::secure::Secure;
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
    /// What the kernel keeps each way of the connection, if that is bounded.
    pub(crate) buffer: Option<usize>,
}

impl Dial<'_> {
    /// Connects, as far as the end of the handshake of TLS.
    pub(super) async fn connect(&self) -> Result<Line, Ending> {
        let deadline = Instant::now() + self.limit;
        let wire = self.wire(deadline).await?;
        if self.server.scheme_str() == Some("http") {
            return Ok(wire);
        }
        let way = self.via.proxy().map(|proxy| format!(" (through {proxy})")).unwrap_or_default();
        let connecting = Secure::connect(wire, Arc::clone(self.tls), self.name.clone());
        match timeout_at(deadline, connecting).await {
            Err(_) => Err(late(&self.peer, &format!("{ACCEPT}{way}"))),
            Ok(Err(error)) => Err(unreachable(&self.peer, &format!("{}{way}", tls_reason(&error)))),
            Ok(Ok(tls)) => Ok(Line::Called(Box::new(tls))),
        }
    }

    /// Connects as far as the cluster, without TLS of its own.
    pub(super) async fn wire(&self, deadline: Instant) -> Result<Line, Ending> {
        let host = bare(self.server.host().unwrap_or_default());
        let usual = if self.server.scheme_str() == Some("http") { 80 } else { 443 };
        let port = self.server.port_u16().unwrap_or(usual);
        match self.via.proxy() {
            None => self.tcp(&self.peer, host, port, deadline).await,
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
    ) -> Result<Line, Ending> {
        let mut wire = self.tcp(proxy, &proxy.host, proxy.port, deadline).await?;
        if proxy.scheme == Scheme::Https {
            let name = ServerName::try_from(proxy.host.clone())
                .map_err(|_| unreachable(proxy, &"no certificate can be for such a name"))?;
            let connecting = Secure::connect(wire, self.trust.for_proxy()?, name);
            match timeout_at(deadline, connecting).await {
                Err(_) => return Err(late(proxy, ACCEPT)),
                Ok(Err(error)) => return Err(unreachable(proxy, &tls_reason(&error))),
                Ok(Ok(tls)) => wire = Line::Called(Box::new(tls)),
            }
        }
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
    ) -> Result<Line, Ending> {
        let addresses = match timeout_at(deadline, resolve(host, port)).await {
            Err(_) => {
                let message = format!("cannot reach {peer}: {host} was not looked up in time");
                return Err(Ending::new(Kind::ClusterTimeout, message));
            }
            Ok(Err(error)) => return Err(unreachable(peer, &name_reason(host, &error))),
            Ok(Ok(addresses)) => addresses,
        };
        match timeout_at(deadline, race(addresses, self.limit, self.buffer)).await {
            Err(_) => Err(late(peer, ACCEPT)),
            Ok(Err(error)) => Err(unreachable(peer, &error)),
            Ok(Ok(stream)) => {
                socket::cluster(&stream);
                Ok(Line::Tcp(stream))
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
pub(super) async fn race(
    addresses: Vec<SocketAddr>,
    limit: Duration,
    buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let stagger = STAGGER.min(limit / 2 / count);
    let mut waiting = addresses.into_iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut failure = None;
    loop {
        match waiting.next() {
            Some(address) => attempts.push(Box::pin(socket::connect(address, buffer))),
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::{Domain, SockAddr, SockRef, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// An address that answers no SYN: nobody accepts, and the queue is full. With it is what has
    /// to live so long.
    async fn dead() -> (SocketAddr, Socket, Vec<TcpStream>) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        let brief = Duration::from_millis(200);
        while let Ok(stream) = tokio::time::timeout(brief, TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        (address, socket, queued)
    }

    async fn alive() -> (SocketAddr, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), listener)
    }

    async fn gone() -> SocketAddr {
        alive().await.0
    }

    #[tokio::test]
    async fn the_next_address_is_tried_while_one_does_not_answer() {
        let (dead, _socket, _queued) = dead().await;
        let (alive, _listener) = alive().await;
        let gone = gone().await;
        // The addresses, and how many head starts pass before the one that answers.
        let rows = [
            ("S17 one", vec![alive], 0),
            ("S17 the first refuses", vec![gone, alive], 0),
            ("S17 the first is dead", vec![dead, alive], 1),
            ("S17 the first three are dead", vec![dead, dead, dead, alive], 3),
            ("S17 dead and refused", vec![dead, gone, gone, alive], 1),
            ("S17 the last is dead", vec![alive, dead], 0),
            ("S17 20, the first is dead", [vec![dead], vec![alive; 19]].concat(), 1),
            ("S17 20, only the last answers", [vec![dead; 19], vec![alive]].concat(), 19),
        ];
        for (id, addresses, starts) in rows {
            let least = STAGGER.min(LIMIT / 2 / u32::try_from(addresses.len()).unwrap()) * starts;
            let began = Instant::now();
            let stream = race(addresses, LIMIT, None).await.expect(id);
            let took = began.elapsed();
            assert_eq!(stream.peer_addr().unwrap(), alive, "{id}");
            assert!((least..LIMIT).contains(&took), "{id}: {took:?}");
        }
    }

    #[tokio::test]
    async fn if_no_address_answers_the_first_reason_is_told() {
        let (dead, _socket, _queued) = dead().await;
        let gone = gone().await;
        let error = race(vec![gone, gone], LIMIT, None).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(race(vec![], LIMIT, None).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        // A dead one is waited for, until whoever called has enough.
        let brief = Duration::from_millis(100);
        assert!(tokio::time::timeout(brief, race(vec![gone, dead], brief, None)).await.is_err());
    }

    /// It must be so before the connection is there, whichever of the attempts becomes it.
    #[tokio::test]
    async fn what_the_kernel_keeps_is_bounded_whichever_address_answers() {
        let (alive, _listener) = alive().await;
        let addresses = vec![gone().await, alive];
        let size = |stream: &TcpStream| SockRef::from(stream).recv_buffer_size().unwrap();
        let bounded = race(addresses.clone(), LIMIT, Some(96 * 1024)).await.unwrap();
        assert_eq!(size(&bounded), 2 * 96 * 1024, "with the kernel's bookkeeping");
        let free = race(addresses, LIMIT, None).await.unwrap();
        assert_ne!(size(&free), size(&bounded));
    }

    #[tokio::test]
    async fn addresses_need_nobody_who_looks_them_up() {
        let rows = [("127.0.0.1", "127.0.0.1:7"), ("fd00::1", "[fd00::1]:7")];
        for (host, expected) in rows {
            let found = resolve(host, 7).await.unwrap();
            assert_eq!(found, [expected.parse::<SocketAddr>().unwrap()]);
        }
    }
}
