//! How much memory the shipped program holds for sessions in which nothing happens, and how large
//! it is. `PODWIRE_TEST_BIN` names the program, as `.ci/run` does; without it nothing is measured,
//! because no other build is what is shipped.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use common::{Browser, Relay, Start, scripted, short};
use fake_cluster::wire::channel;
use fake_cluster::{Gate, Script, Step, Until, Upgrade};
use podwire::bytes::Bytes;
use tokio::net::TcpSocket;

/// Bytes of anonymous memory for a session in which nothing has happened yet: its task, two
/// sockets, and the keys and certificates of one TLS connection. The goal is 8 KiB. Measured 10200:
/// the pages that figures come in make the difference of a hundred, and a new timer or buffer of
/// 512 bytes is more than what is to spare.
const IDLE_MAX: i64 = 10_700;

/// The same after a mebibyte of output: not one buffer stays. As much again is to spare because
/// whatever the allocator cannot give back to the system counts, too.
const AFTER_BURST_MAX: i64 = IDLE_MAX + 512;

/// While the browser takes nothing: one read of the cluster's, which is 64 KiB, and no more.
const STALLED_MAX: i64 = IDLE_MAX + 72 * 1024;

/// And when it has taken all of it, the holes in the heap where that was, if something stands
/// behind them: a heap shrinks from its end only. Nothing comes on top of them.
const AFTER_STALL_MAX: i64 = STALLED_MAX;

/// Bytes of all memory without a session, the program's own pages among it. Measured 2,580,480.
const ALONE_MAX: i64 = 3_000_000;

/// Bytes of the program, static and with the page in it: it is downloaded, and an image is nothing
/// else. Measured 3,827,576, of which the page is 300,000, because it is packed twice: browsers take
/// brotli over https only. It should be 3 MB: `benches/profile.md` has what the rest is made of, and
/// until there is less of it there shall be no more of it either.
const PROGRAM_MAX: i64 = 3_880_000;

/// The memory of one session is the difference between so many and so many of them. What all share,
/// such as the thread's buffers, is in both.
const FEW: usize = 100;
const MANY: usize = 400;

/// A mebibyte in the frames that real clusters send.
const BURST_FRAMES: usize = 32;
const FRAME: usize = 32 * 1024;

/// What the kernel keeps for a page: a small part of the burst.
const RECEIVED_MAX: u32 = 256 * 1024;

/// How often memory is looked at until it stays the same, and with what pause: what was read last
/// may still be on its way out of a buffer.
const LOOKS_MAX: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// The program that is shipped, or nothing but a loud word.
fn shipped() -> Option<PathBuf> {
    let program = std::env::var_os("PODWIRE_TEST_BIN").map(PathBuf::from);
    if program.is_none() {
        // Past the harness, which would keep it to itself.
        let word = b"\n!!! NOT MEASURED: PODWIRE_TEST_BIN names no program, see .ci/run\n";
        std::io::stderr().write_all(word).unwrap();
    }
    program
}

/// Tells all figures, and fails with those that are over their budgets.
fn assert_within(figures: &[(&str, i64, i64)]) {
    let mut over = Vec::new();
    for (what, figure, budget) in figures {
        let word = format!("{what}: {figure} bytes, budget {budget}\n");
        std::io::stderr().write_all(word.as_bytes()).unwrap();
        if figure > budget {
            over.push(word);
        }
    }
    assert!(over.is_empty(), "over budget:\n{}", over.concat());
}

/// Bytes of anonymous memory, once that stays the same.
async fn anonymous(relay: &Relay) -> i64 {
    let look = || {
        let path = format!("/proc/{}/smaps_rollup", relay.pid());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() * 1024
    };
    let mut often = tokio::time::interval(PAUSE);
    let (mut before, mut same) = (look(), 0);
    for _ in 0..LOOKS_MAX {
        often.tick().await;
        let now = look();
        same = if now == before { same + 1 } else { 0 };
        before = now;
        if same == 5 {
            break;
        }
    }
    before
}

