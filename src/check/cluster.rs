//! What a server that was reached makes of us: who we are, what we may, and a real session.

use std::time::SystemTime;

use hyper::StatusCode;
use serde::Deserialize;

use super::access::{self, User};
use super::certificate::{Certificate, span};
use super::reach::milliseconds;
use super::report::Trouble;
use super::trip::{self, Trip};
use super::{Printed, Subject, TOKEN, reasons};
use crate::clusters::Clusters;
use crate::credential::Identity;
use crate::exec::{Access, Shows};
use crate::proto::channel::Subprotocol;
use crate::proto::ending::{Ending, Kind};

/// The first minor version of Kubernetes 1 that asks for the right to create, too.
const BOTH_VERBS: u64 = 35;

/// The first minor version of Kubernetes 1 that tells everybody who they are.
const TELLS_NAMES: u64 = 28;

/// What stands at the end of a source whose own user is left out.
const CALLERS: &str = ", the callers' tokens";

/// What the others need of the token's step.
struct Known {
    user: Option<User>,
    /// The 36 of 1.36.
    minor: Option<u64>,
}

/// The first step: what there is to go by. Gives what is shown, or why there is nothing.
pub(super) async fn config(
    report: &mut Printed,
    subject: &Subject<'_>,
    clusters: &Clusters,
) -> Result<Shows, Ending> {
    let connector = &subject.connector;
    let shows = connector.shows(&subject.identity).await;
    let source = clusters.source();
    if matches!(subject.identity, Identity::Token(_)) {
        let place = source.strip_suffix(CALLERS).unwrap_or(source);
        report.ok("config", &format!("{place}, the token in ${TOKEN}"));
    } else {
        report.ok("config", source);
        if let Some(from) = connector.source() {
            report.note(&format!("the token comes from {from}"));
        }
    }
    if let Err(why) = &shows {
        report.note(&format!("{}, see token", why.message));
    }
    for warning in clusters.warnings() {
        report.note(&format!("warning: {warning}"));
    }
    shows
}

/// Everything that needs a server. What fails is in the report.
pub(super) async fn go(report: &mut Printed, subject: &Subject<'_>, shows: Result<Shows, Ending>) {
    let rest = ["version", "subprotocol", "RBAC get", "RBAC create", "round trip"];
    let Ok(user) = token(report, subject, shows).await else {
        return report.skipped(&rest, "token");
    };
    let Ok(minor) = version(report, subject, user.is_some()).await else {
        return report.skipped(&rest[1..], "version");
    };
    let known = Known { user, minor };
    let trip = if subject.has_pod {
        let Subject { config, connector, identity, wanted, .. } = subject;
        Some(trip::go(config, connector, wanted.clone(), identity).await)
    } else {
        None
    };
    subprotocol(report, &known, trip.as_ref());
    let is_proved = trip.as_ref().is_some_and(|trip| trip.opened.is_ok());
    let access = rights(report, subject, &known, is_proved).await;
    round_trip(report, subject, access, trip.as_ref());
    let missing = access.is_some_and(|access| lacks(access, known.minor));
    if missing {
        report.copy("\nWhoever may give rights can give these:\n\n");
        report.copy(&access::role(&subject.wanted.target.namespace, known.user.as_ref()));
    }
}

/// Whether the cluster knows us, and as whom if it tells.
async fn token(
    report: &mut Printed,
    subject: &Subject<'_>,
    shows: Result<Shows, Ending>,
) -> Result<Option<User>, ()> {
    let now = SystemTime::now();
    let mut fail = |trouble: &Trouble| {
        report.failed("token", trouble);
        Err(())
    };
    let shows = match shows {
        Ok(shows) => shows,
        Err(why) => return fail(&Trouble::new(why.message)),
    };
    let Subject { connector, identity, wanted, .. } = subject;
    let question = Some(User::question());
    let answer = match connector.ask(access::WHO_AM_I, question, &wanted.target, identity).await {
        Ok(answer) => answer,
        Err(why) => return fail(&reasons::no_answer(&why)),
    };
    let is_variable = matches!(identity, Identity::Token(_));
    let user = match answer.status {
        StatusCode::UNAUTHORIZED => {
            return fail(&reasons::unauthorized(&shows, is_variable, now));
        }
        status if status.is_success() => User::read(&answer.body),
        StatusCode::FORBIDDEN => User::named_in(&answer.sentence()),
        // Before 1.28 there is nobody to ask. Where the server is no API server it is the same.
        StatusCode::NOT_FOUND => None,
        _ => return fail(&reasons::no_answer(&answer.ending())),
    };
    if user.as_ref().is_some_and(|user| user.name == access::ANONYMOUS) {
        return fail(&reasons::anonymous(&shows));
    }
    match &user {
        Some(user) => report.ok("token", &format!("you are {}", user.sentence())),
        None => report.ok("token", "it was not refused; the server tells no names"),
    }
    if let Some(left) = shows.expires.and_then(|at| at.duration_since(now).ok()) {
        report.note(&format!("the token is good for {} more", span(left)));
    }
    if let Some(certificate) = shows.certificate.as_ref().and_then(|it| Certificate::read(it)) {
        let (of, until) = (&certificate.subject, certificate.until(now));
        report.note(&format!("the client certificate is of {of}, {until}"));
    }
    Ok(user)
}

