//! Nothing is left behind: when a page goes away, whatever its shell was doing is ended as on a
//! terminal line that is hung up, and what asked to survive survives.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
#[path = "hangup/processes.rs"]
mod processes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{Browser, Kind, Relay, Start, both, cluster, short};
use fake_cluster::{Behaviour, FakeCluster, Image, Rights};
use processes::Left;
use tokio::task::JoinSet;

/// What a user was doing. In what is typed and awaited `{n}` stands for a number that no other
/// process on the machine has among its arguments.
struct Doing {
    name: &'static str,
    tty: bool,
    typed: &'static [(&'static str, Seen)],
    /// Whether the keys of a hang-up, or the end of input, are enough.
    keys: bool,
}

/// What shows that it has begun.
#[derive(Clone, Copy)]
enum Seen {
    Output(&'static str),
    Program(&'static str),
}

use Seen::{Output, Program};

const IDLE: Doing = Doing { name: "an idle shell", tty: true, typed: &[], keys: true };

const SLEEP: Doing = Doing {
    name: "a sleep",
    tty: true,
    typed: &[("sleep {n}\r", Program("sleep {n}"))],
    keys: true,
};

const VIM: Doing = Doing {
    name: "vim",
    tty: true,
    typed: &[("vim -u NONE\r", Program("vim -u NONE")), ("", Output("~"))],
    keys: false,
};

const DOINGS: &[Doing] = &[
    IDLE,
    SLEEP,
    VIM,
    Doing {
        name: "a half-typed line",
        tty: true,
        typed: &[("echo half-typed", Output("half-typed"))],
        keys: true,
    },
    Doing {
        name: "an endless writer",
        tty: true,
        typed: &[("while :; do echo x{n}y; done\r", Output("x{n}y\r\nx{n}y"))],
        keys: true,
    },
    Doing {
        name: "less",
        tty: true,
        typed: &[("seq 1 1000 | less\r", Program("less")), ("", Output("\r\n23\r\n"))],
        keys: false,
    },
    Doing {
        name: "a background job",
        tty: true,
        typed: &[("sleep {n} &\r", Program("sleep {n}"))],
        keys: false,
    },
    Doing {
        name: "a suspended job",
        tty: true,
        typed: &[
            ("vim -u NONE\r", Program("vim -u NONE")),
            ("", Output("~")),
            ("\u{1a}", Output("Stopped")),
        ],
        keys: false,
    },
    Doing {
        name: "nested shells",
        tty: true,
        typed: &[
            ("sh\r", Program("sh")),
            ("bash --norc\r", Program("bash --norc")),
            ("bash --noprofile\r", Program("bash --noprofile")),
        ],
        keys: true,
    },
    Doing {
        name: "a shell that ignores the interrupt",
        tty: true,
        typed: &[("trap '' INT; echo tra''pped\r", Output("trapped"))],
        keys: true,
    },
    Doing {
        name: "a job that ignores the interrupt",
        tty: true,
        typed: &[("trap '' INT; sleep {n}\r", Program("sleep {n}"))],
        keys: false,
    },
    Doing {
        name: "a busybox shell",
        tty: true,
        typed: &[("busybox sh\r", Program("busybox sh")), ("echo b''usy\r", Output("busy"))],
        keys: true,
    },
    Doing { name: "cat on a pipe", tty: false, typed: &[("cat\n", Program("cat"))], keys: true },
    Doing {
        name: "a sleep on a pipe",
        tty: false,
        typed: &[("sleep {n}\n", Program("sleep {n}"))],
        keys: false,
    },
];

/// How a page goes away.
#[derive(Clone, Copy, Debug)]
enum How {
    Close,
    Abort,
}

impl How {
    fn kind(self) -> &'static str {
        match self {
            Self::Close => "kind=browser_closed",
            Self::Abort => "kind=browser_lost",
        }
    }

    async fn leave(self, browser: Browser) {
        match self {
            Self::Close => browser.leave().await,
            Self::Abort => browser.abort(),
        }
    }
}

/// A session in which somebody does something.
struct Busy {
    browser: Browser,
    session: String,
    left: Left,
    number: String,
}

/// A number that is an argument of nothing else on this machine.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    (u64::from(std::process::id()) * 10_000 + 100_000_000 + u64::from(count)).to_string()
}

