//! Everything but exec: discovery, pods, namespaces and access reviews, as far as kubectl and
//! the relay ask for them.

use serde_json::{Value, json};

use crate::access::{Denied, User};
use crate::behaviour::Behaviour;
use crate::exec::unescape;
use crate::http::{Request, Response};
use crate::status::{go_json, refusal};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const NAMESPACE: &str = "demo";
const BORN: &str = "2026-11-22T05:34:21Z";
/// Served so that a peer that hands pods on can be caught handing on too much.
const SECRET: &str = "not-for-browsers";

/// A pod of the cluster.
pub(crate) struct Pod {
    pub(crate) containers: &'static [&'static str],
    pub(crate) running: bool,
}

/// The pod of this name.
pub(crate) fn pod(namespace: &str, name: &str) -> Option<Pod> {
    match (namespace, name) {
        (NAMESPACE, "shell") => Some(Pod { containers: &["main", "side"], running: true }),
        (NAMESPACE, "done") => Some(Pod { containers: &["main"], running: false }),
        _ => None,
    }
}

/// Whether the container was given a terminal for its main process.
pub(crate) fn has_terminal(container: &str) -> bool {
    container == "main"
}

/// A pod's path, decoded; with the part after its name, if any.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

impl Place {
    pub(crate) fn of(path: &str) -> Option<Place> {
        let rest = path.strip_prefix("/api/v1/namespaces/")?;
        let words: Vec<String> = rest.split('/').map(decoded).collect::<Option<_>>()?;
        match words.as_slice() {
            [namespace, pods, name, rest @ ..] if pods == "pods" && rest.len() < 2 => Some(Place {
                namespace: namespace.clone(),
                name: name.clone(),
                subresource: rest.first().cloned().unwrap_or_default(),
            }),
            _ => None,
        }
    }

    /// Whether this is a stream and not an object.
    pub(crate) fn streams(&self) -> bool {
        matches!(self.subresource.as_str(), "exec" | "attach")
    }
}

fn decoded(word: &str) -> Option<String> {
    String::from_utf8(unescape(word)?).ok()
}

/// Go's `url.QueryEscape`.
pub(crate) fn escape(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        b' ' => "+".to_owned(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escaped).collect()
}

/// The answer to anything that is no stream.
pub(crate) fn answer(request: &Request, user: &User, behaviour: &Behaviour) -> Response {
    let path = request.path();
    let aggregated = request.header("accept").is_some_and(|types| types.contains("as=APIGroup"));
    match (request.method.as_str(), path) {
        ("GET", "/api" | "/apis") if aggregated => {
            let items = if path == "/api" { core_discovery() } else { json!([]) };
            let list = json!({"kind": "APIGroupDiscoveryList",
                "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
            let mut response = Response::typed(request, 200, AGGREGATED, list.to_string());
            response.headers.retain(|(name, _)| *name != "Cache-Control");
            response.with("Cache-Control", "public").with("Vary", "Accept")
        }
        ("GET", "/api") => ok(
            request,
            &json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": []}),
        ),
        ("GET", "/apis") => {
            ok(request, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}))
        }
        ("GET", "/api/v1") => ok(request, &resources()),
        ("GET", "/version") => ok(
            request,
            &json!({"major": "1", "minor": behaviour.minor.to_string(),
            "gitVersion": format!("v1.{}.2", behaviour.minor), "gitCommit": "", "gitTreeState": "clean",
            "buildDate": BORN, "goVersion": "go1.26.0", "compiler": "gc",
            "platform": "linux/amd64"}),
        ),
        ("GET", "/livez" | "/readyz" | "/healthz") => {
            Response::typed(request, 200, "text/plain; charset=utf-8", "ok".to_owned())
        }
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews") => review(request, user),
        ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews") => who(request, user),
        ("GET", path) => objects(request, user, path, behaviour),
        _ => missing_path(request),
    }
}

