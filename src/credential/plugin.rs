//! Programs that say a credential: `client.authentication.k8s.io`, as
//! `k8s.io/client-go/plugin/pkg/client/auth/exec` runs them.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Certificate, Secret, Shown, Token, Unfit};

/// The versions of the protocol that still exist, newest first.
pub(crate) const VERSIONS: [&str; 2] =
    ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// What a plugin gets of our own environment, besides what the kubeconfig sets: what programs need
/// to find their files and the network. Everything else may be somebody's secret.
const PASSED_ON: [&str; 20] = [
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "NO_PROXY",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// How long a plugin may run: some ask a server far away, none waits for a person.
const TIME_MAX: Duration = Duration::from_secs(30);

/// The most that a plugin may say: a certificate chain and its key are under 20 KiB.
const OUTPUT_MAX: usize = 1024 * 1024;

/// How much of its complaints is counted.
const COMPLAINT_MAX: usize = 4 * 1024;

/// How long before its end a credential is fetched anew, so that it outlasts the opening of a
/// session and a clock that is a little wrong.
const EARLY: Duration = Duration::from_mins(1);

/// A plugin of a kubeconfig's user, and the credential that it said last.
pub(crate) struct Plugin {
    /// For people.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<Secret>,
    pub(crate) environment: Vec<(String, Secret)>,
    /// What it is told in `KUBERNETES_EXEC_INFO`; may describe a cluster.
    pub(crate) info: Secret,
    /// One of [`VERSIONS`]; its answer must have the same.
    pub(crate) version: &'static str,
    /// Held while the plugin runs, so that it never does twice at the same time.
    pub(crate) kept: Mutex<Kept>,
}

/// What is known from earlier runs.
#[derive(Default)]
pub(crate) struct Kept {
    good: Option<Good>,
    /// When the last run ended, and why it failed if it did.
    failed: Option<(Instant, String)>,
}

struct Good {
    shown: Shown,
    /// When it ends, if it says so.
    until: Option<SystemTime>,
}

impl Good {
    fn lasts(&self, time: Duration) -> bool {
        self.until.is_none_or(|until| SystemTime::now() + time < until)
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({})", self.program.display())
    }
}

impl Plugin {
    /// The credential that the plugin said last if it is still good, else what it says now.
    ///
    /// # Errors
    ///
    /// Why there is none. Who waited for a run shares its failure.
    pub(super) async fn show(&self) -> Result<Shown, String> {
        let asked = Instant::now();
        let mut kept = self.kept.lock().await;
        if let Some(good) = kept.good.as_ref().filter(|good| good.lasts(EARLY)) {
            return Ok(good.shown.clone());
        }
        if let Some((_, why)) = kept.failed.as_ref().filter(|(ended, _)| *ended >= asked) {
            return Err(why.clone());
        }
        match self.run().await {
            Ok(good) => {
                kept.failed = None;
                Ok(kept.good.insert(good).shown.clone())
            }
            Err(why) => {
                let why = format!("the plugin {} {why}", self.name);
                // The old one is worth more than none for as long as it lasts.
                if let Some(good) = kept.good.as_ref().filter(|good| good.lasts(Duration::ZERO)) {
                    log::debug!(why; "an earlier credential is shown once more");
                    return Ok(good.shown.clone());
                }
                kept.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    /// This was refused; it is not shown again unless the plugin says it anew.
    pub(super) async fn forget(&self, shown: &Shown) {
        let mut kept = self.kept.lock().await;
        kept.good.take_if(|good| {
            let certificate = good.shown.certificate.as_ref().or(shown.certificate.as_ref());
            Shown { certificate: certificate.cloned(), ..good.shown.clone() }.is(shown)
        });
    }

    /// Runs it. Dropping the future kills it.
    async fn run(&self) -> Result<Good, String> {
        let (status, output) = match timeout(TIME_MAX, self.talk()).await {
            Ok(said) => said?,
            Err(_) => return Err(format!("did not end within {} s", TIME_MAX.as_secs())),
        };
        match status.code() {
            Some(0) => Answer::parse(&output, self.version)?.good(),
            Some(code) => Err(format!(
                "ended with exit code {code}; run it by hand to read why; here it gets only PATH, \
                 HOME and the like of the environment, and the kubeconfig's env"
            )),
            None => Err("was killed".to_owned()),
        }
    }

    async fn talk(&self) -> Result<(ExitStatus, Vec<u8>), String> {
        let ours = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let theirs = self.environment.iter().map(|(name, value)| (name, value.reveal()));
        let mut child = Command::new(&self.program)
            .args(self.arguments.iter().map(Secret::reveal))
            .env_clear()
            .envs(ours)
            .envs(theirs)
            .env("KUBERNETES_EXEC_INFO", self.info.reveal())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot be started: {error}"))?;
        let mut group = Group::of(&child);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let talk = async {
            tokio::try_join!(
                async { child.wait().await.map_err(|error| format!("was lost: {error}")) },
                async {
                    let output = beginning(stdout, OUTPUT_MAX + 1, false).await;
                    let too_much = "says more than 1 MiB".to_owned();
                    if output.len() > OUTPUT_MAX { Err(too_much) } else { Ok(output) }
                },
                async { Ok(beginning(stderr, COMPLAINT_MAX, true).await) },
            )
        };
        let (status, output, complaint) = talk.await?;
        group.leave();
        if !complaint.is_empty() {
            // Not what it says: some plugins show their tokens when they are asked to explain.
            let (plugin, bytes) = (self.name.as_str(), complaint.len());
            log::debug!(plugin, bytes; "a plugin complains; run it by hand to read what it says");
        }
        Ok((status, output))
    }
}

/// The first bytes of a stream. The rest is read, too, if the other end is to go on; else the
/// stream is left where it is.
async fn beginning(
    stream: Option<impl AsyncRead + Unpin>,
    max: usize,
    and_the_rest: bool,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Some(mut stream) = stream else { return bytes };
    // What cannot be read is over.
    let _ = (&mut stream).take(max as u64).read_to_end(&mut bytes).await;
    if and_the_rest {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    bytes
}

/// The processes that a plugin has started. They are killed with it unless it ends by itself.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    fn leave(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // There is nobody left to tell, and most of the time nobody left to kill.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// What a plugin says (`k8s.io/client-go/pkg/apis/clientauthentication`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    token: String,
    #[serde(default)]
    client_certificate_data: String,
    #[serde(default)]
    client_key_data: String,
    expiration_timestamp: Option<String>,
}

impl Answer {
    fn parse(output: &[u8], version: &str) -> Result<Self, String> {
        // What serde says itself may show a value.
        let answer: Self = serde_json::from_slice(output)
            .map_err(|_| "does not answer with an ExecCredential in JSON".to_owned())?;
        if answer.kind != "ExecCredential" {
            return Err("does not answer with an ExecCredential in JSON".to_owned());
        }
        if answer.api_version != version {
            return Err(format!("answers with another apiVersion than {version}"));
        }
        Ok(answer)
    }

    fn good(self) -> Result<Good, String> {
        let Some(status) = self.status else {
            return Err("answers without a status".to_owned());
        };
        let (chain, key) = (&status.client_certificate_data, &status.client_key_data);
        let certificate = match (chain.is_empty(), key.is_empty()) {
            (true, true) => None,
            (false, false) => {
                let unfit = |unfit| match unfit {
                    Unfit::Certificate(why) => format!("answers: clientCertificateData {why}"),
                    Unfit::Key(why) => format!("answers: clientKeyData {why}"),
                };
                Some(Certificate::from_pem(chain.as_bytes(), key.as_bytes()).map_err(unfit)?)
            }
            _ => return Err("answers with one of certificate and key alone".to_owned()),
        };
        let token = Token::new(&status.token);
        if token.is_none() && !status.token.is_empty() {
            return Err("answers with a token of odd characters".to_owned());
        }
        if token.is_none() && certificate.is_none() {
            return Err("answers with neither a token nor a certificate".to_owned());
        }
        let until = match status.expiration_timestamp.as_deref() {
            None | Some("") => None,
            Some(stamp) => match parse_time(stamp) {
                None => return Err("answers with a malformed expirationTimestamp".to_owned()),
                until => until,
            },
        };
        let good = Good { shown: Shown { token, certificate: certificate.map(Arc::new) }, until };
        if good.lasts(Duration::ZERO) {
            Ok(good)
        } else {
            Err("answers with a credential that has expired already".to_owned())
        }
    }
}

/// A time of RFC 3339, whose offset need not be zero.
fn parse_time(stamp: &str) -> Option<SystemTime> {
    let (local, sign, offset) =
        match stamp.len().checked_sub(6).map(|at| stamp.split_at_checked(at)) {
            Some(Some((local, offset)))
                if offset.starts_with(['+', '-']) && local.contains('T') =>
            {
                (format!("{local}Z"), &offset[..1], &offset[1..])
            }
            _ => (stamp.to_owned(), "+", "00:00"),
        };
    let (hours, minutes) = offset.split_once(':')?;
    let seconds = hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60;
    let time = humantime::parse_rfc3339(&local).ok()?;
    let offset = Duration::from_secs(seconds);
    if sign == "+" { time.checked_sub(offset) } else { time.checked_add(offset) }
}

/// The file that a shell would start: `command` itself if it has a separator, else the first of
/// that name in our own `PATH`, whatever the kubeconfig says about it.
pub(crate) fn find_program(command: &Path, path: Option<OsString>) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    if command.components().count() > 1 || command.is_absolute() {
        return Some(command.to_owned()).filter(is_program);
    }
    let path = path.unwrap_or_default();
    // A relative folder in PATH would mean whatever folder somebody started us in.
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(command)).find(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_have_an_offset() {
        let time = parse_time("2026-11-22T18:00:00Z").unwrap();
        for same in ["2026-11-22T20:30:00+02:30", "2026-11-22T13:00:00-05:00"] {
            assert_eq!(parse_time(same), Some(time), "{same}");
        }
        assert_eq!(parse_time("2026-11-22T18:00:00.000Z"), Some(time));
        for odd in ["", "soon", "2026-11-22", "2026-11-22T18:00:00", "2026-11-22T18:00:00+ä:00"] {
            assert_eq!(parse_time(odd), None, "{odd}");
        }
    }
}
