//! The rows of the contract's table (§5), in its order.

use fake_cluster::wire::{channel, frame, head, opcode, raw};
use fake_cluster::{Behaviour, FakeCluster, Image, Script, Step, Upgrade};

use crate::common::{MASK, pipes, short};
use crate::row::{Deed, Row, SAYS, said};

/// A session with a process of its own that said everything.
fn ends(script: &str) -> String {
    format!("{SAYS}; {script}")
}

pub fn exits() -> Vec<Row> {
    let shell = "/api/v1/namespaces/demo/pods/shell";
    vec![
        Row::new("exit 0", "exit").runs(SAYS).exits(0).says("exit code 0"),
        Row::new("exit 7", "exit").runs(&ends("exit 7")).exits(7).says("exit code 7"),
        Row::new("killed", "exit").runs(&ends("kill -9 $$")).exits(137),
        Row::new("the shell is killed", "exit")
            .with_a_terminal("printf up; kill -9 $$")
            .output("up")
            .exits(137),
        Row::new("before 1.30", "exit")
            .on(Behaviour::only(&["v4.channel.k8s.io"]))
            .runs(&ends("exit 7"))
            .exits(7),
        // It has no exit codes, and none is invented.
        Row::new("the oldest cluster", "exit")
            .on(Behaviour::only(&["channel.k8s.io"]))
            .runs(SAYS)
            .says("does not tell exit codes"),
        Row::new("attached", "exit")
            .asks(format!(
                "{shell}/attach?container=side&stdin=true&stdout=true&stderr=true&tty=false"
            ))
            .output("")
            .when(Deed::Raw(raw(0x80 | opcode::BINARY, MASK, b"exit 5\n")))
            .says("tells no exit code"),
    ]
}

pub fn bad_requests() -> Vec<Row> {
    let nonsense = raw(0x80 | opcode::TEXT, MASK, b"{").repeat(10);
    // From its head, of which the mask is a part.
    let too_long = [head(0x80 | opcode::BINARY, true, (1 << 20) + 1), vec![0; 4]].concat();
    let violation = |id, bytes: &[u8], code| {
        Row::new(id, "protocol_error").when(Deed::Raw(bytes.to_vec())).closes(code)
    };
    vec![
        Row::at_the_door("a bad name", "bad_request").asks("/exec?namespace=demo&pod=-x"),
        Row::at_the_door("a parameter twice", "bad_request")
            .asks("/exec?namespace=demo&ns=demo&pod=shell"),
        Row::refused("an unknown shell", "bad_request")
            .asks("/exec?namespace=demo&pod=shell&shell=nosuch"),
        Row::at_the_door("no streams", "bad_request")
            .asks("/api/v1/namespaces/demo/pods/shell/exec?container=main&command=true")
            .says("one of stdin, stdout and stderr"),
        Row::refused("no container", "bad_request")
            .asks("/api/v1/namespaces/demo/pods/shell/exec?command=true&stdout=true")
            .says("a container name must be specified"),
        violation("ten messages of nonsense", &nonsense, 4400),
        violation("no mask", &raw(0x80 | opcode::BINARY, None, b"x"), 1002),
        violation("a reserved bit", &raw(0xc0 | opcode::BINARY, MASK, b"x"), 1002),
        violation("an unknown opcode", &raw(0x83, MASK, b"x"), 1002),
        violation("no UTF-8", &raw(0x80 | opcode::TEXT, MASK, b"\xff"), 1007),
        violation("too long", &too_long, 1009),
    ]
}

pub fn rights() -> Vec<Row> {
    let bearer: [fn(&FakeCluster) -> String; 2] = [
        |_| "Authorization: Bearer nobody-has-this-one\r\n".to_owned(),
        |cluster| format!("Authorization: Bearer {}\r\n", cluster.token("nobody")),
    ];
    vec![
        Row::at_the_door("no token", "unauthorized").auth("passthrough"),
        Row::refused("a wrong token", "unauthorized").auth("passthrough").headers(bearer[0]),
        Row::at_the_door("a foreign page", "forbidden").origin("https://evil"),
        Row::refused("a free command", "forbidden").flags(&["--no-command"]),
        Row::refused("no right", "forbidden")
            .auth("passthrough")
            .headers(bearer[1])
            .says("needs the verbs get and create on pods/exec"),
        Row::new("an operator", "revoked").when(Deed::Operator).says("ended by an operator"),
        Row::refused("no cluster", "not_found").asks(pipes("true") + "&cluster=nosuch"),
        Row::refused("no pod", "not_found").asks("/exec?namespace=demo&pod=nosuch").says("nosuch"),
        Row::refused("no container of that name", "not_found")
            .asks("/exec?namespace=demo&pod=shell&container=nosuch")
            .says("nosuch"),
        Row::refused("no container left", "not_found")
            .asks("/exec?namespace=demo&pod=done&container=main")
            .says("container not found"),
        // The same when it is said after the 101, on channel 3.
        Row::new("no container left, by the API server", "not_found")
            .on(Behaviour::api_server_mode())
            .asks("/exec?namespace=demo&pod=done&container=main")
            .output("")
            .says("container not found"),
    ]
}