fn objects(request: &Request, user: &User, path: &str, behaviour: &Behaviour) -> Response {
    if let Some(place) = Place::of(path).filter(|place| place.subresource.is_empty()) {
        if !user.may("get", "pods") {
            return forbidden(request, user, "get", "pods", &place);
        }
        return match pod(&place.namespace, &place.name) {
            Some(found) => ok(request, &pod_object(&place.name, &found, behaviour)),
            None => not_found(request, &place.name),
        };
    }
    let Some(rest) = path.strip_prefix("/api/v1/namespaces/") else {
        return missing_path(request);
    };
    match rest.split_once('/') {
        None if !user.may("get", "namespaces") => {
            let message = format!(
                "namespaces \"{rest}\" is forbidden: User \"{}\" cannot get resource \
                 \"namespaces\" in API group \"\" in the namespace \"{rest}\"",
                user.name
            );
            let body = refusal(403, Some("Forbidden"), &message, Some((rest, "namespaces")));
            Response::json(request, 403, body).with("X-Content-Type-Options", "nosniff")
        }
        None if rest == NAMESPACE => ok(
            request,
            &json!({"kind": "Namespace", "apiVersion": "v1",
            "metadata": {"name": NAMESPACE, "creationTimestamp": BORN},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
        ),
        None => {
            let message = format!("namespaces \"{rest}\" not found");
            let about = Some((rest, "namespaces"));
            Response::json(request, 404, refusal(404, Some("NotFound"), &message, about))
        }
        Some((namespace, "pods")) if user.may("list", "pods") => {
            let names = ["done", "shell"].into_iter();
            let items: Vec<Value> = names
                .filter_map(|name| Some((name, pod(namespace, name)?)))
                .map(|(name, found)| pod_object(name, &found, behaviour))
                .collect();
            ok(
                request,
                &json!({"kind": "PodList", "apiVersion": "v1",
                "metadata": {"resourceVersion": "340"}, "items": items}),
            )
        }
        Some((namespace, "pods")) => {
            let message = format!(
                "pods is forbidden: User \"{}\" cannot list resource \"pods\" in API group \"\" \
                 in the namespace \"{namespace}\"",
                user.name
            );
            let body = refusal(403, Some("Forbidden"), &message, None);
            Response::json(request, 403, body).with("X-Content-Type-Options", "nosniff")
        }
        Some(_) => missing_path(request),
    }
}

fn ok(request: &Request, object: &Value) -> Response {
    Response::json(request, 200, go_json(&object.to_string()))
}

fn missing_path(request: &Request) -> Response {
    let message = "the server could not find the requested resource";
    Response::json(request, 404, refusal(404, Some("NotFound"), message, None))
}

/// `SelfSubjectAccessReview`: what the relay asks again and again while a session lasts.
fn review(request: &Request, user: &User) -> Response {
    let mut review: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let attributes = &review["spec"]["resourceAttributes"];
    let word = |name: &str| attributes[name].as_str().unwrap_or_default().to_owned();
    let resource = match word("subresource").as_str() {
        "" => word("resource"),
        sub => format!("{}/{sub}", word("resource")),
    };
    let allowed = user.may(&word("verb"), &resource);
    review["kind"] = json!("SelfSubjectAccessReview");
    review["apiVersion"] = json!("authorization.k8s.io/v1");
    review["status"] = json!({"allowed": allowed});
    Response::json(request, 201, go_json(&review.to_string()))
}

/// `SelfSubjectReview`, which whoever is known may ask (role `system:basic-user`).
fn who(request: &Request, user: &User) -> Response {
    if user.name == "system:anonymous" {
        let message = "selfsubjectreviews.authentication.k8s.io is forbidden: User \
             \"system:anonymous\" cannot create resource \"selfsubjectreviews\" in API group \
             \"authentication.k8s.io\" at the cluster scope";
        return Response::json(request, 403, refusal(403, Some("Forbidden"), message, None));
    }
    let info = json!({"username": user.name, "groups": ["system:authenticated"]});
    let review = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": BORN}, "status": {"userInfo": info}});
    Response::json(request, 201, go_json(&review.to_string()))
}

/// Recording `forbidden`, which has a header that other refusals do not have.
pub(crate) fn forbidden(
    request: &Request,
    user: &User,
    verb: &str,
    resource: &str,
    place: &Place,
) -> Response {
    let Place { namespace, name, .. } = place;
    let message = format!(
        "pods \"{name}\" is forbidden: User \"{}\" cannot {verb} resource \"{resource}\" in API \
         group \"\" in the namespace \"{namespace}\"",
        user.name
    );
    let body = refusal(403, Some("Forbidden"), &message, Some((name, "pods")));
    Response::json(request, 403, body).with("X-Content-Type-Options", "nosniff")
}

/// Recording `missing_pod`.
pub(crate) fn not_found(request: &Request, name: &str) -> Response {
    let message = format!("pods \"{name}\" not found");
    Response::json(request, 404, refusal(404, Some("NotFound"), &message, Some((name, "pods"))))
}

/// What a caller hears who was not let in.
pub(crate) fn denied(request: &Request, denied: &Denied) -> Response {
    match denied {
        Denied::Unauthorized => {
            let body = refusal(401, Some("Unauthorized"), "Unauthorized", None);
            Response::json(request, 401, body)
        }
        Denied::Impersonation { caller, target } => {
            let message = format!(
                "users \"{target}\" is forbidden: User \"{caller}\" cannot impersonate resource \
                 \"users\" in API group \"\" at the cluster scope"
            );
            let body = refusal(403, Some("Forbidden"), &message, Some((target, "users")));
            Response::json(request, 403, body).with("X-Content-Type-Options", "nosniff")
        }
    }
}

fn core_discovery() -> Value {
    let kind = |kind: &str| json!({"group": "", "version": "", "kind": kind});
    json!([{"metadata": {}, "versions": [{"version": "v1", "freshness": "Current", "resources": [
        {"resource": "namespaces", "responseKind": kind("Namespace"), "scope": "Cluster",
         "singularResource": "namespace", "verbs": ["get", "list"], "shortNames": ["ns"]},
        {"resource": "pods", "responseKind": kind("Pod"), "scope": "Namespaced",
         "singularResource": "pod", "verbs": ["get", "list"], "shortNames": ["po"],
         "categories": ["all"], "subresources": [
            {"subresource": "attach", "responseKind": kind("PodAttachOptions"),
             "verbs": ["create", "get"]},
            {"subresource": "exec", "responseKind": kind("PodExecOptions"),
             "verbs": ["create", "get"]}]}
    ]}]}])
}

fn resources() -> Value {
    let resource = |name: &str, singular: &str, kind: &str, namespaced: bool| {
        json!({"name": name, "singularName": singular, "namespaced": namespaced, "kind": kind,
            "verbs": if name.contains('/') { ["create", "get"] } else { ["get", "list"] }})
    };
    json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
        resource("namespaces", "namespace", "Namespace", false),
        resource("pods", "pod", "Pod", true),
        resource("pods/attach", "", "PodAttachOptions", true),
        resource("pods/exec", "", "PodExecOptions", true)]})
}

