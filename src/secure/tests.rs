//! Judged by rustls' usual connection, which is at the other end.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;

/// How much may be on its way; with less than a few kilobytes both ends of a handshake could wait.
const PIPE: usize = 1024 * 1024;

/// Both configurations, for this version, with a certificate for `cluster`.
fn configs(
    version: &'static SupportedProtocolVersion,
    names: Vec<String>,
) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![certified.cert.der().clone()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let ours = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let theirs = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    (Arc::new(ours), Arc::new(theirs))
}

fn both() -> [(Arc<ClientConfig>, Arc<ServerConfig>); 2] {
    [&TLS13, &TLS12].map(|version| configs(version, vec!["cluster".to_owned()]))
}

fn name() -> ServerName<'static> {
    ServerName::try_from("cluster").unwrap()
}

/// A socket that brings and takes no more than this at once.
struct Narrow(DuplexStream, usize);

impl AsyncRead for Narrow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = self.1.min(out.remaining());
        let mut bytes = vec![0; room];
        let mut narrow = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut narrow))?;
        out.put_slice(narrow.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Narrow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = self.1.min(bytes.len());
        Pin::new(&mut self.0).poll_write(cx, &bytes[..n])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

type Ours = Secure<Narrow, UnbufferedClientConnection>;

/// We connect, and they are rustls. `width` is how much our socket moves at once.
async fn connected(
    (ours, theirs): (Arc<ClientConfig>, Arc<ServerConfig>),
    width: usize,
) -> (Ours, server::TlsStream<DuplexStream>) {
    let (one, other) = duplex(PIPE);
    let accepting = TlsAcceptor::from(theirs).accept(other);
    let connecting = Secure::connect(Narrow(one, width), ours, name());
    let (one, other) = tokio::join!(connecting, accepting);
    (one.unwrap(), other.unwrap())
}

/// They connect, and we are the server.
async fn accepted(
    (theirs, ours): (Arc<ClientConfig>, Arc<ServerConfig>),
    width: usize,
) -> (Secure<Narrow, UnbufferedServerConnection>, client::TlsStream<DuplexStream>) {
    let (one, other) = duplex(PIPE);
    let connecting = TlsConnector::from(theirs).connect(name(), other);
    let (one, other) = tokio::join!(Secure::accept(Narrow(one, width), ours), connecting);
    (one.unwrap(), other.unwrap())
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Both say all of it at the same time, in pieces of this size, and close.
async fn exchange(
    one: impl AsyncRead + AsyncWrite,
    other: impl AsyncRead + AsyncWrite,
    bytes: &[u8],
    piece: usize,
) {
    let (mut one_reads, mut one_writes) = split(one);
    let (mut other_reads, mut other_writes) = split(other);
    let one_says = async {
        for piece in bytes.chunks(piece) {
            one_writes.write_all(piece).await.unwrap();
        }
        one_writes.shutdown().await.unwrap();
    };
    let other_says = async {
        for piece in bytes.chunks(piece) {
            other_writes.write_all(piece).await.unwrap();
        }
        other_writes.shutdown().await.unwrap();
    };
    let one_hears = async {
        let mut heard = Vec::new();
        let mut room = vec![0; piece];
        loop {
            match one_reads.read(&mut room).await.unwrap() {
                0 => return heard,
                n => heard.extend_from_slice(&room[..n]),
            }
        }
    };
    let other_hears = async {
        let mut heard = Vec::new();
        other_reads.read_to_end(&mut heard).await.unwrap();
        heard
    };
    let ((), (), one, other) = tokio::join!(one_says, other_says, one_hears, other_hears);
    assert!(one == bytes && other == bytes, "pieces of {piece}: {} {}", one.len(), other.len());
}

#[tokio::test]
async fn every_byte_arrives_whatever_the_pieces() {
    for configs in both() {
        for (width, piece, length) in [
            (1, 1, 300),
            (17, 5, 3000),
            (1000, 4096, 100_000),
            (64 * 1024, 16 * 1024, 1 << 20),
            (1 << 20, 100_000, 1 << 20),
            (1 << 20, 1 << 20, 1 << 20),
        ] {
            let bytes = noise(length);
            let (one, other) = connected(configs.clone(), width).await;
            exchange(one, other, &bytes, piece).await;
            let (one, other) = accepted(configs.clone(), width).await;
            exchange(one, other, &bytes, piece).await;
        }
    }
}

/// A socket whose reads bring what was left in it, cut at every place in turn.
#[tokio::test]
async fn a_record_that_arrives_in_two_reads_is_one() {
    for configs in both() {
        let (mut one, mut other) = connected(configs, PIPE).await;
        for length in [1, 2, 100] {
            // Larger than the header, the record and its tag together.
            for cut in 0..length + 40 {
                let (reads, sent) = duplex(PIPE);
                let (old, mut wire) = (std::mem::replace(&mut one.io, Narrow(reads, PIPE)), sent);
                let bytes = noise(length);
                other.write_all(&bytes).await.unwrap();
                other.flush().await.unwrap();
                let mut old = old;
                let mut record = vec![0; 1 << 16];
                let n = old.0.read(&mut record).await.unwrap();
                let (first, second) = record[..n].split_at(cut.min(n));
                wire.write_all(first).await.unwrap();
                let mut heard = vec![0; length];
                let mut heard = ReadBuf::new(&mut heard);
                let poll = poll_fn(|cx| {
                    Poll::Ready(Pin::new(&mut one).poll_read(cx, &mut heard).is_pending())
                });
                assert_eq!(poll.await, !second.is_empty(), "{length} at {cut}");
                wire.write_all(second).await.unwrap();
                if !second.is_empty() {
                    poll_fn(|cx| Pin::new(&mut one).poll_read(cx, &mut heard)).await.unwrap();
                }
                assert_eq!(heard.filled(), bytes, "{length} at {cut}");
                one.io = old;
            }
        }
    }
}

#[tokio::test]
async fn an_idle_connection_owns_no_buffer() {
    for configs in both() {
        let (mut one, mut other) = connected(configs, PIPE).await;
        let bytes = noise(1 << 18);
        let mut heard = vec![0; bytes.len()];
        for _ in 0..3 {
            let all = tokio::join!(other.write_all(&bytes), one.read_exact(&mut heard));
            all.0.unwrap();
            all.1.unwrap();
            let all = tokio::join!(one.write_all(&bytes), other.read_exact(&mut heard));
            all.0.unwrap();
            all.1.unwrap();
        }
        one.flush().await.unwrap();
        let kept = [&one.unread, &one.plain, &one.unsent].map(Vec::capacity);
        assert_eq!(kept, [0, 0, 0]);
    }
}

#[tokio::test]
async fn a_goodbye_is_an_end_and_a_cut_is_none() {
    for configs in both() {
        let (mut one, mut other) = connected(configs.clone(), PIPE).await;
        other.write_all(b"last").await.unwrap();
        other.shutdown().await.unwrap();
        let mut heard = Vec::new();
        assert_eq!(one.read_to_end(&mut heard).await.unwrap(), 4);
        // The other direction is still open (RFC 8446 section 6.1).
        one.write_all(b"too").await.unwrap();
        one.shutdown().await.unwrap();
        other.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"lasttoo");

        let (mut one, mut other) = connected(configs, PIPE).await;
        other.write_all(b"last").await.unwrap();
        other.flush().await.unwrap();
        drop(other);
        let mut heard = Vec::new();
        let error = one.read_to_end(&mut heard).await.unwrap_err();
        assert_eq!((error.kind(), &heard[..]), (io::ErrorKind::UnexpectedEof, &b"last"[..]));
    }
}

#[tokio::test]
async fn new_keys_are_taken_and_answered() {
    let (mut one, mut other) = connected(both()[0].clone(), PIPE).await;
    let mut heard = [0; 5];
    for _ in 0..3 {
        other.get_mut().1.refresh_traffic_keys().unwrap();
        other.write_all(b"hello").await.unwrap();
        one.read_exact(&mut heard).await.unwrap();
        one.write_all(b"world").await.unwrap();
        other.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"world");
    }
}

