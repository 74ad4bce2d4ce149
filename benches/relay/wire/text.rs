//! The text of the `text` program: what a relay must not damage.

/// How much text there is.
const LEN: usize = 64 * 1024;

/// How much of it comes in frames of one byte, so that every cut there can be is there.
const SINGLE: usize = 2 * 1024;

/// Characters of one, two, three and four bytes, and some that are made of several.
const SENTENCE: &str = "容器的终端 déjà vu 🚀 こんにちは 👩‍💻 $ ls -l ñandú 漢字かな交じり 🇪🇺 ok\r\n";

/// The text, always the same.
pub(crate) fn text() -> String {
    let mut text = String::with_capacity(LEN);
    while text.len() + SENTENCE.len() <= LEN {
        text.push_str(SENTENCE);
    }
    text.extend(std::iter::repeat_n('.', LEN - text.len()));
    text
}

/// The text in the pieces that the cluster sends: first single bytes, then 1 to 97 of them.
pub(crate) fn pieces(text: &str) -> Vec<&[u8]> {
    let mut rest = text.as_bytes();
    let mut pieces = Vec::new();
    let mut step = 0;
    while !rest.is_empty() {
        step = (step + 37) % 97;
        let len = if pieces.len() < SINGLE { 1 } else { step + 1 };
        let (piece, behind) = rest.split_at(len.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
