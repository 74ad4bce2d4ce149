//! The dialect of ttyd's page: a byte that names a command, and what belongs to it.
//!
//! Source: ttyd 1.7, `src/server.h`, `src/protocol.c` and `html/src/components/terminal/xterm`.

use serde::Deserialize;

use super::super::channel::Size;
use super::v1::Place;
use super::{FromBrowser, Misunderstood, read_object, side};

// Towards the relay.
pub(in crate::proto) const INPUT: u8 = b'0';
const RESIZE: u8 = b'1';
const PAUSE: u8 = b'2';
const RESUME: u8 = b'3';
/// The first byte of the first message, which is an object by itself.
const OBJECT: u8 = b'{';

// Towards the page.
pub(in crate::proto) const OUTPUT: u8 = b'0';
const TITLE: u8 = b'1';
const PREFERENCES: u8 = b'2';

/// The page opens a new session as soon as one was closed with any code but 1000. Where that would
/// begin the same thing again and again, it is told not to.
pub(in crate::proto) const NO_RECONNECT: &[u8] = b"2{\"disableReconnect\":true}";

/// What else stands in it, a token among it, is not ours.
#[derive(Deserialize)]
struct Terminal {
    columns: Option<f64>,
    rows: Option<f64>,
}

/// One whole message.
pub(super) fn read(message: &[u8]) -> Result<FromBrowser<'_>, Misunderstood> {
    let Some((&command, payload)) = message.split_first() else { return Ok(FromBrowser::Empty) };
    match command {
        INPUT => Ok(FromBrowser::Input(payload.into())),
        RESIZE => read_size(payload),
        PAUSE => Ok(FromBrowser::Pause),
        RESUME => Ok(FromBrowser::Resume),
        OBJECT => read_size(message),
        _ => Ok(FromBrowser::Unknown),
    }
}

fn read_size(object: &[u8]) -> Result<FromBrowser<'static>, Misunderstood> {
    match read_object(object)? {
        Terminal { columns: None, rows: None } => Ok(FromBrowser::Resize(None)),
        Terminal { columns, rows } => {
            Ok(FromBrowser::Resize(Size::new(side(columns)?, side(rows)?)))
        }
    }
}

/// What the page is told first: its title, and preferences, without which it does not apply those
/// in its own address.
pub(in crate::proto) fn greeting(place: &Place) -> [Vec<u8>; 2] {
    let Place { namespace, pod, container, .. } = place;
    let title = match container {
        Some(container) => format!("{pod} {container} ({namespace})"),
        None => format!("{pod} ({namespace})"),
    };
    [[&[TITLE], title.as_bytes()].concat(), vec![PREFERENCES, b'{', b'}']]
}
