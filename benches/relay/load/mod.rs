//! The load generator: a browser that is only a socket.
//!
//! `load SCENARIO --target URL --dialect podwire.v1|seed|v5 [--ca FILE] [--header 'Name: value']
//! [--gate]`, where the URL has `{command}` where the program goes. One line of JSON for each
//! result on stdout; whatever goes wrong is one line on stderr and exit code 1.
//!
//! - `flood --frame N --bytes B --records packed|single|gathered --sessions S`
//! - `keys --sessions S --rate R --seconds T`
//! - `hold`, with `open N`, `burst`, `stall N`, `read SECONDS` and `close` on stdin
//! - `interrupt --tries K --rate BYTES_PER_SECOND --seconds T --control ADDRESS`: T seconds of flood
//!   before the first and after the last one. With the cluster's control port it says what waits
//!   between the cluster and the reader. The session stays open and unread until stdin has a line or
//!   an end, or for five seconds.
//! - `open --workers W --count N`
//! - `paste --bytes B --message M --rounds K`
//! - `text`

mod flood;
mod hold;
mod interrupt;
mod keys;
mod open;
mod paste;
mod session;
mod target;
mod text;

use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use self::target::{Dialect, Target};
use crate::wire::{at, runtime, stdin_lines};

/// How long nothing at all may happen before a scenario gives up.
const STALL: Duration = Duration::from_secs(30);

/// How long a caller may take to say `go`: it reads `/proc` meanwhile.
const GATE: Duration = Duration::from_mins(2);

/// What is asked for, with what holds if it is not.
struct Options {
    target: Target,
    gate: bool,
    frame: usize,
    bytes: u64,
    records: String,
    sessions: usize,
    rate: u64,
    seconds: f64,
    tries: usize,
    workers: usize,
    count: u64,
    message: usize,
    rounds: u64,
    control: Option<std::net::SocketAddr>,
}

/// The role `load`: a scenario and its options.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let Some((scenario, arguments)) = arguments.split_first() else {
        return Err("load flood|keys|hold|interrupt|open|paste|text --target URL …".into());
    };
    let options = parse(arguments)?;
    runtime()?.block_on(async {
        let mut lines = stdin_lines();
        let result = match scenario.as_str() {
            "flood" => flood::run(&options, &mut lines).await,
            "keys" => keys::run(&options, &mut lines).await,
            "hold" => hold::run(&options, &mut lines).await,
            "interrupt" => interrupt::run(&options, &mut lines).await,
            "open" => open::run(&options, &mut lines).await,
            "paste" => paste::run(&options, &mut lines).await,
            "text" => text::run(&options, &mut lines).await,
            _ => Err("no such scenario".to_owned()),
        };
        result.map_err(|error| format!("{scenario}: {error}"))
    })
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut url, mut ca, mut dialect, mut headers) = (None, None, Dialect::V1, Vec::new());
    let mut options = Options {
        target: Target::default(),
        gate: false,
        frame: 32769,
        bytes: 1 << 30,
        records: "packed".into(),
        sessions: 1,
        rate: 0,
        seconds: 10.0,
        tries: 40,
        workers: 8,
        count: 2000,
        message: 32 * 1024,
        rounds: 1,
        control: None,
    };
    while let Some(argument) = parser.next().map_err(at("load"))? {
        let lexopt::Arg::Long(name) = argument else {
            return Err(argument.unexpected().to_string());
        };
        let name = name.to_owned();
        if name == "gate" {
            options.gate = true;
            continue;
        }
        let value = parser.value().and_then(lexopt::ValueExt::string).map_err(at(&name))?;
        match name.as_str() {
            "target" => url = Some(value),
            "dialect" => dialect = Dialect::named(&value)?,
            "ca" => ca = Some(value),
            "header" => headers.push(value),
            "frame" => options.frame = number(&name, &value)?,
            "bytes" => options.bytes = number(&name, &value)?,
            "records" => options.records = value,
            "sessions" => options.sessions = number(&name, &value)?,
            "rate" => options.rate = number(&name, &value)?,
            "seconds" => options.seconds = number(&name, &value)?,
            "tries" => options.tries = number(&name, &value)?,
            "workers" => options.workers = number(&name, &value)?,
            "count" => options.count = number(&name, &value)?,
            "message" => options.message = number(&name, &value)?,
            "rounds" => options.rounds = number(&name, &value)?,
            "control" => options.control = Some(number(&name, &value)?),
            _ => return Err(format!("--{name} is not known")),
        }
    }
    let url = url.ok_or("--target is missing")?;
    options.target = Target::new(&url, dialect, headers, ca.as_deref())?;
    Ok(options)
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    value.parse().map_err(at(&format!("--{name} {value}")))
}

/// Says that all is ready and waits for the word, if that was asked for.
async fn gate(options: &Options, lines: &mut Receiver<String>) -> Result<(), String> {
    if !options.gate {
        return Ok(());
    }
    println!(r#"{{"ready":true}}"#);
    match tokio::time::timeout(GATE, lines.recv()).await {
        Ok(Some(line)) if line.trim() == "go" => Ok(()),
        Ok(line) => Err(format!("{line:?} where go was awaited")),
        Err(_) => Err("nobody said go".into()),
    }
}

/// Nanoseconds as seconds.
fn seconds(nanoseconds: u64) -> f64 {
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// Nanoseconds as microseconds, to a tenth.
fn microseconds(nanoseconds: u64) -> f64 {
    let tenths = u32::try_from(nanoseconds / 100).unwrap_or(u32::MAX);
    f64::from(tenths) / 10.0
}
