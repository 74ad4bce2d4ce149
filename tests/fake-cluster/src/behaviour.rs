//! The switches: which kind of cluster this is, and where it misbehaves.

use std::time::Duration;

use crate::image::Image;
use crate::script::{Gate, Script};

/// Who speaks `v5.channel.k8s.io` with the peer. The recordings exist for both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The kubelet, behind an API server that copies bytes: Kubernetes 1.36. A kubelet's
    /// refusals come before the 101 as text, and no ping is answered while stdin is blocked.
    #[default]
    Kubelet,
    /// The API server, as in 1.30 to 1.35 (recordings `*.apiserver-mode`): a kubelet's refusals
    /// come after the 101 on channel 3, and frames sent with the request are not lost.
    ApiServer,
}

/// How the cluster behaves. The default is an honest 1.36.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Who ends the WebSocket.
    pub mode: Mode,
    /// The minor version of Kubernetes that it says it is, and from 35 on acts as: an exec needs
    /// two verbs then.
    pub minor: u16,
    /// The subprotocols that are known. Without v5 the cluster is one before 1.30.
    pub protocols: Vec<String>,
    /// The value of pod `shell`'s annotation `kubectl.kubernetes.io/default-container`.
    pub default_container: Option<String>,
    /// How much stdin fits between the read loop and the process before the loop blocks. By
    /// default what the recordings show: between 2 and 8 MiB in kubelet mode (`ping_while_
    /// stdin_blocked_tty`, `unread_stdin_8MiB_*`), more in API server mode.
    pub stdin_buffer_bytes: Option<usize>,
    /// A process that ends with more than 64 KiB of stdin unread leaves its session without
    /// status and Close (recordings `unread_stdin_*`). True by default.
    pub unread_stdin_hangs: bool,
    /// The kubelet does not run (recordings `new_session_while_kubelet_down`).
    pub kubelet_down: bool,
    /// The node's runtime is a cri-dockerd that a kubelet of 1.36 cannot speak with: v5 is
    /// negotiated and fails on channel 3 before anything is started, v4 works
    /// (Mirantis/cri-dockerd#569).
    pub cri_dockerd: bool,
    /// What the container `main` of pod `shell` is made of.
    pub image: Image,
    /// How long the runtime takes before it starts an exec's process or finds that it cannot.
    /// What is typed meanwhile waits. Zero by default.
    pub start_delay: Duration,
    /// The same for a test that wants to say when: nothing is started before it is opened.
    pub start_gate: Option<Gate>,
    /// A connection on which no data frame came or went for so long is ended without a Close
    /// frame. A data frame of length zero counts, control frames do not. 4 h by default, as in
    /// Kubernetes (`defaultIdleConnectionTimeout`).
    pub data_timeout: Duration,
    /// A session without channel data in either direction for so long, sizes included, loses its
    /// connection behind the API server, as through a balancer between it and the kubelet
    /// (kubernetes#128314): pings and empty frames do not get there. It ends as with a kubelet
    /// that dies (recordings `kubelet_sigkill_nontty`): in API server mode by `Success` and
    /// Close 1000, else by the end of the stream; the process lives on. None by default.
    pub kubelet_idle_timeout: Option<Duration>,
    /// Played on every new connection before TLS.
    pub before_tls: Option<Script>,
    /// Played on every new connection after the TLS handshake, before a request is read.
    pub after_tls: Option<Script>,
    /// Played in place of the answer to every exec or attach request, see also
    /// [`FakeCluster::script_next`](crate::FakeCluster::script_next).
    pub exec: Option<Script>,
}

/// `defaultIdleConnectionTimeout` of Kubernetes.
const DATA_TIMEOUT: Duration = Duration::from_hours(4);

/// What a 1.36 cluster knows, v5 and what the container runtime speaks.
const PROTOCOLS: [&str; 6] = [
    V5,
    "v4.channel.k8s.io",
    "channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];

/// The subprotocol with half-close.
pub(crate) const V5: &str = "v5.channel.k8s.io";

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            mode: Mode::default(),
            minor: 36,
            protocols: PROTOCOLS.map(str::to_owned).to_vec(),
            default_container: None,
            stdin_buffer_bytes: None,
            unread_stdin_hangs: true,
            kubelet_down: false,
            cri_dockerd: false,
            image: Image::default(),
            start_delay: Duration::ZERO,
            start_gate: None,
            data_timeout: DATA_TIMEOUT,
            kubelet_idle_timeout: None,
            before_tls: None,
            after_tls: None,
            exec: None,
        }
    }
}

impl Behaviour {
    /// A cluster that knows exactly these subprotocols.
    pub fn only(protocols: &[&str]) -> Behaviour {
        let protocols = protocols.iter().map(|name| (*name).to_owned()).collect();
        Behaviour { protocols, ..Behaviour::default() }
    }

    /// A cluster as of 1.30 to 1.35.
    pub fn api_server_mode() -> Behaviour {
        Behaviour { mode: Mode::ApiServer, ..Behaviour::default() }
    }

    /// A cluster whose container `main` is of this image.
    pub fn of_image(image: Image) -> Behaviour {
        Behaviour { image, ..Behaviour::default() }
    }

    /// A cluster that answers every exec with this script.
    pub fn scripted(exec: Script) -> Behaviour {
        Behaviour { exec: Some(exec), ..Behaviour::default() }
    }

    pub(crate) fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|known| known == protocol)
    }

    pub(crate) fn stdin_room(&self) -> usize {
        self.stdin_buffer_bytes.unwrap_or(match self.mode {
            Mode::Kubelet => 4 * 1024 * 1024,
            Mode::ApiServer => 64 * 1024 * 1024,
        })
    }
}
