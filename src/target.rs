//! What to run, and where in a cluster: plain data, and its address at an API server.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::proto::channel::Size;

/// Everything but the unreserved characters of RFC 3986 is escaped. Go drops a pair with a bare
/// `;`, and takes a bare `+` for a space.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What to run, and where in the cluster. The names must be valid (DNS-1123).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools)] // The five are Kubernetes' own parameters.
pub struct Target {
    /// The session's id, a UUID. The cluster's audit log has it as `Audit-ID`.
    pub session: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container; may be left out if the pod has only one.
    pub container: Option<String>,
    /// Whether to choose a container as kubectl does, when none is named and there are several:
    /// by the pod's annotation, else the first. That needs the right to read the pod.
    pub find_container: bool,
    /// The command and its arguments. No shell is involved unless it is one.
    pub command: Vec<String>,
    /// Whether the process gets input.
    pub stdin: bool,
    /// Whether its output is wanted.
    pub stdout: bool,
    /// Whether its error output is wanted; never with a TTY, where all is output.
    pub stderr: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// The terminal's first size.
    pub size: Option<Size>,
}

impl Target {
    /// `sh` on a terminal of 80×24, in the container that kubectl would choose; a new session.
    pub fn new(namespace: impl Into<String>, pod: impl Into<String>) -> Self {
        Self {
            session: uuid::Uuid::new_v4().to_string(),
            namespace: namespace.into(),
            pod: pod.into(),
            container: None,
            find_container: true,
            command: vec!["sh".to_owned()],
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
            size: Some(Size::DEFAULT),
        }
    }

    /// Path and query of the exec request. The container may be one that was found.
    pub(crate) fn exec_path(&self, container: Option<&str>) -> String {
        let mut path = format!("{}/exec?", self.pod_path());
        let mut add = |name: &str, value: &str| {
            if !path.ends_with('?') {
                path.push('&');
            }
            path.push_str(name);
            path.push('=');
            path.extend(utf8_percent_encode(value, STRICT));
        };
        for word in &self.command {
            add("command", word);
        }
        if let Some(container) = container {
            add("container", container);
        }
        // Absent means false, so only what is wanted is said.
        let flags = [
            ("stdin", self.stdin),
            ("stdout", self.stdout),
            ("stderr", self.stderr && !self.tty),
            ("tty", self.tty),
        ];
        for (name, _) in flags.into_iter().filter(|(_, wanted)| *wanted) {
            add(name, "true");
        }
        path
    }

    /// Path of the pod. The names were checked, so nothing in them needs to be escaped.
    pub(crate) fn pod_path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.pod)
    }
}
