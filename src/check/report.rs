//! What is printed: a line for each step, and under it what else is to be said.

use std::io::Write;

use crate::proto::ending::is_odd;

/// The width of what is printed. Only what is to be copied may be longer.
const WIDTH: usize = 100;

/// The widths of the first two columns: the longest name of a step and of a state.
const STEP: usize = 12;
const STATE: usize = 8;

/// Why a step failed, in plain words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trouble {
    what: String,
    /// What else is known.
    facts: Vec<String>,
    /// The likely reasons.
    likely: Vec<String>,
    /// What to do.
    todo: Vec<String>,
}

impl Trouble {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    pub(super) fn fact(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(fact.into());
        self
    }

    pub(super) fn likely(mut self, reason: impl Into<String>) -> Self {
        self.likely.push(reason.into());
        self
    }

    pub(super) fn todo(mut self, todo: impl Into<String>) -> Self {
        self.todo.push(todo.into());
        self
    }
}

/// The report as it grows. Who closes its reader wants no more of it.
pub(super) struct Report<W> {
    out: W,
    failed: Vec<&'static str>,
    untried: usize,
}

impl<W: Write> Report<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, failed: Vec::new(), untried: 0 }
    }

    pub(super) fn ok(&mut self, step: &str, text: &str) {
        self.step(step, "ok", text);
    }

    pub(super) fn failed(&mut self, step: &'static str, trouble: &Trouble) {
        self.failed.push(step);
        self.step(step, "FAILED", &trouble.what);
        for fact in &trouble.facts {
            self.note(fact);
        }
        for (label, texts) in [("likely: ", &trouble.likely), ("try: ", &trouble.todo)] {
            for text in texts {
                self.block(STEP + STATE + 2, label, text);
            }
        }
    }

    /// Steps that make no sense after another one has failed.
    pub(super) fn skipped(&mut self, steps: &[&str], because: &str) {
        for step in steps {
            self.step(step, "skipped", &format!("needs {because}"));
        }
    }

    /// A step that was not asked for or cannot be done, which is nobody's failure.
    pub(super) fn untried(&mut self, step: &str, text: &str) {
        self.untried += 1;
        self.step(step, "-", text);
    }

    /// One more thing about the step before.
    pub(super) fn note(&mut self, text: &str) {
        self.block(STEP + STATE + 2, "", text);
    }

    /// Something to copy, as it is; at the margin.
    pub(super) fn copy(&mut self, text: &str) {
        for line in text.lines() {
            self.line(line);
        }
    }

    /// The last line. True if nothing failed.
    pub(super) fn end(mut self) -> bool {
        self.line("");
        let last = match (self.failed.as_slice(), self.untried) {
            ([], 0) => "Everything works.".to_owned(),
            ([], _) => "What was tried works.".to_owned(),
            (failed, _) => format!("Failed: {}.", failed.join(", ")),
        };
        self.line(&last);
        let _ = self.out.flush();
        self.failed.is_empty()
    }

    fn step(&mut self, step: &str, state: &str, text: &str) {
        let head = format!("{step:STEP$} {state:STATE$} ");
        self.block(0, &head, text);
        // Somebody is watching while the next step takes its time.
        let _ = self.out.flush();
    }

    /// A head and a text beside it, which goes on under itself.
    fn block(&mut self, indent: usize, head: &str, text: &str) {
        let margin = indent + head.chars().count();
        let mut line = format!("{:indent$}{head}", "");
        let mut length = margin;
        // What is to be copied stays in one line.
        let is_command = text.starts_with("kubectl ");
        for word in text.split_whitespace() {
            let word_length = word.chars().count();
            if length > margin && length + 1 + word_length > WIDTH && !is_command {
                self.line(&line);
                line = " ".repeat(margin);
                length = margin;
            }
            if length > margin {
                line.push(' ');
                length += 1;
            }
            line.push_str(word);
            length += word_length;
        }
        self.line(&line);
    }

    /// Whatever stands in a line, it is one line and drives no terminal.
    fn line(&mut self, line: &str) {
        let mut safe = String::with_capacity(line.len() + 1);
        for c in line.trim_end().chars() {
            if is_odd(c) {
                safe.extend(c.escape_default());
            } else {
                safe.push(c);
            }
        }
        safe.push('\n');
        let _ = self.out.write_all(safe.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_aligned_and_drives_no_terminal() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        report.ok("config", "a\u{1b}]0;x\u{7}\u{202e}b");
        let long = "word ".repeat(30);
        report.failed("TCP", &Trouble::new("refused").likely(long).todo("run this"));
        report.skipped(&["TLS"], "TCP");
        assert!(!report.end());
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "config       ok       a\\u{1b}]0;x\\u{7}\\u{202e}b");
        assert_eq!(lines[1], "TCP          FAILED   refused");
        assert!(lines[2].starts_with("                      likely: word word"), "{text}");
        assert!(lines[3].starts_with("                              word"), "{text}");
        assert!(
            text.contains("\n                      try: run this\nTLS          skipped  needs TCP")
        );
        assert!(text.ends_with("\n\nFailed: TCP.\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
    }
}