pub fn limits() -> Vec<Row> {
    vec![
        Row::new("nothing typed", "idle")
            .flags(&["--idle-timeout", "2s"])
            .notice("idle_warning")
            .says("nothing was typed for 2 s"),
        Row::new("nothing typed into a terminal", "idle")
            .flags(&["--idle-timeout", "2s"])
            .with_a_terminal("printf up; cat")
            .output("up")
            .notice("idle_warning"),
        Row::new("long enough", "max_session")
            .flags(&["--max-session", "2s"])
            .notice("max_session_warning")
            .says("2 s"),
        Row::refused("one too many", "limit")
            .flags(&["--max-sessions", "1"])
            .beside_a_witness()
            .says("1 sessions at a time"),
        Row::refused("one too many for the cluster", "limit")
            .named("429")
            .says("maximum number exceeded"),
        Row::new("a stop", "drain")
            .flags(&["--drain-delay", "1s", "--drain-timeout", "12s"])
            .when(Deed::Signal)
            .notice("drain"),
    ]
}

pub fn starts() -> Vec<Row> {
    let shell = "/exec?namespace=demo&pod=shell&container=main";
    let debug = "kubectl debug -it shell -n demo --image=busybox --target=main";
    vec![
        Row::new("no shell", "no_shell")
            .on(Behaviour::of_image(Image::Nothing))
            .asks(shell)
            .output("")
            .says(debug),
        Row::new("not this shell", "no_shell")
            .on(Behaviour::of_image(Image::ShOnly))
            .asks(format!("{shell}&shell=bash"))
            .output("")
            .says(debug),
        Row::new("no shell, by codes", "no_shell")
            .on(Behaviour::of_image(Image::Exit127 { has: Vec::new() }))
            .asks(shell)
            .output("")
            .says(debug),
        Row::new("no such command", "failed")
            .asks(short(&["nosuch"], "&tty=false"))
            .output("")
            .says("executable file not found"),
        Row::new("no such command, before 1.30", "failed")
            .on(Behaviour::only(&["v4.channel.k8s.io"]))
            .asks(short(&["nosuch"], ""))
            .output("")
            .says("executable file not found"),
    ]
}

pub fn clusters() -> Vec<Row> {
    let down = |behaviour| Behaviour { kubelet_down: true, ..behaviour };
    let says = |bytes: &[u8], then: Step| {
        let words = [said().into_bytes()];
        let frames: Vec<u8> = words[0].chunks(1000).flat_map(|it| channel(1, it)).collect();
        let upgraded = Step::Upgrade(Upgrade::honest());
        Script::new([upgraded, Step::Send([&frames, bytes].concat().into()), then])
    };
    let hang = Script::new([Step::Hang]);
    vec![
        Row::refused("no kubelet", "cluster_unreachable")
            .on(down(Behaviour::default()))
            .says("error dialing backend"),
        // Here it comes after the 101, and v4 is no better.
        Row::new("no kubelet, by the API server", "cluster_unreachable")
            .on(down(Behaviour::api_server_mode()))
            .output("")
            .says("error "),
        Row::refused("nobody listens", "cluster_unreachable")
            .kubeconfig(|cluster| {
                cluster.kubeconfig().replace(&cluster.addr().to_string(), "127.0.0.1:1")
            })
            .says("cannot reach the cluster"),
        Row::refused("a proxy's 502", "cluster_unreachable").named("502-html"),
        Row::new("cut", "cluster_lost").when(Deed::Cut).says("before it said how"),
        Row::new("closed without a status", "cluster_lost")
            .scripted(says(&fake_cluster::wire::close(1000), Step::Close)),
        Row::new("reset", "cluster_lost").scripted(says(b"", Step::Reset)),
        Row::refused("a wrong accept key", "cluster_protocol").named("wrong-accept"),
        Row::refused("a redirect", "cluster_protocol").named("redirect"),
        Row::refused("the relay's own credential", "cluster_protocol").kubeconfig(|cluster| {
            cluster.kubeconfig().replace(&cluster.token("admin"), "nobody-has-this-one")
        }),
        Row::new("a text frame", "cluster_protocol")
            .scripted(says(&frame(opcode::TEXT, b"\x01x"), Step::Hang)),
        Row::new("half a status", "cluster_protocol")
            .scripted(says(&channel(3, b"{\"status\":"), Step::Close)),
        Row::refused("silence", "cluster_timeout")
            .scripted(hang.clone())
            .flags(&["--response-timeout", "1s"])
            .says("did not answer in time"),
        Row::refused("silence before TLS", "cluster_timeout")
            .on(Behaviour { before_tls: Some(hang), ..Behaviour::default() })
            .flags(&["--connect-timeout", "1s"])
            .says("did not accept a connection in time"),
    ]
}

pub fn browsers() -> Vec<Row> {
    vec![
        Row::new("closed", "browser_closed").when(Deed::Leave),
        Row::new("closed its terminal", "browser_closed")
            .with_a_terminal("printf up; cat")
            .output("up")
            .when(Deed::Leave),
        Row::new("gone", "browser_lost").when(Deed::Abort),
    ]
}
