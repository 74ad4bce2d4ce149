//! The sockets that browsers and operators connect to, and the TLS that browsers may speak.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::config::{Config, Listen};

/// A socket that somebody connects to.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Binds an address. A Unix socket is only for its owner (mode 0600); one that an earlier run
    /// left behind is replaced, one that somebody still answers on is not.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn bind(address: &Listen) -> io::Result<Self> {
        match address {
            Listen::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Listen::Unix(path) => {
                if std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket()) {
                    match UnixStream::connect(path).await {
                        // This is what the system says when nobody listens any more.
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                            std::fs::remove_file(path)?;
                        }
                        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                            return Err(error);
                        }
                        // Whoever has no time to answer is there, too.
                        Ok(_) | Err(_) => return Err(io::ErrorKind::AddrInUse.into()),
                    }
                }
                let listener = UnixListener::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                Ok(Self::Unix(listener))
            }
        }
    }

    /// The bound address: with the port that was free if it was bound with none.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn address(&self) -> io::Result<Listen> {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().map(Listen::Tcp),
            Self::Unix(unix) => {
                let path = unix.local_addr()?.as_pathname().map(Path::to_owned);
                path.map(Listen::Unix).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
            }
        }
    }

    /// The bound address as a URL.
    pub fn url(&self, config: &Config) -> String {
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        match self.address() {
            Ok(Listen::Tcp(address)) => format!("{scheme}://{address}{}", config.base_path),
            Ok(unix @ Listen::Unix(_)) => unix.to_string(),
            Err(error) => format!("{scheme}://?{error}"),
        }
    }
}

/// What browsers speak to this listener besides plain HTTP: the configured certificate, if any.
///
/// # Errors
///
/// The flag and what is wrong with its file, in one sentence.
pub fn tls(config: &Config) -> Result<Option<TlsAcceptor>, String> {
    let Some((chain, key)) = &config.tls else { return Ok(None) };
    let wrong = |flag: &str, error: &dyn std::fmt::Display| format!("--tls-{flag}: {error}");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect);
    let chain = chain.map_err(|error| wrong("cert", &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("key", &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|it| it.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| wrong("cert", &error))?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
