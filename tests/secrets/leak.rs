//! How a secret is marked, and how the mark is found again.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::common::{Answer, Browser, Relay};

/// In every secret. Letters and digits only, so that it is the same in an address.
pub const MARK: &str = "c4n4ryB1rd";

/// A secret that says where it was put.
pub fn secret(place: &str) -> String {
    format!("{MARK}-{place}")
}

/// The offer of a page that brings a token.
pub fn subprotocol(token: &str) -> String {
    let encoded = URL_SAFE_NO_PAD.encode(token);
    format!("podwire.v1, base64url.bearer.authorization.k8s.io.{encoded}")
}

/// Every form in which the mark could come out: as it is, in base64 at each of its three places, in
/// hexadecimal, and as the numbers that Rust shows for bytes.
fn forms() -> Vec<String> {
    let mut forms = vec![MARK.to_lowercase()];
    for shift in 0..3 {
        let shifted = [&b"\0\0\0"[..shift], MARK.as_bytes()].concat();
        let encoded = STANDARD_NO_PAD.encode(shifted);
        // The first and the last characters depend on what stands beside.
        forms.push(encoded[2 + shift..encoded.len() - 2].to_lowercase());
    }
    let (mut hex, mut numbers) = (String::new(), Vec::new());
    for byte in MARK.bytes() {
        let _ = write!(hex, "{byte:02x}");
        numbers.push(byte.to_string());
    }
    forms.extend([hex, numbers.join(", ")]);
    forms
}

/// Fails if the mark is in there, in any form.
pub fn assert_clean(what: &str, text: &str) {
    let lower = text.to_lowercase();
    for form in forms() {
        let Some(at) = lower.find(&form) else { continue };
        let line = lower[..at].lines().count();
        let around: Vec<&str> = text.lines().skip(line.saturating_sub(2)).take(3).collect();
        panic!("{what}: a secret came out as {form:?}:\n{}", around.join("\n"));
    }
}

/// Fails if an answer to a request says a secret.
pub fn assert_clean_answer(what: &str, answer: &Answer) {
    assert_clean(what, &format!("{:?}", answer.headers));
    assert_clean(what, &String::from_utf8_lossy(&answer.body));
}

/// Fails if a page was told a secret, but for what a terminal shows.
pub fn assert_clean_page(what: &str, page: &Browser) {
    let messages: Vec<String> = page.messages.iter().map(ToString::to_string).collect();
    assert_clean(what, &messages.join("\n"));
    assert_clean(what, &format!("{:?} {:?}", page.close, page.response.headers()));
}

/// Fails if a secret is in anything that a relay says to its operators.
pub async fn assert_clean_relay(what: &str, relay: &Relay) {
    for path in ["/metrics", "/sessions", "/readyz", "/livez", "/nope"] {
        let answer = relay.operate("GET", path).await;
        assert_clean_answer(&format!("{what}: {path}"), &answer);
    }
    assert_clean(&format!("{what}: the log"), &relay.log());
    assert_clean(&format!("{what}: stdout"), &relay.stdout.borrow());
}

#[test]
fn the_mark_is_found_in_every_form() {
    let token = secret("x");
    for text in [
        format!("Bearer {token}"),
        token.to_uppercase(),
        format!("{:?}", token.as_bytes()),
        STANDARD_NO_PAD.encode(&token),
        STANDARD_NO_PAD.encode(format!("a{token}")),
        STANDARD_NO_PAD.encode(format!("ab{token}")),
        token.bytes().fold(String::new(), |text, byte| text + &format!("{byte:02X}")),
    ] {
        let found = std::panic::catch_unwind(|| assert_clean("", &text));
        assert!(found.is_err(), "{text}");
    }
    assert_clean("", "c4n4ry");
}
