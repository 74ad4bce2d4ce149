//! What an image has and has not, what a process is born into, and when.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on should stop; the peer is shared with the replays"
)]

#[path = "replay/ask.rs"]
mod ask;
#[path = "replay/peer.rs"]
mod peer;

use ask::{PIPES, TTY, V1, V4, V5, close_code, cluster, command, exec, says, status, typed};
use fake_cluster::{Behaviour, FakeCluster, Gate, Image};
use peer::{Peer, soon};
use serde_json::Value;

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn busybox() -> Image {
    Image::NoSh { has: list(&["/busybox/sh", "cat"]) }
}

/// Runs it to its end: its output, and what channel 3 says.
async fn run(cluster: &FakeCluster, words: &[&str]) -> (String, Value) {
    let mut peer = command(cluster, words, PIPES, V5).await;
    peer.until_end().await;
    assert_eq!(close_code(&peer), Some(1000));
    let output = String::from_utf8(peer.channel(1)).unwrap();
    (output, serde_json::from_str(&status(&peer)).unwrap())
}

fn exit_code(status: &Value) -> Option<&str> {
    let cause = &status["details"]["causes"][0];
    if cause["reason"] == "ExitCode" { cause["message"].as_str() } else { None }
}

#[tokio::test]
async fn an_image_has_its_shells_and_no_others() {
    let shells = ["bash", "sh", "ash", "/busybox/sh", "/bin/bash", "/bin/sh"];
    let table: [(Image, &[&str]); 7] = [
        (Image::Bash, &["bash", "sh", "/bin/bash", "/bin/sh"]),
        (Image::ShOnly, &["sh", "/bin/sh"]),
        (Image::ShWithout { lacks: list(&["tr", "grep"]) }, &["sh", "/bin/sh"]),
        (Image::AshOnly, &["ash"]),
        (busybox(), &["/busybox/sh"]),
        (Image::Windows, &[]),
        (Image::Nothing, &[]),
    ];
    for (image, present) in table {
        let cluster = cluster(Behaviour::of_image(image.clone())).await;
        for shell in shells {
            // A machine may have more of its own.
            if image == Image::Bash && !present.contains(&shell) {
                continue;
            }
            let (output, status) = run(&cluster, &[shell, "-c", "echo here"]).await;
            if present.contains(&shell) {
                assert_eq!(output, "here\n", "{image:?} {shell}");
                assert_eq!(status["status"], "Success", "{image:?} {shell}");
            } else {
                assert_eq!(output, "", "{image:?} {shell}");
                assert_eq!(status["reason"], "InternalError", "{image:?} {shell}");
                assert_eq!(status["code"], 500, "{image:?} {shell}");
            }
        }
    }
}

/// Recordings `command_not_found_tty`, `command_not_found` and, for the two older subprotocols,
/// what `only_v4` and `base64_channel` show of their wording.
#[tokio::test]
async fn a_missing_program_is_reported_in_the_words_of_each_subprotocol() {
    let cluster = cluster(Behaviour::of_image(Image::Nothing)).await;
    let missing = "exec: \"sh\": executable file not found in $PATH: unknown";
    let in_words = |message: &str| {
        message.starts_with("error executing command in container: failed to exec in container: ")
            && message.ends_with(&format!(
                ": OCI runtime exec failed: exec failed: unable to start container process: \
                 {missing}"
            ))
    };
    let prefix = "Internal error occurred: ";
    for (protocol, prefixes) in [(V5, 2), (V4, 1)] {
        let mut peer = command(&cluster, &["sh"], TTY, protocol).await;
        peer.until_end().await;
        let status: Value = serde_json::from_str(&status(&peer)).unwrap();
        let mut message = status["message"].as_str().unwrap();
        for _ in 0..prefixes {
            message = message.strip_prefix(prefix).unwrap();
        }
        assert!(in_words(message), "{message}");
        assert_eq!(status["code"], 500);
        assert_eq!(close_code(&peer), Some(1000));
    }
    let mut peer = command(&cluster, &["sh"], TTY, V1).await;
    peer.until_end().await;
    assert!(in_words(status(&peer).strip_prefix(prefix).unwrap()), "{}", status(&peer));
    assert_eq!(close_code(&peer), Some(1000));
}

