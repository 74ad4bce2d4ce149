//! Which shell, how it is started, and what is tried next where it is not there.
//!
//! What it must never know: sockets, frames, who asks.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::credential::Identity;
use crate::exec::{ClusterIo, Connector};
use crate::proto::channel::Subprotocol;
use crate::proto::ending::{Ending, Kind};
use crate::relay::{Again, Opening};
use crate::route::Wanted;
use crate::target::{Target, Verb};

/// The variable by which the processes of a session are found again; see [`crate::hangup`].
pub(crate) const MARK: &str = "PODWIRE_SESSION";

/// How soon after its start a command must have failed to be sure that it never ran. The one case
/// that is known takes milliseconds.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What a session may start besides its first command.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// Other commands for the same shell, in order; none where the caller named a command.
    others: VecDeque<Vec<String>>,
    /// The shells that were tried by the end of it; none where the caller named a command.
    shells: Vec<String>,
    /// Which of them it is.
    started: Started,
}

impl Candidates {
    /// Which shell is running, now and later.
    pub(crate) fn started(&self) -> Started {
        self.started.clone()
    }
}

/// Which shell of ours was started last, if one was: told by the session to its farewell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Started(Arc<Mutex<Option<String>>>);

impl Started {
    /// Takes note of what is being started.
    fn note(&self, command: &[String]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = command.first().cloned();
    }

    /// The shell, if what it starts carries [`MARK`].
    pub(crate) fn marked(&self) -> Option<String> {
        let shell = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        shell.filter(|shell| !is_windows(shell))
    }
}

/// Puts in a shell where there is no command: one `sh -c` that finds the best, or the one that was
/// named, and becomes it. Where there is no `sh` to find it, each shell is tried by itself.
pub(crate) fn put_shell(config: &Config, wanted: &mut Wanted) -> Result<Candidates, Ending> {
    if wanted.target.verb == Verb::Attach {
        return Ok(Candidates::default());
    }
    if !wanted.target.command.is_empty() {
        if config.no_command && !wanted.is_laid_down {
            return Err(Ending::new(Kind::Forbidden, "free commands are switched off"));
        }
        return Ok(Candidates::default());
    }
    let session = wanted.target.session.clone();
    let shells = match wanted.shell.as_deref().unwrap_or("auto") {
        "auto" => config.shells.clone(),
        name if config.shells.iter().any(|shell| shell == name) => vec![name.to_owned()],
        _ => return Err(Ending::new(Kind::BadRequest, "shell names none of --shells")),
    };
    let unix: Vec<&str> = shells.iter().map(String::as_str).filter(|it| !is_windows(it)).collect();
    let mut commands = VecDeque::new();
    if let [first, ..] = unix.as_slice() {
        let become_it = match (wanted.shell.as_deref(), first) {
            (None | Some("auto"), _) => format!(
                "for s in {}; do command -v \"$s\" >/dev/null 2>&1 && exec \"$s\"; done; exec sh",
                unix.join(" ")
            ),
            // Without a word on the terminal, so that the ending is the one that says it.
            (_, name) => format!("command -v {name} >/dev/null 2>&1 && exec {name}; exit 127"),
        };
        commands.push_back(through("sh", &session, &become_it));
    }
    for shell in &shells {
        if is_windows(shell) {
            commands.push_back(vec![shell.clone()]);
        } else if shell != "sh" {
            commands.push_back(through(shell, &session, &format!("exec {shell}")));
        }
    }
    wanted.target.command = commands.pop_front().unwrap_or_default();
    let started = Started::default();
    started.note(&wanted.target.command);
    Ok(Candidates { others: commands, shells, started })
}

/// There is no `/proc` there to find a mark in, and no `sh` to set one.
fn is_windows(shell: &str) -> bool {
    Path::new(shell).extension().is_some_and(|it| it.eq_ignore_ascii_case("exe"))
}

/// A command that sets what a session's shell needs and becomes something. The session's id and
/// the shells' names were checked, so nothing in them needs quotes.
fn through(shell: &str, session: &str, become_it: &str) -> Vec<String> {
    let script = format!("TERM=xterm-256color {MARK}={session}; export TERM {MARK}; {become_it}");
    vec![shell.to_owned(), "-c".to_owned(), script]
}

