//! Podwire.

pub mod config;
pub mod proto;
pub mod server;

mod accept;
mod exec;
mod kubeconfig;
mod origin;
#[cfg(feature = "ui")]
mod page;
mod read_ahead;
mod relay;
mod route;
#[cfg(feature = "ui")]
mod ui;

pub use accept::{Body, BrowserIo, Refusal, Upgrade, accept};
pub use exec::{ClusterIo, Connector, Credential, Target, Token};
pub use kubeconfig::{Clusters, Own};
pub use origin::Origin;
pub use proto::ending::{Ending, Kind};
pub use proto::session::{Limits, Outcome};
pub use relay::{Browser, Cluster, refuse, relay};
pub use route::Template;
pub use {bytes, hyper, tokio};
