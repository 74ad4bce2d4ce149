//! The second step of a hang-up: a signal for whatever a session has left behind.
//!
//! The keys that a session types when it ends before its shell are like the end of a terminal
//! line, and some programs do not mind them: an editor, a pager, a job in the background, a shell
//! that ignores an interrupt. The kernel would send SIGHUP to all of them, but the terminal stays
//! open in the container. So a second, short exec does it: the shell that a session starts has the
//! session's id in its environment, as everything has that it starts.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use crate::credential::Identity;
use crate::exec::Connector;
use crate::line::Line;
use crate::metrics::HungUp;
use crate::proto::ending::{Ending, Kind};
use crate::proto::message::Dialect;
use crate::proto::session::{Leaving, Limits, Outcome, Process};
use crate::relay::{Browser, relay};
use crate::shell::{Candidates, MARK, Started, again};
use crate::target::{Target, Verb};

/// For all of it. A cluster that needs longer to start a shell is in trouble, and a drain waits.
const TIME: Duration = Duration::from_secs(10);
/// Between two tries at a cluster that cannot be reached.
const AGAIN: Duration = Duration::from_secs(2);

/// Exit codes of the script besides 0, which says that nothing is left. They are not those that
/// shells have for errors of their own.
const SOME_LEFT: u8 = 9;
const NO_TOOL: u8 = 10;

/// What is needed of a session once it is over.
pub(crate) struct Farewell {
    pub(crate) connector: Option<Connector>,
    /// Where the session was.
    pub(crate) target: Target,
    /// The newest; it may be renewed while the session lasts.
    pub(crate) identity: Mutex<Identity>,
    /// Whether keys are typed, and whether a signal follows them.
    pub(crate) keys: bool,
    pub(crate) signal: bool,
    /// The shell that was started last, which may be another than the first.
    pub(crate) shell: Started,
}

impl Farewell {
    /// Ends what the session has left behind: the second step of the hang-up, for which the
    /// session must be over. Says what is known of the process then, and what was done.
    pub(crate) async fn see_off(self, mut outcome: Outcome) -> (Outcome, HungUp) {
        if !outcome.left || !self.keys {
            return (outcome, HungUp::None);
        }
        // Where there is no shell of ours that could have a mark, there is none to be found.
        let shell = self.shell.marked().filter(|_| self.signal);
        let (Some(connector), Some(shell)) = (self.connector, shell) else {
            return (outcome, HungUp::Keys);
        };
        let identity = self.identity.into_inner().unwrap_or_else(PoisonError::into_inner);
        match signal(&connector, &self.target, &shell, &identity).await {
            Signalled::Gone => {
                if outcome.process == Process::Unknown {
                    outcome.process = Process::Ended(None);
                }
                (outcome, HungUp::Signal)
            }
            Signalled::Left => {
                outcome.process = Process::Unknown;
                (outcome, HungUp::Signal)
            }
            Signalled::Unknown => (outcome, HungUp::Signal),
            Signalled::Failed(why) => {
                let (session, kind) = (self.target.session, why.kind.facts().name);
                log::warn!(session, kind, message = why.message.as_ref(); "hang-up failed");
                (outcome, HungUp::Failed)
            }
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Signalled {
    /// Nothing of the session runs any more.
    Gone,
    /// Something does that got the signal and ignores it, as `nohup` has it.
    Left,
    /// The signal was sent, and nobody knows what came of it.
    Unknown,
    /// The signal could not be sent.
    Failed(Ending),
}

/// Sends SIGHUP to every process of the target's container that carries its session's id, and says
/// whether any is left then. Processes of another user cannot be seen.
async fn signal(
    connector: &Connector,
    target: &Target,
    shell: &str,
    identity: &Identity,
) -> Signalled {
    let command = [shell, "-c", &script(&target.session)].map(str::to_owned).to_vec();
    // The id stays: in the cluster's audit log this belongs to the session that it ends.
    let target = Target { command, verb: Verb::Exec, stdin: false, tty: false, ..target.clone() };
    let mut last = Ending::new(Kind::ClusterTimeout, "there was no answer in time");
    let tries = async {
        loop {
            let ending = run(connector, &target, identity).await;
            if !matches!(ending.kind, Kind::ClusterUnreachable | Kind::ClusterLost) {
                return ending;
            }
            // Whatever ended the session may have been a moment's trouble.
            last = ending;
            sleep(AGAIN).await;
        }
    };
    let ending = timeout(TIME, tries).await.unwrap_or(last);
    match (ending.kind, ending.exit_code) {
        (Kind::Exit, Some(0)) => Signalled::Gone,
        (Kind::Exit, Some(SOME_LEFT)) => Signalled::Left,
        // The oldest subprotocol tells no codes.
        (Kind::Exit, None) => Signalled::Unknown,
        (Kind::Exit, Some(NO_TOOL | 127)) => {
            let message = "the image has no sh, no grep or no /proc to find what is left";
            Signalled::Failed(Ending::new(Kind::Failed, message))
        }
        _ => Signalled::Failed(ending),
    }
}

/// Runs a command whose output nobody wants, and gives its ending.
async fn run(connector: &Connector, target: &Target, identity: &Identity) -> Ending {
    let mut cluster = match connector.open(target, identity).await {
        Ok(cluster) => cluster,
        Err(ending) => return ending,
    };
    cluster.leaving = Leaving::Nothing;
    // A cluster that starts nothing on v5 did not start the session's shell on it either.
    let no_others = Candidates::default();
    cluster.again = Some(again(connector.clone(), target.clone(), identity.clone(), no_others));
    let nobody = Browser { io: Line::Nobody, early: Bytes::new(), dialect: Dialect::V1 };
    relay(nobody, cluster, Limits::default(), std::future::pending()).await.ending
}

/// What finds the marked and signals them; for any `sh`, and the `grep` of busybox as well as of
/// GNU. The id is a UUID, so it needs no quotes and is found nowhere else.
///
/// First it is made sure that marks can be found at all: `grep` must find one in its own
/// environment. Nothing is taken for gone that was not looked for twice, for a process that is
/// just becoming another program has no environment for a moment. A stopped process gets the
/// signal only when it goes on. Some programs need a moment to save something.
fn script(session: &str) -> String {
    format!(
        r#"s={session}
PODWIRE_PROBE=$s grep -qF PODWIRE_PROBE=$s /proc/self/environ || exit {NO_TOOL}
f() {{ l=$(grep -lF {MARK}=$s /proc/[0-9]*/environ); [ $? -le 2 ] || exit {NO_TOOL}; }}
for i in 1 2 3 4; do
f; [ -n "$l" ] || f; [ -n "$l" ] || exit 0
for p in $l; do p=${{p#/proc/}}; p=${{p%/environ}}; kill -HUP $p; kill -CONT $p; done
[ $i = 4 ] || sleep 1
done
exit {SOME_LEFT}"#
    )
}
