//! Why a step may have failed, and what to do about it, in plain words.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::certificate::{Certificate, span};
use super::report::Trouble;
use crate::exec::{Fault, Shows};
use crate::proto::ending::{Ending, Kind};
use crate::target::Target;

/// What shows the address in use.
fn show(field: &str) -> String {
    format!("kubectl config view --minify -o jsonpath='{{.clusters[0].cluster.{field}}}'")
}

/// The field of a kubeconfig's cluster that names a proxy. Else it is a variable.
pub(super) const PROXY_URL: &str = "proxy-url";

/// What shows which proxy is in use.
fn show_proxy(setting: &str) -> String {
    if setting == PROXY_URL { show(PROXY_URL) } else { format!("env | grep -i {setting}") }
}

/// What is left where a proxy is of no use.
fn directly(setting: &str) -> String {
    let remedy = if setting == PROXY_URL {
        "take the proxy-url out of the kubeconfig's cluster".to_owned()
    } else {
        format!("unset {setting}, or name the server in NO_PROXY")
    };
    format!("if the server can be reached directly, {remedy}")
}

/// `proxy` is the setting with the proxy whose name it is, else it is the server's.
pub(super) fn no_name(proxy: Option<&str>, host: &str, fault: Option<&Fault>) -> Trouble {
    let why = fault.map_or_else(|| "it has no address".to_owned(), ToString::to_string);
    let (what, field) = proxy.map_or(("the server", "server"), |setting| ("the proxy", setting));
    let trouble = Trouble::new(format!("{what}'s name {host} cannot be looked up: {why}"))
        .likely("a typing mistake in the name, or a cluster that does not exist any more")
        .likely("a name that is known only inside of a VPN or a company's network");
    let compare = format!("compare it with the {field} that kubectl uses where it works:");
    let trouble = trouble.todo(compare);
    match proxy {
        Some(setting) => trouble.todo(show_proxy(setting)),
        None => trouble.todo(show("server")),
    }
}

pub(super) fn no_connection(
    what: &str,
    failures: &[(SocketAddr, &Fault)],
    proxy: Option<&str>,
) -> Trouble {
    let refused = |fault: &Fault| {
        let Fault::System(error) = fault else { return false };
        error.kind() == io::ErrorKind::ConnectionRefused
    };
    let mut all = String::new();
    for (address, fault) in failures {
        let _ = write!(all, "{}{address}: {fault}", if all.is_empty() { "" } else { "; " });
    }
    let trouble = Trouble::new(format!("no connection to {what}: {all}"));
    if failures.iter().any(|(_, fault)| refused(fault)) {
        let trouble = trouble.likely("the machine is there, and nothing listens on that port");
        return if let Some(setting) = proxy {
            let trouble = trouble.likely("the proxy is not running").todo(directly(setting));
            trouble.todo(show_proxy(setting))
        } else {
            trouble
                .likely("the API server is being restarted, or a local cluster is not running")
                .todo("compare the port with that of a kubeconfig that works:")
                .todo(show("server"))
        };
    }
    let trouble = trouble
        .likely("a firewall or a security group drops the packets, or a VPN is not up")
        .likely("the address is one of another network");
    if proxy.is_some() {
        return trouble;
    }
    trouble.likely("this network reaches others only through a proxy").todo(
        "set proxy-url in the kubeconfig's cluster, or HTTPS_PROXY, if there is a proxy to use",
    )
}

/// The proxy is there and leads nowhere.
pub(super) fn no_way(why: &Ending, setting: &str) -> Trouble {
    let says = |words: &str| why.message.contains(words);
    let trouble = Trouble::new(why.message.clone());
    if says("login") {
        return trouble
            .todo(format!(
                "write USER:PASSWORD@ before the host in {setting}, with what is no letter or \
                 digit percent-encoded (@ is %40, : is %3A)"
            ))
            .todo(directly(setting));
    }
    if why.kind == Kind::ClusterTimeout {
        return trouble
            .likely("the proxy cannot reach the API server, or is no proxy")
            .todo("give it more time with --connect-timeout, or ask whoever runs the proxy");
    }
    trouble
        .likely("the proxy does not allow CONNECT to that host and port; many allow only 443")
        .likely("its URL has the wrong scheme: http, https and socks5 are different things")
        .todo(directly(setting))
}