/// The answer of `/version`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Version {
    major: String,
    minor: String,
    #[serde(rename = "gitVersion")]
    full: String,
}

/// For people, and for what depends on it. Nothing fails without, unless nothing at all is there.
async fn version(
    report: &mut Printed,
    subject: &Subject<'_>,
    is_known: bool,
) -> Result<Option<u64>, ()> {
    let Subject { connector, identity, wanted, about, .. } = subject;
    let why = match connector.ask("/version", None, &wanted.target, identity).await {
        Ok(answer) if answer.status.is_success() => {
            let version: Option<Version> = serde_json::from_slice(&answer.body).ok();
            match version.filter(|version| !version.full.is_empty()) {
                Some(version) => {
                    report.ok("version", &format!("Kubernetes {}", version.full));
                    // Some clouds write `36+`.
                    let minor = version.minor.trim_end_matches('+').parse().ok();
                    let minor = minor.filter(|_| version.major == "1");
                    if !is_known && minor.is_some_and(|minor| minor < TELLS_NAMES) {
                        report.note("servers older than 1.28 tell nobody's name");
                    }
                    return Ok(minor);
                }
                None => "the answer makes no sense".to_owned(),
            }
        }
        Ok(answer) => {
            if let Some(field) = &about.path_in
                && !is_known
                && answer.status == StatusCode::NOT_FOUND
            {
                report.failed("version", &reasons::no_api(field));
                return Err(());
            }
            answer.sentence()
        }
        Err(why) => why.message.into_owned(),
    };
    report.untried("version", &format!("not told: {why}"));
    Ok(None)
}

fn subprotocol(report: &mut Printed, known: &Known, trip: Option<&Trip>) {
    let step = "subprotocol";
    let Some(trip) = trip else {
        let usual = match known.minor {
            Some(minor @ 30..) => format!("1.{minor} has v5, unless that is switched off"),
            Some(minor) => format!("1.{minor} has v4"),
            None => "1.30 and later have v5, older ones v4".to_owned(),
        };
        return report.untried(
            step,
            &format!(
                "not tried: it is chosen only where there is a pod, so name one with --pod \
                 ({usual})"
            ),
        );
    };
    let opened = match &trip.opened {
        Ok(opened) => opened,
        Err(why) if why.kind == Kind::ClusterProtocol => {
            return report.failed(step, &reasons::no_upgrade(why));
        }
        Err(_) => {
            return report.skipped(&[step], "an exec that is not refused, see below");
        }
    };
    let first = opened.first().copied().unwrap_or(Subprotocol::V5);
    let last = opened.last().copied().unwrap_or(first);
    report.ok(step, last.name());
    if first != last {
        report.note(&format!(
            "{} was agreed on first and started nothing: this is known of cri-dockerd under \
             Kubernetes 1.36. Sessions lose a moment with it; upgrade cri-dockerd",
            first.name()
        ));
    }
    match last {
        Subprotocol::V5 => {}
        Subprotocol::V4 => {
            report.note(
                "v4 has no end of input: without a terminal, programs that read until then (cat, \
                 tar, sort) wait for ever. Terminals work as on v5",
            );
            if first == last && known.minor.is_some_and(|minor| minor >= 30) {
                report.note(
                    "servers from 1.30 on have v5: it is switched off there (the gate \
                     TranslateStreamCloseWebsocketRequests, as on OpenShift), or a gateway on the \
                     way changes the header Sec-WebSocket-Protocol",
                );
            }
        }
        Subprotocol::V1 => {
            report.note("this oldest version tells no exit codes and has no end of input");
        }
    }
}

/// Whether what is missing will be asked for.
fn lacks(access: Access, minor: Option<u64>) -> bool {
    let is_old = minor.is_some_and(|minor| minor < BOTH_VERBS);
    !access.get || (!access.create && !is_old)
}