/// Bytes of memory in the states of a relay's life.
#[derive(Clone, Copy, Debug)]
struct Figures {
    alone: i64,
    idle: i64,
    after_burst: i64,
    stalled: i64,
    after_stall: i64,
}

/// What every exec does: a word, a burst when it is asked for one, another one behind the gate.
fn script(gate: &Gate) -> Script {
    let burst: Bytes = channel(1, &vec![b'x'; FRAME]).repeat(BURST_FRAMES).into();
    let said = |word: &str| Step::Send(channel(1, word.as_bytes()).into());
    Script::new([
        Step::Upgrade(Upgrade::honest()),
        said("up"),
        Step::Read(Until::Stdin(Bytes::from_static(b"burst"))),
        Step::Send(burst.clone()),
        said("down"),
        Step::Wait(gate.clone()),
        Step::Send(burst),
        said("over"),
        Step::Read(Until::Gone),
    ])
}

/// A page whose machine takes little in advance, so that a burst waits where it is measured.
async fn page(relay: &Relay) -> Browser {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVED_MAX).unwrap();
    let tcp = socket.connect(relay.addr()).await.unwrap();
    let request = relay.request(&short(&["idle"], ""), &[("sec-websocket-protocol", "podwire.v1")]);
    let mut page = Browser::open(tcp, request).await.unwrap();
    page.until_output("up").await;
    page
}

/// A relay with so many sessions.
async fn figures(program: PathBuf, sessions: usize) -> Figures {
    let gate = Gate::new();
    let cluster = scripted(script(&gate)).await;
    let start = Start { program, ..Start::flags(&["--log-level=info"]) };
    let relay = start.before(&cluster).await;
    let alone = i64::try_from(relay.memory("VmRSS")).unwrap() * 1024;
    let mut pages = Vec::new();
    for _ in 0..sessions {
        pages.push(page(&relay).await);
    }
    let idle = anonymous(&relay).await;
    for page in &mut pages {
        page.input("burst").await;
        page.until_output("down").await;
    }
    let after_burst = anonymous(&relay).await;
    gate.open();
    let stalled = anonymous(&relay).await;
    for page in &mut pages {
        page.until_output("over").await;
        assert_eq!(page.output.len(), "updownover".len() + 2 * BURST_FRAMES * FRAME);
    }
    let after_stall = anonymous(&relay).await;
    Figures { alone, idle, after_burst, stalled, after_stall }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_holds_little_memory() {
    let Some(program) = shipped() else { return };
    let few = figures(program.clone(), FEW).await;
    let many = figures(program, MANY).await;
    println!("{few:?} {many:?}");
    let alone = few.alone.max(many.alone);
    let each = |state: fn(&Figures) -> i64| {
        (state(&many) - state(&few)) / i64::try_from(MANY - FEW).unwrap()
    };
    let (idle, after_burst) = (each(|it| it.idle), each(|it| it.after_burst));
    // Holes in the heap are there or not, and those of the few must not be set against these.
    let most = |state: i64| idle + (state - many.idle) / i64::try_from(MANY).unwrap();
    let (stalled, after_stall) = (most(many.stalled), most(many.after_stall));
    assert_within(&[
        ("all memory without a session", alone, ALONE_MAX),
        ("anonymous memory of an idle session", idle, IDLE_MAX),
        ("anonymous memory of a session after a burst", after_burst, AFTER_BURST_MAX),
        ("anonymous memory of a session whose browser stalls", stalled, STALLED_MAX),
        ("anonymous memory of a session after a stall", after_stall, AFTER_STALL_MAX),
    ]);
}

#[test]
fn the_program_is_small() {
    let Some(program) = shipped() else { return };
    if !program.components().any(|part| part.as_os_str().to_string_lossy().contains("-musl")) {
        std::io::stderr().write_all(b"\n!!! NOT WEIGHED: the program has no musl in it\n").unwrap();
        return;
    }
    let size = i64::try_from(std::fs::metadata(program).unwrap().len()).unwrap();
    assert_within(&[("the program", size, PROGRAM_MAX)]);
}
