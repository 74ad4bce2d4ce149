//! Which programs a container has, and how a runtime looks for one.
//!
//! The processes are the host's, so an image is a folder of links to the host's programs that is
//! the whole `PATH` of the processes in it: neither the runtime nor a script finds more by name.
//! A script that names `/bin/bash` finds the host's all the same, as the root is the host's.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where an ordinary image has its programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a small image has besides its shell: what a hang-up and a small test need. The host may
/// lack some.
const SMALL: [&str; 57] = [
    "basename",
    "cat",
    "chmod",
    "clear",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dirname",
    "du",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "grep",
    "head",
    "hostname",
    "id",
    "kill",
    "less",
    "ln",
    "ls",
    "mkdir",
    "mktemp",
    "more",
    "mv",
    "nohup",
    "od",
    "printf",
    "ps",
    "pwd",
    "reset",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "setsid",
    "sha256sum",
    "sleep",
    "sort",
    "stty",
    "tail",
    "tee",
    "test",
    "top",
    "touch",
    "tr",
    "true",
    "tty",
    "uname",
    "uniq",
    "vi",
    "wc",
    "whoami",
    "yes",
];

/// Stands for `powershell.exe` and `cmd.exe`: a prompt that says what it is told. With words it
/// runs them, and `exit 3` ends it either way.
const WINDOWS: &str = r#"
case ${0%.*} in cmd) prompt='C:\>' ;; *) prompt='PS C:\> ' ;; esac
run() {
  case $1 in
    exit) exit 0 ;;
    'exit '*) exit "${1#exit }" ;;
    'echo '*) printf '%s\n' "${1#echo }" ;;
    '') ;;
    *) printf '%s\n' "$1" ;;
  esac
}
case $1 in /c | -Command) shift; run "$*"; exit 0 ;; esac
printf '%s' "$prompt"
while IFS= read -r line; do
  run "$line"
  printf '%s' "$prompt"
done
"#;

/// What the image of pod `shell`'s container `main` has. `side` has [`Image::ShOnly`].
///
/// An exec of a program that it does not have is answered as recorded (`command_not_found`,
/// `command_not_found_tty`): 101, an `InternalError` on channel 3, Close 1000. What was typed
/// for it has been read by nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Image {
    /// Everything that this machine has; `bash` is taken to be there.
    #[default]
    Bash,
    /// `sh` and small programs, and no other shell.
    ShOnly,
    /// As [`ShOnly`](Image::ShOnly) without these, such as `tr` and `grep`.
    ShWithout {
        /// The names of what is missing.
        lacks: Vec<String>,
    },
    /// As [`ShOnly`](Image::ShOnly), but its shell is known as `ash` alone.
    AshOnly,
    /// No `sh` in its `PATH`, and nothing but these.
    NoSh {
        /// Names, or paths such as `/busybox/sh`. A path works as the command of an exec and
        /// inside its words, but not when it is typed.
        has: Vec<String>,
    },
    /// `powershell.exe` and `cmd.exe`, and nothing else. Each is a prompt that echoes.
    Windows,
    /// No program at all.
    Nothing,
    /// Exactly these, as with [`NoSh`](Image::NoSh), in a runtime that reports a missing program
    /// as exit code 127 without any output.
    Exit127 {
        /// As of [`NoSh`](Image::NoSh).
        has: Vec<String>,
    },
}

impl FromStr for Image {
    type Err = ();

    /// `bash`, `sh`, `sh-without:tr,grep`, `ash`, `no-sh:/busybox/sh`, `windows`, `nothing`,
    /// `exit127` or `exit127:/busybox/sh`.
    fn from_str(text: &str) -> Result<Image, ()> {
        let (name, list) = text.split_once(':').unwrap_or((text, ""));
        let words: Vec<String> =
            list.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Ok(match (name, words.is_empty()) {
            ("bash", true) => Image::Bash,
            ("sh", true) => Image::ShOnly,
            ("sh-without", false) => Image::ShWithout { lacks: words },
            ("ash", true) => Image::AshOnly,
            ("no-sh", false) => Image::NoSh { has: words },
            ("windows", true) => Image::Windows,
            ("nothing", true) => Image::Nothing,
            ("exit127", _) => Image::Exit127 { has: words },
            _ => return Err(()),
        })
    }
}

/// An image, ready to find programs in.
#[derive(Debug)]
pub(crate) struct Installed {
    image: Image,
    /// Its folder; an image with all that the host has needs none.
    root: Option<PathBuf>,
}

/// A program that was found: what is started, and the words in front of the command's own.
pub(crate) struct Found {
    pub(crate) file: PathBuf,
    pub(crate) before: Vec<OsString>,
}

