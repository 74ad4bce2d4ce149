//! Podwire.
mod accept;
mod exec;
mod kubeconfig;
pub mod proto;
mod read_ahead;
mod relay;
mod route;
