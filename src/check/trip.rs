//! A round trip: a real session with a real shell, without a browser.
//!
//! It goes the way that every session goes: the same search for a shell, the same subprotocols, the
//! same loop. What it must never know: what is printed about it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};

use crate::config::{Config, Hangup};
use crate::credential::Identity;
use crate::exec::{ClusterIo, Connector};
use crate::hangup::Farewell;
use crate::line::Line;
use crate::proto::channel::Subprotocol;
use crate::proto::ending::{Ending, Kind};
use crate::proto::frame::{self, Event, Masking, Opcode, Parser, append};
use crate::proto::message::Dialect;
use crate::proto::session::{Leaving, Limits};
use crate::relay::{Again, Browser, Cluster, Opening, relay};
use crate::route::Wanted;
use crate::shell::{again, put_shell};

/// The code that the shell is asked to end with: not one that shells and runtimes have for
/// themselves.
pub(super) const CODE: u8 = 42;

/// What is typed first, and is not to be kept in a history. A shell puts its name and a product
/// into it, which what the terminal echoes does not have.
const HELLO: &[u8] = b"unset HISTFILE\recho podwire:$0:$((6*7))\r";
/// What is typed when that was answered, and once more when this was.
const ECHO: &[u8] = b"echo podwire-and-back\r";
const BYE: &[u8] = b"exit 42\r";

/// A shell whose name is none to be shown.
const ODD: &str = "a shell";

/// One that has no name of its own.
const WINDOWS: &str = "a shell of Windows";

/// How much of one line is looked at. What comes is a few words; a shell that prints its licence
/// first has short lines, too.
const LINE_MAX: usize = 4096;

/// Between the two ends of the pretend browser's connection.
const PIPE: usize = 16 * 1024;

/// What a round trip came to.
#[derive(Debug)]
pub(super) struct Trip {
    /// What the cluster chose, in the order of the tries; or why there is no session.
    pub(super) opened: Result<Vec<Subprotocol>, Ending>,
    /// Why a try started nothing, where another one was made.
    pub(super) unstarted: Vec<Ending>,
    /// The container that was found, where none was named.
    pub(super) container: Option<String>,
    pub(super) heard: Heard,
    /// How it ended.
    pub(super) ending: Ending,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// What the shell calls itself, and how long it took to say so.
    pub(super) shell: Option<(String, Duration)>,
    /// How long a line took there and back.
    pub(super) echo: Option<Duration>,
}

/// Goes there and back, within the time that answers have.
pub(super) async fn go(
    config: &Config,
    connector: &Connector,
    mut wanted: Wanted,
    identity: &Identity,
) -> Trip {
    let never = |ending: Ending| Trip {
        opened: Err(ending.clone()),
        unstarted: Vec::new(),
        container: None,
        heard: Heard::default(),
        ending,
    };
    let candidates = match put_shell(config, &mut wanted) {
        Ok(candidates) => candidates,
        Err(ending) => return never(ending),
    };
    let (target, shell) = (wanted.target, candidates.started());
    let begun = Instant::now();
    let mut cluster = match connector.open(&target, identity).await {
        Ok(cluster) => cluster,
        Err(ending) => return never(ending),
    };
    let container = cluster.place.container.clone();
    if config.hangup == Hangup::None {
        cluster.leaving = Leaving::Nothing;
    }
    let tries = Tries::new(cluster.subprotocol);
    let next = again(connector.clone(), target.clone(), identity.clone(), candidates);
    cluster.again = Some(tries.noting(next));
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let browser = Browser { io: Line::Pipe(theirs), early: Bytes::new(), dialect: Dialect::V1 };
    let time = config.open.response;
    let stop = async {
        sleep(time).await;
        let time = humantime::format_duration(time);
        Ending::new(Kind::ClusterTimeout, format!("the shell did not end within {time}"))
    };
    let limits = config.limits.clone();
    let (outcome, heard) = tokio::join!(relay(browser, cluster, limits, stop), talk(ours, begun));
    let farewell = Farewell {
        connector: Some(connector.clone()),
        target,
        identity: Mutex::new(identity.clone()),
        keys: config.hangup != Hangup::None,
        signal: config.hangup == Hangup::Signal,
        shell: shell.clone(),
    };
    // A check leaves nothing behind either.
    let (outcome, _) = farewell.see_off(outcome).await;
    let (opened, unstarted) = tries.taken();
    let heard = heard.or_named(shell.marked());
    Trip { opened: Ok(opened), unstarted, container, heard, ending: outcome.ending }
}

/// What was tried on the way to a shell.
#[derive(Clone)]
struct Tries(Arc<Mutex<(Vec<Subprotocol>, Vec<Ending>)>>);

impl Tries {
    fn new(first: Subprotocol) -> Self {
        Self(Arc::new(Mutex::new((vec![first], Vec::new()))))
    }