#[tokio::test]
async fn a_script_finds_no_more_than_the_image_has() {
    let script = "for s in bash ash zsh tr grep sed sleep cat; do command -v $s > /dev/null && \
                  echo $s; done";
    let table = [
        (Image::ShOnly, "tr\ngrep\nsed\nsleep\ncat\n"),
        (Image::ShWithout { lacks: list(&["tr", "grep"]) }, "sed\nsleep\ncat\n"),
    ];
    for (image, wanted) in table {
        let cluster = cluster(Behaviour::of_image(image)).await;
        assert_eq!(run(&cluster, &["sh", "-c", script]).await.0, wanted);
    }
    let cluster = cluster(Behaviour::of_image(busybox())).await;
    let (output, _) = run(&cluster, &["/busybox/sh", "-c", script]).await;
    assert_eq!(output, "cat\n");
    let (output, status) = run(&cluster, &["/busybox/sh", "-c", "sh -c 'echo no'"]).await;
    assert_eq!((output.as_str(), exit_code(&status)), ("", Some("127")));
    // Its own path is good inside a script too.
    let nested = "command -v /busybox/sh > /dev/null && exec /busybox/sh -c 'echo nested'";
    assert_eq!(run(&cluster, &["/busybox/sh", "-c", nested]).await.0, "nested\n");
}

#[tokio::test]
async fn the_image_is_that_of_main_and_side_keeps_its_own() {
    let cluster = cluster(Behaviour::of_image(Image::Nothing)).await;
    let what = format!("exec?command=sh&command=-c&command=echo&container=side&{PIPES}");
    let (mut peer, _) = ask::stream(&cluster, "admin", &what, V5).await;
    peer.until_end().await;
    assert!(status(&peer).contains("Success"));
}

#[tokio::test]
async fn a_runtime_may_say_only_127() {
    let image = Image::Exit127 { has: list(&["/busybox/sh"]) };
    let cluster = cluster(Behaviour::of_image(image)).await;
    let (output, status) = run(&cluster, &["sh", "-c", "echo no"]).await;
    assert_eq!((output.as_str(), exit_code(&status)), ("", Some("127")));
    assert_eq!(cluster.session(0).await.facts().pid, None);
    assert_eq!(run(&cluster, &["/busybox/sh", "-c", "echo yes"]).await.0, "yes\n");
}

#[tokio::test]
async fn a_windows_image_prompts_and_echoes() {
    let cluster = cluster(Behaviour::of_image(Image::Windows)).await;
    let mut peer = command(&cluster, &["powershell.exe"], TTY, V5).await;
    says(&mut peer, "PS C:\\> ").await;
    typed(&mut peer, "echo hello\r").await;
    says(&mut peer, "echo hello\r\nhello\r\nPS C:\\> ").await;
    typed(&mut peer, "exit 4\r").await;
    peer.until_end().await;
    assert!(status(&peer).contains("exit code 4"));
    assert_eq!(run(&cluster, &["cmd.exe", "/c", "echo hi"]).await.0, "hi\n");
    // The name alone will do, and its end is the end of its input.
    let mut peer = command(&cluster, &["cmd"], PIPES, V5).await;
    typed(&mut peer, "hi\n").await;
    peer.frame(2, true, true, &[255, 0]).await;
    peer.until_end().await;
    assert_eq!(peer.channel(1), b"C:\\>hi\nC:\\>");
}