/// Opens a session without a command, so with a shell that the relay chose.
async fn shell(relay: &Relay, tty: bool, headers: &[(&'static str, &str)]) -> Busy {
    let rest = if tty { "" } else { "&tty=false" };
    let offers = [&[("sec-websocket-protocol", "podwire.v1")], headers].concat();
    let mut browser = relay.browser(&short(&[], rest), &offers).await;
    let ready = browser.message("ready").await;
    let session = ready["session"].as_str().unwrap().to_owned();
    let number = unique();
    let left = Left::of(&session, &number);
    let end = if tty { "\r" } else { "\n" };
    browser.input(&format!("echo $((6*7))up{end}")).await;
    browser.until_output("42up").await;
    Busy { browser, session, left, number }
}

impl Busy {
    /// Types what the user does, and waits until it is under way.
    async fn does(&mut self, doing: &Doing) {
        for (typed, seen) in doing.typed {
            if !typed.is_empty() {
                self.browser.input(&typed.replace("{n}", &self.number)).await;
            }
            match seen {
                Output(words) => {
                    self.browser.until_output(&words.replace("{n}", &self.number)).await;
                }
                Program(line) => self.left.until_runs(&line.replace("{n}", &self.number)).await,
            }
        }
        assert!(!self.left.list().is_empty(), "{}: nothing carries the session's id", doing.name);
    }
}

/// The line that ends a session's log.
async fn end_line(relay: &Relay, session: &str) -> String {
    relay.until_logged(&format!("session end session={session}"), 1).await
}

/// One session from its first key to the end of everything that it started.
async fn left_alone(relay: Arc<Relay>, doing: &'static Doing, how: How) {
    let mut busy = shell(&relay, doing.tty, &[]).await;
    busy.does(doing).await;
    let Busy { browser, session, left, .. } = busy;
    let before = left.list();
    how.leave(browser).await;
    left.until_gone(doing.name, &[]).await;
    let line = end_line(&relay, &session).await;
    println!("{} by {how:?}: {before:?}: {line}", doing.name);
    assert!(line.contains(how.kind()), "{}: {line}", doing.name);
    let by_signal = line.contains("hangup=signal");
    assert!(by_signal || doing.keys && line.contains("hangup=keys"), "{}: {line}", doing.name);
    assert!(line.contains("process=ended"), "{}: {line}", doing.name);
}

/// All at once, so that it takes as long as the longest.
async fn everything_is_ended(kind: Kind, how: How) {
    let (_cluster, relay) = both(kind).await;
    let relay = Arc::new(relay);
    let before = relay.descriptors();
    let mut sessions = JoinSet::new();
    for doing in DOINGS {
        sessions.spawn(left_alone(Arc::clone(&relay), doing, how));
    }
    let mut failed = 0;
    while let Some(session) = sessions.join_next().await {
        // The panic's own message has been printed.
        failed += usize::from(session.is_err());
    }
    assert_eq!(failed, 0, "sessions that left something behind or were not logged as they should");
    relay.until_descriptors(before).await;
}

async fn nothing_survives_a_page_that_closes(kind: Kind) {
    everything_is_ended(kind, How::Close).await;
}

async fn nothing_survives_a_page_that_is_lost(kind: Kind) {
    everything_is_ended(kind, How::Abort).await;
}

on_every_cluster!(nothing_survives_a_page_that_closes, nothing_survives_a_page_that_is_lost);

/// As on any terminal.
#[tokio::test]
async fn what_asked_to_survive_a_hang_up_survives() {
    let (_cluster, relay) = both(Kind::V5).await;
    for how in [How::Close, How::Abort] {
        let mut busy = shell(&relay, true, &[]).await;
        let line = format!("sleep {}", busy.number);
        busy.browser.input(&format!("nohup {line} >/dev/null 2>&1 &\r")).await;
        busy.left.until_runs(&line).await;
        let Busy { browser, session, left, .. } = busy;
        how.leave(browser).await;
        let ended = end_line(&relay, &session).await;
        left.until_gone("the shell", &[&line]).await;
        assert_eq!(left.list(), [line], "{ended}");
        println!("{ended}");
    }
}

/// Only whoever is meant is hung up: another session of the same container goes on.
#[tokio::test]
async fn a_neighbour_in_the_same_container_is_not_hung_up() {
    let (_cluster, relay) = both(Kind::V5).await;
    let mut neighbour = shell(&relay, true, &[]).await;
    neighbour.does(&Doing { typed: &[("sleep {n} &\r", Program("sleep {n}"))], ..IDLE }).await;
    let mut busy = shell(&relay, true, &[]).await;
    busy.does(&VIM).await;
    let Busy { browser, session, left, .. } = busy;
    browser.leave().await;
    end_line(&relay, &session).await;
    left.until_gone("vim", &[]).await;
    neighbour.left.until_runs(&format!("sleep {}", neighbour.number)).await;
    neighbour.browser.input("echo st''ill\r").await;
    neighbour.browser.until_output("still").await;
}

/// A relay whose callers bring the token of `execer`, and one busy session of each of these.
async fn with_token(doings: [&Doing; 2]) -> (FakeCluster, Relay, [Busy; 2]) {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::passthrough().before(&cluster).await;
    let bearer = format!("Bearer {}", cluster.token("execer"));
    let headers = [("authorization", bearer.as_str())];
    let mut first = shell(&relay, true, &headers).await;
    let mut second = shell(&relay, true, &headers).await;
    first.does(doings[0]).await;
    second.does(doings[1]).await;
    (cluster, relay, [first, second])
}

/// The second step is refused, is logged as failed, and nothing worse; the first needs no token.
async fn a_second_step_that_is_refused(refuse: impl FnOnce(&FakeCluster)) {
    let (cluster, relay, [idle, vim]) = with_token([&SLEEP, &VIM]).await;
    let before = relay.descriptors();
    refuse(&cluster);
    for (busy, name) in [(idle, "sleep"), (vim, "vim")] {
        let Busy { browser, session, left, .. } = busy;
        browser.abort();
        let line = end_line(&relay, &session).await;
        println!("{line}");
        if name == "vim" {
            assert!(line.contains("hangup=failed"), "{line}");
            assert!(line.contains("process=unknown"), "{line}");
            left.until_runs("vim -u NONE").await;
        } else {
            left.until_gone(name, &[]).await;
            assert!(line.contains("process=ended"), "{line}");
        }
    }
    let token = cluster.token("execer");
    assert!(!token.is_empty() && !relay.log().contains(&token), "a token is logged");
    relay.until_descriptors(before - 4).await;
}

#[tokio::test]
async fn a_token_that_expired_meanwhile_costs_the_second_step_only() {
    a_second_step_that_is_refused(|cluster| cluster.set_token("execer", "another")).await;
}

#[tokio::test]
async fn a_right_that_was_withdrawn_meanwhile_costs_the_second_step_only() {
    a_second_step_that_is_refused(|cluster| cluster.set_rights("execer", Rights::none())).await;
}

#[tokio::test]
async fn a_relay_that_is_stopped_leaves_nothing_behind() {
    let cluster = cluster(Behaviour::default()).await;
    let flags = ["--drain-delay", "0s", "--drain-timeout", "20s"];
    let mut relay = Start::flags(&flags).before(&cluster).await;
    let mut sessions = Vec::new();
    for doing in [&VIM, &IDLE, &SLEEP] {
        let mut busy = shell(&relay, true, &[]).await;
        busy.does(doing).await;
        sessions.push((busy, doing.name));
    }
    let mut browsers = JoinSet::new();
    let mut lefts = Vec::new();
    for (busy, name) in sessions {
        let Busy { mut browser, left, .. } = busy;
        browsers.spawn(async move { browser.exit().await });
        lefts.push((left, name));
    }
    assert_eq!(relay.terminate().await, Some(0));
    while let Some(told) = browsers.join_next().await {
        let (exit, close) = told.unwrap();
        assert_eq!((exit["kind"].as_str(), close.code), (Some("drain"), 1012));
    }
    // The relay has waited for the second step.
    for (left, name) in lefts {
        left.until_gone(name, &[]).await;
    }
    for line in relay.log().lines().filter(|line| line.contains("session end")) {
        println!("{line}");
        assert!(line.contains("kind=drain") && line.contains("process=ended"), "{line}");
    }
}

/// An operator ends a session whose user is still there.
#[tokio::test]
async fn a_session_that_an_operator_ends_leaves_nothing_behind() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--admin-listen", "127.0.0.1:0"]).before(&cluster).await;
    let mut busy = shell(&relay, true, &[]).await;
    busy.does(&VIM).await;
    let Busy { mut browser, session, left, .. } = busy;
    let answer = relay.operate("DELETE", &format!("/sessions/{session}")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    browser.assert_exit("revoked", None, 4403, "ended by an operator").await;
    left.until_gone("vim", &[]).await;
    let line = end_line(&relay, &session).await;
    assert!(line.contains("hangup=signal") && line.contains("process=ended"), "{line}");
    assert!(relay.sessions().await.is_empty());
    relay.until_metric("podwire_hangups_total{result=\"signal\"}", 1.0).await;
}

/// Nothing can be found without `grep`, which is said in the log; the keys work all the same.
#[tokio::test]
async fn an_image_without_the_tools_costs_the_second_step_only() {
    let lacks = ["tr", "grep"].map(str::to_owned).to_vec();
    let image = Image::ShWithout { lacks };
    let cluster = cluster(Behaviour { image, ..Behaviour::default() }).await;
    let relay = Start::flags(&["--hangup-grace", "2s"]).before(&cluster).await;
    let before = relay.descriptors();
    let job = Doing { typed: &[("sleep {n} &\r", Program("sleep {n}"))], ..IDLE };
    for (doing, survivor) in [(&SLEEP, false), (&job, true)] {
        let mut busy = shell(&relay, true, &[]).await;
        busy.does(doing).await;
        let Busy { browser, session, left, number } = busy;
        browser.abort();
        let line = end_line(&relay, &session).await;
        assert!(line.contains("hangup=failed"), "{line}");
        let words = format!("sleep {number}");
        if survivor {
            left.until_gone("the shell", &[&words]).await;
            left.until_runs(&words).await;
        } else {
            left.until_gone("a sleep", &[]).await;
            assert!(line.contains("process=ended"), "{line}");
        }
        let why = relay.until_logged(&format!("hang-up failed session={session}"), 1).await;
        assert!(why.contains(" warn ") && why.contains("grep"), "{why}");
    }
    relay.until_descriptors(before).await;
    let mut next = relay.v1(&short(&[], "&tty=false")).await;
    next.input("exit 3\n").await;
    next.assert_exit("exit", Some(3), 1000, "nothing worse").await;
}

/// The signal goes the way that the shell went: on v4 where v5 starts nothing, and by whichever
/// shell it was.
#[tokio::test]
async fn the_second_step_is_started_as_the_shell_was() {
    let odd = [
        Behaviour { cri_dockerd: true, ..Behaviour::default() },
        Behaviour::of_image(Image::AshOnly),
    ];
    for behaviour in odd {
        let cluster = cluster(behaviour.clone()).await;
        let relay = Start::flags(&["--hangup-grace", "2s"]).before(&cluster).await;
        let job = Doing { typed: &[("sleep {n} &\r", Program("sleep {n}"))], ..IDLE };
        let mut busy = shell(&relay, true, &[]).await;
        busy.does(&job).await;
        let Busy { browser, session, left, .. } = busy;
        browser.abort();
        let line = end_line(&relay, &session).await;
        let is_known = line.contains("hangup=signal") && line.contains("process=ended");
        assert!(is_known, "{behaviour:?}: {line}");
        left.until_gone("a job", &[]).await;
    }
}

/// Keys only: what needs the signal survives, and the log says that nobody knows.
#[tokio::test]
async fn with_keys_only_vim_survives_and_a_sleep_does_not() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--hangup", "keys", "--hangup-grace", "2s"]).before(&cluster).await;
    for doing in [&SLEEP, &VIM] {
        let mut busy = shell(&relay, true, &[]).await;
        busy.does(doing).await;
        let Busy { browser, session, left, .. } = busy;
        browser.leave().await;
        let line = end_line(&relay, &session).await;
        assert!(line.contains("hangup=keys"), "{line}");
        if doing.keys {
            assert!(line.contains("process=ended"), "{line}");
            left.until_gone(doing.name, &[]).await;
        } else {
            assert!(line.contains("process=unknown"), "{line}");
            left.until_runs("vim -u NONE").await;
        }
    }
    let execs = cluster.sessions().len();
    assert_eq!(execs, 2, "no second step");
}

/// Nothing at all is sent, and the idle shell lives on as it does behind every other relay.
#[tokio::test]
async fn without_a_hang_up_an_idle_shell_survives() {
    let cluster = cluster(Behaviour::default()).await;
    let relay = Start::flags(&["--hangup", "none"]).before(&cluster).await;
    for how in [How::Close, How::Abort] {
        let mut busy = shell(&relay, true, &[]).await;
        busy.does(&IDLE).await;
        let Busy { browser, session, left, .. } = busy;
        let before = left.list();
        how.leave(browser).await;
        let line = end_line(&relay, &session).await;
        assert!(line.contains("hangup=none") && line.contains("process=unknown"), "{line}");
        assert_eq!(left.list(), before);
    }
    for seen in cluster.sessions() {
        assert!(!seen.facts().channel(0).contains(&3), "no keys");
    }
    assert_eq!(cluster.sessions().len(), 2, "no second step");
}

/// A command of the caller's carries no mark; the keys are all there is, and enough.
#[tokio::test]
async fn a_free_command_is_ended_by_the_keys() {
    let (cluster, relay) = both(Kind::V5).await;
    for (number, how) in [How::Close, How::Abort].into_iter().enumerate() {
        let words = unique();
        let mut browser = relay.v1(&short(&["sleep", &words], "")).await;
        let ready = browser.message("ready").await;
        let session = ready["session"].as_str().unwrap().to_owned();
        let left = Left::of(&session, &words);
        left.until_runs(&format!("sleep {words}")).await;
        how.leave(browser).await;
        left.until_gone("sleep", &[]).await;
        let line = end_line(&relay, &session).await;
        assert!(line.contains("hangup=keys") && line.contains("process=ended"), "{line}");
        assert_eq!(cluster.sessions().len(), number + 1, "no second step: {line}");
    }
}
