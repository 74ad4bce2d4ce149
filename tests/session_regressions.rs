//! Mistakes that the session machine once made, each with the scene in which it showed.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use podwire::proto::ending::Kind;
use podwire::proto::message::Dialect;

use session::{Rig, SUCCESS, options, status, text};

/// Messages for somebody else were counted as mistakes when they used the name of a field of ours
/// for a value of another type; ten heartbeats ended a session.
#[test]
fn messages_of_an_unknown_type_may_have_any_fields() {
    let mut rig = Rig::new(options(Dialect::Seed, true));
    for _ in 0..20 {
        rig.from_browser(&text(r#"{"type":"heartbeat","data":5,"rows":"x","id":{"a":[1]}}"#));
        rig.from_browser(&text(r#"{"bytes":-1}"#));
    }
    rig.from_cluster(&status(SUCCESS));
    let outcome = rig.finish();
    assert_eq!(outcome.ending.kind, Kind::Exit);
    assert_eq!(outcome.traffic.ignored, 40);
}
