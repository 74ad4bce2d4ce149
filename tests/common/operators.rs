//! Who looks after a relay, at its admin port.

use std::net::SocketAddr;

use serde_json::Value;

use super::http::{Answer, exchange};
use super::{Relay, within};

/// One request to an admin port. Header lines each end with CRLF.
pub async fn operate(addr: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    exchange(addr, request.as_bytes()).await.expect("an answer").0
}

impl Relay {
    /// A request to the admin port of a relay that was started with `--admin-listen 127.0.0.1:0`.
    pub async fn operate(&self, method: &str, path: &str) -> Answer {
        operate(self.admin().await, method, path, "").await
    }

    /// The sessions that the list shows.
    pub async fn sessions(&self) -> Vec<Value> {
        let answer = self.operate("GET", "/sessions").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json().as_array().unwrap().clone()
    }

    /// What `/metrics` says of this, which stands before the number: name and labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let answer = self.operate("GET", "/metrics").await;
        let text = String::from_utf8(answer.body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// Waits until a metric is so much.
    pub async fn until_metric(&self, name: &str, value: f64) {
        let mut often = tokio::time::interval(std::time::Duration::from_millis(10));
        let event = async {
            while (self.metric(name).await - value).abs() > 1e-9 {
                often.tick().await;
            }
        };
        within(&format!("{name} {value}"), event).await;
    }
}
