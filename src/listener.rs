//! The sockets that browsers and operators connect to, and the TLS that browsers may speak.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Mode;
use rustix::process::umask;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

use crate::config::{Config, Listen};

/// How many connections may wait to be accepted by one thread; the kernel's own limit may be less.
/// As many as the standard library allows.
const BACKLOG: u32 = 4096;

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

    /// Binds the operators' address, if there is one.
    ///
    /// # Errors
    ///
    /// What the system says, and what else to write, in one sentence.
    pub async fn for_operators(address: Option<&Listen>) -> Result<Option<Self>, String> {
        let Some(address) = address else { return Ok(None) };
        Self::bind(address).await.map(Some).map_err(|error| {
            let why = format!("cannot listen on --admin-listen {address}: {error}");
            format!("{why}; give another address, or off")
        })
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

/// One listener for each thread that serves.
#[derive(Debug)]
pub struct Listeners {
    /// That of the thread which binds.
    pub first: Listener,
    /// Those of the further ones.
    pub(crate) further: Vec<Unattended>,
}

impl From<Listener> for Listeners {
    fn from(first: Listener) -> Self {
        Self { first, further: Vec::new() }
    }
}

impl Listeners {
    /// Binds an address for so many threads, at least for one. With one it is the same as
    /// [`Listener::bind`]. With more, the kernel gives each connection to one of them; those of a
    /// Unix socket are taken by whoever is there first.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn bind(address: &Listen, threads: usize) -> io::Result<Self> {
        match address {
            // Elsewhere the kernel does not share the connections out.
            Listen::Tcp(address) if threads > 1 && cfg!(target_os = "linux") => {
                bind_group(*address, threads)
            }
            _ => {
                let first = Listener::bind(address).await?;
                let further = (1..threads).map(|_| first.share()).collect::<io::Result<_>>()?;
                Ok(Self { first, further })
            }
        }
    }
}

/// A listener that no runtime looks after yet.
#[derive(Debug)]
pub(crate) enum Unattended {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

impl Unattended {
    /// Leaves it to the runtime of this thread.
    pub(crate) fn attend(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(tcp) => TcpListener::from_std(tcp).map(Listener::Tcp),
            Self::Unix(unix) => UnixListener::from_std(unix).map(Listener::Unix),
        }
    }
}

impl Listener {
    /// The same socket once more.
    fn share(&self) -> io::Result<Unattended> {
        Ok(match self {
            Self::Tcp(tcp) => Unattended::Tcp(tcp.as_fd().try_clone_to_owned()?.into()),
            Self::Unix(unix) => Unattended::Unix(unix.as_fd().try_clone_to_owned()?.into()),
        })
    }
}

/// Binds an address several times. The kernel spreads the connections among those that listen.
fn bind_group(address: SocketAddr, threads: usize) -> io::Result<Listeners> {
    let socket = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        Ok::<_, io::Error>(socket)
    };
    // The first one shares its address only once it has it. So it gets none where somebody listens
    // already, such as a second one of this program that was started by mistake.
    let first = socket(address)?;
    first.bind(address)?;
    first.set_reuseport(true)?;
    let first = first.listen(BACKLOG)?;
    let address = first.local_addr()?;
    let further = (1..threads).map(|_| {
        let socket = socket(address)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std().map(Unattended::Tcp)
    });
    let further = further.collect::<io::Result<_>>()?;
    Ok(Listeners { first: Listener::Tcp(first), further })
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
pub fn tls(config: &Config) -> Result<Option<Arc<ServerConfig>>, String> {
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
    Ok(Some(Arc::new(config)))
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