fn pod_object(name: &str, pod: &Pod, behaviour: &Behaviour) -> Value {
    let container = |name: &&str| {
        json!({"name": name, "stdin": true, "tty": has_terminal(name),
            "image": "debian:12", "command": ["sleep", "infinity"],
            "env": [{"name": "PASSWORD", "value": SECRET}],
            "volumeMounts": [{"name": SECRET, "mountPath": "/secret"}],
            "resources": {}, "imagePullPolicy": "IfNotPresent"})
    };
    let state = |name: &&str| {
        let state = if pod.running {
            json!({"running": {"startedAt": BORN}})
        } else {
            json!({"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": BORN}})
        };
        json!({"name": name, "image": "debian:12", "imageID": "", "ready": pod.running,
            "started": pod.running, "restartCount": 0, "state": state})
    };
    let annotations = match &behaviour.default_container {
        Some(container) if name == "shell" => {
            json!({"kubectl.kubernetes.io/default-container": container})
        }
        _ => json!({}),
    };
    let ready = if pod.running { "True" } else { "False" };
    json!({"kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": NAMESPACE, "resourceVersion": "337",
            "uid": "ffc5b85f-7213-49a6-8b35-e26329ec9ea3", "creationTimestamp": BORN,
            "labels": {"app": name}, "annotations": annotations},
        "spec": {"nodeName": "node1", "restartPolicy": if pod.running { "Always" } else { "Never" },
            "containers": pod.containers.iter().map(container).collect::<Vec<_>>()},
        "status": {"phase": if pod.running { "Running" } else { "Succeeded" },
            "podIP": "10.0.0.7", "startTime": BORN,
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": pod.containers.iter().map(state).collect::<Vec<_>>()}})
}
