//! Addresses: from the path and query of a request to what it asks for.
//!
//! Everything is decoded once, checked, and taken apart here; nothing a caller sent is ever joined
//! into another URL. What it must never know: sockets, who the caller is.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

use crate::proto::channel::Size;
use crate::proto::ending::{Ending, Kind};
use crate::target::{Target, Verb};

/// The longest command, all words together. It travels in the request line of the API server.
const COMMAND_MAX: usize = 32 * 1024;

/// The longest address that is sent to an API server: escaped, a command is up to three times as
/// long, and the library's own limit is 64 KiB.
const ADDRESS_MAX: usize = 60 * 1024;

/// A decoded query: names and values in order.
#[derive(Debug, Default)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Takes a query apart by the rules of HTML forms: `&` between pairs, `+` for a space.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Ending> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode_form(name)?, decode_form(value)?))
        });
        pairs.collect::<Result<_, Ending>>().map(Self)
    }

    /// The value of a parameter that may stand once, under any of its names. Empty is absent.
    pub(crate) fn one(&self, names: &[&str]) -> Result<Option<&str>, Ending> {
        let mut values = self.0.iter().filter(|(name, _)| names.contains(&&**name));
        let value = values.next().map(|(_, value)| &**value);
        match values.next() {
            None => Ok(value.filter(|value| !value.is_empty())),
            Some(_) => Err(bad(format!("the parameter {} is given twice", names[0]))),
        }
    }

    fn all(&self, wanted: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(name, _)| name == wanted);
        values.map(|(_, value)| value.to_string()).collect()
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, Ending> {
        match self.one(&[name])? {
            None => Ok(default),
            Some(value) if value == "1" || value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value == "0" || value.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(bad(format!("{name} must be true or false"))),
        }
    }
}

fn decode_form(text: &str) -> Result<Cow<'_, str>, Ending> {
    if !text.contains('+') {
        return decode(text);
    }
    let spaced = text.replace('+', " ");
    decode(&spaced).map(|text| text.into_owned().into())
}

fn decode(text: &str) -> Result<Cow<'_, str>, Ending> {
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| bad("the address is not UTF-8 after percent-decoding"))
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The cluster's name, or none for the default one.
    pub(crate) cluster: Option<String>,
    /// Where to go, once a shell was put in for a missing command.
    pub(crate) target: Target,
    /// The shell that was named, where no command was given.
    pub(crate) shell: Option<String>,
    /// Whether the command or the shell is not the caller's choice.
    pub(crate) is_laid_down: bool,
}

/// An address of a front end that exists already, such as `/ws/{namespace}/{pod}/{shell}`.
#[derive(Clone, Debug)]
pub struct Template(Vec<Segment>);

#[derive(Clone, Debug)]
enum Segment {
    Literal(String),
    Name(&'static str),
}

impl Template {
    const NAMES: [&str; 5] = ["cluster", "namespace", "pod", "container", "shell"];

    /// Reads a template.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(format!("a route begins with a slash: {text}"));
        };
        let mut names = Vec::new();
        let mut segments = Vec::new();
        for segment in path.split('/') {
            let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            segments.push(match inner {
                None if segment.is_empty() || segment.contains(['{', '}', '?', '#', '%']) => {
                    return Err(format!("a route's parts are words or {{names}}: {text}"));
                }
                None => Segment::Literal(segment.to_owned()),
                Some(inner) => {
                    let Some(name) = Self::NAMES.into_iter().find(|name| *name == inner) else {
                        return Err(format!("a route knows no {{{inner}}}: {text}"));
                    };
                    if names.contains(&name) {
                        return Err(format!("a route has {{{name}}} twice: {text}"));
                    }
                    names.push(name);
                    Segment::Name(name)
                }
            });
        }
        if names.contains(&"pod") && names.contains(&"namespace") {
            Ok(Self(segments))
        } else {
            Err(format!("a route needs {{namespace}} and {{pod}}: {text}"))
        }
    }

    /// The names and their decoded values, if the path has this form.
    fn matches<'a>(&self, path: &[&'a str]) -> Option<Values<'a>> {
        if path.len() != self.0.len() {
            return None;
        }
        let mut values = Vec::new();
        for (segment, part) in self.0.iter().zip(path) {
            match segment {
                Segment::Literal(literal) if literal == part => {}
                Segment::Literal(_) => return None,
                Segment::Name(name) => values.push((*name, *part)),
            }
        }
        Some(values)
    }
}

