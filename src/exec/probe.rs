//! What `podwire check` needs to know of a connector's inside, one step at a time.
//!
//! The steps are those of [`Connector::open`], taken one by one and with their details told. What it
//! must never know: what is printed about them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ProtocolVersion};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::Connector;
use super::dial::{Dial, resolve};
use super::reason::{CLUSTER, tls_error, tls_reason};
use super::refused::Refused;
use super::via::bare;
use crate::credential::{Bearer, Identity};
use crate::proto::ending::{Ending, Kind};
use crate::secure::Secure;
use crate::target::Target;
use crate::tls::Tls;

/// Why a step came to nothing.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There was no answer in this time.
    Late(Duration),
    /// What the system says.
    System(io::Error),
    /// There is no way to the server, perhaps because of a proxy.
    Way(Ending),
    /// The way is there, and TLS on it fails.
    Tls(io::Error),
}

impl Fault {
    /// What TLS says, if it was that.
    pub(crate) fn tls(&self) -> Option<&rustls::Error> {
        let Self::Tls(error) = self else { return None };
        tls_error(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(time) => write!(f, "no answer within {}", humantime::format_duration(*time)),
            Self::System(error) => error.fmt(f),
            Self::Way(ending) => f.write_str(&ending.message),
            Self::Tls(error) => f.write_str(&tls_reason(error)),
        }
    }
}

/// What an address came to.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) address: SocketAddr,
    pub(crate) result: Result<Duration, Fault>,
}

/// What a handshake came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handshake {
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) time: Duration,
}

/// What an identity shows, as far as it is no secret.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shows {
    pub(crate) token: bool,
    /// When the token expires, if it says so.
    pub(crate) expires: Option<SystemTime>,
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

