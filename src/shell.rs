//! Which shell, and how it is started.

use crate::config::Config;
use crate::proto::ending::{Ending, Kind};
use crate::route::Wanted;

/// Without a command a shell is wanted: one `sh -c` that finds the best, or the one that was
/// named, and becomes it. The session's id in its environment is how it is found again.
pub(crate) fn put_shell(config: &Config, wanted: &mut Wanted) -> Result<(), Ending> {
    if !wanted.target.command.is_empty() {
        if config.no_command {
            return Err(Ending::new(Kind::Forbidden, "free commands are switched off"));
        }
        return Ok(());
    }
    let shells = &config.shells;
    let exec = match wanted.shell.as_deref().unwrap_or("auto") {
        "auto" => format!(
            "for s in {}; do command -v \"$s\" >/dev/null 2>&1 && exec \"$s\"; done; exec sh",
            shells.join(" ")
        ),
        name if shells.iter().any(|shell| shell == name) => format!("exec {name}"),
        _ => return Err(Ending::new(Kind::BadRequest, "shell names none of --shells")),
    };
    let session = &wanted.target.session;
    let script = format!(
        "TERM=xterm-256color PODWIRE_SESSION={session}; export TERM PODWIRE_SESSION; {exec}"
    );
    wanted.target.command = vec!["sh".to_owned(), "-c".to_owned(), script];
    Ok(())
}
