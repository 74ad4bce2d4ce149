//! Whatever an address asks for is asked of the API server, and nothing else: its address, taken
//! apart by other rules than ours, has the parts it was built from.

use podwire::{Target, Verb};

/// `/api/v1/namespaces/{namespace}/pods/{pod}/{verb}`
const SEGMENTS: usize = 7;

/// A path, `?`, and a query, as they stand in a request line.
pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if let Some((target, address)) = podwire::fuzz::target(path, query) {
        holds(&target, &address);
    }
}

fn holds(target: &Target, address: &str) {
    // What stands in a request line, and nothing that would end it or begin another part.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/?=&%".contains(&byte);
    assert!(address.bytes().all(plain), "{address:?}");
    assert!(address.matches('?').count() == 1, "{address:?}");
    let uri: podwire::hyper::Uri = address.parse().unwrap();
    let verb = if target.verb == Verb::Attach { "attach" } else { "exec" };
    let expected = ["api", "v1", "namespaces", &target.namespace, "pods", &target.pod, verb];
    let segments: Vec<&str> = uri.path().strip_prefix('/').unwrap().split('/').collect();
    assert_eq!(segments.len(), SEGMENTS, "{address:?}");
    assert_eq!(segments, expected, "{address:?}");
    assert!(segments.iter().all(|it| !it.is_empty() && !it.starts_with('.') && !it.contains('%')));

    let (mut command, mut container, mut flags) = (Vec::new(), None, [false; 4]);
    for pair in uri.query().unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap();
        let value = decoded(value);
        let flag = ["stdin", "stdout", "stderr", "tty"].iter().position(|it| *it == name);
        match (name, flag) {
            ("command", _) => command.push(value),
            ("container", _) => assert_eq!(container.replace(value), None, "{address:?}"),
            (_, Some(number)) if value == "true" => {
                assert!(!std::mem::replace(&mut flags[number], true), "{address:?}");
            }
            _ => panic!("nobody asked for {pair}: {address:?}"),
        }
    }
    let words = if target.verb == Verb::Attach { &[][..] } else { &target.command };
    assert_eq!(command, words, "{address:?}");
    assert_eq!(container, target.container, "{address:?}");
    assert_eq!(flags, [target.stdin, target.stdout, target.stderr, target.tty], "{address:?}");
    assert!(!(target.tty && target.stderr), "runtimes refuse the two together");
    assert!(flags[..3].contains(&true), "a session without a stream is none");
}

/// RFC 3986 section 2.1, strictly: two digits behind every percent sign.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
        } else {
            byte
        });
    }
    String::from_utf8(bytes).unwrap()
}
