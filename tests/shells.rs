//! Which shell a session without a command gets, in images of every kind, and that nothing that
//! is typed before its prompt is lost, doubled or reordered.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use common::{
    Browser, Kind, Random, Relay, Start, cluster, exchange, session, short, upgrade, within,
};
use fake_cluster::wire::{opcode, raw};
use fake_cluster::{Behaviour, FakeCluster, Gate, Image, Mode};
use serde_json::json;

on_every_cluster!(
    every_image_gets_the_shell_that_it_has,
    keys_typed_before_the_prompt_arrive_once_and_in_order,
    an_image_without_a_shell_is_told_what_to_type,
);

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn busybox() -> Image {
    Image::NoSh { has: list(&["/busybox/sh", "cat", "stty"]) }
}

/// A runtime that says 127 of what it cannot find, and an image with one shell.
fn exit127() -> Image {
    Image::Exit127 { has: list(&["/busybox/sh", "cat", "stty"]) }
}

async fn with(behaviour: Behaviour) -> (FakeCluster, Relay) {
    let cluster = cluster(behaviour).await;
    let relay = Relay::start(&cluster).await;
    (cluster, relay)
}

/// The programs that were tried, in order.
fn tried(cluster: &FakeCluster) -> Vec<String> {
    let program = |query: &str| {
        let word = query.split('&').find_map(|pair| pair.strip_prefix("command="));
        word.unwrap_or_default().replace("%2F", "/").replace("%2f", "/")
    };
    cluster.sessions().iter().map(|seen| program(seen.request().query())).collect()
}

/// Waits until the exec with this number runs. What is typed for a runtime that says 127 may have
/// been read by a script that ends with 127, so nothing is tried again behind it without a
/// terminal, whose echo would tell.
async fn runs(cluster: &FakeCluster, number: usize) {
    let seen = session(cluster, number).await;
    within("a shell runs", seen.until(|facts| facts.pid)).await;
}

/// Asks a shell whether it is bash, with and without a terminal.
async fn every_image_gets_the_shell_that_it_has(kind: Kind) {
    let table = [
        (Image::Bash, "is bash", 1),
        (Image::ShOnly, " bash", 1),
        (Image::AshOnly, " bash", 3),
        (busybox(), " bash", 4),
        (exit127(), " bash", 4),
    ];
    for (image, wanted, execs) in table {
        for tty in [true, false] {
            let behaviour = Behaviour { image: image.clone(), ..kind.behaviour() };
            let (cluster, relay) = with(behaviour).await;
            let rest = if tty { "" } else { "&tty=false" };
            let mut browser = relay.v1(&short(&[], rest)).await;
            if image == exit127() {
                runs(&cluster, execs - 1).await;
            }
            let end = if tty { "\r" } else { "\n" };
            // The echo of what is typed does not contain what is said.
            let ask = "echo [${BASH_VERSION:+is} bash] $TERM id=$PODWIRE_SESSION";
            browser.input(&format!("{ask}{end}")).await;
            browser.until_output(&format!("[{wanted}] xterm-256color id=")).await;
            browser.until("an id", |it| it.text().matches("id=").count() > usize::from(tty)).await;
            let id = browser.messages[0]["session"].as_str().unwrap().to_owned();
            browser.until_output(&format!("id={id}")).await;
            browser.input(&format!("exit 3{end}")).await;
            browser.assert_exit("exit", Some(3), 1000, &format!("{image:?}")).await;
            assert_eq!(tried(&cluster).len(), execs, "{image:?}: {:?}", tried(&cluster));
            let readies = browser.messages.iter().filter(|it| it["type"] == "ready").count();
            assert_eq!(readies, 1, "{image:?}");
        }
    }
}

/// A prompt of Windows, and a command in it.
#[tokio::test]
async fn a_windows_image_gets_its_own_shell() {
    let (cluster, relay) = with(Behaviour::of_image(Image::Windows)).await;
    let mut browser = relay.v1(&short(&[], "")).await;
    browser.until_output("PS C:\\> ").await;
    browser.input("exit 4\r").await;
    browser.assert_exit("exit", Some(4), 1000, "powershell").await;
    assert_eq!(tried(&cluster).last().unwrap(), "powershell.exe");
    let before = cluster.sessions().len();
    let mut browser = relay.v1(&short(&[], "&shell=cmd.exe")).await;
    browser.until_output("C:\\>").await;
    browser.input("exit 5\r").await;
    browser.assert_exit("exit", Some(5), 1000, "cmd").await;
    assert_eq!(tried(&cluster)[before..], ["cmd.exe"]);
}

