//! YAML, and with it JSON, as a tree of text.
//!
//! Every scalar is its source text, so that a token such as `0123` or `1e3` arrives as it was
//! written. An alias shares what it stands for instead of repeating it: no file comes to more than
//! it is long. What this must never know: what the fields mean.

use std::collections::BTreeMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// How deep a tree may be, with what its aliases stand for: what `kubectl` writes has seven levels.
/// Whoever reads a tree, or drops it, needs stack for each of them.
const DEPTH_MAX: usize = 64;

/// How many values a tree may have: those of two thousand clusters with their users and contexts.
const NODES_MAX: usize = 100_000;

/// What is wrong with more than one document.
const SECOND: &str = "a second document, and kubectl reads the first only; put each into a file of \
                      its own and list them in $KUBECONFIG";

/// A value. It cannot be printed: it may be a secret.
pub(super) enum Node {
    /// Text, and whether it stood there without quotes or a tag.
    Scalar(String, bool),
    List(Vec<Rc<Node>>),
    Map(BTreeMap<String, Rc<Node>>),
}

impl Node {
    /// Whether it is what Go calls a zero value where text is expected.
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Scalar(text, true) if is_null(text))
    }

    /// The value of a field, unless there is none.
    pub(super) fn field(&self, name: &str) -> Option<&Rc<Node>> {
        match self {
            Self::Map(fields) => fields.get(name).filter(|value| !value.is_null()),
            _ => None,
        }
    }
}

/// The words for nothing in YAML 1.1, by which kubectl goes.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Reads one document; nothing if it is empty.
///
/// # Errors
///
/// Where it is wrong and why, without anything of what stands there.
pub(super) fn parse(text: &[u8]) -> Result<Option<Rc<Node>>, String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err("line 1: not UTF-8 but UTF-16; save it as UTF-8".to_owned());
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        let line = text[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        format!("line {line}: not UTF-8")
    })?;
    match Tree::default().read(text) {
        Err(why) => match json(text) {
            Some(node) => Ok(Some(node)),
            None => Err(why),
        },
        node => node,
    }
}

/// Every JSON is YAML but for some escapes, of which Python writes half a character each.
fn json(text: &str) -> Option<Rc<Node>> {
    fn node(value: serde_json::Value) -> Rc<Node> {
        Rc::new(match value {
            serde_json::Value::Null => Node::Scalar(String::new(), true),
            serde_json::Value::String(text) => Node::Scalar(text, false),
            serde_json::Value::Array(all) => Node::List(all.into_iter().map(node).collect()),
            serde_json::Value::Object(all) => {
                Node::Map(all.into_iter().map(|(name, value)| (name, node(value))).collect())
            }
            plain => Node::Scalar(plain.to_string(), true),
        })
    }
    let has_halves = text.starts_with('{') && text.contains("\\u");
    has_halves.then(|| serde_json::from_str(text).ok().map(node)).flatten()
}

/// A tree that grows.
#[derive(Default)]
struct Tree {
    /// What is not complete yet, outermost first.
    open: Vec<Open>,
    /// What aliases may stand for and how high it is, by the parser's number.
    anchors: BTreeMap<usize, (Rc<Node>, usize)>,
    nodes: usize,
    top: Option<Rc<Node>>,
}

struct Open {
    node: Node,
    anchor: usize,
    /// How many levels it has so far: one more than the highest value in it, of which text has
    /// none. What `<<` stands for counts as a value, and so a level too many.
    height: usize,
    /// The name of the field whose value comes next.
    name: Option<String>,
}

