//! One row of a table of endings: what happens, and everything that must come of it.

use std::time::Duration;

use podwire::proto::channel::Subprotocol;
use podwire::proto::ending::Kind;
use podwire::proto::message::Dialect;
use podwire::proto::session::Process;

use super::readers::{Sent, Told};
use super::{Rig, options};

pub(crate) enum Step {
    Browser(Vec<u8>),
    Cluster(Vec<u8>),
    BrowserEnds,
    ClusterEnds,
    ClusterIsDeaf,
    Stop(Kind),
    Wait(Duration),
}

/// Unless told otherwise: a terminal on v5, an exit with code 0, no output, nothing sent.
pub(crate) struct Row {
    id: &'static str,
    tty: bool,
    stdin: bool,
    subprotocol: Subprotocol,
    steps: Vec<Step>,
    kind: Kind,
    exit_code: Option<u8>,
    close_code: Option<u16>,
    says: &'static str,
    process: Process,
    output: Vec<u8>,
    sent: Vec<Sent>,
    ignored: Option<u64>,
}

/// What a terminal without a status is sent: the keys of a hang-up, once a second, and at last the
/// close.
pub(crate) fn keys() -> Vec<Sent> {
    vec![Sent::Input([3, 4].repeat(5)), Sent::Close(Some(1000))]
}

impl Row {
    pub(crate) fn new(id: &'static str, steps: Vec<Step>) -> Self {
        Self {
            id,
            tty: true,
            stdin: true,
            subprotocol: Subprotocol::V5,
            steps,
            kind: Kind::Exit,
            exit_code: Some(0),
            close_code: Some(1000),
            says: "",
            process: Process::Ended(Some(0)),
            output: Vec::new(),
            sent: Vec::new(),
            ignored: None,
        }
    }

    pub(crate) fn exits(self, code: u8) -> Self {
        Self { exit_code: Some(code), process: Process::Ended(Some(code)), ..self }
    }

    /// An ending without an exit code, whose process is not known to have ended.
    pub(crate) fn ends(self, kind: Kind) -> Self {
        let close_code = kind.facts().close_code;
        Self { kind, close_code, exit_code: None, process: Process::Unknown, ..self }
    }

    pub(crate) fn close_code(self, code: u16) -> Self {
        Self { close_code: Some(code), ..self }
    }

    /// Words that the sentence must have.
    pub(crate) fn says(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    pub(crate) fn process(self, process: Process) -> Self {
        Self { process, ..self }
    }

    pub(crate) fn output(self, output: &[u8]) -> Self {
        Self { output: output.to_vec(), ..self }
    }

    pub(crate) fn sent(self, sent: Vec<Sent>) -> Self {
        Self { sent, ..self }
    }

    pub(crate) fn ignored(self, ignored: u64) -> Self {
        Self { ignored: Some(ignored), ..self }
    }

    pub(crate) fn without_terminal(self) -> Self {
        Self { tty: false, ..self }
    }

    pub(crate) fn without_input(self) -> Self {
        Self { stdin: false, ..self }
    }

    pub(crate) fn on(self, subprotocol: Subprotocol) -> Self {
        Self { subprotocol, ..self }
    }

    /// Plays it in both dialects, with a browser that takes everything at once and with one that
    /// takes nothing before the end.
    pub(crate) fn check(&self) {
        for dialect in [Dialect::Seed, Dialect::V1] {
            for prompt in [true, false] {
                self.play(dialect, prompt);
            }
        }
    }

    fn play(&self, dialect: Dialect, prompt: bool) {
        let id = format!("{} in {dialect:?}, prompt: {prompt}", self.id);
        let mut options = options(dialect, self.tty);
        options.subprotocol = self.subprotocol;
        options.stdin = self.stdin;
        let mut rig = Rig::new(options);
        let mut browser_there = true;
        for step in &self.steps {
            match step {
                Step::Browser(bytes) => rig.browser_sends(bytes),
                Step::Cluster(bytes) => rig.cluster_sends(bytes),
                Step::BrowserEnds => {
                    browser_there = false;
                    rig.browser_ends();
                }
                Step::ClusterEnds => rig.cluster_ends(),
                Step::ClusterIsDeaf => rig.session.on_cluster_deaf(),
                Step::Stop(kind) => rig.stop(*kind),
                Step::Wait(time) => rig.wait(*time),
            }
            if prompt {
                rig.browser_takes(usize::MAX);
            }
            rig.cluster_takes(usize::MAX);
        }
        let outcome = rig.finish();
        let ending = &outcome.ending;
        assert_eq!(ending.kind, self.kind, "{id}: {ending}");
        assert_eq!(ending.exit_code, self.exit_code, "{id}");
        assert_eq!(ending.close_code, self.close_code, "{id}");
        assert!(ending.message.contains(self.says), "{id}: {ending}");
        assert_eq!(outcome.process, self.process, "{id}");
        assert_eq!(rig.cluster.without_sizes(), self.sent, "{id}");
        if let Some(ignored) = self.ignored {
            assert_eq!(outcome.traffic.ignored, ignored, "{id}");
        }
        let Some(code) = ending.close_code else {
            if self.kind == Kind::BrowserClosed && (prompt || browser_there) {
                assert_eq!(rig.browser.close(), Some((1000, "")), "{id}");
            }
            assert!(!rig.browser.told.iter().any(is_exit), "{id}: nobody is there to be told");
            return;
        };
        if !browser_there {
            return;
        }
        let reason = &ending.message[..ending.message.floor_char_boundary(123)];
        assert_eq!(rig.browser.close(), Some((code, reason)), "{id}");
        let output = rig.browser.output();
        if dialect == Dialect::Seed {
            let text = String::from_utf8_lossy(&self.output);
            let expected = format!("{text}\r\n[podwire: {}]\r\n", ending.message);
            assert_eq!(String::from_utf8(output).unwrap(), expected, "{id}");
            return;
        }
        assert_eq!(output, self.output, "{id}");
        let [.., last, _] = &rig.browser.told[..] else { panic!("{id}: no last words") };
        let exit = serde_json::json!({
            "type": "exit", "kind": self.kind.facts().name, "exitCode": self.exit_code,
            "message": ending.message, "retry": self.kind.facts().retry,
        });
        assert_eq!(last, &Told::Json(exit), "{id}");
        assert_eq!(rig.browser.told.iter().filter(|told| is_exit(told)).count(), 1, "{id}");
    }
}

fn is_exit(told: &Told) -> bool {
    matches!(told, Told::Json(json) if json["type"] == "exit")
}
