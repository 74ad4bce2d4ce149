//! What to run, and where in a cluster: plain data, and its address at an API server.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::proto::channel::Size;
use crate::trace::Trace;

/// Everything but the unreserved characters of RFC 3986 is escaped. Go drops a pair with a bare
/// `;`, and takes a bare `+` for a space.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is done with a container: Kubernetes' own two names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verb {
    /// Run a command in it.
    #[default]
    Exec,
    /// Attach to the process that it runs already. There is no exit code then, and a session that
    /// ends leaves the process alone.
    Attach,
}

impl Verb {
    /// The subresource of a pod, as it stands in addresses and in rules of RBAC.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
        }
    }
}

/// What to run, and where in the cluster. The names must be valid (DNS-1123).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools)] // The five are Kubernetes' own parameters.
pub struct Target {
    /// The session's id, a UUID. The cluster's audit log has it as `Audit-ID`.
    pub session: String,
    /// The trace that the session belongs to, if the caller named one; passed on to the cluster.
    pub trace: Option<Trace>,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container; may be left out if the pod has only one.
    pub container: Option<String>,
    /// Whether to choose a container as kubectl does, when none is named and there are several:
    /// by the pod's annotation, else the first. That needs the right to read the pod.
    pub find_container: bool,
    /// Whether a command is run, or the container's own process attached to.
    pub verb: Verb,
    /// The command and its arguments; none to attach. No shell is involved unless it is one.
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
            trace: None,
            namespace: namespace.into(),
            pod: pod.into(),
            container: None,
            find_container: true,
            verb: Verb::Exec,
            command: vec!["sh".to_owned()],
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
            size: Some(Size::DEFAULT),
        }
    }

    /// Path and query of the request. The container may be one that was found.
    pub(crate) fn path(&self, container: Option<&str>) -> String {
        let mut path = format!("{}/{}?", self.pod_path(), self.verb.name());
        let mut add = |name: &str, value: &str| {
            if !path.ends_with('?') {
                path.push('&');
            }
            path.push_str(name);
            path.push('=');
            path.extend(utf8_percent_encode(value, STRICT));
        };
        for word in self.command.iter().filter(|_| self.verb == Verb::Exec) {
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
