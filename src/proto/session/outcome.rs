//! What a session comes to, and how the cluster's last words become its ending.

use std::time::Duration;

use super::super::channel::Status;
use super::super::ending::{Ending, Kind};

/// What is known of the process when the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// The cluster said that it ended, with this code if it said one.
    Ended(Option<u8>),
    /// It may still be running.
    Unknown,
}

/// How much went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes typed.
    pub input: u64,
    /// Bytes of output, stdout and stderr, that were told to the browser.
    pub output: u64,
    /// Messages of the browser's.
    pub browser_messages: u64,
    /// Messages of the cluster's.
    pub cluster_messages: u64,
    /// Microseconds in which the browser was not read, because the cluster took no input.
    pub browser_paused_us: u64,
    /// Microseconds in which the cluster was not read, because the browser took no output.
    pub cluster_paused_us: u64,
    /// Messages of the browser's and frames of the cluster's that mean nothing to us.
    pub ignored: u64,
}

/// What a session came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Why it ended.
    pub ending: Ending,
    /// Whether the process is known to have ended, too.
    pub process: Process,
    /// Whether the session ended first, as far as anybody knows: the process was left running,
    /// and what became of it then is in `process`.
    pub left: bool,
    /// How much went through.
    pub traffic: Traffic,
}

/// How a leg's reading side ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Close(Option<u16>),
    Eof,
    /// Nothing was heard of it for so long.
    Silence(Duration),
}

pub(super) fn process_of(status: &Status) -> Process {
    match status {
        Status::Success => Process::Ended(Some(0)),
        Status::Exited(code) => Process::Ended(Some(*code)),
        Status::Failed(_) => Process::Ended(None),
        Status::Malformed => Process::Unknown,
    }
}

pub(super) fn ending_of(status: Status) -> Ending {
    match status {
        Status::Success => Ending::exit(0),
        Status::Exited(code) => Ending::exit(code),
        Status::Malformed => {
            Ending::new(Kind::ClusterProtocol, "the cluster's status makes no sense")
        }
        Status::Failed(text) => {
            // The API server wraps a runtime's own status, so the prefix comes doubled.
            let prefix = "Internal error occurred: ";
            let sentence = text.trim_start_matches(prefix).trim();
            if sentence.is_empty() {
                return Ending::new(Kind::Failed, "the cluster gave no reason for the failure");
            }
            Ending::new(Kind::of_failure(sentence), sentence.to_owned())
        }
    }
}

/// On v1 a process that failed and one that could not be started are told in the same way, by a
/// sentence; the former has the words of `NonZeroExitCode`. No code is read out of it.
pub(super) fn ending_of_v1(text: String) -> Ending {
    if text.starts_with("command terminated with non-zero exit code") {
        Ending::new(Kind::Exit, text)
    } else {
        ending_of(Status::Failed(text))
    }
}

pub(super) fn lost(end: End) -> String {
    let how = match end {
        End::Close(Some(code)) => format!("closed with code {code}"),
        End::Close(None) => "closed".to_owned(),
        End::Eof => "ended".to_owned(),
        End::Silence(time) => format!("was silent for {} s", time.as_secs()),
    };
    format!("the connection to the cluster {how} before it said how the process ended")
}