/// With the gate, what is typed is there before the process is.
async fn typed_ahead(behaviour: Behaviour, words: &[&str]) -> (FakeCluster, Peer) {
    let gate = Gate::new();
    let cluster = cluster(Behaviour { start_gate: Some(gate.clone()), ..behaviour }).await;
    let mut peer = command(&cluster, words, TTY, V5).await;
    typed(&mut peer, "echo typed-$((1+1)); exit 6\r").await;
    let session = soon("the session", cluster.session(0)).await;
    soon("the keys", session.until_stdin(b"exit 6\r")).await;
    assert_eq!(session.facts().pid, None);
    gate.open();
    peer.until_end().await;
    (cluster, peer)
}

#[tokio::test]
async fn keys_that_are_typed_ahead_reach_a_process_that_starts_late() {
    let (_cluster, peer) = typed_ahead(Behaviour::default(), &["bash"]).await;
    assert!(String::from_utf8_lossy(&peer.channel(1)).contains("typed-2\r\n"));
    assert!(status(&peer).contains("exit code 6"));
}

#[tokio::test]
async fn keys_that_are_typed_for_a_missing_program_are_read_by_nobody() {
    let (cluster, peer) = typed_ahead(Behaviour::of_image(busybox()), &["bash"]).await;
    assert!(status(&peer).contains("not found in $PATH"));
    assert_eq!(peer.channel(1), b"");
    assert_eq!(cluster.session(0).await.facts().pid, None);
}

#[tokio::test]
async fn a_start_can_be_late_by_the_clock() {
    let start_delay = std::time::Duration::from_millis(300);
    let cluster = cluster(Behaviour { start_delay, ..Behaviour::default() }).await;
    let begun = std::time::Instant::now();
    assert_eq!(run(&cluster, &["echo", "late"]).await.0, "late\n");
    assert!(begun.elapsed() >= start_delay);
}

/// As of Mirantis/cri-dockerd#569.
#[tokio::test]
async fn a_cri_dockerd_fails_on_v5_and_works_on_v4() {
    let cluster = cluster(Behaviour { cri_dockerd: true, ..Behaviour::default() }).await;
    let (output, status) = run(&cluster, &["echo", "hello"]).await;
    assert_eq!(output, "");
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("Internal error occurred: error sending request: Post \"//[::]:"));
    assert!(message.ends_with("\": http: server gave HTTP response to HTTPS client"), "{message}");
    assert_eq!(cluster.session(0).await.facts().pid, None);
    let mut peer = command(&cluster, &["echo", "hello"], PIPES, V4).await;
    peer.until_end().await;
    assert_eq!(peer.channel(1), b"hello\n");
    assert!(ask::status(&peer).contains("Success"));
}

/// Nothing of the environment of these tests, which is full of names.
#[tokio::test]
async fn a_process_has_the_environment_of_a_container() {
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")));
    let cluster = cluster(Behaviour::default()).await;
    for (flags, more) in [(PIPES, ""), (TTY, "TERM ")] {
        let mut peer = command(&cluster, &["env"], flags, V5).await;
        peer.until_end().await;
        let output = String::from_utf8(peer.channel(1)).unwrap();
        let mut names: Vec<&str> =
            output.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        let wanted = format!("FAKE_CLUSTER_ID HOME HOSTNAME LANG PATH {more}");
        assert_eq!(names.join(" "), wanted.trim_end());
        assert!(output.contains("HOSTNAME=shell"));
    }
}

/// What the second step of a hang-up does, in an image that has what it takes.
#[tokio::test]
async fn a_second_exec_finds_the_processes_of_the_first_by_their_environment() {
    let cluster = cluster(Behaviour::of_image(Image::ShOnly)).await;
    let begin = "PODWIRE_SESSION=4d9b; export PODWIRE_SESSION; exec sh -c 'echo go; sleep 4714; :'";
    let mut peer = exec(&cluster, begin, TTY).await;
    says(&mut peer, "go").await;
    let end = "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ 2> /dev/null | \
               grep -qx PODWIRE_SESSION=4d9b && kill -HUP ${p#/proc/}; done; true";
    exec(&cluster, end, PIPES).await.until_end().await;
    peer.until_end().await;
    assert!(status(&peer).contains("exit code 129"), "{}", status(&peer));
}