pub(super) fn tls(
    fault: &Fault,
    name: &str,
    authorities: &str,
    shown: Option<&Certificate>,
    now: SystemTime,
) -> Trouble {
    let trouble = match fault.tls() {
        Some(Error::InvalidCertificate(why)) => certificate(why, name, authorities, now, shown),
        Some(Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        )) => Trouble::new("the server does not accept the client certificate, or wants one")
            .likely("the kubeconfig's client-certificate is of another cluster, or has expired")
            .todo("get a new kubeconfig from whoever runs the cluster"),
        Some(Error::AlertReceived(alert)) => {
            Trouble::new(format!("the server ends the handshake with the alert {alert:?}"))
                .likely("a gateway that wants another name: see tls-server-name in the kubeconfig")
        }
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            Trouble::new("what answers there does not speak TLS")
                .likely("the port is one for plain HTTP, or not the API server's at all")
                .todo(show("server"))
        }
        Some(error) => Trouble::new(format!("TLS failed: {error}"))
            .likely("the server or a gateway before it speaks a version of TLS older than 1.2"),
        None => match fault {
            Fault::Late(_) => Trouble::new(format!("the TLS handshake has {fault}"))
                .likely("what listens there does not speak TLS, or a gateway lost its backend"),
            _ => Trouble::new(fault.to_string())
                .likely("a balancer or firewall that accepts connections and then drops them")
                .likely("what listens there does not speak TLS"),
        },
    };
    match shown {
        None => trouble,
        Some(it) => trouble.fact(format!("shown is {}, {}", it.sentence(), it.until(now))),
    }
}

fn certificate(
    why: &CertificateError,
    name: &str,
    authorities: &str,
    now: SystemTime,
    shown: Option<&Certificate>,
) -> Trouble {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            let what = "the server's certificate is not signed by an authority that is trusted";
            let trouble = Trouble::new(what).fact(format!("trusted is {authorities}"));
            // Every cluster of some makers has an authority of the same name.
            let same = shown.is_some_and(|it| it.issuer == authorities);
            let trouble = if same {
                trouble.fact("that is the issuer's name, too, but not its key: it is another one")
            } else {
                trouble
            };
            trouble
                .likely(
                    "the kubeconfig's certificate-authority is that of another cluster, or \
                         the cluster was made anew and has another one now",
                )
                .likely("a proxy on the way opens TLS and shows a certificate of its own")
                .todo(
                    "get a new kubeconfig from whoever runs the cluster, or add the proxy's \
                       authority to its certificate-authority",
                )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Trouble::new("the server's certificate has expired")
                .likely("nobody renewed it; kubeadm's last for a year")
                .likely("this machine's clock is wrong")
                .todo("on a control plane made by kubeadm: kubeadm certs renew apiserver")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            let now = humantime::format_rfc3339_seconds(now);
            Trouble::new("the server's certificate is not valid yet")
                .likely(format!("this machine's clock is wrong: it says {now}"))
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = shown.map(|it| it.names.join(", ")).unwrap_or_default();
            let trouble = Trouble::new(format!("the server's certificate is not for {name}"))
                .likely(
                    "the server is reached by another name than it knows itself by: through \
                         a tunnel, a balancer or an address that was added later",
                );
            if names.is_empty() {
                trouble
            } else {
                trouble.todo(format!(
                    "set tls-server-name in the kubeconfig's cluster to a name that it has, \
                     one of {names}; or use such a name as its server"
                ))
            }
        }
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            Trouble::new("the server's certificate is that of an authority and not of a server")
                .likely(
                    "it was made by hand and signs itself (CA:TRUE): kubectl takes that, and this \
                     program does not",
                )
                .todo("make one for the server itself: basicConstraints CA:FALSE, with its names")
        }
        other => Trouble::new(format!("the server's certificate is not accepted: {other}")),
    }
}

/// A 401.
pub(super) fn unauthorized(shows: &Shows, is_variable: bool, now: SystemTime) -> Trouble {
    let whose =
        if is_variable { "the token in $PODWIRE_TOKEN" } else { "the kubeconfig's credential" };
    let trouble = Trouble::new(format!("the cluster does not accept {whose} (401 Unauthorized)"));
    let trouble = match shows.expires.map(|at| now.duration_since(at)) {
        Some(Ok(past)) => {
            return trouble
                .fact(format!("it says of itself that it expired {} ago", span(past)))
                .todo("get a new one: log in again, or for a service account:")
                .todo("kubectl create token SERVICEACCOUNT -n NAMESPACE --duration 8h");
        }
        Some(Err(left)) => trouble
            .fact(format!("it says of itself that it is good for {} more", span(left.duration())))
            .likely("it is of another cluster, or meant for another audience")
            .likely("whoever it was given to was deleted: tokens of a service account go with it"),
        None => trouble.likely("it has expired, was withdrawn, or is of another cluster"),
    };
    if is_variable {
        return trouble.todo("put a new token into it, or unset it to be the kubeconfig's user");
    }
    trouble.todo("log in again, and look what the cluster makes of it:").todo("kubectl auth whoami")
}

/// Nobody is known by it, but nobody was refused either.
pub(super) fn anonymous(shows: &Shows) -> Trouble {
    let trouble = Trouble::new("the cluster sees nobody: you are system:anonymous");
    match (shows.token, shows.certificate.is_some()) {
        (false, false) => trouble
            .likely("the context names no user, or one without a token or certificate")
            .todo("add a user to the context, or set $PODWIRE_TOKEN"),
        (true, _) => trouble.likely("a proxy on the way removes the Authorization header"),
        (false, true) => trouble
            .likely("a balancer or proxy on the way opens TLS: a client certificate ends there")
            .todo("use a token, or an address that leads to the API server itself"),
    }
}

