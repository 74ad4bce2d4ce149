//! Kubeconfig files: their lists by name, merged as kubectl merges them.
//!
//! Only what is used of a file is looked at closely, and every complaint names the file and the
//! field in kubectl's words. What this must never know: what the fields are for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::tree::{self, Node};

/// The longest kubeconfig: that of two hundred clusters with their authorities and certificates.
const FILE_MAX: u64 = 1024 * 1024;

/// How many names stand in a complaint.
const NAMES_MAX: usize = 10;

/// A kubeconfig of one or more files.
#[derive(Default)]
pub(super) struct Kubeconfig {
    pub(super) clusters: BTreeMap<String, Entry>,
    pub(super) users: BTreeMap<String, Entry>,
    pub(super) contexts: BTreeMap<String, Entry>,
    pub(super) current: Option<String>,
    /// The files, for people.
    pub(super) source: String,
}

/// Where something stands.
struct Origin {
    /// The file's name, if it is one, and what separates it from a complaint.
    prefix: String,
    /// Where relative paths begin.
    folder: PathBuf,
}

/// A group of fields, and where it stands.
#[derive(Clone)]
pub(super) struct Entry {
    origin: Rc<Origin>,
    /// Such as `users[dev].user`.
    path: String,
    node: Rc<Node>,
}

/// Reads a kubeconfig. It may come from a pipe, as shells offer one with `<(…)`.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        let remedy = "take what is needed with: kubectl config view --raw --flatten --minify";
        return Err(io::Error::other(format!("longer than 1 MiB; {remedy}")));
    }
    Ok(bytes)
}

impl Kubeconfig {
    /// Reads the text of a kubeconfig. `file` is its name, if it has one.
    pub(super) fn parse(text: &[u8], file: Option<&Path>, folder: &Path) -> Result<Self, String> {
        let source = file.map_or_else(String::new, |file| file.display().to_string());
        let prefix = if source.is_empty() { String::new() } else { format!("{source}: ") };
        let view = || match file {
            Some(_) => format!("kubectl config view --kubeconfig {source}"),
            None => "kubectl config view".to_owned(),
        };
        let top = tree::parse(text)
            .map_err(|why| format!("{prefix}{why}; see what kubectl makes of it: {}", view()))?;
        let Some(top) = top else { return Ok(Self { source, ..Self::default() }) };
        if !matches!(*top, Node::Map(_)) {
            return Err(format!("{prefix}not a kubeconfig; see: {}", view()));
        }
        let folder = folder.to_owned();
        let top =
            Entry { origin: Rc::new(Origin { prefix, folder }), path: String::new(), node: top };
        Ok(Self {
            clusters: top.by_name("clusters", "cluster")?,
            users: top.by_name("users", "user")?,
            contexts: top.by_name("contexts", "context")?,
            current: top.text("current-context")?.map(str::to_owned),
            source,
        })
    }

    /// Adds what is not there yet: the first file to set something wins, and an entry is taken
    /// whole or not at all.
    pub(super) fn and(mut self, other: Self) -> Self {
        let add = |to: &mut BTreeMap<String, Entry>, from: BTreeMap<String, Entry>| {
            for (name, entry) in from {
                to.entry(name).or_insert(entry);
            }
        };
        add(&mut self.clusters, other.clusters);
        add(&mut self.users, other.users);
        add(&mut self.contexts, other.contexts);
        self.current = self.current.or(other.current);
        let separator = if self.source.is_empty() { "" } else { ":" };
        self.source = format!("{}{separator}{}", self.source, other.source);
        self
    }

    /// How a complaint about the whole begins.
    pub(super) fn prefix(&self) -> String {
        if self.source.is_empty() { String::new() } else { format!("{}: ", self.source) }
    }
}

/// Some names, for a complaint.
pub(super) fn names<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let count = names.len();
    let some: Vec<&str> = names.take(NAMES_MAX).map(String::as_str).collect();
    match count {
        0 => "it has none".to_owned(),
        1..=NAMES_MAX => format!("it has: {}", some.join(", ")),
        _ => format!("it has: {} and {} more", some.join(", "), count - NAMES_MAX),
    }
}

