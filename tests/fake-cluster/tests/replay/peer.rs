//! The client side of a replay: a TLS connection and frames made and read by hand, apart from
//! the code under test.

use std::sync::Arc;
use std::time::Duration;

use fake_cluster::{ClientIdentity, FakeCluster};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Everything in a replay happens within this, or never.
const DEADLINE: Duration = Duration::from_secs(20);

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub fin: bool,
    pub masked: bool,
    pub payload: Vec<u8>,
}

/// A connection to the cluster.
pub struct Peer {
    tls: TlsStream<TcpStream>,
    buffer: Vec<u8>,
    pub frames: Vec<Frame>,
    pub ended: bool,
}

/// Waits for something that must come.
pub async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let limit = tokio::time::timeout(DEADLINE, wait).await;
    limit.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

impl Peer {
    pub async fn connect(cluster: &FakeCluster) -> Peer {
        Peer::connect_as(cluster, None, b"http/1.1").await
    }

    pub async fn connect_as(
        cluster: &FakeCluster,
        identity: Option<&ClientIdentity>,
        alpn: &[u8],
    ) -> Peer {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(cluster.ca_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes());
                config.with_client_auth_cert(vec![chain.unwrap()], key.unwrap()).unwrap()
            }
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        let tcp = TcpStream::connect(cluster.addr()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::from(cluster.addr().ip());
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        Peer { tls, buffer: Vec::new(), frames: Vec::new(), ended: false }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.tls.write_all(bytes).await?;
        self.tls.flush().await
    }

    /// Sends a frame, masked unless the recording's client did not mask it.
    pub async fn frame(&mut self, opcode: u8, fin: bool, masked: bool, payload: &[u8]) {
        self.send(&frame(opcode, fin, masked, payload)).await;
    }

    /// Sends a masked frame to a server that may be gone.
    pub async fn try_frame(&mut self, opcode: u8, payload: &[u8]) -> std::io::Result<()> {
        self.try_send(&frame(opcode, true, true, payload)).await
    }

    /// Reads a response head: its first line and its headers.
    pub async fn head(&mut self) -> (String, Vec<(String, String)>) {
        let end = loop {
            let end = self.buffer.windows(4).position(|part| part == b"\r\n\r\n");
            match end {
                Some(end) => break end,
                None => assert!(self.more().await, "the connection ended inside a head"),
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap().to_owned();
        let pair = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_owned(), value.trim().to_owned())
        };
        (first, lines.map(pair).collect())
    }

    pub async fn body(&mut self, length: usize) -> String {
        while self.buffer.len() < length {
            assert!(self.more().await, "the connection ended inside a body");
        }
        String::from_utf8(self.buffer.drain(..length).collect()).unwrap()
    }

    /// Reads frames until `enough` or the end of the connection.
    pub async fn until(&mut self, what: &str, mut enough: impl FnMut(&Peer) -> bool) {
        let read = async {
            while !enough(self) && !self.ended {
                match self.take() {
                    Some(frame) => self.frames.push(frame),
                    None => self.ended = !self.more().await,
                }
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, read).await.is_ok();
        assert!(in_time, "waited too long for {what}; got {:#?}", self.texts());
    }

    pub async fn until_end(&mut self) {
        self.until("the end", |_| false).await;
    }

    /// Ends the connection without a word, as `abort` does.
    pub fn abort(self) {
        self.tls.get_ref().0.set_zero_linger().unwrap();
    }

    /// All bytes of one channel.
    pub fn channel(&self, channel: u8) -> Vec<u8> {
        let data =
            self.frames.iter().filter(|f| f.opcode < 8 && f.payload.first() == Some(&channel));
        data.flat_map(|frame| frame.payload[1..].iter().copied()).collect()
    }

    /// Pings answered and Close, in order.
    pub fn controls(&self) -> Vec<&Frame> {
        self.frames.iter().filter(|frame| frame.opcode >= 8).collect()
    }

    fn texts(&self) -> Vec<(u8, String)> {
        let text = |f: &Frame| {
            (f.opcode, String::from_utf8_lossy(&f.payload[..f.payload.len().min(400)]).into_owned())
        };
        self.frames.iter().map(text).collect()
    }

    async fn more(&mut self) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        // A reset and an end without TLS's goodbye are ends as well.
        match self.tls.read(&mut chunk).await {
            Ok(length @ 1..) => {
                self.buffer.extend_from_slice(&chunk[..length]);
                true
            }
            _ => false,
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let (first, second) = (*self.buffer.first()?, *self.buffer.get(1)?);
        let (length, head) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes(*self.buffer.get(2..)?.first_chunk()?)), 4),
            127 => {
                let length = u64::from_be_bytes(*self.buffer.get(2..)?.first_chunk()?);
                (usize::try_from(length).unwrap(), 10)
            }
            short => (usize::from(short), 2),
        };
        let payload = self.buffer.get(head..head + length)?.to_vec();
        self.buffer.drain(..head + length);
        let (fin, masked) = (first & 0x80 != 0, second & 0x80 != 0);
        Some(Frame { opcode: first & 0x7f, fin, masked, payload })
    }
}

fn frame(opcode: u8, fin: bool, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![opcode | if fin { 0x80 } else { 0 }];
    let bit = if masked { 0x80 } else { 0 };
    match payload.len() {
        short @ 0..126 => bytes.push(bit | u8::try_from(short).unwrap()),
        middle @ 126..65536 => {
            bytes.push(bit | 0x7e);
            bytes.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(bit | 0x7f);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    let key = if masked { [0x37, 0xfa, 0x21, 0x3d] } else { [0; 4] };
    if masked {
        bytes.extend(key);
    }
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}
