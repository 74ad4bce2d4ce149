//! Mistakes that the session machine once made, each with the scene in which it showed.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use podwire::proto::message::Dialect;

use session::readers::Sent;
use session::{Rig, ms, options};

/// The grace was shorter than the pause between the two keys, so the second was never typed.
#[test]
fn both_keys_of_a_hang_up_are_typed_however_short_the_grace() {
    for grace in [0, 1, 199, 200, 201] {
        let mut options = options(Dialect::V1, true);
        options.limits.hangup_grace = ms(grace);
        let mut rig = Rig::new(options);
        rig.browser_ends();
        rig.finish();
        assert_eq!(rig.cluster.sent, [Sent::Input(vec![3, 4]), Sent::Close(Some(1000))], "{grace}");
    }
}
