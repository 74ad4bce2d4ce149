//! What the browser is told besides output, in the way of its dialect: the first words, notices, how
//! the process ended, and the last words.

use super::super::channel::{self, Subprotocol};
use super::super::ending::{Ending, Kind};
use super::super::frame::{self, Opcode};
use super::super::message::{
    Dialect, NO_RECONNECT, OUTPUT, Place, ToBrowser, encode_in_place, greeting, last_status, line,
    translated,
};
use super::browser::{Leg, State, Streams, What};

/// The close code of an end that was to be expected.
const NORMAL: u16 = 1000;

impl Leg {
    /// The first words.
    pub(super) fn greet(&mut self, place: &Place) {
        if self.dialect == Dialect::Ttyd {
            for message in greeting(place) {
                frame::append(self.outbox.tail(), Opcode::Binary, &message, None);
            }
        }
        self.tell(&ToBrowser::Ready(place));
    }

    /// Passes on an empty message of the cluster's, by which it says that its streams are there;
    /// some pages begin with that. Only where there are channels.
    pub(super) fn stream_is_there(&mut self, channel: u8) {
        if self.dialect.kube().is_some() && self.state == State::Open {
            self.say(channel, &[]);
        }
    }

    /// A message of ours on one of the channels that a browser of Kubernetes' own dialects knows. It
    /// is short, or of the length of a status.
    fn say(&mut self, channel: u8, bytes: &[u8]) {
        self.finish();
        let is_text = matches!(self.dialect, Dialect::Base64V4 | Dialect::Base64V1);
        let tag = if is_text { b'0' + channel } else { channel };
        let mut message = [&[tag], bytes].concat();
        if is_text {
            encode_in_place(&mut message, 1);
        }
        let opcode = if is_text { Opcode::Text } else { Opcode::Binary };
        frame::append(self.outbox.tail(), opcode, &message, None);
    }

    /// Tells the user something that is no ending. Without a terminal nothing of it may stand among
    /// output that a program reads; seeds have one in any case.
    pub(super) fn notice(&mut self, kind: &'static str, message: &str) {
        if self.state != State::Open {
            return;
        }
        self.finish();
        let out = self.outbox.tail();
        match (self.dialect, self.streams) {
            (Dialect::Seed, _) => frame::append(out, Opcode::Text, line(message).as_bytes(), None),
            (Dialect::V1, _) => {
                let text = ToBrowser::Notice { kind, message }.to_json();
                frame::append(out, Opcode::Text, &text, None);
            }
            (Dialect::Raw, Streams::Terminal) => {
                frame::append(out, Opcode::Binary, line(message).as_bytes(), None);
            }
            (Dialect::Ttyd, _) => self.ttyd_line(message),
            // There is no place for it but among the output.
            (Dialect::Raw, _) | (_, Streams::Stdout) => {}
            (_, Streams::Terminal) => self.say(channel::STDOUT, line(message).as_bytes()),
            (_, Streams::StdoutAndStderr) => self.say(channel::STDERR, line(message).as_bytes()),
        }
    }

    fn ttyd_line(&mut self, message: &str) {
        self.finish();
        let text = [&[OUTPUT], line(message).as_bytes()].concat();
        frame::append(self.outbox.tail(), Opcode::Binary, &text, None);
    }

    /// Passes on what a cluster of this version said on the status channel, where there is one.
    pub(super) fn status(&mut self, from: Subprotocol, text: &[u8]) {
        let Some(to) = self.dialect.kube() else { return };
        if self.state == State::Open {
            if let Some(text) = translated(from, to, text) {
                self.say(channel::STATUS, &text);
            }
            self.status_told = true;
        }
    }

    /// Queues the last words and the close behind everything else. The ending gets the close code
    /// that the dialect has for it.
    pub(super) fn last_words(&mut self, ending: &mut Ending) {
        if self.state != State::Open {
            return;
        }
        if ending.close_code.is_none() {
            self.farewell(ending.kind);
            return;
        }
        match self.dialect {
            Dialect::Seed => self.last_line(&ending.message),
            Dialect::V1 => self.tell(&ToBrowser::exit(ending)),
            Dialect::Raw => self.pass_all(What::Raw),
            Dialect::Ttyd => self.last_of_ttyd(ending),
            _ => self.last_of_kube(ending),
        }
        self.finish();
        let code = ending.close_code.unwrap_or(NORMAL);
        frame::append_close(self.outbox.tail(), code, &ending.message, None);
        self.state = State::Closing;
        self.unfinished = None;
    }

    fn last_line(&mut self, message: &str) {
        self.open(What::Text, 0);
        let out = self.outbox.tail();
        self.stdout.finish(out);
        self.stderr.finish(out);
        self.finish();
        frame::append(self.outbox.tail(), Opcode::Text, line(message).as_bytes(), None);
    }

    /// The page begins anew by itself unless it is told not to. It shall only where something was
    /// there and was cut off, not where nothing could be started or a limit was reached.
    fn last_of_ttyd(&mut self, ending: &Ending) {
        self.pass_all(What::Tagged(OUTPUT));
        self.ttyd_line(&ending.message);
        let was_cut = matches!(ending.kind, Kind::ClusterLost | Kind::Drain | Kind::Internal);
        if ending.close_code != Some(NORMAL) && !(was_cut && self.told > 0) {
            frame::append(self.outbox.tail(), Opcode::Binary, NO_RECONNECT, None);
        }
    }

    /// After the cluster's own status the close is an API server's. Without one it is ours, and says
    /// nothing of success: 1000 is taken for it.
    fn last_of_kube(&mut self, ending: &mut Ending) {
        let Some(version) = self.dialect.kube() else { return };
        if self.status_told {
            ending.close_code = Some(NORMAL);
        } else if ending.kind != Kind::Exit || version != Subprotocol::V1 {
            let status = last_status(ending, version);
            self.say(channel::STATUS, &status);
            if ending.close_code == Some(NORMAL) {
                ending.close_code = Kind::ClusterLost.facts().close_code;
            }
        }
    }

    /// The browser ended it: answers its close, or forgets it.
    fn farewell(&mut self, kind: Kind) {
        self.unfinished = None;
        if kind == Kind::BrowserClosed {
            self.finish();
            // RFC 6455 section 5.5.1 asks for an answer; which code it has matters to nobody.
            frame::append_close(self.outbox.tail(), NORMAL, "", None);
            self.state = State::Closing;
        } else {
            self.gone();
        }
    }
}
