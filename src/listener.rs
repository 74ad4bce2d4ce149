//! The sockets that browsers and operators connect to, and the TLS that browsers may speak.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Mode;
use rustix::process::umask;
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
                let listener = bind_private(path)?;
                // A folder may have a default ACL, and there the mask does not count.
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

/// Binds a Unix socket that never had another mode than 0600: changed afterwards, it would be open
/// to others for a moment, and whoever connected then would stay.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    /// Two that change the mask at the same time could restore each other's.
    static MASK: Mutex<()> = Mutex::new(());
    // The mask is the whole process's. That is safe here: nothing is awaited until it is restored,
    // the program binds before it starts any thread, and in a program of somebody else's a file
    // that another thread creates at this moment is less open than meant, never more.
    let _held = MASK.lock().unwrap_or_else(PoisonError::into_inner);
    let before = umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_unix_socket_is_never_open_to_others() {
        let folder = std::env::temp_dir().join(format!("podwire-listener-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let file = |name: &str| {
            let path = folder.join(name);
            std::fs::write(&path, "").unwrap();
            mode(&path)
        };
        let before = file("before");
        let path = folder.join("socket");
        let listener = bind_private(&path).unwrap();
        assert_eq!(mode(&path), 0o600, "as it is created");
        assert!(bind_private(&path).is_err(), "it is there");
        assert_eq!(file("after"), before, "the mask is restored, after a failure, too");
        drop(listener);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
