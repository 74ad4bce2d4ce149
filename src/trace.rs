//! The trace that a request belongs to: the one header of a caller's that a cluster gets to see.
//!
//! By the recommendation "Trace Context" of the W3C. Pure; what it must never know: sockets,
//! sessions.

use hyper::header::HeaderMap;

/// The header of a trace.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// How long a value of version 00 is, and the part that later versions begin with.
const LENGTH: usize = 55;

/// Where the trace's id stands in it.
const ID: std::ops::Range<usize> = 3..35;

/// The longest value of a later version that is looked at: nothing that tells where a request
/// belongs needs more.
const LENGTH_MAX: usize = 256;

/// A valid `traceparent`: which trace a request belongs to, and which part of it asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace(Box<str>);

impl Trace {
    /// Reads the header of a request. Nothing if there is none or it is not valid: whoever needs
    /// a trace then begins one.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        // Of two nobody knows which is meant.
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        Self::parse(value.to_str().ok()?)
    }

    /// `version-trace-parent-flags`, all of it in lower case hexadecimal digits. Of a later
    /// version only what it has in common with version 00 is taken and passed on, as the
    /// recommendation asks for in "Versioning of traceparent".
    fn parse(text: &str) -> Option<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let bytes = text.as_bytes();
        let (known, rest) = bytes.split_at_checked(LENGTH)?;
        let is_dash = |at: usize| matches!(at, 2 | 35 | 52);
        let fits =
            |(at, byte): (usize, &u8)| if is_dash(at) { *byte == b'-' } else { is_hex(*byte) };
        let is_zero = |field: &[u8]| field.iter().all(|byte| *byte == b'0');
        if !known.iter().enumerate().all(fits) || is_zero(&known[ID]) || is_zero(&known[36..52]) {
            return None;
        }
        match &known[..2] {
            b"ff" => None,
            b"00" => rest.is_empty().then(|| Self(text.into())),
            _ if bytes.len() > LENGTH_MAX || !matches!(rest, [] | [b'-', ..]) => None,
            // Of its flags only the first is known here, and all others must be zero.
            _ => {
                let last = char::from(known[LENGTH - 1]).to_digit(16);
                let flags = if last.is_some_and(|bits| bits & 1 == 1) { "01" } else { "00" };
                Some(Self(format!("00{}{flags}", text.get(2..53)?).into()))
            }
        }
    }

    /// The id of the whole trace, as traces are looked up by.
    pub fn id(&self) -> &str {
        self.0.get(ID).unwrap_or_default()
    }

    /// The value of the header.
    pub(crate) fn header(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const ID_PART: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const COMMON: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

    #[test]
    fn what_is_valid_is_passed_on_and_all_else_is_ignored() {
        let long = format!("01-{COMMON}-01-{}", "a".repeat(1024));
        let zero = "0".repeat(32);
        let rows = [
            ("H22 version 00", format!("00-{COMMON}-01"), Some(format!("00-{COMMON}-01"))),
            ("H22 unknown flags", format!("00-{COMMON}-ff"), Some(format!("00-{COMMON}-ff"))),
            ("H22 later", format!("01-{COMMON}-01"), Some(format!("00-{COMMON}-01"))),
            ("H22 later, longer", format!("cc-{COMMON}-0f-x"), Some(format!("00-{COMMON}-01"))),
            ("H22 later, its flags", format!("cc-{COMMON}-fe"), Some(format!("00-{COMMON}-00"))),
            ("H22 later, no dash", format!("01-{COMMON}-01x"), None),
            ("H22 1 KiB", long, None),
            ("H22 00 and more", format!("00-{COMMON}-01-x"), None),
            ("H22 ff", format!("ff-{COMMON}-01"), None),
            ("H22 short", format!("00-{COMMON}-0"), None),
            ("H22 empty", String::new(), None),
            ("H22 upper case", format!("00-{}-01", COMMON.to_uppercase()), None),
            ("H22 version is no number", format!("0x-{COMMON}-01"), None),
            ("H22 no dash", format!("00-{COMMON}_01"), None),
            ("H22 no id", format!("00-{zero}-00f067aa0ba902b7-01"), None),
            ("H22 no parent", format!("00-{ID_PART}-{}-01", &zero[..16]), None),
            ("H22 two in one", format!("00-{COMMON}-01,00-{COMMON}-01"), None),
            ("H22 space inside", format!("00-{} -01", &COMMON[1..]), None),
        ];
        for (id, value, wanted) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_str(&value).unwrap());
            let trace = Trace::of(&headers);
            assert_eq!(trace.as_ref().map(Trace::header), wanted.as_deref(), "{id}");
            assert!(trace.is_none_or(|trace| trace.id() == ID_PART), "{id}");
        }
    }

    #[test]
    fn two_headers_are_none() {
        let value = HeaderValue::from_str(&format!("00-{COMMON}-01")).unwrap();
        let mut headers = HeaderMap::new();
        assert!(Trace::of(&headers).is_none());
        headers.append(TRACEPARENT, value.clone());
        assert!(Trace::of(&headers).is_some());
        headers.append(TRACEPARENT, value);
        assert!(Trace::of(&headers).is_none(), "H22 two");
        headers.insert(TRACEPARENT, HeaderValue::from_bytes(b"00-\xe4").unwrap());
        assert!(Trace::of(&headers).is_none(), "H22 not ASCII");
    }
}