/// An answer of the API server.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl Connector {
    pub(crate) fn is_tls(&self) -> bool {
        self.inner.server.scheme_str() == Some("https")
    }

    /// The proxy on the way, if there is one: host and port.
    pub(crate) fn proxy(&self) -> Option<(String, u16)> {
        self.inner.via.proxy().map(|proxy| (proxy.host.clone(), proxy.port))
    }

    /// Where our own token comes from, if that is not the kubeconfig itself.
    pub(crate) fn source(&self) -> Option<String> {
        match &self.inner.own.bearer {
            Bearer::None | Bearer::Token(_) => None,
            Bearer::File(file) => Some(file.path().display().to_string()),
            Bearer::Plugin(plugin) => Some(format!("the plugin {}", plugin.name)),
        }
    }

    /// Whom TLS trusts, for people.
    pub(crate) fn authorities(&self) -> String {
        self.inner.tls.to_string()
    }

    /// Where to dial, without the brackets of an IPv6 address.
    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        let usual = if self.is_tls() { 443 } else { 80 };
        let host = bare(self.inner.server.host().unwrap_or_default());
        (host, self.inner.server.port_u16().unwrap_or(usual))
    }

    /// The name that the certificate must have.
    pub(crate) fn verified_name(&self) -> String {
        self.inner.server_name.to_str().into_owned()
    }

    /// The addresses of a name.
    pub(crate) async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
        match timeout(self.inner.limits.connect, resolve(host, port)).await {
            Err(_) => Err(Fault::Late(self.inner.limits.connect)),
            Ok(Err(error)) => Err(Fault::System(error)),
            Ok(Ok(found)) => Ok(found),
        }
    }

    /// Dials every address at the same time and says what each came to, in their order.
    pub(crate) async fn dial_all(&self, addresses: &[SocketAddr]) -> Vec<Tried> {
        let limit = self.inner.limits.connect;
        let mut dialling = JoinSet::new();
        for (index, &address) in addresses.iter().enumerate() {
            dialling.spawn(async move {
                let begun = Instant::now();
                let result = match timeout(limit, TcpStream::connect(address)).await {
                    Err(_) => Err(Fault::Late(limit)),
                    Ok(Err(error)) => Err(Fault::System(error)),
                    Ok(Ok(_)) => Ok(begun.elapsed()),
                };
                (index, Tried { address, result })
            });
        }
        let mut tried = dialling.join_all().await;
        tried.sort_by_key(|(index, _)| *index);
        tried.into_iter().map(|(_, tried)| tried).collect()
    }

    /// TLS as a session has it, with what this identity shows.
    pub(crate) async fn handshake(&self, identity: &Identity) -> Result<Handshake, Fault> {
        let tls = match self.way(identity).await {
            Ok(way) => way.tls,
            // That there is no credential is told by a step of its own.
            Err(_) => self.inner.tls.config(None).map_err(Fault::Way)?,
        };
        self.shake(tls).await
    }

    /// TLS with whoever answers, to see what is shown there and which protocol is chosen. Nobody is
    /// verified, so nothing is said: no request, no token, no certificate.
    pub(crate) async fn look(&self) -> Result<Handshake, Fault> {
        let blind = Tls::blind().config(None).map_err(Fault::Way)?;
        let mut config = ClientConfig::clone(&blind);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        self.shake(Arc::new(config)).await
    }

    async fn shake(&self, tls: Arc<ClientConfig>) -> Result<Handshake, Fault> {
        let limit = self.inner.limits.connect;
        let begun = Instant::now();
        let dial = Dial {
            peer: CLUSTER,
            server: &self.inner.server,
            via: &self.inner.via,
            name: &self.inner.server_name,
            tls: &tls,
            trust: &self.inner.tls,
            limit,
            buffer: self.inner.limits.buffer,
        };
        let wire = dial.wire(begun + limit).await.map_err(Fault::Way)?;
        if !self.is_tls() {
            return Ok(Handshake { time: begun.elapsed(), ..Handshake::default() });
        }
        let connecting = Secure::connect(wire, Arc::clone(&tls), self.inner.server_name.clone());
        let stream = match timeout_at(begun + limit, connecting).await {
            Err(_) => return Err(Fault::Late(limit)),
            Ok(Err(error)) => return Err(Fault::Tls(error)),
            Ok(Ok(stream)) => stream,
        };
        let state = stream.state();
        let chain = state.peer_certificates().unwrap_or_default();
        Ok(Handshake {
            version: state.protocol_version(),
            alpn: state.alpn_protocol().map(<[u8]>::to_vec),
            chain: chain.iter().map(|it| it.clone().into_owned()).collect(),
            time: begun.elapsed(),
        })
    }

    /// What this identity shows.
    ///
    /// # Errors
    ///
    /// Why it cannot be had.
    pub(crate) async fn shows(&self, identity: &Identity) -> Result<Shows, Ending> {
        let shown = self.way(identity).await?.shown;
        Ok(Shows {
            token: shown.token.is_some(),
            expires: shown.token.and_then(|token| token.expires()),
            certificate: shown.certificate.and_then(|it| it.chain.first().cloned()),
        })
    }

    /// One request to the API that is no stream, and its answer whatever it is.
    pub(crate) async fn ask(
        &self,
        path: &str,
        body: Option<serde_json::Value>,
        target: &Target,
        identity: &Identity,
    ) -> Result<Answered, Ending> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut is_renewed = false;
        loop {
            let way = self.way(identity).await?;
            let request = self
                .request(method.clone(), path, &way, target)
                .header(ACCEPT, "application/json")
                .header(CONTENT_TYPE, "application/json");
            let answer = self.send(request, body.clone(), &way).await?;
            let status = answer.response.status();
            let is_refused = status == StatusCode::UNAUTHORIZED;
            if is_refused && !is_renewed && self.is_stale(identity, &way).await {
                is_renewed = true;
                continue;
            }
            let body = answer.body(self.inner.limits.error_max).await;
            return Ok(Answered { status, body });
        }
    }
}

impl Answered {
    /// What it comes to where it is no answer to what was asked.
    pub(crate) fn ending(&self) -> Ending {
        Ending::new(Kind::ClusterUnreachable, self.sentence())
    }

    /// What the server says, or what its status means.
    pub(crate) fn sentence(&self) -> String {
        Refused::of(self.status, &self.body).sentence()
    }
}
