//! One question to the authorizer and its answer: HTTP/1.1 on a connection of its own.
//!
//! What it must never know: what is asked, and what an answer means.

use std::fs;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::Config;
use crate::proto::ending::{Ending, Kind};
use crate::read_ahead::ReadAhead;
use crate::tls::Tls;

/// The longest head of an answer; what a login proxy puts into it is a few KiB.
const HEAD_MAX: usize = 64 * 1024;

/// The longest answer: a target, a token and some hundred groups.
const ANSWER_MAX: usize = 64 * 1024;

/// Whoever is asked, and how.
pub(super) struct Line {
    host: String,
    port: u16,
    /// How the authorizer is verified, if it is by TLS.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authority: HeaderValue,
    /// Path and query.
    path: Uri,
    /// For everything, from the name's lookup to the answer's last byte.
    time: Duration,
}

impl Line {
    /// The way to this address.
    ///
    /// # Errors
    ///
    /// The flag and what is wrong with it, in one sentence.
    pub(super) fn new(url: &Uri, config: &Config) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("--authorize-url {url}: {error}");
        let is_tls = url.scheme_str() == Some("https");
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tls = if is_tls {
            let roots = match &config.authorize_ca {
                Some(path) => authorities(path)?,
                None => of_the_system()?,
            };
            let tls = Tls::roots(roots).config(None).map_err(|ending| wrong(&ending.message))?;
            let name = ServerName::try_from(host.clone()).map_err(|error| wrong(&error))?;
            Some((TlsConnector::from(tls), name))
        } else {
            None
        };
        let authority = url.authority().map_or("", |authority| authority.as_str());
        Ok(Self {
            port: url.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority).map_err(|error| wrong(&error))?,
            path: url.path_and_query().cloned().map_or_else(Uri::default, Uri::from),
            time: config.authorize_timeout,
            host,
            tls,
        })
    }

    /// Asks with these headers, and gives the JSON of an answer that is a yes.
    ///
    /// # Errors
    ///
    /// `unauthorized` and `forbidden` are the authorizer's own words; anything else means that it
    /// could not be asked.
    pub(super) async fn ask(&self, headers: &HeaderMap) -> Result<Vec<u8>, Ending> {
        let message = "the authorizer did not answer in time; see --authorize-timeout";
        let late = |_| Err(Ending::new(Kind::ClusterTimeout, message));
        timeout(self.time, self.exchange(headers)).await.unwrap_or_else(late)
    }

    async fn exchange(&self, headers: &HeaderMap) -> Result<Vec<u8>, Ending> {
        let io = self.connect().await.map_err(|error| {
            let message = format!("the authorizer cannot be reached: {error}");
            Ending::new(Kind::ClusterUnreachable, message)
        })?;
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = self.path.clone();
        headers.clone_into(request.headers_mut());
        request.headers_mut().insert(HOST, self.authority.clone());
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_MAX).handshake(io).await.map_err(broken)?;
        let talk = async { read(sender.send_request(request).await.map_err(broken)?).await };
        let mut talk = pin!(talk);
        tokio::select! {
            biased;
            answer = &mut talk => answer,
            // It may be over before all that came over it was looked at.
            _ = connection => talk.await,
        }
    }

    async fn connect(&self) -> io::Result<MaybeHttpsStream<TokioIo<ReadAhead<TcpStream>>>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let tcp = TokioIo::new(ReadAhead::new(tcp));
        match &self.tls {
            None => Ok(MaybeHttpsStream::Http(tcp)),
            Some((tls, name)) => {
                let tls = tls.connect(name.clone(), TokioIo::new(tcp)).await?;
                Ok(MaybeHttpsStream::Https(TokioIo::new(tls)))
            }
        }
    }
}

/// Only 200 is a yes, and only with JSON: the page of a login form has the status 200, too.
async fn read(response: Response<Incoming>) -> Result<Vec<u8>, Ending> {
    let refused = |message: String| Err(Ending::new(Kind::ClusterProtocol, message));
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            return Err(Ending::new(Kind::Unauthorized, "the authorizer wants a login"));
        }
        StatusCode::FORBIDDEN => {
            return Err(Ending::new(Kind::Forbidden, "the authorizer does not allow this"));
        }
        status => return refused(format!("the authorizer answered {}", status.as_u16())),
    }
    let content = response.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let content = content.and_then(|it| it.split(';').next()).unwrap_or_default().trim();
    if !content.eq_ignore_ascii_case("application/json") {
        return refused("the authorizer did not answer with application/json".to_owned());
    }
    let mut answer = Vec::new();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(broken)?.into_data().unwrap_or_default();
        if answer.len() + data.len() > ANSWER_MAX {
            return refused("the authorizer's answer is longer than 64 KiB".to_owned());
        }
        answer.extend_from_slice(&data);
    }
    Ok(answer)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn broken(error: hyper::Error) -> Ending {
    if error.is_parse() {
        let message = format!("the authorizer does not speak HTTP/1.1 as it should: {error}");
        return Ending::new(Kind::ClusterProtocol, message);
    }
    let message = format!("the authorizer ended the connection: {error}");
    Ending::new(Kind::ClusterUnreachable, message)
}

/// The authorities in a file, and no others.
fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let wrong = |error: &dyn std::fmt::Display| {
        format!("--authorize-ca {}: {error}; give a file with certificates in PEM", path.display())
    };
    let pem = fs::read(path).map_err(|error| wrong(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() { Err(wrong(&"no certificate")) } else { Ok(roots) }
}

/// The authorities that this machine trusts.
fn of_the_system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("--authorize-url: this machine trusts no certificate authority; name the \
                    authorizer's own with --authorize-ca FILE"
            .to_owned());
    }
    Ok(roots)
}