impl Tree {
    fn read(mut self, text: &str) -> Result<Option<Rc<Node>>, String> {
        let mut documents = 0;
        let mut start = (0, 0);
        for event in Parser::new_from_str(text) {
            let (event, place) = event.map_err(|error| {
                // The parser's own words may repeat a character.
                let place = error.marker();
                format!("line {}, column {}: not YAML", place.line(), place.col() + 1)
            })?;
            let (line, column) = (place.start.line(), place.start.col() + 1);
            let wrong = |why: &str| format!("line {line}, column {column}: {why}");
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    start = (line, column);
                }
                // Programs that write many documents like to end with an empty one.
                Event::Scalar(ref text, ScalarStyle::Plain, _, None)
                    if documents > 1 && self.open.is_empty() && is_null(text) => {}
                Event::Scalar(..)
                | Event::Alias(_)
                | Event::SequenceStart(..)
                | Event::MappingStart(..)
                    if documents > 1 =>
                {
                    let (line, column) = start;
                    return Err(format!("line {line}, column {column}: {SECOND}"));
                }
                event => self.take(event).map_err(wrong)?,
            }
        }
        Ok(self.top.filter(|top| !top.is_null()))
    }

    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        let begin = |node, anchor| Open { node, anchor, height: 1, name: None };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain && tag.is_none();
                self.add(Rc::new(Node::Scalar(text.into_owned(), is_plain)), 0, anchor)
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let (node, height) = known.ok_or("an alias of something that is not complete")?;
                self.add(node, height, 0)
            }
            Event::SequenceStart(anchor, _) => self.begin(begin(Node::List(Vec::new()), anchor)),
            Event::MappingStart(anchor, _) => self.begin(begin(Node::Map(BTreeMap::new()), anchor)),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut done) = self.open.pop() else { return Ok(()) };
                self.merge(&mut done.node)?;
                self.add(Rc::new(done.node), done.height, done.anchor)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), &'static str> {
        self.open.push(open);
        self.fits(0)
    }

    /// Whether something of this height may stand here.
    fn fits(&self, height: usize) -> Result<(), &'static str> {
        let depth = self.open.len() + height;
        if depth > DEPTH_MAX { Err("deeper than 64 levels") } else { Ok(()) }
    }

    fn count(&mut self, nodes: usize) -> Result<(), &'static str> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX { Err("more than 100000 values") } else { Ok(()) }
    }

    /// Puts a value where it belongs.
    fn add(&mut self, node: Rc<Node>, height: usize, anchor: usize) -> Result<(), &'static str> {
        self.count(1)?;
        self.fits(height)?;
        if anchor > 0 {
            self.anchors.insert(anchor, (Rc::clone(&node), height));
        }
        let Some(Open { node: around, name, height: highest, .. }) = self.open.last_mut() else {
            self.top = Some(node);
            return Ok(());
        };
        *highest = (*highest).max(height + 1);
        match (around, name.take(), node.as_ref()) {
            (Node::List(all), ..) => all.push(node),
            (Node::Map(all), Some(name), _) => drop(all.insert(name, node)),
            (Node::Map(all), None, Node::Scalar(text, _)) if all.contains_key(text) => {
                return Err("a field stands there twice");
            }
            (Node::Map(_), None, Node::Scalar(text, _)) => *name = Some(text.clone()),
            _ => return Err("the name of a field is not text"),
        }
        Ok(())
    }

    /// `<<` stands for the fields of other mappings, as far as they are not there.
    fn merge(&mut self, node: &mut Node) -> Result<(), &'static str> {
        let Node::Map(fields) = node else { return Ok(()) };
        let Some(others) = fields.remove("<<") else { return Ok(()) };
        let others = match others.as_ref() {
            Node::List(all) => all.clone(),
            _ => vec![others],
        };
        for other in others {
            let Node::Map(other) = other.as_ref() else {
                return Err("<< stands for fields only");
            };
            self.count(other.len())?;
            for (name, value) in other {
                fields.entry(name.clone()).or_insert_with(|| Rc::clone(value));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(node: &Node) -> String {
        let join = |all: Vec<String>| all.join(" ");
        match node {
            Node::Scalar(text, is_plain) => format!("{text}{}", if *is_plain { "" } else { "'" }),
            Node::List(all) => format!("[{}]", join(all.iter().map(|it| shown(it)).collect())),
            Node::Map(all) => {
                let field = |(name, it): (&String, &Rc<Node>)| format!("{name}={}", shown(it));
                format!("{{{}}}", join(all.iter().map(field).collect()))
            }
        }
    }

    #[test]
    fn what_a_text_comes_to() {
        let rows = [
            ("", "-"),
            ("# nothing\n", "-"),
            ("--- ~\n", "-"),
            (
                "a: 0123\nb: 1e3\nc: no\nd: 'null'\ne: null\nf: 0x10\n",
                "{a=0123 b=1e3 c=no d=null' e=null f=0x10}",
            ),
            ("\u{feff}a: b\r\nc: d\r\n", "{a=b c=d}"),
            (
                "{\n\t\"a\": [\"b\\/\", 1e3, 12345678901234567890, null, true]\n}",
                "{a=[b/' 1e3 12345678901234567890 null true]}",
            ),
            ("{\"a\": \"\\ud83d\\ude00\", \"b\": 1}", "{a=\u{1f600}' b=1}"),
            (
                "a: &x {b: c}\nd: *x\ne: {<<: *x, b: own}\nf: {<<: [*x, {g: h}]}\n",
                "{a={b=c} d={b=c} e={b=own} f={b=c g=h}}",
            ),
            ("a: |\n  LS0t\n  LS0t\nb: >-\n  x\n  y\n", "{a=LS0t\nLS0t\n' b=x y'}"),
            ("a: !!str 0123\n", "{a=0123'}"),
            ("a: b\n---\n", "{a=b}"),
            ("a: b\n---\n# nothing\n---\n~\n...\n", "{a=b}"),
        ];
        for (text, tree) in rows {
            let read = parse(text.as_bytes()).unwrap();
            assert_eq!(read.map_or("-".to_owned(), |it| shown(&it)), tree, "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_by_its_place() {
        let deep = "[".repeat(100);
        let steps = "- ".repeat(100);
        let many = "- a\n".repeat(NODES_MAX);
        let bomb: String = (1..20).fold("a0: &a0 {x: y}\n".to_owned(), |text, it| {
            let before = format!("*a{}", it - 1);
            format!("{text}a{it}: &a{it} [{before}, {before}, {before}, {before}, {before}]\n")
        });
        assert!(parse(bomb.as_bytes()).is_ok(), "it is as small as it is written");
        let rows: [(&[u8], &str); 15] = [
            (b"a: s3cr3t\n b: c\n", "line 2, column "),
            (b"a: s3cr3t\na: b\n", "line 2, column 1: a field stands there twice"),
            (b"a: b\n---\nc: d\n", "line 2, column 1: a second document"),
            (b"a: b\n---\n- c\n", "file of its own and list them in $KUBECONFIG"),
            (b"---\n---\nc: d\n", "line 2, column 1: a second document"),
            (b"a: b\nc: \xff\n", "line 2: not UTF-8"),
            (b"\xff\xfea\0:\0", "line 1: not UTF-8"),
            (b"\xfe\xff\0a\0:", "save it as UTF-8"),
            (b"a: &a [*a]\n", "not complete"),
            (b"a: *b\n", "line 1, column 4: not YAML"),
            (b"{[a]: b}", "the name of a field is not text"),
            (b"a: {<<: b}", "<< stands for fields only"),
            (deep.as_bytes(), "line 1, column 65: deeper than 64 levels"),
            (steps.as_bytes(), "deeper than 64 levels"),
            (many.as_bytes(), "more than 100000 values"),
        ];
        for (text, words) in rows {
            let Err(why) = parse(text) else { panic!("{words}") };
            assert!(why.contains(words) && !why.contains("s3cr3t"), "{words}: {why}");
        }
    }

    /// Values of which each stands for the one before, some levels deeper.
    fn chain(values: usize, levels: usize) -> String {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        let first = format!("- &a0 {open}x{close}\n");
        (1..values).fold(first, |text, it| format!("{text}- &a{it} {open}*a{}{close}\n", it - 1))
    }

    #[test]
    fn what_aliases_stand_for_counts_as_if_it_were_written_out() {
        // The list around the values is a level, too.
        assert!(parse(chain(63, 1).as_bytes()).is_ok());
        assert!(parse(chain(3, 21).as_bytes()).is_ok());
        let merged = "a: &a {b: {c: d}}\ne: &e {<<: *a}\nf: {<<: [*e, *a]}\n";
        assert!(parse(merged.as_bytes()).is_ok());
        // The last of these had 88,000 levels, more than a stack has room for.
        for (values, levels) in [(64, 1), (2, 32), (1600, 55)] {
            let Err(why) = parse(chain(values, levels).as_bytes()) else { panic!("{values}") };
            assert!(why.ends_with(": deeper than 64 levels"), "{values}: {why}");
            assert!(!why.contains('\n'), "{why}");
        }
        let fields = (1..100).fold("a0: &a0 {x: y}\n".to_owned(), |text, it| {
            format!("{text}a{it}: &a{it} {{x: *a{}}}\n", it - 1)
        });
        assert!(parse(fields.as_bytes()).is_err_and(|why| why.contains("deeper than 64")));
    }
}
