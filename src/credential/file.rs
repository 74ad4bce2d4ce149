//! Tokens and certificates in files that somebody rotates.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Certificate, Token, Unfit};

/// The most that is read of a file with a token or a certificate: an API server takes no head that
/// is longer (`http.DefaultMaxHeaderBytes` in Go), and no chain comes near it.
const FILE_MAX: u64 = 512 * 1024;

/// Reads a small file to its end. A longer one is an error, and so is what is no file: a pipe that
/// nobody writes to would hold up everything else.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::other("longer than 512 KiB"));
    }
    Ok(bytes)
}

/// A file with a token. It is opened by its path each time, because in a pod it stands behind
/// links that are replaced.
pub(crate) struct TokenFile {
    path: PathBuf,
    /// What the file said last; at first the token that stands in for it, if there is one.
    last: Mutex<Option<Token>>,
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenFile({})", self.path.display())
    }
}

impl TokenFile {
    pub(crate) fn new(path: PathBuf, instead: Option<Token>) -> Self {
        Self { path, last: Mutex::new(instead) }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The token that is in the file, else the last one that was.
    ///
    /// # Errors
    ///
    /// Why there is none: an empty bearer would make the caller anonymous instead of refused.
    pub(crate) fn show(&self) -> Result<Token, String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read() {
            Ok(token) => Ok(last.insert(token).clone()),
            Err(why) => {
                log::debug!(why = why.as_str(), kept = last.is_some(); "no token");
                last.clone().ok_or(why)
            }
        }
    }

    /// Why there is no token in the file, if there is none.
    pub(crate) fn problem(&self) -> Option<String> {
        self.read().err()
    }

    /// Nothing stands in for the file any more: the last token was refused.
    pub(crate) fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn read(&self) -> Result<Token, String> {
        let path = self.path.display();
        let bytes = read(&self.path).map_err(|error| format!("no token in {path}: {error}"))?;
        let text = std::str::from_utf8(&bytes).ok();
        let token = text.and_then(Token::new);
        token.ok_or_else(|| format!("no token in {path}: it is empty or has odd characters"))
    }
}

/// One half of a certificate.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// As it stands in a kubeconfig.
    Inline(Vec<u8>),
    /// A file, which may change.
    File(PathBuf),
}

impl Part {
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Inline(bytes) => Ok(bytes.clone()),
            Self::File(path) => read(path),
        }
    }
}

/// A certificate and its key, at least one of which is a file.
pub(crate) struct CertificateFiles {
    chain: Part,
    key: Part,
    last: Mutex<Last>,
}

struct Last {
    chain: Vec<u8>,
    key: Vec<u8>,
    certificate: Arc<Certificate>,
}

impl fmt::Debug for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateFiles")
    }
}

impl CertificateFiles {
    /// What was read of both parts, and what they come to.
    pub(crate) fn new(parts: [Part; 2], read: [Vec<u8>; 2]) -> Result<Self, Unfit> {
        let ([chain, key], [chain_read, key_read]) = (parts, read);
        let certificate = Arc::new(Certificate::from_pem(&chain_read, &key_read)?);
        let last = Mutex::new(Last { chain: chain_read, key: key_read, certificate });
        Ok(Self { chain, key, last })
    }

    /// The certificate that is in the files, else the last one that was: while somebody replaces
    /// one file after the other they do not fit.
    pub(crate) fn show(&self) -> Arc<Certificate> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Ok(chain), Ok(key)) = (self.chain.read(), self.key.read())
            && (chain != last.chain || key != last.key)
        {
            match Certificate::from_pem(&chain, &key) {
                Ok(it) => *last = Last { chain, key, certificate: Arc::new(it) },
                Err(_) => log::debug!("a new certificate and its key do not fit"),
            }
        }
        Arc::clone(&last.certificate)
    }
}
