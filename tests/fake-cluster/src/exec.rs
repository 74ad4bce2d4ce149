//! The exec request up to its 101: parameters as Go decodes them, the checks in the API server's
//! order, the subprotocol.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use ring::digest;
use tokio::io::AsyncWriteExt as _;

use crate::access::{User, offered_protocols};
use crate::api::{self, Place};
use crate::behaviour::{Behaviour, Mode, V5};
use crate::cluster::Cluster;
use crate::http::{Request, Response};
use crate::image::Image;
use crate::process::Plan;
use crate::random;
use crate::seen::Session;
use crate::session::{self, Start, Work};
use crate::socket::Socket;
use crate::status::refusal;

/// What follows the key in RFC 6455 §1.3.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The query of an exec request.
#[derive(Debug, Default)]
struct Query {
    container: Option<String>,
    command: Vec<OsString>,
    flags: Vec<(String, bool)>,
}

impl Query {
    fn parse(query: &str) -> Query {
        let mut parsed = Query::default();
        for (name, value) in pairs(query) {
            let text = String::from_utf8_lossy(&value).into_owned();
            match name.as_str() {
                "command" => parsed.command.push(OsString::from_vec(value)),
                "container" if parsed.container.is_none() => parsed.container = Some(text),
                "stdin" | "stdout" | "stderr" | "tty" => {
                    // Only these two are false, even an empty value is true, and the first
                    // occurrence counts.
                    let truth = text != "0" && !text.eq_ignore_ascii_case("false");
                    parsed.flags.push((name, truth));
                }
                _ => {}
            }
        }
        parsed
    }

    fn flag(&self, name: &str) -> bool {
        self.flags.iter().find(|(known, _)| known == name).is_some_and(|(_, truth)| *truth)
    }
}

/// Go's `url.ParseQuery`: a pair with a bare `;` or a bad escape is dropped.
fn pairs(query: &str) -> Vec<(String, Vec<u8>)> {
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let plus = |text: &str| text.replace('+', " ");
        let name = String::from_utf8(unescape(&plus(name))?).ok()?;
        Some((name, unescape(&plus(value))?))
    };
    query
        .split('&')
        .filter(|text| !text.is_empty() && !text.contains(';'))
        .filter_map(pair)
        .collect()
}

/// Undoes percent escapes; nothing if one is broken.
pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        plain.push(u8::try_from(value).ok()?);
    }
    Some(plain)
}

/// Answers an exec or attach request on this socket, or refuses it with a response.
pub(crate) struct Exec<'a> {
    pub(crate) cluster: &'a Arc<Cluster>,
    pub(crate) request: &'a Request,
    pub(crate) user: &'a User,
    pub(crate) place: Place,
    pub(crate) behaviour: Behaviour,
    pub(crate) session: Session,
}

/// What the checks came to.
pub(crate) enum Verdict {
    Refused(Response),
    /// No body and no length, then the end (recording `unknown_subprotocol`).
    NoProtocol,
    /// Everything a session needs, and the key to accept.
    Granted {
        start: Box<Start>,
        key: String,
    },
}

/// The first minor version that asks for `create`, too
/// (`AuthorizePodWebsocketUpgradeCreatePermission`).
const BOTH_VERBS: u16 = 35;

