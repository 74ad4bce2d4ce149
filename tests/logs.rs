//! What the program says on stderr, and what it must not say.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::process::Command;

use common::{Start, cluster, pipes};
use fake_cluster::Behaviour;
use podwire::config::LogFormat;
use podwire::logging;
use serde_json::Value;

#[tokio::test]
async fn every_line_of_json_is_an_object_with_the_facts_as_fields() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--log-format", "json"]).before(&cluster).await;
    relay.v1(&pipes("exit 3")).await.assert_exit("exit", Some(3), 1000, "").await;
    relay.until_logged("session end", 1).await;
    let log = relay.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert!(line["ts"].as_str().unwrap().ends_with('Z'), "{line}");
        assert!(line["level"].is_string() && line["msg"].is_string(), "{line}");
    }
    let start = lines.iter().find(|line| line["msg"] == "start").unwrap();
    assert_eq!(start["admin"], "off");
    assert_eq!(start["listen"], relay.url.as_str());
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    let end = lines.iter().find(|line| line["msg"] == "session end").unwrap();
    assert_eq!((&end["kind"], &end["exit_code"]), (&"exit".into(), &3.into()), "{end}");
}

#[tokio::test]
async fn the_first_line_says_where_everything_is() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--admin-listen", "127.0.0.1:0"]).before(&cluster).await;
    let line = relay.until_logged(" start version=", 1).await;
    assert!(line.contains(&format!(" listen={} auth=own ", relay.url)), "{line}");
    assert_ne!(relay.admin().await.port(), 0);
}

/// Set where this program runs itself again.
const PANICS: &str = "PODWIRE_TEST_PANICS";

#[test]
fn a_panic_says_where_and_not_what() {
    let format = match std::env::var(PANICS).as_deref() {
        Ok("text") => LogFormat::Text,
        Ok(_) => LogFormat::Json,
        Err(_) => {
            for format in ["text", "json"] {
                let name = "a_panic_says_where_and_not_what";
                let mut again = Command::new(std::env::current_exe().unwrap());
                again.args(["--exact", name, "--nocapture"]).env(PANICS, format);
                let output = again.env("RUST_BACKTRACE", "1").output().unwrap();
                let said = String::from_utf8(output.stderr).unwrap();
                let lines = said.lines().filter(|line| line.contains("panicked")).count();
                assert!(lines == 1 && said.contains("tests/logs.rs:"), "{said}");
                assert!(said.contains("error") && !said.contains("typed-secret"), "{said}");
            }
            return;
        }
    };
    logging::start(log::LevelFilter::Info, format);
    std::panic::catch_unwind(|| panic!("typed-secret")).unwrap_err();
}