/// Both verbs. Nothing if the cluster cannot be asked, which is no trouble where it was proved that
/// they are there.
async fn rights(
    report: &mut Printed,
    subject: &Subject<'_>,
    known: &Known,
    is_proved: bool,
) -> Option<Access> {
    let Subject { connector, identity, wanted, .. } = subject;
    let access = match connector.review(&wanted.target, identity).await {
        Ok(access) => access,
        Err(why) => {
            for step in ["RBAC get", "RBAC create"] {
                if is_proved {
                    report
                        .untried(step, &format!("cannot be asked, but is there: {}", why.message));
                } else {
                    report.failed(step, &reasons::no_answer(&why));
                }
            }
            return None;
        }
    };
    let namespace = &wanted.target.namespace;
    let who = known.user.as_ref();
    let who = who.map_or_else(|| "you".to_owned(), |user| format!("user {}", user.name));
    let of = match wanted.target.pod.as_str() {
        "" => format!("pods/exec in the namespace {namespace}"),
        pod => format!("pods/exec of {pod} in the namespace {namespace}"),
    };
    let elsewhere = "if your pods are in another namespace, name it with --namespace";
    let missing = |verb: &str| {
        let trouble = Trouble::new(format!("{who} may not {verb} {of}"));
        let is_named = subject.config.subject.namespace.is_some();
        if is_named { trouble } else { trouble.todo(elsewhere) }
    };
    if access.get {
        report.ok("RBAC get", &format!("{who} may get {of}"));
    } else {
        let why = "a WebSocket is a GET, so every server asks for this verb, also of those for \
                   whom kubectl works (it falls back to a POST)";
        report.failed("RBAC get", &missing("get").fact(why));
    }
    match (access.create, known.minor) {
        (true, _) => report.ok("RBAC create", &format!("{who} may create {of}")),
        (false, Some(minor)) if minor < BOTH_VERBS => {
            report.ok("RBAC create", &format!("{who} may not create {of}"));
            report.note(&format!(
                "1.{minor} does not ask for it; 1.{BOTH_VERBS} and later will: give it before an \
                 upgrade"
            ));
        }
        (false, _) => {
            let why = "Kubernetes 1.35 and later ask for this verb, too, and do not name it when \
                       it is missing";
            report.failed("RBAC create", &missing("create").fact(why));
        }
    }
    Some(access)
}

fn round_trip(
    report: &mut Printed,
    subject: &Subject<'_>,
    access: Option<Access>,
    trip: Option<&Trip>,
) {
    let step = "round trip";
    let Some(trip) = trip else {
        return report
            .untried(step, "not tried: name a pod with --pod, and with --namespace where it is");
    };
    let is_allowed = access.is_none_or(|access| access.get && access.create);
    match &trip.opened {
        Err(why) if why.kind == Kind::ClusterProtocol => {
            return report.skipped(&[step], "subprotocol");
        }
        Err(why) if why.kind == Kind::Forbidden && !is_allowed => {
            return report.skipped(&[step], "RBAC");
        }
        _ => {}
    }
    let target = &subject.wanted.target;
    let container = target.container.as_ref().or(trip.container.as_ref());
    let of = container.map(|name| format!(", container {name}")).unwrap_or_default();
    let place = format!("{}/{}{of}", target.namespace, target.pod);
    let ending = &trip.ending;
    // The oldest subprotocol tells that it ended, and no code.
    let is_right = ending.kind == Kind::Exit && ending.exit_code.is_none_or(|it| it == trip::CODE);
    let (Some((shell, begun)), Some(echo), true) = (&trip.heard.shell, trip.heard.echo, is_right)
    else {
        let mut trouble =
            reasons::no_trip(ending, trip::CODE, target).fact(format!("tried in {place}"));
        // That a shell is not there is no news where the next one is tried.
        let is_news = |why: &&Ending| {
            !["executable file", "no such file"].iter().any(|it| why.message.contains(it))
        };
        let odd = trip.unstarted.iter().find(is_news);
        if let Some(why) = odd.filter(|_| ending.kind != Kind::NoShell) {
            trouble = trouble.fact(format!("tried before that: {}", why.message));
        }
        return report.failed(step, &trouble);
    };
    let code = match ending.exit_code {
        Some(code) => format!("it ended with exit code {code}, as it was told to"),
        None => "it ended; this subprotocol tells no exit codes".to_owned(),
    };
    report.ok(
        step,
        &format!(
            "{shell} in {place}: answered {} after the request, a line there and back takes {}; \
             {code}",
            milliseconds(*begun),
            milliseconds(echo)
        ),
    );
}
