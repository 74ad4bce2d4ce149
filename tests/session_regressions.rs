//! Mistakes that the session machine once made, each with the scene in which it showed.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use podwire::proto::channel::Subprotocol;
use podwire::proto::ending::Kind;
use podwire::proto::message::Dialect;
use podwire::proto::session::Process;

use session::{Rig, SUCCESS, cluster_close, options, status, text};

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

/// The oldest subprotocol tells a failure in words; the process was still called unknown.
#[test]
fn words_on_the_oldest_status_channel_mean_that_the_process_ended() {
    for browser_leaves in [false, true] {
        let mut options = options(Dialect::V1, true);
        options.subprotocol = Subprotocol::V1;
        let mut rig = Rig::new(options);
        if browser_leaves {
            rig.browser_ends();
        }
        rig.from_cluster(&[status(b"command terminated"), cluster_close(1000)].concat());
        assert_eq!(rig.finish().process, Process::Ended(None));
    }
}