impl Exec<'_> {
    /// The checks in the API server's order, which the recordings show in part.
    pub(crate) fn check(self) -> Verdict {
        let Place { namespace, name, subresource } = &self.place;
        let resource = format!("pods/{subresource}");
        let verb = if self.request.method == "GET" { "get" } else { "create" };
        let refuse = Verdict::Refused;
        if !self.user.may(verb, &resource) {
            return refuse(api::forbidden(self.request, self.user, verb, &resource, &self.place));
        }
        if self.behaviour.minor >= BOTH_VERBS && !self.user.may("create", &resource) {
            // The second check names neither user nor verb (recording `rbac_get_only`).
            let message = format!("pods \"{name}\" is forbidden: ");
            let body = refusal(403, Some("Forbidden"), &message, Some((name, "pods")));
            return refuse(Response::json(self.request, 403, body));
        }
        let Some(pod) = api::pod(namespace, name) else {
            return refuse(api::not_found(self.request, name));
        };
        let query = Query::parse(self.request.query());
        let container = match query.container.as_deref().filter(|name| !name.is_empty()) {
            Some(given) if pod.containers.contains(&given) => given.to_owned(),
            Some(given) => {
                return self.bad(&format!("container {given} is not valid for pod {name}"));
            }
            None if pod.containers.len() == 1 => pod.containers[0].to_owned(),
            None => {
                let choice = pod.containers.join(" ");
                return self.bad(&format!(
                    "a container name must be specified for pod {name}, choose one of: [{choice}]"
                ));
            }
        };
        if !self.request.wants_upgrade() {
            return self.bad("Upgrade request required");
        }
        self.grant(&query, &container, pod.running)
    }

    fn bad(&self, message: &str) -> Verdict {
        let body = refusal(400, Some("BadRequest"), message, None);
        Verdict::Refused(Response::json(self.request, 400, body))
    }

    /// From here on it is the kubelet's, or in API server mode and on v5 the translator's.
    fn grant(self, query: &Query, container: &str, running: bool) -> Verdict {
        let (tty, stdin, stdout) = (query.flag("tty"), query.flag("stdin"), query.flag("stdout"));
        let stderr = query.flag("stderr") && !tty;
        let offered = offered_protocols(self.request);
        let v5 = self.behaviour.knows(V5) && offered.iter().any(|name| name == V5);
        let translated = v5 && self.behaviour.mode == Mode::ApiServer;

        let mut trouble = None;
        if self.behaviour.kubelet_down {
            if !translated {
                let message =
                    "error dialing backend: dial tcp 127.0.0.1:10250: connect: connection refused";
                let body = refusal(500, None, message, None);
                return Verdict::Refused(Response::json(self.request, 500, body));
            }
            trouble = Some(self.dial_error(query, container, stdin, stdout, stderr));
        } else if !(stdin || stdout || query.flag("stderr")) {
            let text = "you must specify at least 1 of stdin, stdout, stderr";
            if !translated {
                return Verdict::Refused(Response::text(400, text));
            }
            trouble = Some(format!("unable to upgrade connection: {text}"));
        } else if !running {
            let text = format!("container not found (\"{container}\")");
            if !translated {
                return Verdict::Refused(Response::text(500, &text));
            }
            trouble = Some(format!("unable to upgrade connection: {text}"));
        } else if self.behaviour.cri_dockerd && v5 {
            // The runtime's address has no scheme, and where the kubelet ends the WebSocket it
            // takes that for TLS.
            trouble = Some(format!(
                "error sending request: Post \"//[::]:35557/cri/{}/{}\": http: server gave HTTP \
                 response to HTTPS client",
                self.place.subresource,
                &random::exec_id()[..8]
            ));
        }
        if !self.request.wants_websocket() {
            let message = "the pretend cluster does not speak SPDY";
            return Verdict::Refused(Response::json(
                self.request,
                501,
                refusal(501, None, message, None),
            ));
        }
        let key = match key(self.request) {
            Ok(key) => key,
            Err(response) => return Verdict::Refused(response),
        };
        let Some(protocol) = self.choose(&offered, v5) else { return Verdict::NoProtocol };
        let work = match trouble {
            Some(text) => Err(text),
            None => self.work(container, tty),
        };
        let plan = Plan { argv: query.command.clone(), tty, stdin, stdout, stderr };
        let (behaviour, session) = (self.behaviour, self.session);
        let start = Box::new(Start { plan, work, protocol, behaviour, session });
        Verdict::Granted { start, key }
    }

    fn work(&self, container: &str, tty: bool) -> Result<Work, String> {
        let pod = &self.place.name;
        if self.place.subresource == "exec" {
            // `side` is what it is, whatever `main` is made of.
            let image = if container == "side" { &Image::ShOnly } else { &self.behaviour.image };
            return self.cluster.container(image, pod).map(Work::Exec);
        }
        if tty != api::has_terminal(container) {
            // The wording is read, not recorded: the kubelet goes by the container and the peer
            // by the request, and the runtime refuses what comes of it.
            return Err("unable to upgrade connection: tty and stderr cannot both be true".into());
        }
        self.cluster.main(pod, container, tty).map(Work::Attach)
    }

    /// The first of the peer's names that is known. Who offers v5 speaks with somebody who
    /// knows nothing else.
    fn choose(&self, offered: &[String], v5: bool) -> Option<String> {
        if v5 {
            return Some(V5.to_owned());
        }
        if offered.is_empty() {
            return self.behaviour.knows("").then(String::new);
        }
        let known = |name: &&String| *name != V5 && self.behaviour.knows(name);
        offered.iter().find(known).cloned()
    }

    /// Recording `new_session_while_kubelet_down.apiserver-mode`: the message holds the
    /// kubelet's URL with the whole command line.
    fn dial_error(&self, query: &Query, container: &str, i: bool, o: bool, e: bool) -> String {
        let commands = query
            .command
            .iter()
            .map(|word| format!("command={}", api::escape(&word.to_string_lossy())));
        let flags = [("error", e), ("input", i), ("output", o), ("tty", query.flag("tty"))];
        let flags = flags.iter().filter(|(_, on)| *on).map(|(name, _)| format!("{name}=1"));
        let words: Vec<String> = commands.chain(flags).collect();
        let Place { namespace, name, subresource } = &self.place;
        format!(
            "error sending request: Post \"https://localhost:10250/{subresource}/{namespace}/\
             {name}/{container}?{}\": dial tcp 127.0.0.1:10250: connect: connection refused",
            words.join("&")
        )
    }
}

/// The handshake's own rules, in the words of Go's library.
fn key(request: &Request) -> Result<String, Response> {
    if request.method != "GET" {
        return Err(Response::text(405, "bad method"));
    }
    if request.header("sec-websocket-version") != Some("13") {
        return Err(Response::text(400, "missing or bad WebSocket Version"));
    }
    match request.header("sec-websocket-key").filter(|key| !key.is_empty()) {
        Some(key) => Ok(key.to_owned()),
        None => Err(Response::text(400, "mismatch challenge/response")),
    }
}

/// `Sec-WebSocket-Accept` for a key.
pub(crate) fn accept(key: &str) -> String {
    let digest = digest::digest(
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{ACCEPT_SUFFIX}").as_bytes(),
    );
    STANDARD.encode(digest)
}

/// The 101 with its four headers and no others.
pub(crate) fn switching(key: &str, protocol: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n",
        accept(key)
    )
}

/// Answers 101 and runs the session.
pub(crate) async fn open(
    cluster: &Arc<Cluster>,
    start: Start,
    key: &str,
    mut socket: Socket,
    mut early: BytesMut,
) {
    start.session.note(|facts| {
        facts.answered = Some(101);
        facts.protocol = Some(start.protocol.clone());
    });
    if start.behaviour.mode == Mode::Kubelet || start.protocol != V5 {
        // Bytes that came with the request are lost on the way to the kubelet (recording
        // `first_bytes_before_101`), not at the API server (`…apiserver-mode`).
        early.clear();
    }
    let head = switching(key, &start.protocol);
    let sent = async {
        socket.write_all(head.as_bytes()).await?;
        socket.flush().await
    };
    if sent.await.is_ok() {
        session::run(cluster, start, socket, early).await;
    }
}