/// How a session goes on when nothing was started: with v4 where only v5 is broken, with the next
/// shell where this one does not exist, or not at all.
pub(crate) fn again(
    connector: Connector,
    mut target: Target,
    identity: Identity,
    mut candidates: Candidates,
) -> Again<ClusterIo> {
    let begun = Instant::now();
    let mut offer = Subprotocol::OFFER;
    Box::new(move |why| {
        let session = target.session.as_str();
        log::debug!(session, message = why.message.as_ref(); "nothing was started");
        let is_shell = !candidates.shells.is_empty();
        // A shell to which nothing was said has done nothing. Any other command is not run twice
        // on the strength of a sentence, but for one that comes at once.
        let is_safe = is_shell || begun.elapsed() < AT_ONCE;
        let mut first_reason = None;
        if offer == Subprotocol::OFFER && is_safe && is_about_v5(&why) {
            offer = Subprotocol::V4.name();
            first_reason = Some(why);
        } else if !is_shell || !is_missing(&why, &target.command) {
            return Err(why);
        } else {
            target.command = candidates
                .others
                .pop_front()
                .ok_or_else(|| no_shell(&target, &candidates.shells))?;
            candidates.started.note(&target.command);
        }
        let (connector, target) = (connector.clone(), target.clone());
        let identity = identity.clone();
        let opening: Opening<ClusterIo> = Box::pin(async move {
            let opened = connector.open_offering(offer, &target, &identity).await;
            // Where v4 is no way either, what v5 said is nearer to the reason.
            opened.map_err(|ending| first_reason.unwrap_or(ending))
        });
        Ok(opening)
    })
}

/// Whether it was the way to the runtime that failed, and not the command: nothing was started
/// then, and v4 goes another way. A runtime's address without a scheme, as cri-dockerd gives it,
/// is dialled wrongly for v5 only (docker/desktop-feedback#500).
fn is_about_v5(why: &Ending) -> bool {
    let says = |words: &str| why.message.contains(words);
    why.kind != Kind::NotFound
        && (says("error sending request") || says("unable to upgrade connection"))
}

/// Whether the program is not there: in the words that runc, crun, Kata and hcsshim have for it, or
/// by the codes of shells. Much else "was not found" when a container is in trouble.
fn is_missing(why: &Ending, command: &[String]) -> bool {
    if why.kind != Kind::Failed {
        return why.kind == Kind::Exit;
    }
    let says = |words: &str| why.message.to_ascii_lowercase().contains(words);
    let program = command.first().map_or("", String::as_str).to_ascii_lowercase();
    let is_absent = says("not found") || says("no such file") || says("permission denied");
    let is_named = says(&format!("exec: \"{program}\": "))
        || says(&format!("stat {program}: "))
        || says(&format!("file {program} "))
        || says("executable file ");
    is_absent && is_named || says("cannot find the file")
}

fn no_shell(target: &Target, tried: &[String]) -> Ending {
    let Target { namespace, pod, .. } = target;
    let container = target.container.as_deref();
    let of = container.map_or(String::new(), |name| format!(" --target={name}"));
    // Short, because the reason of a close has 123 bytes, and ending with what is to be copied.
    let command = format!("kubectl debug -it {pod} -n {namespace} --image=busybox{of}");
    let what = if let [one] = tried { one } else { "shell" };
    Ending::new(Kind::NoShell, format!("no {what} found; try: {command}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_told_from_other_trouble() {
        let missing = |message: &str| {
            let why = Ending::new(Kind::Failed, message.to_owned());
            is_missing(&why, &["/bin/sh".to_owned()]) || is_missing(&why, &["sh".to_owned()])
        };
        for message in [
            r#"OCI runtime exec failed: exec failed: unable to start container process: exec: "sh": executable file not found in $PATH: unknown"#,
            r#"exec failed: unable to start container process: exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown"#,
            r#"unable to start container process: exec: "/bin/sh": permission denied"#,
            "executable file `sh` not found in $PATH: No such file or directory",
            "the file /bin/sh was not found: unknown",
            "hcs::System::CreateProcess sh: The system cannot find the file specified.: unknown",
        ] {
            assert!(missing(message), "{message}");
        }
        for message in [
            "failed to load task: no running task found: task 12ab not found: not found",
            r#"unable to start container process: chdir to cwd ("/app") set in config.json failed: no such file or directory"#,
            "unable to apply apparmor profile: write /proc/thread-self/attr/apparmor/exec: permission denied",
            "cannot exec in a paused container",
        ] {
            assert!(!missing(message), "{message}");
        }
    }
}
