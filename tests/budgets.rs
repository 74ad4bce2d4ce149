//! What bytes that pass through may cost in memory: nothing. A counting allocator sees the codec,
//! the session and the whole loop, and the sizes of what a session is are looked at.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../benches/counts/rows.rs"]
mod rows;

use allocation_counter::AllocationInfo;
use podwire::proto::frame::Parser;
use podwire::proto::message::Dialect;
use podwire::proto::session::Session;

use self::rows::Message::{Characters, Key, KeyInJson, Output, Paste, Single};
use self::rows::{FRAMES, LARGE, SMALL, Work};

/// Allocations for a message that is forwarded. None: a relay that allocates for each message
/// costs the allocator's time for each, and fragments the heap that idle sessions share.
const ALLOCATIONS: usize = 0;

/// Allocations for a status: its strings, and the table of its causes. It comes once in a session.
const ALLOCATIONS_OF_STATUS: usize = 8;

/// Bytes of the session machine, of which the loop's future is made: a thousand idle sessions are a
/// thousand of these. Two words are to spare.
const SESSION_BYTES: usize = 784;

/// Bytes of the frame parser, of which a session has two: where it stands inside the peer's frames,
/// and no payload.
const PARSER_BYTES: usize = 72;

/// Bytes of the future of the whole loop over two connections of a word each: the session, the
/// timer, the connections, and no argument that is kept beside what was made of it. What the
/// program's own tasks add is looked at where they are, in `attend`.
const LOOP_BYTES: usize = 1072;

/// Fails with the figure and the budget.
fn assert_at_most(what: &str, figure: usize, budget: usize) {
    println!("{what}: {figure}, budget {budget}");
    assert!(figure <= budget, "{what}: {figure}, and the budget is {budget}");
}

/// What a row allocates, once it is under way.
fn allocations(mut work: Work) -> AllocationInfo {
    let mut moved = 0;
    let seen = allocation_counter::measure(|| moved = work());
    assert!(moved >= FRAMES, "the row moves something");
    seen
}

fn assert_free(what: &str, work: Work) {
    let seen = allocations(work);
    let count = usize::try_from(seen.count_total).unwrap();
    assert_at_most(&format!("{what}: allocations for {FRAMES} messages"), count, ALLOCATIONS);
}

#[test]
fn the_counter_counts() {
    let seen = allocations(Box::new(|| {
        (0..FRAMES).map(|n| std::hint::black_box(vec![0_u8; n + 1]).len()).sum()
    }));
    assert_eq!(seen.count_total, FRAMES as u64);
}

#[test]
fn a_frame_that_is_parsed_and_merged_allocates_nothing() {
    for message in [Output(LARGE), Output(SMALL), Key, Paste] {
        assert_free(&format!("codec, {message:?}"), rows::codec(message));
    }
}

#[test]
fn output_that_passes_a_session_allocates_nothing() {
    for message in [Output(LARGE), Output(SMALL), Single(SMALL), Characters] {
        for dialect in Dialect::ALL {
            assert_free(&format!("{dialect:?}, {message:?}"), rows::session(dialect, message));
        }
    }
}

#[test]
fn input_that_passes_a_session_allocates_nothing() {
    for message in [Key, KeyInJson, Paste] {
        for dialect in [Dialect::Seed, Dialect::V1] {
            assert_free(&format!("{dialect:?}, {message:?}"), rows::session(dialect, message));
        }
    }
}

#[test]
fn what_passes_the_whole_loop_allocates_nothing() {
    for message in [Output(LARGE), Output(SMALL), Single(SMALL), Key, KeyInJson, Paste] {
        assert_free(&format!("loop, {message:?}"), rows::whole(message));
    }
}

#[test]
fn a_status_allocates_little() {
    let count = usize::try_from(allocations(rows::status()).count_total).unwrap();
    let what = format!("allocations for {FRAMES} statuses");
    assert_at_most(&what, count, FRAMES * ALLOCATIONS_OF_STATUS);
}

#[test]
fn a_session_is_small() {
    assert_at_most("bytes of a session", size_of::<Session>(), SESSION_BYTES);
    assert_at_most("bytes of a parser", size_of::<Parser>(), PARSER_BYTES);
    assert_at_most("bytes of the loop's future", rows::size_of_loop(), LOOP_BYTES);
}
