//! Every ending, end to end: the real program before a pretend cluster, and what each of those
//! who are to hear of an ending is told.
//!
//! `rows.rs` has the contract's table (§5): each kind as it comes about in life, told to a page of
//! `podwire.v1`, to one of the seed dialect and, before the 101, to a caller that is no page; with
//! everything that the cluster said before it, and once in the log and in the counters.
//!
//! What of that table cannot be provoked from outside: before the 101 `protocol_error` (a request
//! has no frames), `internal` and `cluster_lost`; and the close code 1003 (both dialects take text
//! and bytes).
//!
//! What a cluster may do to a session (P1 to P18 of the project's list) is tested in many places;
//! [`CLUSTER`] says where, and a test holds it to that.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod besides;
#[path = "../common/mod.rs"]
mod common;
mod page;
#[allow(dead_code)]
#[path = "../session/readers.rs"]
mod readers;
mod row;
mod rows;
mod silence;
mod sizes;

use std::path::Path;

use podwire::Kind;
use row::{CONTRACT, check_all, line};

/// Where each row of the list has its test: its id, a file and a test in it. Those in `session_*`
/// ask the machine alone, the others the real program.
const CLUSTER: [(&str, &[(&str, &str)]); 18] = [
    ("P1", &[(MACHINE, NOISE), (HOSTILE, ALL)]),
    ("P2", &[(MACHINE, NOISE), (HOSTILE, ALL)]),
    ("P3", &[(MACHINE, NOISE), (HOSTILE, ALL)]),
    ("P4", &[(MACHINE, NOISE), (HOSTILE, ALL)]),
    ("P5", &[(MACHINE, NOISE), (HOSTILE, ALL)]),
    ("P6", &[(MACHINE, NOISE), (HOSTILE, ALL)]),
    (
        "P7",
        &[
            (
                "session_pressure.rs",
                "sixty_four_mebibytes_pass_in_order_and_little_of_it_ever_waits",
            ),
            ("relay_bytes.rs", "random_bytes_go_there_and_back_in_podwire_v1"),
            ("relay_bytes.rs", "random_text_goes_there_and_back_in_the_seed_dialect"),
        ],
    ),
    (
        "P8",
        &[
            (MACHINE, NOISE),
            ("relay_bytes.rs", "text_may_be_cut_at_every_offset"),
            ("relay_bytes.rs", "only_what_no_rest_could_mend_is_replaced"),
        ],
    ),
    ("P9", &[(MACHINE, EXITS), (HOSTILE, ALL)]),
    ("P10", &[(MACHINE, EXITS), (HOSTILE, ALL)]),
    ("P11", &[(MACHINE, EXITS), (HOSTILE, ALL)]),
    ("P12", &[(MACHINE, LOSSES), (HOSTILE, ALL)]),
    ("P13", &[(MACHINE, LOSSES), (HOSTILE, ALL)]),
    ("P14", &[(MACHINE, EXITS), (HOSTILE, ALL)]),
    ("P15", &[(MACHINE, EXITS), (SILENCE, "a_process_whose_end_is_never_told")]),
    (
        "P16",
        &[
            (MACHINE, "failures_after_the_handshake_are_sorted_and_their_prefix_is_shown_once"),
            (HOSTILE, ALL),
        ],
    ),
    (
        "P17",
        &[
            ("session_timers.rs", "any_frame_is_life"),
            (
                "session_timers.rs",
                "a_peer_that_falls_silent_is_noticed_within_a_minute_and_a_second",
            ),
            (SILENCE, "a_cluster_that_answers_no_ping_lives_while_anything_comes"),
            (SILENCE, "a_cluster_that_says_nothing_is_given_up_in_time"),
        ],
    ),
    (
        "P18",
        &[
            (
                "session_pressure.rs",
                "a_process_that_reads_no_input_has_its_paste_wait_and_its_output_shown",
            ),
            ("session_timers.rs", "a_process_that_does_not_read_its_input_is_not_dead"),
            ("backpressure.rs", "output_passes_input_that_nobody_reads"),
            (SILENCE, "a_process_that_reads_nothing_lives"),
        ],
    ),
];

const MACHINE: &str = "session_endings.rs";
const HOSTILE: &str = "hostile_cluster.rs";
const SILENCE: &str = "every_ending/silence.rs";
const ALL: &str = "every_way_in_which_a_session_ends_is_told";
const EXITS: &str = "an_exit_is_told_with_the_code_of_the_status_and_no_other";
const LOSSES: &str = "a_connection_that_ends_without_a_status_is_never_an_exit";
const NOISE: &str = "what_means_nothing_is_ignored_and_what_breaks_the_protocol_ends_it";

#[test]
fn everything_that_a_cluster_may_do_has_its_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (number, (id, tests)) in (1..).zip(CLUSTER) {
        assert_eq!(id, format!("P{number}"));
        for (file, test) in tests {
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            assert!(text.contains(&format!("fn {test}(")), "{id}: no {test} in {file}");
            // The rows of a table say which they are, each by its id and a space or nothing.
            let is_row = [MACHINE, HOSTILE].contains(file);
            let says = [format!("\"{id}\""), format!("\"{id} ")];
            assert!(!is_row || says.iter().any(|it| text.contains(it)), "{id}: no row in {file}");
        }
    }
}

/// Rows that need more than a row says are tests of their own, in this crate.
const BESIDES: [&str; 2] = ["slow_browser", "internal"];

#[test]
fn no_kind_of_ending_is_without_a_row() {
    let rows = [
        rows::exits(),
        rows::bad_requests(),
        rows::rights(),
        rows::limits(),
        rows::starts(),
        rows::clusters(),
        rows::browsers(),
    ];
    let kinds: Vec<&str> = rows.iter().flatten().map(|row| row.kind).chain(BESIDES).collect();
    for kind in Kind::ALL {
        let facts = kind.facts();
        assert!(kinds.contains(&facts.name), "no row for {}", facts.name);
        let told = (facts.name, facts.http_status, facts.close_code, facts.retry);
        assert_eq!(told, line(facts.name));
    }
    assert_eq!(CONTRACT.len(), Kind::ALL.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_is_told_with_its_code() {
    check_all(rows::exits()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_told_to_whoever_says_it() {
    check_all(rows::bad_requests()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_why() {
    check_all(rows::rights()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_and_a_stop_are_told_beforehand() {
    check_all(rows::limits()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_is_told_with_its_name() {
    check_all(rows::starts()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_fails_is_told_as_the_clusters_failure() {
    check_all(rows::clusters()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_left_is_counted_and_told_nothing() {
    check_all(rows::browsers()).await;
}
