//! The rules by which host-dependent text is made comparable. Everything else must be equal.
//!
//! 1. On a terminal the text is what a screen shows: carriage return, newline, erase to the end
//!    of line and the marks of bracketed paste are carried out. A prompt that bash draws once
//!    more after a size, earlier or later, then makes no difference.
//! 2. `bash-5.2# ` is any bash's prompt, of any user.
//! 3. `/dev/pts/7` is any terminal.
//! 4. 64 hexadecimal digits in a row, where the runtime names an exec, are any id.

/// Rule 1, then 2 and 3.
pub fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\u{1b}[?2004h", "");
    let mut rest = text.replace("\u{1b}[?2004l", "").chars().collect::<Vec<_>>().into_iter();
    let (mut lines, mut line, mut column) = (Vec::new(), Vec::new(), 0);
    while let Some(next) = rest.next() {
        match next {
            '\r' => column = 0,
            '\n' => {
                lines.push(std::mem::take(&mut line).into_iter().collect::<String>());
                column = 0;
            }
            '\u{1b}' if rest.as_slice().starts_with(&['[', 'K']) => {
                line.truncate(column);
                rest.nth(1);
            }
            other => {
                line.truncate(line.len().max(column));
                if column < line.len() {
                    line[column] = other;
                } else {
                    line.push(other);
                }
                column += 1;
            }
        }
    }
    lines.push(line.into_iter().collect());
    plain(&lines.join("\n"))
}

/// Rules 2, 3 and 4.
pub fn plain(text: &str) -> String {
    ids(&terminals(&prompts(text)))
}

fn prompts(text: &str) -> String {
    let mut parts = text.split("bash-");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let rest = rest
            .strip_prefix(['#', '$'])
            .map_or_else(|| part.to_owned(), |rest| format!("N#{rest}"));
        out.push_str("bash-");
        out.push_str(&rest);
    }
    out
}

fn terminals(text: &str) -> String {
    let mut parts = text.split("/dev/pts/");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("/dev/pts/N");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

fn ids(text: &str) -> String {
    let is_id = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = text.split_inclusive('"').map(|word| match word.strip_suffix("\\\"") {
        Some(inner) if is_id(inner) => "ID\\\"",
        _ => word,
    });
    words.collect()
}