#[tokio::test]
async fn what_is_broken_is_an_error_behind_what_was_whole_and_the_peer_is_told() {
    let (mut one, mut other) = connected(both()[0].clone(), PIPE).await;
    other.write_all(b"whole").await.unwrap();
    other.flush().await.unwrap();
    other.get_mut().0.write_all(&[23, 3, 3, 0, 20]).await.unwrap();
    other.get_mut().0.write_all(&[7; 20]).await.unwrap();
    let mut heard = vec![0; 100];
    assert_eq!(one.read(&mut heard).await.unwrap(), 5);
    let error = one.read(&mut heard).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    // Again, and not an end.
    assert_eq!(one.read(&mut heard).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    // Nobody had to send it.
    let error = other.read(&mut heard).await.unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    assert!(one.write(b"x").await.is_err());
}

#[tokio::test]
async fn a_handshake_that_fails_says_why_to_both() {
    for configs in both() {
        let (ours, theirs) = (configs.0, self::configs(&TLS13, vec!["cluster".to_owned()]).1);
        let (one, other) = duplex(PIPE);
        let accepting = TlsAcceptor::from(theirs).accept(other);
        let (one, other) = tokio::join!(Secure::connect(one, ours, name()), accepting);
        let error = one.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.get_ref().unwrap().is::<rustls::Error>(), "{error}");
        assert!(other.is_err());
    }
    // What is no TLS, nothing at all, and a certificate without an end.
    let endless = [&[22, 3, 3, 0x40, 0, 11, 0xff, 0xff, 0xff][..], &[0; 0x4000 - 4]].concat();
    for (says, kind) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], io::ErrorKind::InvalidData),
        (b"", io::ErrorKind::UnexpectedEof),
        (&endless.repeat(8), io::ErrorKind::InvalidData),
    ] {
        let (one, mut other) = duplex(PIPE);
        other.write_all(says).await.unwrap();
        if says.is_empty() {
            drop(other);
            let failed = Secure::connect(one, both()[0].0.clone(), name()).await.unwrap_err();
            // A pipe without an end says so when it is written to.
            assert!(matches!(failed.kind(), io::ErrorKind::BrokenPipe), "{failed}");
            continue;
        }
        let failed = Secure::connect(one, both()[0].0.clone(), name()).await.unwrap_err();
        assert_eq!(failed.kind(), kind, "{failed}");
    }
}

