//! What is typed wrongly: exit code 2, and one line that says what and what to type instead.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::process::{Command, Output};

fn podwire(arguments: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwire"));
    let environment = environment.iter().copied();
    command.args(arguments.split_whitespace()).env_clear().envs(environment).output().unwrap()
}

/// An id, what is typed, the environment, and words of the line.
type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn wrong_usage_is_one_line_with_a_remedy() {
    let rows: &[Row<'_>] = &[
        (
            "C2 unknown flag",
            "--kubeconifg x",
            &[],
            "--kubeconifg; see podwire --help (did you mean --kubeconfig?)",
        ),
        ("C2 unknown command", "server", &[], "see podwire --help"),
        ("C2 short flag", "-k", &[], "see podwire --help"),
        ("C2 no value", "--kubeconfig", &[], "see podwire --help"),
        ("C2 duration 5", "--recheck 5", &[], "20s"),
        ("C2 duration -1s", "--hangup-grace -1s", &[], "20s"),
        ("C2 duration of years", "--recheck 99999999h", &[], "20s"),
        ("C2 size -1", "--outbox -1", &[], "64KiB"),
        ("C2 size without a unit", "--max-message 1048576", &[], "64KiB"),
        ("C2 size of everything", "--max-message 99999999999MiB", &[], "64KiB"),
        ("C2 limit 0", "--max-sessions 0", &[], "from 1 to"),
        ("C2 limit -1", "--max-sessions-per-user=-1", &[], "from 1 to"),
        ("C2 switch", "--no-command=perhaps", &[], "--no-command"),
        ("C2 environment", "", &[("PODWIRE_OUTBOX", "5")], "64KiB"),
        ("C2 environment, empty", "", &[("PODWIRE_RECHECK", "")], "20s"),
    ];
    let mut wrong = Vec::new();
    for (id, arguments, environment, words) in rows {
        let output = podwire(arguments, environment);
        let said = String::from_utf8(output.stderr).unwrap();
        let is_right = output.status.code() == Some(2)
            && said.starts_with("podwire: ")
            && said.contains(words)
            && said.lines().count() == 1
            && output.stdout.is_empty();
        if !is_right {
            wrong.push((id, output.status.code(), said));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is typed, the environment, and words of the line.
type OddRow<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

/// Such a value comes from a script that read a file with a line too many.
#[test]
fn a_value_with_control_characters_is_one_line_too() {
    let rows: &[OddRow<'_>] = &[
        (&["--listen", "80\n80"], &[], "--listen 80\\n80: not an address"),
        (&["--admin-listen=80\r\n"], &[], "--admin-listen 80\\r\\n: not an address"),
        (&["--auth", "o\nwn"], &[], "--auth o\\nwn: must be"),
        (&["--auth", "\u{1b}[2Jown"], &[], "--auth \\u{1b}[2Jown: must be"),
        (&["--route", "a\nb"], &[], "a route begins with a slash: a\\nb"),
        (&["--allow-host", "a\nb"], &[], "--allow-host a\\nb: not a host"),
        (&["--allow-origin", "a\tb"], &[], "a\\tb: not an origin"),
        (&["--public-url", "https://a\nb/"], &[], "https://a\\nb"),
        (&["--trusted-proxy", "10.0.0.1\u{2028}/8"], &[], "10.0.0.1\\u{2028}/8: not a network"),
        (&["--base-path", "/a\r\nb"], &[], "--base-path /a\\r\\nb: not a path"),
        (&["--shells", "a\nb"], &[], "--shells a\\nb: not a shell"),
        (
            &["--auth=passthrough", "--token-cookie", "a\nb"],
            &[],
            "--token-cookie a\\nb: not a name",
        ),
        (&["--li\nsten"], &[], "unknown flag --li\\nsten; see podwire --help"),
        (&["--\u{202e}x=y"], &[], "unknown flag --\\u{202e}x; see podwire --help"),
        (&["se\nrve"], &[], "see podwire --help"),
        (&["--no-command=a\nb"], &[], "--no-command a\\nb: must be"),
        (&[], &[("PODWIRE_LISTEN", "80\n")], "--listen 80\\n: not an address"),
    ];
    for (arguments, environment, words) in rows {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podwire"));
        let environment = environment.iter().copied();
        let output = command.args(*arguments).env_clear().envs(environment).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words}: {said:?}");
        let line = said.strip_suffix('\n').unwrap();
        assert!(line.starts_with("podwire: ") && line.contains(words), "{words}: {said:?}");
        let odd = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{202e}');
        assert!(!line.contains(odd), "{words}: {said:?}");
    }
}

/// Some put a user and a password into every address.
#[test]
fn a_password_in_an_address_is_not_repeated() {
    let rows = [
        ("--public-url https://u:s3cret@h/", "--public-url h/: not an origin"),
        ("--public-url https://s3cret@h:8443", "--public-url h:8443: not an origin"),
        ("--public-url https://u:s3cret/s3cret@h/x", "--public-url h/x: not an origin"),
        ("--public-url https://u:s3cret@s3cret@h/", "--public-url h/: not an origin"),
        ("--allow-origin https://u:s3cret@h", "--allow-origin h: not an origin"),
        ("--allow-origin https://a,https://u:s3cret@h", "--allow-origin h: not an origin"),
        ("--allow-origin https://u:s3cret,s3cret@h", "--allow-origin …: not an origin"),
        ("--allow-host u:s3cret@h", "--allow-host h: not a host"),
        ("--trusted-proxy u:s3cret@10.0.0.1", "--trusted-proxy 10.0.0.1: not a network"),
        ("--route https://u:s3cret@h/{pod}", "--route a route begins with a slash: h/{pod}"),
        ("--listen u:s3cret@127.0.0.1:80", "--listen 127.0.0.1:80: not an address"),
        ("--auth=hook --authorize-url http://u:s3cret@h/", "--authorize-url h/: not an address"),
    ];
    for (arguments, words) in rows {
        let output = podwire(arguments, &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.contains(words) && !said.contains("s3cret"), "{arguments}: {said}");
    }
    let variable = [("PODWIRE_ALLOW_ORIGIN", "https://u:s3cret@h")];
    let said = String::from_utf8(podwire("", &variable).stderr).unwrap();
    assert!(said.contains("--allow-origin h: ") && !said.contains("s3cret"), "{said}");
}

/// A Service named podwire gives each pod of its namespace variables that begin like ours.
#[test]
fn a_variable_that_is_no_flag_is_nobodys_mistake() {
    let rows = [
        ("C2 of a Service", "PODWIRE_SERVICE_HOST", "10.0.0.1"),
        ("C2 of a Service", "PODWIRE_PORT", "tcp://10.0.0.1:8080"),
    ];
    for (id, name, value) in rows {
        let output = podwire("--print-config", &[(name, value)]);
        assert_eq!(output.status.code(), Some(0), "{id}: {output:?}");
    }
}