impl Entry {
    /// A complaint about a field. It never has the field's value, which may be a secret.
    pub(super) fn wrong(&self, field: &str, what: &str) -> String {
        format!("{}{} {what}", self.origin.prefix, self.at(field))
    }

    fn at(&self, field: &str) -> String {
        match (self.path.is_empty(), field.is_empty()) {
            (true, _) => field.to_owned(),
            (_, true) => self.path.clone(),
            _ => format!("{}.{field}", self.path),
        }
    }

    /// A path relative to the file that has it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.origin.folder.join(path)
    }

    /// A field's text. Empty is as good as missing, as in Go.
    pub(super) fn text(&self, field: &str) -> Result<Option<&str>, String> {
        match self.node.field(field).map(AsRef::as_ref) {
            None => Ok(None),
            Some(Node::Scalar(text, _)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.wrong(field, "must be text; write it on one line, in quotes")),
        }
    }

    /// A field that is true or false, in the words of YAML 1.1, by which kubectl goes.
    pub(super) fn flag(&self, field: &str) -> Result<bool, String> {
        match self.text(field)?.map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "no" | "off" | "n") => Ok(false),
            Some("true" | "yes" | "on" | "y") => Ok(true),
            Some(_) => Err(self.wrong(field, "must be true or false")),
        }
    }

    /// Whether a field is there and not empty.
    pub(super) fn has(&self, field: &str) -> bool {
        self.node.field(field).is_some_and(|value| match value.as_ref() {
            Node::Scalar(text, _) => !text.is_empty(),
            Node::List(all) => !all.is_empty(),
            Node::Map(_) => true,
        })
    }

    /// The fields under a field, if it is there.
    pub(super) fn fields(&self, field: &str) -> Result<Option<Self>, String> {
        match self.node.field(field) {
            None => Ok(None),
            Some(node) if matches!(**node, Node::Map(_)) => {
                let (origin, node) = (Rc::clone(&self.origin), Rc::clone(node));
                Ok(Some(Self { origin, path: self.at(field), node }))
            }
            Some(_) => Err(self.wrong(field, "must have fields of its own; write each on a line")),
        }
    }

    /// The items of a field that is a list.
    pub(super) fn items(&self, field: &str) -> Result<Vec<Self>, String> {
        let items = match self.node.field(field).map(AsRef::as_ref) {
            None => return Ok(Vec::new()),
            Some(Node::List(items)) => items,
            Some(_) => {
                return Err(self.wrong(field, "must be a list; begin each item with a dash"));
            }
        };
        let item = |(index, node): (usize, &Rc<Node>)| Self {
            origin: Rc::clone(&self.origin),
            path: format!("{}[{index}]", self.at(field)),
            node: Rc::clone(node),
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// The text of an item.
    pub(super) fn own_text(&self) -> Result<&str, String> {
        match self.node.as_ref() {
            Node::Scalar(text, _) => Ok(text),
            _ => Err(self.wrong("", "must be text; write it on one line, in quotes")),
        }
    }

    /// The value itself.
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// A list of the top by the names of its items.
    fn by_name(&self, list: &str, field: &str) -> Result<BTreeMap<String, Self>, String> {
        let mut all = BTreeMap::new();
        for item in self.items(list)? {
            if !matches!(*item.node, Node::Map(_)) {
                return Err(item.wrong("", &format!("must have the fields name and {field}")));
            }
            let Some(name) = item.text("name")? else { continue };
            let node = item.node.field(field).cloned();
            let entry = Self {
                origin: Rc::clone(&self.origin),
                path: format!("{list}[{name}].{field}"),
                node: node.unwrap_or_else(|| Rc::new(Node::Map(BTreeMap::new()))),
            };
            if !matches!(*entry.node, Node::Map(_)) {
                return Err(entry.wrong("", "must have fields of its own; write each on a line"));
            }
            if all.insert(name.to_owned(), entry).is_some() {
                let path = format!("{list}[{name}]");
                let what = "stands there twice; delete or rename one";
                return Err(format!("{}{path} {what}", self.origin.prefix));
            }
        }
        Ok(all)
    }
}
