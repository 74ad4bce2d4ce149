//! What the rooms of the house must not know, read from the sources themselves; and the notes that
//! must say the same as the code.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use podwire::bytes::Bytes;
use podwire::proto::channel::Subprotocol;
use podwire::proto::ending::Kind;
use podwire::proto::frame::{Opcode, append};
use podwire::proto::message::{Dialect, FromBrowser, Place};
use podwire::proto::session::{Options, Session, Time};
use podwire::{Browser, Token};

fn house() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under a folder, or the file itself, with its text.
fn sources(path: &str) -> Vec<(PathBuf, String)> {
    let (mut todo, mut found) = (vec![house().join(path)], Vec::new());
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    assert!(!found.is_empty(), "nothing was read from {path}");
    found
}

/// The lines without their comments and without the tests at the end of the file, numbered.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.split("\nmod tests {").next().unwrap_or_default();
    text.lines().enumerate().map(|(index, line)| {
        let end = line.match_indices("//").map(|(at, _)| at).find(|&at| !line[..at].ends_with(':'));
        (index + 1, &line[..end.unwrap_or(line.len())])
    })
}

/// The words of a line as a reader sees them: `BrowserLeg::on_read` has five.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in line.chars() {
        let begins = c.is_uppercase() && before.is_lowercase();
        if begins || !c.is_alphanumeric() {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().unwrap().extend(c.to_lowercase());
        }
        before = c;
    }
    words
}

/// Fails at the first line that has one of the words.
fn assert_unheard_of(path: &str, forbidden: &[&str]) {
    for (path, text) in sources(path) {
        for (number, line) in code(&text) {
            let said = words(line);
            let word = forbidden.iter().find(|it| said.iter().any(|word| word == **it));
            assert_eq!(word, None, "{}:{number}: {line}", path.display());
        }
    }
}

#[test]
fn the_protocol_knows_nothing_that_waits_or_tells_the_time() {
    let outside =
        ["tokio", "hyper", "rustls", "log", "instant", "async", "await", "future", "thread"];
    assert_unheard_of("src/proto", &outside);
    for (path, text) in sources("src/proto") {
        assert!(!text.contains("SystemTime"), "{}", path.display());
        for (number, line) in code(&text) {
            let Some(import) = line.trim_start().strip_prefix("use ") else { continue };
            let root = import.split([':', ';']).next().unwrap_or_default();
            let known = ["std", "serde", "serde_json", "base64", "super", "self"];
            assert!(known.contains(&root), "{}:{number}: {line}", path.display());
        }
    }
}

#[test]
fn the_peers_are_called_browser_and_cluster() {
    let others = ["client", "server", "upstream", "downstream"];
    assert_unheard_of("src/proto", &others);
    assert_unheard_of("src/relay", &others);
}

#[test]
fn the_program_fits_on_a_page() {
    let main = fs::read_to_string(house().join("src/main.rs")).unwrap();
    assert!(main.lines().count() <= 100, "{} lines", main.lines().count());
}

#[test]
fn nothing_outside_the_tests_gives_up_on_a_value() {
    // Tests that do not fit at the end of their file have one of this name.
    for (path, text) in sources("src").into_iter().filter(|it| !it.0.ends_with("tests.rs")) {
        for (number, line) in code(&text) {
            let gives_up = line.contains("unwrap(") || line.contains(".expect(");
            assert!(!gives_up, "{}:{number}: {line}", path.display());
        }
    }
}

/// Most sessions are idle, and then this is all that they own in the machine: no buffer, no frame.
/// Measured: 768 bytes. What would grow it past the budget belongs into a box that exists while
/// it is needed.
const SESSION_MAX: usize = 768;

#[test]
fn an_idle_session_is_small() {
    let size = size_of::<Session>();
    assert!(size <= SESSION_MAX, "a session has {size} bytes");
}

#[test]
fn the_notes_and_the_code_have_the_same_table_of_endings() {
    let notes = fs::read_to_string(house().join("proto-notes/session.md")).unwrap();
    assert!(notes.lines().count() <= 120, "nobody reads more than a page");
    let (_, section) = notes.split_once("\n## Endings\n").unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows: Vec<Vec<&str>> = rows
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), Kind::ALL.len());
    for (row, kind) in rows.iter().zip(Kind::ALL) {
        let facts = kind.facts();
        let number = |number: Option<u16>| number.map_or("–".to_owned(), |it| it.to_string());
        let retry = if facts.retry { "yes" } else { "no" };
        let (http, close) = (number(facts.http_status), number(facts.close_code));
        assert_eq!(*row, [facts.name, &http, &close, retry]);
    }
}

/// What is typed and what is printed belongs to the user, at every log level.
#[test]
fn nothing_that_a_user_typed_or_saw_can_be_printed() {
    let mark = "typed-secret";
    let input = format!(r#"{{"type":"input","input":"{mark}"}}"#);
    let message = FromBrowser::parse(input.as_bytes()).unwrap();
    let early = || Bytes::from(mark.to_owned());
    let browser = Browser { io: (), early: early(), dialect: Dialect::V1 };
    let (dialect, subprotocol) = (Dialect::Seed, Subprotocol::V5);
    let mut session = Session::new(Options::new(dialect, subprotocol, Place::default(), 0));
    let mut frame = Vec::new();
    append(&mut frame, Opcode::Binary, format!("\u{1}{mark}\u{e4}").as_bytes(), None);
    session.on_cluster(&mut frame, Time::ZERO);
    let token = Token::new(mark).unwrap();
    let shown = format!("{message:?} {browser:?} {session:?} {token:?}");
    assert!(!shown.contains(mark), "{shown}");
    let as_bytes = format!("{:?}", mark.as_bytes());
    assert!(!shown.contains(as_bytes.trim_matches(['[', ']'])), "{shown}");
}
