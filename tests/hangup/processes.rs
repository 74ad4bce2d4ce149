//! The process list, as far as it belongs to one session.

use std::process::Command;

use crate::common::eventually;

/// The processes that carry a session's id, or these words on their command line. Whatever is left
/// of them when this is dropped is killed: a test that fails must not fail the next one, too.
pub(crate) struct Left {
    mark: String,
    words: String,
}

impl Left {
    /// `words` are an argument that nothing else on the machine has.
    pub(crate) fn of(session: &str, words: &str) -> Self {
        assert!(!session.is_empty() && !words.is_empty());
        Self { mark: format!("PODWIRE_SESSION={session}"), words: words.to_owned() }
    }

    /// Their command lines, words joined by a space.
    pub(crate) fn list(&self) -> Vec<String> {
        self.found().into_iter().map(|(_, line)| line).collect()
    }

    /// Waits until one of them has this command line.
    pub(crate) async fn until_runs(&self, line: &str) {
        eventually(line, || self.list().iter().any(|it| it == line)).await;
    }

    /// Waits until there are no others than these.
    pub(crate) async fn until_gone(&self, what: &str, but: &[&str]) {
        let over = || self.list().iter().all(|line| but.contains(&line.as_str()));
        eventually(&format!("{what} is gone"), over).await;
    }

    /// Process ids and command lines. A process that has ended and was not collected yet has
    /// neither an environment nor a command line.
    fn found(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for folder in std::fs::read_dir("/proc").unwrap().flatten() {
            let pid = folder.file_name().to_string_lossy().into_owned();
            if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let read = |file| std::fs::read(folder.path().join(file)).unwrap_or_default();
            let (environ, line) = (read("environ"), read("cmdline"));
            let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
            let is_marked = environ.split(|byte| *byte == 0).any(|it| it == self.mark.as_bytes());
            if is_marked || line.ends_with(&self.words) {
                found.push((pid, line));
            }
        }
        found
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        for (pid, _) in self.found() {
            // It may have ended by itself.
            let _ = Command::new("kill").args(["-9", &pid]).status();
        }
    }
}