impl fmt::Display for Template {
    /// As it was given, without its first slash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            let slash = if index == 0 { "" } else { "/" };
            match segment {
                Segment::Literal(literal) => write!(f, "{slash}{literal}")?,
                Segment::Name(name) => write!(f, "{slash}{{{name}}}")?,
            }
        }
        Ok(())
    }
}

/// What stands behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Everything in the query.
    Short,
    /// Kubernetes' own path and parameters.
    Long(Verb),
    /// Some front end's own path.
    Template,
    /// Where a ticket for the short form is given out, if any are.
    Ticket,
    /// Where a pod's containers are told.
    Pod,
    /// Where kubectl asks about the namespace of a pod that is not there.
    Namespace,
    /// Where kubectl asks what there is, with the answer.
    Discovery(&'static str),
}

/// `metav1.APIVersions`, `APIGroupList` and `APIResourceList` of an API server that has nothing but
/// pods to get into, as it says so itself (`k8s.io/apimachinery/pkg/apis/meta/v1`).
const VERSIONS: &str =
    r#"{"kind":"APIVersions","versions":["v1"],"serverAddressByClientCIDRs":[]}"#;
const GROUPS: &str = r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[]}"#;
const RESOURCES: &str = concat!(
    r#"{"kind":"APIResourceList","groupVersion":"v1","resources":["#,
    r#"{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get"],"#,
    r#""shortNames":["po"]},"#,
    r#"{"name":"pods/attach","singularName":"","namespaced":true,"kind":"PodAttachOptions","#,
    r#""verbs":["create","get"]},"#,
    r#"{"name":"pods/exec","singularName":"","namespaced":true,"kind":"PodExecOptions","#,
    r#""verbs":["create","get"]}]}"#
);

/// Every address but those of the page and of `--route`.
const ADDRESSES: [(&str, Form); 17] = [
    ("api", Form::Discovery(VERSIONS)),
    ("apis", Form::Discovery(GROUPS)),
    ("api/v1", Form::Discovery(RESOURCES)),
    ("clusters/{cluster}/api", Form::Discovery(VERSIONS)),
    ("clusters/{cluster}/apis", Form::Discovery(GROUPS)),
    ("clusters/{cluster}/api/v1", Form::Discovery(RESOURCES)),
    ("api/v1/namespaces/{namespace}", Form::Namespace),
    ("clusters/{cluster}/api/v1/namespaces/{namespace}", Form::Namespace),
    ("api/v1/namespaces/{namespace}/pods/{pod}", Form::Pod),
    ("clusters/{cluster}/api/v1/namespaces/{namespace}/pods/{pod}", Form::Pod),
    ("exec", Form::Short),
    // ttyd's page opens its own.
    ("ws", Form::Short),
    ("tickets", Form::Ticket),
    ("api/v1/namespaces/{namespace}/pods/{pod}/exec", Form::Long(Verb::Exec)),
    ("api/v1/namespaces/{namespace}/pods/{pod}/attach", Form::Long(Verb::Attach)),
    ("clusters/{cluster}/api/v1/namespaces/{namespace}/pods/{pod}/exec", Form::Long(Verb::Exec)),
    (
        "clusters/{cluster}/api/v1/namespaces/{namespace}/pods/{pod}/attach",
        Form::Long(Verb::Attach),
    ),
];

