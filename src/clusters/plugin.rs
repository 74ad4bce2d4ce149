//! Credential plugins as a kubeconfig describes them, and whether they may be run.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::connect::part;
use super::file::Entry;
use super::tree::Node;
use crate::credential::{Part, Plugin, Secret, VERSIONS, find_program};

/// Where a cluster keeps what is meant for plugins.
const EXTENSION: &str = "client.authentication.k8s.io/exec";

/// The most values that a plugin is told of that.
const EXTENSION_MAX: usize = 10_000;

/// The longest hint that is shown where a plugin is not installed.
const HINT_MAX: usize = 200;

/// Whether what a user's plugin says depends on the cluster.
pub(super) fn depends_on_cluster(user: &Entry) -> Result<bool, String> {
    Ok(user.fields("exec")?.map(|exec| exec.flag("provideClusterInfo")).transpose()? == Some(true))
}

/// The plugin that `exec` describes.
pub(super) fn build(exec: &Entry, cluster: &Entry, allowed: &[String]) -> Result<Plugin, String> {
    let Some(command) = exec.text("command")? else {
        return Err(exec.wrong("command", "is missing; name the program that says the credential"));
    };
    // Only what has a separator is a path, and then it is relative to the kubeconfig.
    let is_path = command.contains('/');
    let command = if is_path { whole(&exec.path(command)) } else { command.into() };
    let shown = command.display();
    let is_it = |name: &String| {
        // However a path is written, it is that of one program.
        if name.contains('/') { whole(Path::new(name)) == command } else { *name == *command }
    };
    if !allowed.iter().any(is_it) {
        let what = format!("({shown}) may not be run; allow it with --allow-exec-plugin={shown}");
        return Err(exec.wrong("command", &what));
    }
    let Some(program) = find_program(&command, std::env::var_os("PATH")) else {
        let hint = exec.text("installHint")?.unwrap_or("install it, or give its whole path");
        let hint: String = hint.trim().replace('\n', " ").chars().take(HINT_MAX).collect();
        let place = if is_path { "is not a program" } else { "is not in $PATH" };
        return Err(exec.wrong("command", &format!("({shown}) {place}; {hint}")));
    };
    let version = match exec.text("apiVersion")? {
        Some(text) => VERSIONS.into_iter().find(|it| *it == text),
        None => None,
    };
    let Some(version) = version else {
        let what =
            format!("must be {} or {}; ask the plugin for a newer one", VERSIONS[0], VERSIONS[1]);
        return Err(exec.wrong("apiVersion", &what));
    };
    match exec.text("interactiveMode")? {
        Some("Never" | "IfAvailable") => {}
        None if version != VERSIONS[0] => {}
        Some("Always") => {
            let what = "is Always, and nobody is there to be asked; use a plugin that needs nobody";
            return Err(exec.wrong("interactiveMode", what));
        }
        _ => return Err(exec.wrong("interactiveMode", "must be Never or IfAvailable")),
    }
    let arguments = exec.items("args")?;
    let arguments = arguments.iter().map(|it| it.own_text().map(Secret::new));
    let cluster = if exec.flag("provideClusterInfo")? { Some(about(cluster)?) } else { None };
    let mut info = json!({
        "kind": "ExecCredential",
        "apiVersion": version,
        "spec": {"interactive": false},
    });
    if let Some(cluster) = cluster {
        info["spec"]["cluster"] = cluster;
    }
    Ok(Plugin {
        name: program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        arguments: arguments.collect::<Result<_, _>>()?,
        environment: environment(exec)?,
        info: Secret::new(info.to_string()),
        version,
        program,
        kept: tokio::sync::Mutex::default(),
    })
}

/// A path from the root.
fn whole(path: &Path) -> PathBuf {
    // Fails where we are in no folder.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn environment(exec: &Entry) -> Result<Vec<(String, Secret)>, String> {
    let pair = |entry: &Entry| {
        let name = entry.text("name")?.filter(|name| !name.contains(['=', '\0']));
        let Some(name) = name else {
            return Err(entry.wrong("name", "must be the name of a variable"));
        };
        let value = entry.text("value")?.unwrap_or_default();
        if value.contains('\0') {
            return Err(entry.wrong("value", "must be text without a zero byte"));
        }
        Ok((name.to_owned(), Secret::new(value)))
    };
    exec.items("env")?.iter().map(pair).collect()
}

/// What a plugin is told of the cluster (`k8s.io/client-go/pkg/apis/clientauthentication`).
fn about(cluster: &Entry) -> Result<Value, String> {
    let mut about = Map::new();
    for field in ["server", "tls-server-name", "proxy-url"] {
        if let Some(text) = cluster.text(field)? {
            about.insert(field.to_owned(), text.into());
        }
    }
    for field in ["insecure-skip-tls-verify", "disable-compression"] {
        if cluster.flag(field)? {
            about.insert(field.to_owned(), true.into());
        }
    }
    if let Some(part) = part(cluster, "certificate-authority")? {
        let field = match part {
            Part::Inline(_) => "certificate-authority-data",
            Part::File(_) => "certificate-authority",
        };
        let pem = part.read().map_err(|error| {
            cluster.wrong(field, &format!("cannot be read: {error}; give a file that is there"))
        })?;
        about.insert("certificate-authority-data".to_owned(), STANDARD.encode(pem).into());
    }
    for extension in cluster.items("extensions")? {
        if extension.text("name")? == Some(EXTENSION)
            && let Some(node) = extension.node().field("extension")
        {
            let mut left = EXTENSION_MAX;
            let value = value(node, &mut left).ok_or_else(|| {
                extension.wrong("extension", "has more than 10000 values; write them out")
            })?;
            about.insert("config".to_owned(), value);
        }
    }
    Ok(about.into())
}

/// Plain words have the types that YAML gives them here: nobody else does it.
fn value(node: &Node, left: &mut usize) -> Option<Value> {
    *left = left.checked_sub(1)?;
    Some(match node {
        Node::Scalar(text, false) => text.as_str().into(),
        Node::Scalar(text, true) => match text.as_str() {
            _ if node.is_null() => Value::Null,
            "true" | "True" | "TRUE" => true.into(),
            "false" | "False" | "FALSE" => false.into(),
            text => serde_json::from_str(text)
                .ok()
                .filter(Value::is_number)
                .unwrap_or_else(|| text.into()),
        },
        Node::List(all) => all.iter().map(|it| value(it, left)).collect::<Option<Vec<_>>>()?.into(),
        Node::Map(all) => {
            let mut fields = Map::new();
            for (name, it) in all {
                fields.insert(name.clone(), value(it, left)?);
            }
            Value::Object(fields)
        }
    })
}