async fn an_image_without_a_shell_is_told_what_to_type(kind: Kind) {
    for image in [Image::Nothing, Image::Exit127 { has: Vec::new() }] {
        let behaviour = Behaviour { image: image.clone(), ..kind.behaviour() };
        let (_cluster, relay) = with(behaviour).await;
        for rest in ["", "&tty=false"] {
            let mut browser = relay.v1(&short(&[], rest)).await;
            if rest.is_empty() || image == Image::Nothing {
                // Somebody has begun to type.
                browser.input("echo hello\r").await;
            }
            let (exit, close) = browser.exit().await;
            assert_eq!(exit["kind"], "no_shell", "{image:?}: {exit}");
            assert_eq!(exit["exitCode"], json!(null), "{image:?}: {exit}");
            assert_eq!(close.code, 4422);
            let message = exit["message"].as_str().unwrap();
            let command = "kubectl debug -it shell -n demo --image=busybox --target=main";
            assert!(message.contains(command), "{image:?}: {message}");
            assert!(browser.output.is_empty(), "{image:?}: {}", browser.text());
        }
        let mut seed = relay.seed(&short(&[], "")).await;
        assert_eq!(seed.ended().await.code, 4422);
        assert!(seed.text().contains("kubectl debug"), "{}", seed.text());
        let line = relay.until_logged("session end", 3).await;
        assert!(line.contains("kind=no_shell") && line.contains("hangup=none"), "{line}");
    }
}

/// Lines of a script that prove which of them were read: each says its own number, in words that
/// its echo does not contain.
fn script(lines: usize, end: &str) -> String {
    let line = |number: usize| format!("echo line-$(({number}))-end{end}");
    (1..=lines).map(line).collect::<Vec<_>>().concat()
}

/// The numbers that were said, in order.
fn said(output: &str) -> Vec<usize> {
    let parts = output.split("line-").skip(1);
    let numbers = parts.filter_map(|part| part.split_once("-end")?.0.parse().ok());
    numbers.collect()
}

/// Types bytes in pieces of any size, as text and as bytes, with sizes in between.
async fn type_in_pieces(browser: &mut Browser, text: &str, random: &mut Random) -> (u64, u64) {
    let mut size = (24, 80);
    for piece in random.pieces(text.as_bytes()) {
        match random.below(3) {
            0 => browser.bytes(piece).await,
            _ => browser.input(std::str::from_utf8(piece).unwrap()).await,
        }
        if random.below(4) == 0 {
            size = (24 + random.below(50), 80 + random.below(100));
            let (rows, cols) = size;
            let message = json!({"type": "resize", "rows": rows, "cols": cols});
            browser.say(&message.to_string()).await;
        }
    }
    (size.1 as u64, size.0 as u64)
}

/// The runtime takes its time, so all of it is typed before anything starts or fails to.
async fn keys_typed_before_the_prompt_arrive_once_and_in_order(kind: Kind) {
    let images = [Image::Bash, Image::ShOnly, Image::AshOnly, busybox(), exit127()];
    for (number, image) in images.into_iter().enumerate() {
        // A terminal with much in its queue is slow; 100 KiB go into a pipe.
        for (tty, lines) in [(true, 300), (false, 4000)] {
            if !tty && image == exit127() {
                continue;
            }
            let gate = Gate::new();
            let (image, start_gate) = (image.clone(), Some(gate.clone()));
            let what = format!("{image:?}, terminal {tty}");
            let behaviour = Behaviour { image, start_gate, ..kind.behaviour() };
            let (cluster, relay) = with(behaviour).await;
            let rest = if tty { "" } else { "&tty=false" };
            let mut browser = relay.v1(&short(&[], rest)).await;
            let end = if tty { "\r" } else { "\n" };
            let text = script(lines, end);
            let mut random = Random(number as u64);
            let (before, behind) = text.split_at(text.len() * 9 / 10);
            let mut size = type_in_pieces(&mut browser, before, &mut random).await;
            let first = session(&cluster, 0).await;
            within("it is typed", first.until_stdin(&before.as_bytes()[..20])).await;
            gate.open();
            if !behind.is_empty() {
                let again = type_in_pieces(&mut browser, behind, &mut random).await;
                size = if again == (80, 24) { size } else { again };
            }
            browser.input(&format!("exit 6{end}")).await;
            browser.assert_exit("exit", Some(6), 1000, &what).await;
            let said = said(&browser.text());
            assert_eq!(said, (1..=lines).collect::<Vec<_>>(), "{what}");
            let last = cluster.sessions().pop().unwrap().facts();
            if tty {
                let newest =
                    last.sizes.last().map(|(cols, rows)| (u64::from(*cols), u64::from(*rows)));
                assert_eq!(newest, Some(size), "{what}: {:?}", last.sizes);
            }
        }
    }
}

