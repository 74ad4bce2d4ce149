//! The endings, row by row: the contract's table, and everything that a cluster may do to a session
//! (the numbers are those of the project's list of bad inputs, P for the cluster).
//!
//! Not here: P7 and P18 are in the tests about pressure, P17 is in those about time.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use std::slice;
use std::sync::Arc;

use podwire::proto::channel::Subprotocol;
use podwire::proto::ending::{Ending, Kind};
use podwire::proto::message::Dialect;
use podwire::proto::session::{Process, Session};

use session::readers::{BrowserReader, Sent, Told};
use session::table::Step::{Browser, BrowserEnds, Cluster, ClusterEnds, ClusterIsDeaf, Stop, Wait};
use session::table::{Row, keys};
use session::{
    SUCCESS, browser_close, cluster_close, exit_status, frame, internal_error, ms, on_channel,
    status, stdout, typed,
};

fn says(messages: &[&[u8]]) -> session::table::Step {
    Cluster(messages.concat())
}

#[test]
fn an_exit_is_told_with_the_code_of_the_status_and_no_other() {
    let end = cluster_close(1000);
    let exit = |code: &str| says(&[&stdout(b"out"), &status(&exit_status(code)), &end]);
    let odd = |message: &[u8]| {
        Row::new("P10 odd", vec![says(&[&status(message), &end])]).ends(Kind::ClusterProtocol)
    };
    let (front, back) = SUCCESS.split_at(20);
    let rows = [
        Row::new("P9", vec![says(&[&stdout(b"out"), &status(SUCCESS), &end])]).output(b"out"),
        Row::new("P10 1", vec![exit("1")]).exits(1).output(b"out").says("exit code 1"),
        Row::new("P10 2", vec![exit("2")]).exits(2).output(b"out"),
        Row::new("P10 127", vec![exit("127")]).exits(127).output(b"out"),
        Row::new("P10 killed", vec![exit("137")]).exits(137).output(b"out"),
        Row::new("P10 255", vec![exit("255")]).exits(255).output(b"out"),
        odd(&exit_status("256")),
        odd(&exit_status("abc")),
        odd(&exit_status("0")),
        odd(br#"{"status":"Failure","reason":"NonZeroExitCode"}"#),
        odd(b"{}"),
        odd(&SUCCESS[..30]),
        odd(&[&b"{\"status\":\""[..], &vec![b'x'; 900_000], b"\"}"].concat()),
        Row::new("P10 split", vec![says(&[&status(front), &status(back), &end])]),
        Row::new("P10 two", vec![says(&[&status(&exit_status("3")), &status(SUCCESS), &end])])
            .exits(3),
        Row::new("P11", vec![says(&[&status(&exit_status("5"))]), ClusterEnds]).exits(5),
        Row::new("P11 deaf", vec![ClusterIsDeaf, says(&[&status(SUCCESS)]), ClusterEnds]),
        Row::new("P14", vec![says(&[&status(SUCCESS), &stdout(b"late"), &end])]).output(b"late"),
        Row::new("P14 reads", vec![says(&[&status(SUCCESS)]), says(&[&stdout(b"late"), &end])])
            .output(b"late"),
        Row::new("P15 no close", vec![says(&[&stdout(b"out"), &status(SUCCESS)]), Wait(ms(2000))])
            .output(b"out"),
        Row::new(
            "typed behind it",
            vec![says(&[&status(SUCCESS)]), Browser(typed(b"x")), says(&[&end])],
        ),
        Row::new("closed behind it", vec![says(&[&status(SUCCESS)]), Browser(browser_close(1000))]),
        Row::new("lost behind it", vec![says(&[&status(SUCCESS)]), BrowserEnds]),
        Row::new("stopped behind it", vec![says(&[&status(SUCCESS)]), Stop(Kind::Drain)]),
    ];
    rows.iter().for_each(Row::check);
}

#[test]
fn a_connection_that_ends_without_a_status_is_never_an_exit() {
    let lost = |id, step| {
        let steps = vec![says(&[&stdout(b"out")]), step];
        Row::new(id, steps).ends(Kind::ClusterLost).says("connection to the cluster").output(b"out")
    };
    let rows = [
        lost("P12", says(&[&cluster_close(1000)])).says("closed with code 1000"),
        lost("P12 no terminal", says(&[&cluster_close(1000)])).without_terminal(),
        lost("P12 v4", says(&[&cluster_close(1000)])).on(Subprotocol::V4),
        lost("P13 1002", says(&[&cluster_close(1002)])).says("1002"),
        lost("P13 1011", says(&[&cluster_close(1011)])).says("1011"),
        lost("P13 none", says(&[&frame(0x88, b"", None)])).says("closed before"),
        lost("P13 reset", ClusterEnds).says("ended before"),
        Row::new("P13 in a frame", vec![says(&[b"\x82\x05\x01ab"]), ClusterEnds])
            .ends(Kind::ClusterLost)
            .output(b"ab"),
        lost("v1 reset", ClusterEnds).on(Subprotocol::V1),
        lost("v1 1011", says(&[&cluster_close(1011)])).on(Subprotocol::V1),
    ];
    rows.iter().for_each(Row::check);
}

#[test]
fn the_oldest_subprotocol_has_ends_but_no_codes() {
    let end = cluster_close(1000);
    let exit = Row::new("v1 1000", vec![says(&[&stdout(b"out"), &end])])
        .ends(Kind::Exit)
        .process(Process::Ended(None))
        .says("does not tell exit codes")
        .output(b"out");
    let failure = Row::new("v1 text", vec![says(&[&status(b"no such "), &status(b"file"), &end])])
        .ends(Kind::Failed)
        .process(Process::Ended(None))
        .says("no such file");
    let sentence =
        b"command terminated with non-zero exit code: command terminated with exit code 3";
    let nonzero = Row::new("v1 non-zero", vec![says(&[&status(sentence), &end])])
        .ends(Kind::Exit)
        .process(Process::Ended(None))
        .says("non-zero exit code");
    for row in [exit, failure, nonzero] {
        row.on(Subprotocol::V1).check();
    }
}

#[test]
fn failures_after_the_handshake_are_sorted_and_their_prefix_is_shown_once() {
    let failure = |sentence: &str| {
        Row::new("P16", vec![says(&[&status(&internal_error(sentence)), &cluster_close(1000)])])
    };
    let ended = Process::Ended(None);
    let rows = [
        failure("Internal error occurred: exec: no such file").ends(Kind::Failed).says("exec: "),
        failure("error sending request: refused").ends(Kind::ClusterUnreachable),
        failure("error dialing backend: refused").ends(Kind::ClusterUnreachable),
        failure("unable to upgrade connection: container not found").ends(Kind::NotFound),
    ];
    for row in rows {
        row.process(ended).check();
    }
    let message = internal_error("Internal error occurred: x");
    let mut rig = session::Rig::new(session::options(Dialect::V1, true));
    rig.cluster_sends(&[status(&message), cluster_close(1000)].concat());
    assert_eq!(rig.finish().ending.message, "x");
}

#[test]
fn what_means_nothing_is_ignored_and_what_breaks_the_protocol_ends_it() {
    let end = [status(SUCCESS), cluster_close(1000)].concat();
    let fine = |id, bytes: &[u8]| Row::new(id, vec![Cluster([bytes, &end].concat())]);
    let broken = |id, bytes: &[u8]| {
        let steps = vec![Cluster([&stdout(b"out"), bytes, &stdout(b"behind")].concat())];
        Row::new(id, steps).ends(Kind::ClusterProtocol).output(b"out")
    };
    let unknown = [0, 4, 5, 254, 255].map(|channel| on_channel(channel, b"x")).concat();
    let joined = [b"\x02\x02\x01a".to_vec(), frame(0x89, &[7; 125], None), b"\x80\x01b".to_vec()];
    let rows = [
        fine("P1 stdout", &[0x82, 1, 1]).ignored(0),
        fine("P1 stderr", &[0x82, 1, 2]).ignored(0),
        fine("P1 status", &[0x82, 1, 3]).ignored(0),
        fine("P3", &[0x82, 0]).ignored(0),
        fine("P4", &unknown).ignored(5),
        fine("P6 joined", &joined.concat()).output(b"ab").sent(vec![]),
        fine("P8", &stdout(b"\x80 \xff \xe4\xb8")).output(b"\x80 \xff \xe4\xb8"),
        broken("P2", &frame(0x81, b"\x01text", None)).says("text frame"),
        broken("P5", &[0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 1]).says("too big"),
        broken("P5 2^40", &[0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0]).says("too big"),
        broken("P6 masked", &frame(0x82, b"\x01x", Some([1, 2, 3, 4]))).says("masked"),
        broken("P6 reserved", &[0xc2, 0]).says("reserved"),
    ];
    rows.iter().for_each(Row::check);
}

#[test]
fn a_browser_that_leaves_hangs_the_process_up_in_the_way_of_its_place() {
    let leaves = || vec![Browser([typed(b"vi"), browser_close(1001)].concat()), BrowserEnds];
    let sent = |hang_up: &[Sent]| [&[Sent::Input(b"vi".to_vec())], hang_up].concat();
    let close = Sent::Close(Some(1000));
    let closed = |id| Row::new(id, leaves()).ends(Kind::BrowserClosed);
    let rows = [
        closed("terminal")
            .sent(vec![Sent::Input([&b"vi"[..], &[3, 4].repeat(5)].concat()), close.clone()]),
        closed("v4 terminal")
            .on(Subprotocol::V4)
            .sent(vec![Sent::Input([&b"vi"[..], &[3, 4].repeat(5)].concat()), close.clone()]),
        closed("pipe").without_terminal().sent(sent(&[Sent::CloseInput, close.clone()])),
        closed("v4 pipe")
            .without_terminal()
            .on(Subprotocol::V4)
            .sent(sent(slice::from_ref(&close))),
        closed("v1 pipe")
            .without_terminal()
            .on(Subprotocol::V1)
            .sent(sent(slice::from_ref(&close))),
        closed("no input").without_input().sent(vec![close.clone()]),
        Row::new("lost", vec![BrowserEnds]).ends(Kind::BrowserLost).sent(keys()),
    ];
    rows.iter().for_each(Row::check);
}

#[test]
fn a_status_that_comes_during_a_hang_up_is_known_but_not_told() {
    let row = |id, step| {
        let row =
            Row::new(id, vec![says(&[&stdout(b"out")]), step, says(&[&stdout(b"discarded")])]);
        row.sent(keys()).output(b"out")
    };
    row("no status", Stop(Kind::Idle)).ends(Kind::Idle).says("stopped").check();
    let steps = || vec![Stop(Kind::Drain), Wait(ms(200)), says(&[&status(&exit_status("130"))])];
    let ended = Process::Ended(Some(130));
    let answered = vec![Sent::Input(vec![3, 4]), Sent::Close(Some(1000))];
    Row::new("status", steps()).ends(Kind::Drain).process(ended).sent(answered).check();
    let lost = vec![BrowserEnds, Wait(ms(200)), ClusterEnds];
    let keys_only = vec![Sent::Input(vec![3, 4])];
    Row::new("gone", lost).ends(Kind::BrowserLost).sent(keys_only).check();
}

#[test]
fn every_reason_to_stop_has_its_row_of_the_contract() {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.facts().close_code.is_some()) {
        let row =
            Row::new("stop", vec![says(&[&stdout(b"out")]), Stop(kind), Stop(Kind::Internal)]);
        row.ends(kind).output(b"out").sent(keys()).check();
    }
}

#[test]
fn a_session_that_never_had_a_cluster_says_why_and_closes() {
    for kind in Kind::ALL {
        for dialect in [Dialect::Seed, Dialect::V1] {
            let ending = Ending::new(kind, "a reason");
            let mut session = Session::refused(dialect, Arc::default(), ending);
            assert!(session.is_cluster_over() && !session.wants_cluster());
            let mut reader = BrowserReader::new(dialect);
            reader.feed(session.to_browser());
            let (pending, now) = (session.to_browser().len(), ms(1));
            session.browser_took(pending, now);
            session.browser_flushed(now);
            let Some(code) = kind.facts().close_code else { continue };
            assert_eq!(reader.close(), Some((code, "a reason")));
            assert!(match &reader.told[..] {
                [Told::Text(line), _] => line == "\r\n[podwire: a reason]\r\n",
                [Told::Json(json), _] => json["kind"] == kind.facts().name,
                _ => false,
            });
            assert!(
                session.outcome().is_none(),
                "the close shall arrive before the connection ends"
            );
            session.on_browser(&mut browser_close(code), now);
            assert_eq!(session.outcome().unwrap().ending.kind, kind);
        }
    }
}