/// A subprotocol could not be agreed on, or the upgrade did not get through.
pub(super) fn no_upgrade(why: &Ending) -> Trouble {
    let says = |words: &str| why.message.contains(words);
    let trouble = Trouble::new(why.message.clone());
    if says("strips the Upgrade header") {
        return trouble
            .fact("the API server said: 400 Upgrade request required")
            .likely(
                "a gateway between here and the API server forwards plain HTTP only, or \
                     speaks HTTP/2 to it",
            )
            .todo(
                "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                   proxy_set_header Connection \"upgrade\";",
            )
            .todo(
                "HAProxy, Envoy, cloud balancers: allow WebSockets on this route (Envoy: \
                   upgrade_configs with websocket), or pass TLS through",
            );
    }
    if says("none of the subprotocols") || says("subprotocol") {
        return trouble
            .likely(
                "a gateway between here and the API server drops or rewrites the header \
                     Sec-WebSocket-Protocol",
            )
            .likely("what answers is not a Kubernetes API server, or is older than 1.4")
            .todo("try an address that leads to the API server itself");
    }
    trouble
        .likely("what answers is a gateway and not the API server: a login page, a redirect")
        .todo("open the server's address with curl and look at who answers")
}

/// What became of a real session.
pub(super) fn no_trip(why: &Ending, code: u8, target: &Target) -> Trouble {
    let says = |words: &str| why.message.contains(words);
    let trouble = Trouble::new(why.message.clone());
    let (namespace, pod) = (&target.namespace, &target.pod);
    match why.kind {
        Kind::Exit => {
            let what =
                format!("the shell was asked for exit code {code}, and came to {}", why.message);
            Trouble::new(what)
                .likely("what is called a shell in there is none, or ends by itself at once")
        }
        Kind::NoShell => trouble
            .fact("exec itself works: the container is there, and has none of --shells")
            .likely("an image without a shell, such as distroless or scratch")
            .todo("look into another container with --container, or add the shell to --shells"),
        Kind::NotFound if says("container") => trouble
            .likely("the pod has no such container, or it is not running at the moment")
            .todo("look which containers run, and name one with --container:")
            .todo(format!("kubectl get pod {pod} -n {namespace} -o wide")),
        Kind::NotFound => trouble
            .likely("a typing mistake, another namespace, or a pod that was replaced")
            .todo(format!("kubectl get pods -n {namespace}")),
        Kind::BadRequest if says("container name must be specified") => trouble
            .likely("the relay chooses one as kubectl does, but may not read the pod")
            .todo("name one with --container, or give the right to get pods"),
        Kind::Forbidden => trouble
            .likely("an admission webhook refuses it, or another authorizer than RBAC")
            .todo("look into the API server's audit log for pods/exec, and at")
            .todo("kubectl get validatingwebhookconfigurations"),
        Kind::ClusterUnreachable if says("dialing backend") || says("sending request") => trouble
            .likely(
                "the API server cannot reach the node's kubelet: the node is down, port 10250 is \
                 closed, or a konnectivity agent is gone",
            )
            .todo("look at the node, and at logs, which come the same way:")
            .todo("kubectl get nodes")
            .todo(format!("kubectl logs {pod} -n {namespace}")),
        Kind::ClusterUnreachable | Kind::ClusterLost => trouble
            .likely("a balancer or gateway between here and the API server cuts WebSockets")
            .likely("the API server or the kubelet was restarted meanwhile")
            .todo("try again, and try an address that leads to the API server itself"),
        Kind::ClusterTimeout => trouble
            .likely("a gateway holds back what goes through it, or the node is overloaded")
            .likely("an admission webhook takes its time")
            .todo("give it more time with --response-timeout"),
        Kind::Limit => trouble
            .likely("the node has too many execs that nobody picked up")
            .todo("wait a minute and try again"),
        Kind::Failed => trouble
            .likely("the container runtime cannot start anything in this container")
            .todo("look into the log of the node's kubelet; this fails in the same way:")
            .todo(format!("kubectl exec {pod} -n {namespace} -- sh")),
        _ => trouble,
    }
}

/// Nothing is where an API server has something for everybody.
pub(super) fn no_api(field: &str) -> Trouble {
    Trouble::new("no API server is there: it has neither a version nor anybody's name (404)")
        .likely(format!("the path in {field} is wrong"))
        .likely("the cluster that the path names was taken out of the gateway")
        .todo("compare it with the server that kubectl uses on a machine where it works:")
        .todo(show("server"))
}

/// A plain request got no answer that says anything.
pub(super) fn no_answer(why: &Ending) -> Trouble {
    let trouble = Trouble::new(why.message.clone());
    match why.kind {
        Kind::ClusterTimeout => trouble
            .likely("the API server is overloaded, or a gateway before it lost its backend")
            .todo("give it more time with --response-timeout"),
        Kind::ClusterProtocol => trouble
            .likely("what answers is not a Kubernetes API server: a login page, another service"),
        _ => trouble
            .likely(
                "a gateway before the API server answers in its place, or the API server is \
                     being started",
            )
            .todo("kubectl get --raw '/readyz?verbose'"),
    }
}