/// Keys that come in the same segment as the request.
#[tokio::test]
async fn keys_typed_before_the_answer_arrive_once() {
    for image in [Image::Bash, Image::AshOnly, busybox()] {
        let (_cluster, relay) = with(Behaviour::of_image(image.clone())).await;
        let text = script(50, "\n");
        let offer = "Sec-WebSocket-Protocol: podwire.v1\r\n";
        let mut request = upgrade(&short(&[], "&tty=false"), offer).into_bytes();
        for piece in Random(9).pieces(text.as_bytes()) {
            request.extend(raw(0x80 | opcode::BINARY, common::MASK, piece));
        }
        request.extend(raw(0x80 | opcode::BINARY, common::MASK, b"exit 2\n"));
        let (answer, rest, tcp) = exchange(relay.addr(), &request).await.unwrap();
        assert_eq!(answer.status, 101);
        let mut browser = Browser::continued(tcp, rest).await;
        while within("the end", browser.next()).await {}
        assert_eq!(said(&browser.text()), (1..=50).collect::<Vec<_>>(), "{image:?}");
        assert_eq!(browser.close.as_ref().unwrap().code, 1000, "{:?}", browser.text());
    }
}

/// `echo hi` and the end of input, without a terminal.
#[tokio::test]
async fn a_shell_on_pipes_reads_to_the_end_of_its_input() {
    for image in [Image::Bash, Image::ShOnly, Image::AshOnly, busybox()] {
        for mode in [Mode::Kubelet, Mode::ApiServer] {
            let behaviour = Behaviour { image: image.clone(), mode, ..Behaviour::default() };
            let (_cluster, relay) = with(behaviour).await;
            let mut browser = relay.v1(&short(&[], "&tty=false")).await;
            browser.input("echo hi\n").await;
            browser.say(r#"{"type":"eof"}"#).await;
            browser.assert_exit("exit", Some(0), 1000, &format!("{image:?} {mode:?}")).await;
            assert_eq!(browser.text(), "hi\n", "{image:?} {mode:?}");
        }
    }
}

/// Where 127 may be the shell's own, what was typed is not typed again.
#[tokio::test]
async fn a_script_that_ends_with_127_is_not_run_twice() {
    let (cluster, relay) = with(Behaviour::default()).await;
    let mut browser = relay.v1(&short(&[], "&tty=false")).await;
    browser.input("exit 127\n").await;
    browser.assert_exit("exit", Some(127), 1000, "a script").await;
    assert_eq!(cluster.sessions().len(), 1);
    let (cluster, relay) = with(Behaviour::of_image(exit127())).await;
    let mut browser = relay.v1(&short(&[], "&tty=false")).await;
    runs(&cluster, 3).await;
    browser.input("echo hi\n").await;
    browser.say(r#"{"type":"eof"}"#).await;
    browser.assert_exit("exit", Some(0), 1000, "a runtime").await;
    assert_eq!(browser.text(), "hi\n");
}

#[tokio::test]
async fn a_shell_that_is_named_is_the_one() {
    let (cluster, relay) = with(Behaviour::of_image(Image::Bash)).await;
    for (shell, wanted) in [("bash", "[is bash]"), ("sh", "[ bash]")] {
        let mut browser = relay.v1(&short(&[], &format!("&tty=false&shell={shell}"))).await;
        browser.input("echo [${BASH_VERSION:+is} bash]\nexit 3\n").await;
        browser.assert_exit("exit", Some(3), 1000, shell).await;
        assert_eq!(browser.text().trim_end(), wanted);
    }
    assert_eq!(cluster.sessions().len(), 2);
    // One that is not on the list is no shell.
    assert_eq!(relay.ask(&short(&[], "&shell=zsh"), "").await.status, 400);
}

/// The one that was named is not there, and another one is: that is not the same.
#[tokio::test]
async fn a_shell_that_is_named_and_missing_is_said_to_be_missing() {
    for image in [Image::ShOnly, busybox(), exit127(), Image::Nothing, Image::Windows] {
        let (_cluster, relay) = with(Behaviour::of_image(image.clone())).await;
        let mut browser = relay.v1(&short(&[], "&shell=bash")).await;
        let (exit, close) = browser.exit().await;
        assert_eq!((exit["kind"].as_str(), close.code), (Some("no_shell"), 4422), "{exit}");
        assert!(exit["message"].as_str().unwrap().contains("bash"), "{image:?}: {exit}");
        assert!(browser.output.is_empty(), "{image:?}: {}", browser.text());
    }
    // The same where it has its own path.
    let (_cluster, relay) = with(Behaviour::of_image(busybox())).await;
    let mut browser = relay.v1(&short(&[], "&tty=false&shell=%2Fbusybox%2Fsh")).await;
    browser.input("exit 3\n").await;
    browser.assert_exit("exit", Some(3), 1000, "a path").await;
}

/// A command of the caller's is not a shell: no other is tried, and it is told as it is.
#[tokio::test]
async fn a_command_that_is_missing_is_not_replaced() {
    for (image, kind, code) in [(Image::ShOnly, "failed", None), (exit127(), "exit", Some(127))] {
        let (cluster, relay) = with(Behaviour::of_image(image)).await;
        let mut browser = relay.v1(&short(&["bash"], "")).await;
        let close = if code.is_some() { 1000 } else { 4422 };
        browser.assert_exit(kind, code, close, "a command").await;
        assert_eq!(cluster.sessions().len(), 1);
    }
}

/// A copy of what was typed is kept for two seconds. Behind that nothing is tried again, and the
/// user is told; who has not typed gets the next shell however long it takes.
#[tokio::test]
async fn what_was_typed_is_not_kept_for_ever() {
    let start_delay = Duration::from_secs(3);
    let behaviour = Behaviour { start_delay, ..Behaviour::of_image(Image::AshOnly) };
    let (cluster, relay) = with(behaviour).await;
    let mut patient = relay.v1(&short(&[], "")).await;
    let mut hasty = relay.v1(&short(&[], "")).await;
    hasty.input("echo hello\r").await;
    let (exit, close) = hasty.exit().await;
    assert_eq!((exit["kind"].as_str(), close.code), (Some("failed"), 4422), "{exit}");
    assert!(exit["message"].as_str().unwrap().contains("not found"), "{exit}");
    runs(&cluster, 3).await;
    patient.input("exit 3\r").await;
    patient.assert_exit("exit", Some(3), 1000, "patient").await;
    assert_eq!(cluster.sessions().len(), 4);
}

/// A runtime where v5 is negotiated and fails before anything is started, and v4 works.
#[tokio::test]
async fn where_v5_only_fails_v4_is_tried() {
    for image in [Image::Bash, Image::AshOnly] {
        let behaviour = Behaviour { cri_dockerd: true, ..Behaviour::of_image(image.clone()) };
        let (cluster, relay) = with(behaviour).await;
        let mut browser = relay.v1(&short(&[], "&tty=false")).await;
        browser.input(&script(20, "\n")).await;
        browser.input("exit 3\n").await;
        browser.assert_exit("exit", Some(3), 1000, &format!("{image:?}")).await;
        assert_eq!(said(&browser.text()), (1..=20).collect::<Vec<_>>(), "{image:?}");
        let last = cluster.sessions().pop().unwrap().facts();
        assert_eq!(last.protocol.as_deref(), Some("v4.channel.k8s.io"));
    }
    // A command as well: nothing of it was started.
    let behaviour = Behaviour { cri_dockerd: true, ..Behaviour::default() };
    let (cluster, relay) = with(behaviour).await;
    let mut browser = relay.v1(&common::pipes("echo once; exit 4")).await;
    browser.assert_exit("exit", Some(4), 1000, "a command").await;
    assert_eq!(browser.text(), "once\n");
    assert_eq!(cluster.sessions().len(), 2);
}

/// Only the shells that an operator allows are tried, in that order.
#[tokio::test]
async fn the_list_of_shells_is_the_operators() {
    let cluster = cluster(Behaviour::of_image(Image::Bash)).await;
    let relay = Start::flags(&["--shells", "sh,bash"]).before(&cluster).await;
    let mut browser = relay.v1(&short(&[], "&tty=false")).await;
    browser.input("echo [${BASH_VERSION:+is} bash]\nexit 3\n").await;
    browser.assert_exit("exit", Some(3), 1000, "sh first").await;
    assert_eq!(browser.text().trim_end(), "[ bash]");
}

/// How much later a prompt comes than that of a plain `sh`: the time of one `sh` more, which
/// becomes the shell.
#[tokio::test]
async fn a_prompt_comes_soon() {
    let (_cluster, relay) = with(Behaviour::default()).await;
    let mut medians = Vec::new();
    for target in [short(&["sh"], ""), short(&[], "&shell=sh"), short(&[], "")] {
        let mut times = Vec::new();
        for _ in 0..21 {
            let begun = Instant::now();
            let mut browser = relay.v1(&target).await;
            browser.until("a prompt", |it| !it.output.is_empty()).await;
            times.push(begun.elapsed());
            browser.input("exit\r").await;
            browser.assert_exit("exit", Some(0), 1000, &target).await;
        }
        times.sort();
        medians.push(times[times.len() / 2]);
    }
    println!("sh as a command {:?}, named {:?}, auto {:?}", medians[0], medians[1], medians[2]);
    // Nobody notices a fifth of a second; this machine may have much else to do.
    let later = medians[2].saturating_sub(medians[0]);
    assert!(later < Duration::from_millis(200), "{later:?} later");
}
