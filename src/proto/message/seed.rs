//! What a browser is told in the seed dialect: text of the terminal, and nothing else.

/// How a dialect without messages of its own shows what the relay has to say: a line of the
/// terminal.
pub(in crate::proto) fn line(message: &str) -> String {
    format!("\r\n[podwire: {message}]\r\n")
}
