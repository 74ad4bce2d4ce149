//! One question to the authorizer and its answer: HTTP/1.1 on a connection of its own.
//!
//! What it must never know: what is asked, and what an answer means.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use crate::config::Config;
use crate::exec::{Conversation, Dial, OpenLimits, Via};
use crate::proto::ending::{Ending, Kind};
use crate::tls::{Tls, of_this_machine};

/// The longest answer: a target, a token and some hundred groups.
const ANSWER_MAX: usize = 64 * 1024;

/// What the authorizer says.
pub(super) enum Said {
    /// Yes, with this JSON.
    Yes(Vec<u8>),
    /// No; this is what a caller hears who wants a session.
    No(Ending),
}

/// Whoever is asked, and how.
pub(super) struct Way {
    url: Uri,
    authority: HeaderValue,
    /// Whom its certificate must be for, and by whom.
    name: ServerName<'static>,
    trust: Tls,
    /// For everything, from the name's lookup to the answer's last byte.
    time: Duration,
}

impl Way {
    /// The way to this address.
    ///
    /// # Errors
    ///
    /// The flag and what is wrong with it, in one sentence.
    pub(super) fn new(url: &Uri, config: &Config) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("--authorize-url {url}: {error}");
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let (name, trust) = if url.scheme_str() == Some("https") {
            let name = ServerName::try_from(host.to_owned()).map_err(|error| wrong(&error))?;
            (name, trust(config)?)
        } else {
            // Nobody is verified, and the name may be one that no certificate has.
            (ServerName::from(Ipv4Addr::LOCALHOST), Tls::roots(RootCertStore::empty()))
        };
        let authority = url.authority().map_or("", |authority| authority.as_str());
        Ok(Self {
            url: url.clone(),
            authority: HeaderValue::from_str(authority).map_err(|error| wrong(&error))?,
            name,
            trust,
            time: config.authorize_timeout,
        })
    }

    /// Asks with these headers.
    ///
    /// # Errors
    ///
    /// It could not be asked.
    pub(super) async fn ask(&self, headers: &HeaderMap) -> Result<Said, Ending> {
        let message = "the authorizer did not answer in time; see --authorize-timeout";
        let late = |_| Err(Ending::new(Kind::ClusterTimeout, message));
        timeout(self.time, self.exchange(headers)).await.unwrap_or_else(late)
    }

    async fn exchange(&self, headers: &HeaderMap) -> Result<Said, Ending> {
        let mut request = Request::new(Full::new(Bytes::new()));
        let path = self.url.path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
        headers.clone_into(request.headers_mut());
        request.headers_mut().insert(HOST, self.authority.clone());
        // All of it has one limit, which comes before any that its steps have.
        let later = self.time * 2;
        let dial = Dial {
            peer: "the authorizer",
            server: &self.url,
            via: &Via::default(),
            name: &self.name,
            tls: &self.trust.config(None)?,
            trust: &self.trust,
            limit: later,
            buffer: None,
        };
        let (connect, response, error, error_max) = (later, later, later, ANSWER_MAX);
        let limits = OpenLimits { connect, response, error, error_max, buffer: None };
        read(Conversation::begin(dial, request, limits).await?).await
    }
}

/// Only 200 is a yes, and only with JSON: the page of a login form has the status 200, too. A
/// redirect is one to a login.
async fn read(answer: Conversation) -> Result<Said, Ending> {
    let wrong = |message: String| Ending::new(Kind::ClusterProtocol, message);
    let status = answer.response.status();
    let other = || wrong(format!("the authorizer answered {}", status.as_u16()));
    match status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            let message = "the authorizer wants a login";
            return Ok(Said::No(Ending::new(Kind::Unauthorized, message)));
        }
        StatusCode::FORBIDDEN => {
            let message = "the authorizer does not allow this";
            return Ok(Said::No(Ending::new(Kind::Forbidden, message)));
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => return Err(other()),
        _ if status.is_redirection() || status.is_client_error() => return Ok(Said::No(other())),
        _ => return Err(other()),
    }
    let content = answer.response.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let content = content.and_then(|it| it.split(';').next()).unwrap_or_default().trim();
    if !content.eq_ignore_ascii_case("application/json") {
        let message = "the authorizer did not answer with application/json";
        return Ok(Said::No(wrong(message.to_owned())));
    }
    let json = answer.body(ANSWER_MAX + 1).await;
    if json.len() > ANSWER_MAX {
        return Err(wrong("the authorizer's answer is longer than 64 KiB".to_owned()));
    }
    Ok(Said::Yes(json))
}

/// Whose word counts for the authorizer's certificate.
fn trust(config: &Config) -> Result<Tls, String> {
    if let Some(path) = &config.authorize_ca {
        return Tls::file(path.clone()).map_err(|why| {
            let path = path.display();
            format!("--authorize-ca {path} {why}; give a file with certificates in PEM")
        });
    }
    let roots = of_this_machine();
    if roots.is_empty() {
        return Err("--authorize-url: this machine trusts no certificate authority; name the \
                    authorizer's own with --authorize-ca FILE"
            .to_owned());
    }
    Ok(Tls::roots(roots))
}