/// Every address but those of the page, with names for what varies: so that whoever looks at all of
/// them cannot forget one.
pub(crate) fn addresses(templates: &[Template]) -> Vec<String> {
    let fixed = ADDRESSES.iter().map(|(pattern, _)| (*pattern).to_owned());
    fixed.chain(templates.iter().map(ToString::to_string)).collect()
}

/// An address that exists.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) form: Form,
    /// What it asks for, to be checked before it is used; or why it makes no sense.
    pub(crate) wanted: Result<Wanted, Ending>,
}

/// Finds what the address asks for; `path` is what follows the base path's slash. Nothing if
/// there is no such address.
pub(crate) fn find(path: &str, query: &str, templates: &[Template]) -> Option<Found> {
    let parts: Vec<&str> = path.split('/').collect();
    let fixed =
        || ADDRESSES.iter().find_map(|(pattern, form)| Some((*form, matches(pattern, &parts)?)));
    let own =
        || templates.iter().find_map(|template| Some((Form::Template, template.matches(&parts)?)));
    let (form, values) = fixed().or_else(own)?;
    let wanted = Query::parse(query).and_then(|query| match form {
        Form::Short | Form::Ticket => short_form(&query),
        Form::Long(verb) => long_form(verb, &values, &query),
        Form::Template => template_form(&values, &query),
        Form::Pod | Form::Namespace | Form::Discovery(_) => pod_form(&values),
    });
    Some(Found { form, wanted })
}

/// What stands in an address where it is variable.
type Values<'a> = Vec<(&'static str, &'a str)>;

/// The values of the names in a pattern, if the path has its form.
fn matches<'a>(pattern: &'static str, path: &[&'a str]) -> Option<Values<'a>> {
    let mut values = Vec::new();
    let mut path = path.iter();
    for segment in pattern.split('/') {
        let part = path.next()?;
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => values.push((name, *part)),
            None if segment == *part => {}
            None => return None,
        }
    }
    path.next().is_none().then_some(values)
}

/// The decoded value of a name in an address.
fn value(values: &Values<'_>, wanted: &str) -> Result<Option<String>, Ending> {
    let found = values.iter().find(|(name, _)| *name == wanted);
    found.map(|(_, value)| decode(value).map(Cow::into_owned)).transpose()
}

fn short_form(query: &Query<'_>) -> Result<Wanted, Ending> {
    // What is missing is missed by `Wanted::check`: somebody else may have named it by then.
    let name = |names: &[&str]| query.one(names).map(|name| name.unwrap_or_default().to_owned());
    let tty = query.flag("tty", true)?;
    // As with every parameter of this form, empty is absent: a page's form sends all its fields.
    let command = query.all("command");
    let command = if command.iter().all(String::is_empty) { Vec::new() } else { command };
    Ok(Wanted {
        cluster: query.one(&["cluster"])?.map(str::to_owned),
        shell: query.one(&["shell"])?.map(str::to_owned),
        is_laid_down: false,
        target: Target {
            container: query.one(&["container", "containerName"])?.map(str::to_owned),
            command,
            stdin: query.flag("stdin", true)?,
            stdout: query.flag("stdout", true)?,
            stderr: !tty && query.flag("stderr", true)?,
            tty,
            size: size(query)?,
            ..Target::new(name(&["namespace", "ns"])?, name(&["pod", "name", "podName"])?)
        },
    })
}

/// Kubernetes' own path. Its parameters have Kubernetes' defaults, which are all false.
fn long_form(verb: Verb, values: &Values<'_>, query: &Query<'_>) -> Result<Wanted, Ending> {
    let tty = query.flag("tty", false)?;
    Ok(Wanted {
        cluster: value(values, "cluster")?,
        shell: None,
        is_laid_down: false,
        target: Target {
            container: query.one(&["container"])?.map(str::to_owned),
            find_container: false,
            verb,
            command: query.all("command"),
            stdin: query.flag("stdin", false)?,
            stdout: query.flag("stdout", false)?,
            // The kubelet drops it with a TTY, and the runtimes refuse the two together.
            stderr: !tty && query.flag("stderr", false)?,
            tty,
            size: size(query)?,
            ..Target::new(
                value(values, "namespace")?.unwrap_or_default(),
                value(values, "pod")?.unwrap_or_default(),
            )
        },
    })
}

