//! As much HTTP as an upgrade needs.

use super::line::Line;

/// The longest head that is read: more is no answer of anybody's here.
const HEAD_MAX: usize = 32 * 1024;

/// A head, and what was read behind it.
pub(crate) struct Head {
    pub(crate) text: String,
    pub(crate) behind: Vec<u8>,
}

impl Head {
    /// The words of the first line.
    pub(crate) fn first_line(&self) -> impl Iterator<Item = &str> {
        self.text.split("\r\n").next().unwrap_or("").split(' ')
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.text.split("\r\n").skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Reads a head; `behind` is what an earlier read left. None if the peer ended without one.
pub(crate) async fn read_head(line: &mut Line, behind: Vec<u8>) -> Result<Option<Head>, String> {
    let mut read = behind;
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let behind = read.split_off(end + 4);
            let text = String::from_utf8(read).map_err(|_| "a head that is not text")?;
            return Ok(Some(Head { text, behind }));
        }
        if read.len() > HEAD_MAX {
            return Err("a head without an end".into());
        }
        if !line.read_into(&mut read).await? {
            return if read.is_empty() { Ok(None) } else { Err("an end inside a head".into()) };
        }
    }
}

/// Undoes percent-encoding; `+` is a space, as in a query.
pub(crate) fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// A word as a query wants it.
pub(crate) fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