#[tokio::test]
async fn tls_may_be_within_tls() {
    let configs = both()[0].clone();
    let (outer, outer_peer) = connected(configs.clone(), PIPE).await;
    let accepting = TlsAcceptor::from(configs.1).accept(outer_peer);
    let (one, other) = tokio::join!(Secure::connect(outer, configs.0, name()), accepting);
    exchange(one.unwrap(), other.unwrap(), &noise(1 << 19), 50_000).await;
}

#[tokio::test]
async fn a_socket_that_takes_nothing_holds_one_turn() {
    let (one, _other) = connected(both()[0].clone(), PIPE).await;
    let Secure { end, .. } = one;
    // It takes one byte.
    let (pipe, _unread) = duplex(1);
    let mut one = Secure::over(pipe, end);
    let bytes = noise(1 << 20);
    let taken = poll_fn(|cx| Poll::Ready(Pin::new(&mut one).poll_write(cx, &bytes))).await;
    assert!(matches!(taken, Poll::Ready(Ok(TURN_MAX))));
    let taken = poll_fn(|cx| Poll::Ready(Pin::new(&mut one).poll_write(cx, &bytes))).await;
    assert!(taken.is_pending());
    assert!(one.unsent.len() <= TURN_MAX + OVERHEAD, "{}", one.unsent.len());
    assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut one).poll_flush(cx).is_pending())).await);
}