/// A pod by itself. Whatever parameters there are, such as a time limit of kubectl's, say nothing
/// about it.
fn pod_form(values: &Values<'_>) -> Result<Wanted, Ending> {
    let name = |name| value(values, name).map(Option::unwrap_or_default);
    let target = Target::new(name("namespace")?, name("pod")?);
    Ok(Wanted { cluster: value(values, "cluster")?, ..Wanted::new(target) })
}

/// An existing front end's address: its parameters are its own, so none of its query is read but
/// the size, which means the same everywhere.
fn template_form(values: &Values<'_>, query: &Query<'_>) -> Result<Wanted, Ending> {
    let shell = value(values, "shell")?.map(|shell| match shell.as_str() {
        "b" => "bash".to_owned(),
        "s" => "sh".to_owned(),
        _ => shell,
    });
    Ok(Wanted {
        cluster: value(values, "cluster")?,
        shell,
        is_laid_down: false,
        target: Target {
            // As in a query, empty is absent: a pod with one container needs no name for it.
            container: value(values, "container")?.filter(|name| !name.is_empty()),
            command: Vec::new(),
            size: size(query)?,
            ..Target::new(
                value(values, "namespace")?.unwrap_or_default(),
                value(values, "pod")?.unwrap_or_default(),
            )
        },
    })
}

/// The first size. Like a resize it is clamped, and zero or nonsense counts as not given.
fn size(query: &Query<'_>) -> Result<Option<Size>, Ending> {
    let side = |name| {
        let text = query.one(&[name])?.unwrap_or_default();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        Ok::<_, Ending>(if digits { text.parse().unwrap_or(u64::MAX) } else { 0 })
    };
    Ok(Size::new(side("cols")?, side("rows")?).or(Some(Size::DEFAULT)))
}

impl Wanted {
    /// This in the default cluster.
    pub(crate) fn new(target: Target) -> Self {
        Self { cluster: None, shell: None, is_laid_down: false, target }
    }

    /// Names by Kubernetes' rules (`k8s.io/apimachinery/pkg/util/validation`), before anything is
    /// dialled: `..` as a namespace once widened what the API server looked up.
    pub(crate) fn check(&self) -> Result<(), Ending> {
        let target = &self.target;
        for (name, value) in [("namespace", &target.namespace), ("pod", &target.pod)] {
            if value.is_empty() {
                return Err(bad(format!("the {name} is missing")));
            }
        }
        if !is_label(&target.namespace) {
            return Err(bad("the namespace is not a valid name"));
        }
        if !is_subdomain(&target.pod) {
            return Err(bad("the pod is not a valid name"));
        }
        if target.container.as_deref().is_some_and(|name| !is_label(name)) {
            return Err(bad("the container is not a valid name"));
        }
        if target.command.iter().any(|word| word.contains('\0')) {
            return Err(bad("a word of the command contains NUL"));
        }
        let length = target.command.iter().map(String::len).sum::<usize>();
        if length > COMMAND_MAX || target.path(target.container.as_deref()).len() > ADDRESS_MAX {
            return Err(bad("the command is too long"));
        }
        if !(target.stdin || target.stdout || target.stderr) {
            return Err(bad("one of stdin, stdout and stderr must be true"));
        }
        Ok(())
    }
}

/// DNS-1123 label: at most 63 characters.
fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_word(name)
}

/// DNS-1123 subdomain: words with dots between them, at most 253 characters together.
fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_word)
}

/// Lower case letters, digits, and hyphens inside.
fn is_word(word: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !word.is_empty() && word.bytes().all(inner) && !word.starts_with('-') && !word.ends_with('-')
}

fn bad(message: impl Into<Cow<'static, str>>) -> Ending {
    Ending::new(Kind::BadRequest, message)
}
