//! What the end-to-end tests share: the real binary in front of a pretend cluster, a browser, and
//! a caller that speaks raw HTTP.

// Each test crate uses its part of this; a test ends at the first thing that is not as expected.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod authorizer;
mod browser;
mod http;
mod operators;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use fake_cluster::{Behaviour, FakeCluster, Options, Script, Session};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

pub use authorizer::{Authorizer, Question, response, yes};
pub use browser::{Browser, Close, MASK, contains};
pub use http::{Answer, KEY, exchange, upgrade};
pub use operators::operate;
pub use relay::{Relay, Start, folder};

/// For anything that is bound to happen: machines are slow and noisy.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// The kinds of clusters that every session must work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Kubernetes 1.36: the kubelet speaks v5.
    V5,
    /// Kubernetes 1.30 to 1.35: the API server speaks v5 for the kubelet.
    V5ApiServer,
    /// Kubernetes before 1.30.
    V4,
}

impl Kind {
    pub fn behaviour(self) -> Behaviour {
        match self {
            Self::V5 => Behaviour::default(),
            Self::V5ApiServer => Behaviour::api_server_mode(),
            Self::V4 => Behaviour::only(&["v4.channel.k8s.io", "channel.k8s.io"]),
        }
    }

    pub fn protocol(self) -> &'static str {
        if self == Self::V4 { "v4.channel.k8s.io" } else { "v5.channel.k8s.io" }
    }
}

/// Makes of each `async fn name(kind: Kind)` one test for each kind of cluster.
#[macro_export]
macro_rules! on_every_cluster {
    ($($name:ident),+ $(,)?) => {
        $crate::on_every_cluster!(@ on_v5 V5 $($name)+);
        $crate::on_every_cluster!(@ on_v5_of_the_api_server V5ApiServer $($name)+);
        $crate::on_every_cluster!(@ on_v4 V4 $($name)+);
    };
    (@ $module:ident $kind:ident $($name:ident)+) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::common::Kind::$kind).await;
            })+
        }
    };
}

pub async fn cluster(behaviour: Behaviour) -> FakeCluster {
    FakeCluster::start(Options { behaviour, ..Options::default() }).await.unwrap()
}

/// A cluster that answers every exec with this script.
pub async fn scripted(script: Script) -> FakeCluster {
    cluster(Behaviour::scripted(script)).await
}

/// A cluster of this kind with the relay in front of it.
pub async fn both(kind: Kind) -> (FakeCluster, Relay) {
    let cluster = cluster(kind.behaviour()).await;
    let relay = Relay::start(&cluster).await;
    (cluster, relay)
}

/// Waits for something that is bound to happen.
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, event).await else {
        panic!("waited in vain: {what}");
    };
    value
}

/// Waits for something that nobody announces and that can only be looked at, as in `/proc`.
pub async fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let mut often = tokio::time::interval(Duration::from_millis(10));
    let event = async {
        while !look() {
            often.tick().await;
        }
    };
    within(what, event).await;
}

/// The exec with this number that the cluster has seen.
pub async fn session(cluster: &FakeCluster, number: usize) -> Session {
    within("an exec at the cluster", cluster.session(number)).await
}

/// The target of a short-form request for the container `main`.
pub fn short(command: &[&str], rest: &str) -> String {
    let mut target = "/exec?namespace=demo&pod=shell&container=main".to_owned();
    for word in command {
        target += "&command=";
        target += &utf8_percent_encode(word, NON_ALPHANUMERIC).to_string();
    }
    target + rest
}

/// A short-form request that runs a script without a terminal.
pub fn pipes(script: &str) -> String {
    short(&["bash", "-c", script], "&tty=false")
}

/// A short-form request that runs a script in a terminal.
pub fn terminal(script: &str) -> String {
    short(&["bash", "-c", script], "")
}

pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Numbers that look random and are the same in each run: splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        let mut bytes = words.take(count.div_ceil(8)).flatten().collect::<Vec<u8>>();
        bytes.truncate(count);
        bytes
    }

    /// Cuts bytes into pieces of up to 64 KiB, of any order of magnitude.
    pub fn pieces<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let max = 1 << self.below(17);
            let (piece, rest) = bytes.split_at((1 + self.below(max)).min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

/// A certificate for localhost, as an acceptor and in PEM with its key.
pub fn tls() -> (TlsAcceptor, rcgen::CertifiedKey<rcgen::KeyPair>) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), certified)
}
