//! Every row of the project's list of bad inputs that is about who gets in, as whom and for how
//! long, is a row of some table of the tests: its id stands there as the beginning of a text.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

/// O: origins. H: handshakes. U: targets, tickets and hooks. S: the cluster's answer. C: settings and
/// credentials. L: logs.
const ROWS: [(&str, RangeInclusive<u32>); 6] =
    [("O", 1..=8), ("H", 11..=23), ("U", 1..=20), ("S", 6..=17), ("C", 1..=7), ("L", 1..=2)];

/// The text of every Rust file under these folders.
fn sources() -> Vec<String> {
    let house = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut todo, mut texts) = (vec![house.join("src"), house.join("tests")], Vec::new());
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            // What the browser tests have installed is no test of ours.
            if path.file_name().is_none_or(|name| name != "node_modules") {
                todo.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            texts.push(fs::read_to_string(&path).unwrap());
        }
    }
    texts
}

/// The ids with which texts begin: a letter and a number, and then a space or the text's end.
fn ids(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').filter_map(|text| {
        let id = text.split(' ').next()?;
        let (letter, number) = id.split_at_checked(1)?;
        let is_id = letter.bytes().all(|byte| byte.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit());
        is_id.then_some(id)
    })
}

#[test]
fn every_row_of_the_list_is_in_a_table() {
    let sources = sources();
    let found: BTreeSet<&str> = sources.iter().flat_map(|source| ids(source)).collect();
    let wanted = ROWS
        .into_iter()
        .flat_map(|(letter, numbers)| numbers.map(move |number| format!("{letter}{number}")));
    let missing: Vec<String> = wanted.filter(|id| !found.contains(id.as_str())).collect();
    assert!(missing.is_empty(), "no test has a row with the id {}", missing.join(", "));
}

#[test]
fn an_id_is_found_where_a_text_begins_with_it() {
    let source = r#"("P1 empty", 1), "P2", [ "x P3" ], "P4x", // P5"#;
    assert_eq!(ids(source).collect::<Vec<_>>(), ["P1", "P2"]);
}
