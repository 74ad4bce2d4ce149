//! Kubernetes' `Status` object, field by field in the order Go writes it.

use serde::Serialize;

const INTERNAL: &str = "Internal error occurred: ";

#[derive(Serialize)]
struct Metadata {}

#[derive(Serialize)]
struct Cause {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    message: String,
}

#[derive(Default, Serialize)]
struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause>,
}

#[derive(Serialize)]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(rename = "apiVersion", skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    metadata: Metadata,
    #[serde(rename = "status")]
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

impl Status {
    fn failure(message: String, reason: Option<&'static str>) -> Status {
        Status {
            kind: None,
            api_version: None,
            metadata: Metadata {},
            result: "Failure",
            message: Some(message),
            reason,
            details: None,
            code: None,
        }
    }

    fn json(&self) -> String {
        go_json(&serde_json::to_string(self).unwrap_or_default())
    }
}

/// Go's encoder escapes these three wherever they stand, and they only ever stand in strings
/// (recording `new_session_while_kubelet_down` has `\u0026`).
pub(crate) fn go_json(text: &str) -> String {
    text.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

/// How a command ended, as channel 3 tells it.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Exit(i32),
    /// The command was not started; the text is the part after "Internal error occurred: ".
    Internal(String),
}

/// Channel 3 of v5, where the kubelet or the API server wrote it.
pub(crate) fn translated(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exit(0) => success(),
        Outcome::Exit(code) => exit(*code, &format!("command terminated with exit code {code}")),
        Outcome::Internal(text) => internal(text),
    }
}

/// Channel 3 of v4, where the container runtime wrote it (recording `only_v4`).
pub(crate) fn runtime(outcome: &Outcome, argv: &[String]) -> String {
    match outcome {
        Outcome::Exit(0) => success(),
        Outcome::Exit(code) => exit(*code, &runtime_exit(*code, argv)),
        Outcome::Internal(text) => internal(text.strip_prefix(INTERNAL).unwrap_or(text)),
    }
}

/// Channel 3 of v1: plain text, and only of a failure (recording `base64_channel`).
pub(crate) fn plain(outcome: &Outcome, argv: &[String]) -> Option<String> {
    match outcome {
        Outcome::Exit(0) => None,
        Outcome::Exit(code) => Some(format!(
            "command terminated with non-zero exit code: {}",
            runtime_exit(*code, argv)
        )),
        Outcome::Internal(text) if text.starts_with(INTERNAL) => Some(text.clone()),
        Outcome::Internal(text) => Some(format!("{INTERNAL}{text}")),
    }
}

/// `{"metadata":{},"status":"Success"}`
pub(crate) fn success() -> String {
    "{\"metadata\":{},\"status\":\"Success\"}".to_owned()
}

/// A non-zero exit in the wording of v5.
pub(crate) fn exit_code(code: i32) -> String {
    translated(&Outcome::Exit(code))
}

/// An internal error; `text` is what follows "Internal error occurred: ".
pub(crate) fn internal(text: &str) -> String {
    let mut status = Status::failure(format!("{INTERNAL}{text}"), Some("InternalError"));
    let causes = vec![Cause { reason: None, message: text.to_owned() }];
    status.details = Some(Details { causes, ..Details::default() });
    status.code = Some(500);
    status.json()
}

/// The body of a refusal before the upgrade; with a pod's name when it is about one.
pub(crate) fn refusal(
    code: u16,
    reason: Option<&'static str>,
    message: &str,
    about: Option<(&str, &'static str)>,
) -> String {
    let mut status = Status::failure(message.to_owned(), reason);
    status.kind = Some("Status");
    status.api_version = Some("v1");
    status.details = about.map(|(name, kind)| Details {
        name: Some(name.to_owned()),
        kind: Some(kind),
        causes: Vec::new(),
    });
    status.code = Some(code);
    status.json()
}

fn exit(code: i32, text: &str) -> String {
    let message = format!("command terminated with non-zero exit code: {text}");
    let mut status = Status::failure(message, Some("NonZeroExitCode"));
    let causes = vec![Cause { reason: Some("ExitCode"), message: code.to_string() }];
    status.details = Some(Details { causes, ..Details::default() });
    status.json()
}

fn runtime_exit(code: i32, argv: &[String]) -> String {
    format!("error executing command [{}], exit code {code}", argv.join(" "))
}
