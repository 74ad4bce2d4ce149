//! A contender before its first session: how long it takes to start, and how large it is.
#![allow(clippy::cast_precision_loss)] // Figures for people.

use std::fs::{metadata, read_dir, read_link};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::contenders::{Bed, Contender, Kind, Lab, local, peer_folder};
use crate::rows::Measured;

/// Starts in one run.
const TRIES: [usize; 3] = [2, 10, 10];
/// For one start.
const START_MAX: Duration = Duration::from_secs(15);
/// Between two looks: a start takes milliseconds.
const LOOK: Duration = Duration::from_micros(100);
/// What a process is before it is the program: this bench, and a shell that runs `start`.
const SHELLS: [&str; 4] = ["sh", "bash", "dash", "env"];

/// The time from exec to the first byte of an HTTP answer; the median of several starts.
pub(crate) fn start(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    let mut times = Vec::new();
    let [smoke, short, full] = TRIES;
    for _ in 0..lab.settings.scale.of(smoke, short, full) {
        times.push(once(lab, contender)?.as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(Measured::of([("ms", times[times.len() / 2])], None))
}

fn once(lab: &Lab, contender: &Contender) -> Result<Duration, String> {
    let bed = Bed::started(lab, contender)?;
    let (Some(process), Some(port)) = (bed.root(), bed.port) else {
        return Err("nothing to start".to_owned());
    };
    let deadline = Instant::now() + START_MAX;
    // What a script prepares is no part of the program's start.
    while !is_program(lab, process) {
        if Instant::now() > deadline {
            return Err("nothing was started".to_owned());
        }
        thread::sleep(LOOK);
    }
    let begun = Instant::now();
    loop {
        if answers(port) {
            return Ok(begun.elapsed());
        }
        if Instant::now() > deadline {
            return Err(format!("no answer within {START_MAX:?}"));
        }
        thread::sleep(LOOK);
    }
}

fn is_program(lab: &Lab, process: u32) -> bool {
    let Ok(exe) = read_link(format!("/proc/{process}/exe")) else { return false };
    let name = exe.file_name().unwrap_or_default();
    exe != lab.exe && !SHELLS.iter().any(|shell| name == *shell)
}

/// Whether a request is answered, be it by the end of the connection: some relays know only
/// upgrades. Before that there is nobody who would take the connection.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(local(port)) else { return false };
    let request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    let asked = stream.set_read_timeout(Some(START_MAX)).and_then(|()| stream.write_all(request));
    if asked.is_err() {
        return false;
    }
    match stream.read_exact(&mut [0; 1]) {
        Ok(()) => true,
        Err(error) => matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
    }
}

/// The program's file, and what has to lie beside it.
pub(crate) fn size(lab: &Lab, contender: &Contender) -> Result<Measured, String> {
    let program = if let Kind::Podwire(program) = &contender.kind {
        program.clone()
    } else {
        let bed = Bed::new(lab, contender)?;
        let Some(process) = bed.processes().and_then(|all| all.first().copied()) else {
            return Err("no process to look at; give --pid".to_owned());
        };
        read_link(format!("/proc/{process}/exe")).map_err(|error| error.to_string())?
    };
    let program = metadata(&program).map_err(|error| format!("{}: {error}", program.display()))?;
    let mut measured = Measured::of([("program", program.len() as f64 / 1e6)], None);
    if let (Kind::Podwire(_), Some(shipped)) = (&contender.kind, &lab.shipped)
        && contender.name != STATIC
    {
        add(&mut measured, shipped);
    }
    let beside = peer_folder(&contender.name).join("node_modules");
    if beside.exists() {
        measured.figures.insert("beside".to_owned(), folder_size(&beside) as f64 / 1e6);
    }
    Ok(measured)
}

/// What the image holds, beside `cargo build --release` and its C library: the program of another
/// column.
pub(crate) const STATIC: &str = "podwire-static";

/// Where the script leaves it.
pub(crate) fn static_program() -> Option<PathBuf> {
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/shipped");
    let program = shipped.join(triple).join("release/podwire");
    program.exists().then_some(program)
}

/// The sizes of what is shipped beside `cargo build --release`, by the name of the figure: bytes, or
/// why they are not known.
pub(crate) type Shipped = Vec<(String, Result<f64, String>)>;

/// Builds what is shipped, by the script that anybody can run, too.
pub(crate) fn shipped() -> Result<Shipped, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/relay/sizes");
    let output = Command::new(&script).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{}: {error}", script.display()))?;
    if !output.status.success() {
        return Err("could not be built".to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let size = |value: &str| value.parse::<f64>().map_err(|_| value.to_owned());
    Ok(lines.map(|(name, value)| (name.to_owned(), size(value))).collect())
}

fn add(measured: &mut Measured, shipped: &Result<Shipped, String>) {
    match shipped {
        Ok(sizes) => {
            for (name, size) in sizes {
                match size {
                    Ok(bytes) => drop(measured.figures.insert(name.clone(), bytes / 1e6)),
                    Err(why) => drop(measured.reasons.insert(name.clone(), why.clone())),
                }
            }
        }
        Err(why) => {
            for name in ["static", "static_ui", "image", "pulled"] {
                measured.reasons.insert(name.to_owned(), why.clone());
            }
        }
    }
}

/// All files below a folder; links are not followed.
fn folder_size(folder: &Path) -> u64 {
    let mut size = 0;
    for entry in read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            size += folder_size(&entry.path());
        } else if kind.is_file() {
            size += entry.metadata().map(|metadata| metadata.len()).unwrap_or_default();
        }
    }
    size
}
