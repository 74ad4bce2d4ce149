//! What the tests share that run programs beside the relay.
#![allow(dead_code, reason = "each of them uses its part of this")]

pub(crate) mod front;
pub(crate) mod kubectl;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program that does not outlive its test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn spawn(command: &mut Command) -> Running {
    match command.stdin(Stdio::null()).spawn() {
        Ok(child) => Running(child),
        Err(error) => panic!("{} does not start: {error}", command.get_program().display()),
    }
}

/// The relay's program: the one that is named, or the one of this checkout.
pub(crate) fn podwire() -> PathBuf {
    if let Some(named) = env::var_os("PODWIRE_TEST_BIN") {
        return PathBuf::from(named);
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--package", "podwire", "--bin", "podwire"]);
    assert!(spawn(&mut build).0.wait().unwrap().success(), "podwire is not built");
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("../debug/podwire")
}

/// One of Debian's programs: the one that the variable names, or the one of the system. Debian
/// keeps some where an ordinary user's PATH does not look.
pub(crate) fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(named) = env::var_os(variable) {
        return PathBuf::from(named);
    }
    let debian = Path::new("/usr/sbin").join(name);
    if debian.exists() { debian } else { name.into() }
}