    /// The same way on, with a note of each step.
    fn noting(&self, mut next: Again<ClusterIo>) -> Again<ClusterIo> {
        let tries = self.clone();
        Box::new(move |why| {
            let opening = next(why.clone())?;
            tries.with(|(_, unstarted)| unstarted.push(why));
            let tries = tries.clone();
            let opening: Opening<ClusterIo> = Box::pin(async move {
                let cluster: Cluster<ClusterIo> = opening.await?;
                tries.with(|(opened, _)| opened.push(cluster.subprotocol));
                Ok(cluster)
            });
            Ok(opening)
        })
    }

    fn taken(&self) -> (Vec<Subprotocol>, Vec<Ending>) {
        self.with(std::mem::take)
    }

    fn with<T>(&self, act: impl FnOnce(&mut (Vec<Subprotocol>, Vec<Ending>)) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The browser's side of the talk: types, waits for the answers, and leaves when it is told to.
async fn talk(mut io: DuplexStream, begun: Instant) -> Heard {
    let mut heard = Heard::default();
    let mut parser = Parser::new(Masking::Plain, Limits::default().message_max);
    let mut line = Vec::new();
    let mut to_say = Vec::new();
    let mut said = begun;
    say(&mut to_say, Opcode::Binary, HELLO);
    let mut buffer = vec![0; PIPE];
    loop {
        if io.write_all(&to_say).await.is_err() {
            return heard;
        }
        to_say.clear();
        let Ok(length @ 1..) = io.read(&mut buffer).await else { return heard };
        let mut input = &mut buffer[..length];
        loop {
            match parser.next(&mut input) {
                Ok(Some(Event::Data { kind: frame::Kind::Binary, payload, .. })) => {
                    for &byte in payload.iter() {
                        if byte != b'\n' {
                            line.extend((line.len() < LINE_MAX).then_some(byte));
                            continue;
                        }
                        if let Some(words) = heard.hear(&line, begun, said) {
                            said = Instant::now();
                            say(&mut to_say, Opcode::Binary, words);
                        }
                        line.clear();
                    }
                }
                Ok(Some(Event::Ping(payload))) => {
                    say(&mut to_say, Opcode::Pong, payload.as_slice());
                }
                // What is text is said by the relay, and not by the process.
                Ok(Some(Event::Data { .. } | Event::Pong(_))) => {}
                Ok(None) => break,
                // It is over, and what is to be known of it is known on the other side.
                Ok(Some(Event::Close(_))) | Err(_) => return heard,
            }
        }
    }
}

/// A frame of a browser's has a mask. Nobody listens in on a pipe in memory, so it hides nothing.
fn say(out: &mut Vec<u8>, opcode: Opcode, words: &[u8]) {
    append(out, opcode, words, Some([0; 4]));
}

impl Heard {
    /// The same, with the name that was asked for where the shell's own cannot be shown.
    fn or_named(mut self, asked: Option<String>) -> Self {
        if let (Some((name, _)), Some(asked)) = (&mut self.shell, asked)
            && name == ODD
        {
            *name = asked;
        }
        self
    }

    /// Takes a line that was printed, and gives what to type next.
    fn hear(&mut self, line: &[u8], begun: Instant, said: Instant) -> Option<&'static [u8]> {
        let line = String::from_utf8_lossy(line);
        if self.shell.is_none() {
            let name = name_in(&line)?;
            self.shell = Some((name, begun.elapsed()));
            return Some(ECHO);
        }
        if self.echo.is_none() && line.contains("podwire-and-back") {
            self.echo = Some(said.elapsed());
            return Some(BYE);
        }
        None
    }
}

/// What the shell calls itself, if this line is its answer. It is printed, and comes out of a
/// container.
fn name_in(line: &str) -> Option<String> {
    let (before, behind) = line.split_once("podwire:")?;
    let Some((name, _)) = behind.split_once(":42") else {
        // Those of Windows put nothing in. It is the answer if it is not what was typed.
        let is_answer = behind.starts_with("$0:") && !before.ends_with("echo ");
        return is_answer.then(|| WINDOWS.to_owned());
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    Some(match name {
        "" => WINDOWS.to_owned(),
        name if name.len() <= 64 && name.chars().all(plain) => name.to_owned(),
        _ => ODD.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_known_by_what_it_puts_into_the_answer() {
        let rows = [
            ("podwire:bash:42\r", Some("bash")),
            ("\u{1b}[?2004l\rpodwire:/busybox/sh:42\r", Some("/busybox/sh")),
            ("podwire::42\r", Some(WINDOWS)),
            ("podwire:$0:$((6*7))\r", Some(WINDOWS)),
            ("PS C:\\> podwire:$0:$((6*7))\r", Some(WINDOWS)),
            ("echo podwire:$0:$((6*7))\r", None),
            ("# echo podwire:$0:$((6*7))\r", None),
            ("podwire:\u{1b}]0;x\u{7}:42\r", Some("a shell")),
            ("welcome", None),
        ];
        for (line, name) in rows {
            assert_eq!(name_in(line).as_deref(), name, "{line}");
        }
    }
}