impl Installed {
    /// Makes the image's folder in this one.
    pub(crate) fn new(image: &Image, folder: &Path) -> io::Result<Installed> {
        let mut hasher = DefaultHasher::new();
        image.hash(&mut hasher);
        let root = folder.join(format!("image-{:x}", hasher.finish()));
        let installed = |root| Installed { image: image.clone(), root };
        if *image == Image::Bash {
            return Ok(installed(None));
        }
        // What is left of an attempt that failed.
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("bin"))?;
        let small = |shell: &str, lacks: &[String]| -> io::Result<()> {
            link(&root, shell)?;
            let there = |name: &&str| !lacks.iter().any(|lacked| lacked == name);
            let present = |name: &&str| on_host(name).is_some();
            SMALL.iter().copied().filter(there).filter(present).try_for_each(|n| link(&root, n))
        };
        match image {
            Image::ShOnly => small("sh", &[])?,
            Image::ShWithout { lacks } => small("sh", lacks)?,
            Image::AshOnly => small("ash", &[])?,
            Image::NoSh { has } | Image::Exit127 { has } => {
                has.iter().try_for_each(|program| link(&root, program))?;
            }
            Image::Bash | Image::Windows | Image::Nothing => {}
        }
        Ok(installed(Some(root)))
    }

    /// The `PATH` of its processes.
    pub(crate) fn path(&self) -> String {
        self.root
            .as_ref()
            .map_or_else(|| PATH.to_owned(), |root| root.join("bin").to_string_lossy().into_owned())
    }

    /// Whether a missing program is an exit code and no error.
    pub(crate) fn exits_127(&self) -> bool {
        matches!(self.image, Image::Exit127 { .. })
    }

    /// Finds the program as runc does, with its errors: recordings `command_not_found` and
    /// `command_not_found_tty`.
    pub(crate) fn find(&self, program: &OsStr) -> Result<Found, String> {
        let name = program.to_string_lossy();
        let found = |file| Ok(Found { file, before: Vec::new() });
        if self.image == Image::Windows && is_windows_shell(&name) {
            let sh = search(PATH, "sh").ok_or("this machine has no sh")?;
            return Ok(Found { file: sh, before: ["-c", WINDOWS, &name].map(Into::into).into() });
        }
        if !name.contains('/') {
            let file = search(&self.path(), &name);
            let missing = format!("exec: \"{name}\": executable file not found in $PATH");
            return file.ok_or(missing).and_then(found);
        }
        let missing = || format!("exec: \"{name}\": stat {name}: no such file or directory");
        let path = Path::new(program);
        if let Some(root) = &self.root {
            let own = root.join(name.trim_start_matches('/'));
            if runs(&own) {
                return found(own);
            }
            let folder = path.parent().map(Path::to_string_lossy).unwrap_or_default();
            if PATH.split(':').any(|ordinary| ordinary == folder) {
                let file = path.file_name().unwrap_or_default();
                return search(&self.path(), &file.to_string_lossy())
                    .ok_or_else(missing)
                    .and_then(found);
            }
        }
        match path.metadata() {
            Ok(_) if runs(path) => found(path.to_owned()),
            Ok(_) => Err(format!("exec: \"{name}\": permission denied")),
            Err(_) => Err(missing()),
        }
    }

    /// A word of a command, with the image's own paths where they are on the host.
    pub(crate) fn word(&self, word: &OsStr) -> OsString {
        let (Image::NoSh { has } | Image::Exit127 { has }, Some(root), Some(text)) =
            (&self.image, &self.root, word.to_str())
        else {
            return word.to_owned();
        };
        let paths = has.iter().filter(|program| program.starts_with('/'));
        let host = |path: &str| format!("{}{path}", root.to_string_lossy());
        paths.fold(text.to_owned(), |text, path| text.replace(path, &host(path))).into()
    }
}

fn is_windows_shell(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.strip_suffix(".exe").unwrap_or(&name), "powershell" | "cmd")
}

/// Puts a program into an image: by its name into the `PATH`, or where its path says.
fn link(root: &Path, program: &str) -> io::Result<()> {
    let missing = || io::Error::other(format!("this machine has nothing for {program}"));
    let target = on_host(program).ok_or_else(missing)?;
    let place = match program.strip_prefix('/') {
        Some(path) => root.join(path),
        None => root.join("bin").join(program),
    };
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder)?;
    }
    symlink(target, place)
}

/// The host's program for an image's. Many machines have no `ash`, and what matters of it is
/// that it is a shell that is not called `sh`.
fn on_host(program: &str) -> Option<PathBuf> {
    let name = Path::new(program).file_name()?.to_string_lossy();
    let busybox = program.starts_with("/busybox/").then_some("busybox");
    let stand_ins: &[&str] = if name == "ash" { &["dash", "sh"] } else { &[] };
    let names = busybox.into_iter().chain([&*name]).chain(stand_ins.iter().copied());
    names.into_iter().find_map(|name| search(PATH, name))
}

fn search(path: &str, name: &str) -> Option<PathBuf> {
    path.split(':').map(|folder| Path::new(folder).join(name)).find(|file| runs(file))
}

fn runs(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_a_name() {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let table = [
            ("bash", Some(Image::Bash)),
            ("sh", Some(Image::ShOnly)),
            ("sh-without:tr,grep", Some(Image::ShWithout { lacks: list(&["tr", "grep"]) })),
            ("ash", Some(Image::AshOnly)),
            ("no-sh:/busybox/sh", Some(Image::NoSh { has: list(&["/busybox/sh"]) })),
            ("windows", Some(Image::Windows)),
            ("nothing", Some(Image::Nothing)),
            ("exit127", Some(Image::Exit127 { has: Vec::new() })),
            ("exit127:ash", Some(Image::Exit127 { has: list(&["ash"]) })),
            ("bash:tr", None),
            ("no-sh", None),
            ("zsh", None),
        ];
        for (text, wanted) in table {
            assert_eq!(text.parse().ok(), wanted, "{text}");
        }
    }
}
