//! Where the load goes and in which dialect.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;

use crate::wire::frame::{self, BINARY, TEXT};
use crate::wire::http::encode;
use crate::wire::line::Line;
use crate::wire::{STDIN, V5, at};

/// The place in the address where the program goes.
const COMMAND: &str = "{command}";

/// How input and output are put into messages.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Bytes in binary messages, the relay's own words in text.
    #[default]
    V1,
    /// All messages are output; input is JSON.
    Seed,
    /// The cluster's own channels.
    V5,
}

impl Dialect {
    pub(super) fn named(name: &str) -> Result<Self, String> {
        match name {
            "podwire.v1" => Ok(Self::V1),
            "seed" => Ok(Self::Seed),
            "v5" => Ok(Self::V5),
            _ => Err(format!("--dialect {name}: podwire.v1, seed or v5")),
        }
    }

    /// The subprotocol to ask for.
    pub(super) fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::V1 => Some("podwire.v1"),
            Self::Seed => None,
            Self::V5 => Some(V5),
        }
    }

    /// Appends input as one message.
    pub(super) fn input(self, out: &mut Vec<u8>, bytes: &[u8]) {
        match self {
            Self::V1 => frame::append(out, BINARY, &[bytes], true),
            Self::V5 => frame::append(out, BINARY, &[&[STDIN], bytes], true),
            Self::Seed => {
                let text = String::from_utf8_lossy(bytes);
                let message = json!({"type": "input", "input": text}).to_string();
                frame::append(out, TEXT, &[message.as_bytes()], true);
            }
        }
    }
}

/// Where sessions are opened.
#[derive(Clone, Default)]
pub(super) struct Target {
    pub(super) dialect: Dialect,
    /// All that the name has, in the resolver's order.
    addresses: Vec<SocketAddr>,
    host: String,
    path: String,
    headers: Vec<String>,
    tls: Option<(Arc<ClientConfig>, Option<ServerName<'static>>)>,
}

impl Target {
    pub(super) fn new(
        url: &str,
        dialect: Dialect,
        headers: Vec<String>,
        ca: Option<&str>,
    ) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("--target is no ws:// or wss://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let default = match scheme {
            "ws" => 80,
            "wss" => 443,
            _ => return Err(format!("--target: {scheme}:// is neither ws:// nor wss://")),
        };
        // An IPv6 address has colons of its own, inside its brackets.
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => name,
            _ => host,
        };
        let address = if name == host { format!("{host}:{default}") } else { host.to_owned() };
        let addresses = address.to_socket_addrs().map_err(at("--target"))?.collect();
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let tls = if scheme == "wss" {
            let ca = ca.ok_or("wss:// needs --ca")?;
            let name = ServerName::try_from(name.to_owned()).map_err(at("--target"))?;
            Some((Arc::new(tls(ca)?), Some(name)))
        } else {
            None
        };
        if !path.contains(COMMAND) {
            return Err("--target has no {command} in it".into());
        }
        let (host, path) = (host.to_owned(), format!("/{path}"));
        Ok(Self { dialect, addresses, host, path, headers, tls })
    }

    /// The request's path for a program.
    fn path(&self, program: &str) -> String {
        let words = program.split(' ').map(|word| format!("command={}", encode(word)));
        self.path.replace(COMMAND, &words.collect::<Vec<_>>().join("&"))
    }

    /// The head of the upgrade.
    pub(super) fn request(&self, program: &str, key: &str) -> String {
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
            self.path(program),
            self.host,
        );
        if let Some(name) = self.dialect.subprotocol() {
            head.extend(["Sec-WebSocket-Protocol: ", name, "\r\n"]);
        }
        for header in &self.headers {
            head.extend([header, "\r\n"]);
        }
        head + "\r\n"
    }

    /// Connects, with TLS if the address asks for it.
    pub(super) async fn connect(&self) -> Result<Line, String> {
        // Each of the addresses in turn, until one takes the connection.
        let stream = TcpStream::connect(&self.addresses[..]).await.map_err(at("connect"))?;
        stream.set_nodelay(true).map_err(at("TCP_NODELAY"))?;
        match &self.tls {
            Some((config, Some(name))) => {
                Line::connect(stream, Arc::clone(config), name.clone()).await
            }
            _ => Ok(Line::plain(stream)),
        }
    }
}

fn tls(ca: &str) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(at("--ca"))? {
        roots.add(certificate.map_err(at("--ca"))?).map_err(at("--ca"))?;
    }
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = vec![rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(at("TLS"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    Ok(config)
}
