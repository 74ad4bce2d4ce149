//! Clusters and users as kubeconfigs describe them: a row for each line of what kubectl does, and a
//! session for each row. What is refused is in `kubeconfig_wrong.rs`, what changes while the relay
//! runs in `credentials.rs`, plugins are in `plugins.rs`, real proxies among the external tests.
//!
//! S14 of the project's list of bad inputs is among the rows.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{cluster, exchange, folder, pipes, upgrade, within};
use fake_cluster::{Behaviour, FakeCluster, Options};
use podwire::{Clusters, Ending, Identity, Kind, Own, Target};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// A kubeconfig in YAML with one context `x`, and these fields of its cluster and its user.
fn yaml(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {{{cluster}}}\n\
         users:\n- name: u\n  user: {{{user}}}\n\
         contexts:\n- name: x\n  context: {{cluster: c, user: u}}\ncurrent-context: x\n"
    )
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// The fields of a cluster that is verified by its own authority.
fn at(cluster: &FakeCluster) -> String {
    let ca = base64(cluster.ca_pem());
    format!("server: '{}', certificate-authority-data: {ca}", cluster.url())
}

/// Opens a session with our own identity. Gives the token that the cluster was shown.
async fn open(
    cluster: &FakeCluster,
    clusters: &Result<Clusters, String>,
) -> Result<String, Ending> {
    let connector = clusters.as_ref().unwrap().default();
    let mut target = Target::new("demo", "shell");
    target.container = Some("main".to_owned());
    let before = cluster.requests().len();
    let opened = within("an answer", connector.open(&target, &Identity::Own)).await;
    opened.map(|_| {
        let request = &cluster.requests()[before];
        let header = request.header("authorization").unwrap_or_default();
        header.trim_start_matches("Bearer ").to_owned()
    })
}

/// A folder with everything that a kubeconfig may name in it.
fn files(cluster: &FakeCluster) -> PathBuf {
    let folder = folder();
    let identity = cluster.client_identity();
    std::fs::create_dir(folder.join("sub")).unwrap();
    for (name, text) in [
        ("ca.crt", cluster.ca_pem()),
        ("sub/token", &format!(" {}\n\n", cluster.token("admin"))),
        ("admin.crt", &identity.certificate_pem),
        ("admin.key", &identity.key_pem),
        ("empty", ""),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_be_somebody_opens_a_session() {
    let cluster = cluster(Behaviour::default()).await;
    let folder = files(&cluster);
    let (ca, url) = (base64(cluster.ca_pem()), cluster.url());
    let identity = cluster.client_identity();
    let (chain, key) = (base64(&identity.certificate_pem), base64(&identity.key_pem));
    let (admin, execer) = (cluster.token("admin"), cluster.token("execer"));
    let good = at(&cluster);
    let token = format!("token: {execer}");
    let relative = format!("server: '{url}', certificate-authority: ca.crt");
    let absolute = format!("server: '{url}', certificate-authority: {folder:?}/ca.crt")
        .replace("\"/ca", "/ca")
        .replace(": \"/", ": /");
    let localhost = url.replace("127.0.0.1", "localhost");
    let rows: &[(&str, String, String, &str)] = &[
        ("a token", good.clone(), token.clone(), &execer),
        ("tokenFile, relative, trimmed", good.clone(), "tokenFile: sub/token".to_owned(), &admin),
        ("the file wins", good.clone(), format!("{token}, tokenFile: sub/token"), &admin),
        ("the token stands in", good.clone(), format!("{token}, tokenFile: gone"), &execer),
        (
            "the token for an empty file",
            good.clone(),
            format!("{token}, tokenFile: empty"),
            &execer,
        ),
        (
            "a certificate in place",
            good.clone(),
            format!("client-certificate-data: {chain}, client-key-data: {key}"),
            "",
        ),
        (
            "a certificate in files, relative",
            good.clone(),
            "client-certificate: admin.crt, client-key: ./admin.key".to_owned(),
            "",
        ),
        (
            "one of each",
            good.clone(),
            format!("client-certificate-data: {chain}, client-key: admin.key"),
            "",
        ),
        (
            "data wins over files",
            format!("{good}, certificate-authority: /nowhere"),
            format!(
                "client-certificate-data: {chain}, client-key-data: {key}, \
                 client-certificate: /nowhere, client-key: /nowhere"
            ),
            "",
        ),
        ("a token over a plugin", good.clone(), format!("{token}, exec: {{command: x}}"), &execer),
        ("empty is missing", good.clone(), format!("{token}, tokenFile: '', as: ''"), &execer),
        ("null is missing", good.clone(), format!("{token}, tokenFile: null, exec: ~"), &execer),
        ("an authority in a file, relative", relative, token.clone(), &execer),
        ("an authority in a file", absolute, token.clone(), &execer),
        (
            "base64 in lines",
            format!(
                "server: '{url}', certificate-authority-data: \"{}\\n{}\\n\"",
                &ca[..64],
                &ca[64..]
            ),
            token.clone(),
            &execer,
        ),
        ("tls-server-name", format!("{good}, tls-server-name: localhost"), token.clone(), &execer),
        (
            "S14 a name instead of an address, a slash",
            format!("server: '{localhost}/', certificate-authority-data: {ca}"),
            token.clone(),
            &execer,
        ),
        (
            "insecure-skip-tls-verify",
            format!("server: '{url}', insecure-skip-tls-verify: true"),
            token.clone(),
            &execer,
        ),
    ];
    for (id, of_cluster, of_user, shown) in rows {
        let text = yaml(of_cluster, of_user);
        let clusters = Clusters::parse(text.as_bytes(), &folder, None, &[], Own::Included);
        match open(&cluster, &clusters).await {
            Ok(token) => assert_eq!(token, *shown, "{id}"),
            Err(ending) => panic!("{id}: {ending:?}"),
        }
        // Nothing of it is read or shown where callers bring their tokens.
        let excluded = Clusters::parse(text.as_bytes(), &folder, None, &[], Own::Excluded);
        let ending = open(&cluster, &excluded).await.unwrap_err();
        assert_eq!(ending.kind, Kind::Forbidden, "{id}: {ending:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_verified_or_is_nobody_is_warned_of() {
    let cluster = cluster(Behaviour::default()).await;
    let url = cluster.url();
    let parse = |text: &str| {
        Clusters::parse(text.as_bytes(), Path::new("/nowhere"), None, &[], Own::Included)
    };
    let rows = [
        (
            yaml(&format!("server: '{url}', insecure-skip-tls-verify: true"), ""),
            "clusters[c].cluster.insecure-skip-tls-verify is set",
        ),
        (
            yaml(&at(&cluster), "").replace("user: u}", "user: gone}"),
            "contexts[x].context.user names gone",
        ),
        (yaml(&at(&cluster), "tokenFile: gone"), "users[u].user.tokenFile is of no use: no token"),
    ];
    for (text, warning) in rows {
        let clusters = parse(&text);
        let warnings = clusters.as_ref().unwrap().warnings().to_vec();
        assert!(warnings.len() == 1 && warnings[0].starts_with(warning), "{warnings:?}");
        let ending = open(&cluster, &clusters).await.unwrap_err();
        let (kind, words) = if warning.starts_with("users") {
            (Kind::ClusterProtocol, "the relay's own credential: no token in /nowhere/gone")
        } else {
            (Kind::Forbidden, "system:anonymous")
        };
        assert_eq!(ending.kind, kind, "{warning}: {ending:?}");
        assert!(ending.message.contains(words), "{warning}: {ending:?}");
    }
    assert_eq!(parse(&yaml(&at(&cluster), "token: x")).unwrap().warnings().len(), 0);
    let wrong = yaml(&format!("{}, tls-server-name: wrong.example", at(&cluster)), "token: x");
    let ending = open(&cluster, &parse(&wrong)).await.unwrap_err();
    assert_eq!(ending.kind, Kind::ClusterUnreachable, "{ending:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_is_read_in_whatever_way_it_is_written() {
    let cluster = cluster(Behaviour::default()).await;
    let url = cluster.url();
    let block = format!(
        "# by hand\napiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    \
         server: {url}\n  name: 0123\ncontexts:\n  - context:\n      cluster: 0123\n      user: no\n    \
         name: 1e3\ncurrent-context: 1e3\npreferences: {{}}\nusers:\n- name: no\n  user:\n    token: 0777\n",
        base64(cluster.ca_pem()),
    );
    let anchored = block
        .replace("user:\n    token: 0777", "user: &u\n    token: '0777'\n- name: other\n  user: *u")
        .replace("user: no\n", "user: other\n");
    let json = cluster.kubeconfig().replace(&cluster.token("admin"), "0777");
    cluster.set_token("admin", "0777");
    let rows = [
        ("names and tokens that look like numbers", block.clone()),
        ("a BOM", format!("\u{feff}{block}")),
        ("CRLF", block.replace('\n', "\r\n")),
        ("a document with a head", format!("%YAML 1.2\n---\n{block}...\n")),
        ("anchors and quotes", anchored),
        ("JSON", json.clone()),
        ("JSON on one line, with a BOM", format!("\u{feff}{}", json.replace('\n', " "))),
        ("JSON with tabs", json.replace("  ", "\t")),
        ("null lists", format!("{block}extensions: null\n")),
    ];
    for (id, text) in rows {
        let clusters = Clusters::parse(text.as_bytes(), Path::new("."), None, &[], Own::Included);
        assert_eq!(open(&cluster, &clusters).await.as_deref(), Ok("0777"), "{id}");
    }
}

#[test]
fn a_cluster_is_found_by_its_name_and_by_its_server() {
    let text = "\
clusters:
- {name: a, cluster: {server: 'https://A.example/k8s/', insecure-skip-tls-verify: true}}
- {name: b, cluster: {server: 'https://[2001:db8::1]:6443', insecure-skip-tls-verify: yes}}
contexts:
- {name: one, context: {cluster: a}}
- {name: two, context: {cluster: a}}
- {name: three, context: {cluster: b}}
- {name: four, context: {cluster: b}}
current-context: two
";
    let others = ["one".to_owned(), "three".to_owned()];
    let clusters =
        Clusters::parse(text.as_bytes(), Path::new("."), None, &others, Own::Included).unwrap();
    assert_eq!(clusters.names().collect::<Vec<_>>(), ["one", "three", "two"]);
    assert!(clusters.get(Some("four")).is_none() && clusters.get(Some("three")).is_some());
    let rows = [
        ("https://a.example/k8s", Some("two")),
        ("https://a.example.:443/k8s/", Some("two")),
        ("https://[2001:db8::1]:6443/", Some("three")),
        ("http://a.example/k8s", None),
        ("https://a.example/", None),
        ("https://a.example:6443/k8s", None),
        ("https://user@a.example/k8s", None),
        ("https://a.example/k8s?x", None),
        ("a.example", None),
        ("", None),
    ];
    for (url, name) in rows {
        assert_eq!(clusters.by_server(url), name, "{url}");
    }
}

/// A running relay that found its clusters by itself.
struct Served {
    addr: SocketAddr,
    /// The line that says what it has chosen.
    start: String,
    _child: Child,
}

async fn served(flags: &[&str], environment: &[(&str, &str)]) -> Served {
    let mut child = Command::new(env!("CARGO_BIN_EXE_podwire"))
        .args(["--auth=own", "--listen=127.0.0.1:0", "--admin-listen=off"])
        .args(flags)
        .env_clear()
        .envs(environment.iter().copied())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = async {
        loop {
            let line = log.next_line().await.unwrap().expect("a line that says start");
            if line.contains(" start version=") {
                return line;
            }
            assert!(line.contains(" warn "), "{line}");
        }
    };
    let start = within("the start", line).await;
    let ready = within("the line that says ready", stdout.next_line()).await.unwrap().unwrap();
    let addr = ready.trim_start_matches("ready http://").trim_end_matches('/').parse().unwrap();
    Served { addr, start, _child: child }
}

impl Served {
    /// The status of an answer, and the sentence with it.
    async fn ask(&self) -> (u16, String) {
        let asked = exchange(self.addr, upgrade(&pipes("true"), "").as_bytes()).await;
        let (answer, _, _) = asked.expect("an answer");
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_merged_as_kubectl_merges_them_and_the_choice_is_printed() {
    let cluster = cluster(Behaviour::default()).await;
    let folder = files(&cluster);
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let nowhere = "server: 'https://127.0.0.1:1', insecure-skip-tls-verify: true";
    // The first has the cluster and the context, the second the user; each also has something that
    // the other one has first. Paths begin at the file that has them.
    let first = file(
        "one/config",
        &format!(
            "clusters: [{{name: c, cluster: {{server: '{}', certificate-authority: ../ca.crt}}}}]\n\
             contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
             current-context: x\n",
            cluster.url()
        ),
    );
    let second = file(
        "sub/config",
        &format!(
            "clusters: [{{name: c, cluster: {{{nowhere}}}}}]\n\
             users: [{{name: u, user: {{tokenFile: token}}}}]\n\
             contexts: [{{name: x, context: {{cluster: gone, user: gone}}}}]\n\
             current-context: other\n"
        ),
    );
    // Whole entries: nothing of this user is added to the one before.
    let third = file("three", "users: [{name: u, user: {username: somebody}}]\n");
    let empty = file("none", "");
    let list = [":", &first, "/nowhere/at/all", &empty, &second, &third, ""].join(":");
    let merged = served(&[], &[("KUBECONFIG", &list), ("HOME", "/nowhere")]).await;
    assert_eq!(merged.ask().await.0, 101);
    assert!(merged.start.contains(&format!("{first}:")), "{}", merged.start);
    assert!(merged.start.contains("context x at https://127.0.0.1:"), "{}", merged.start);
    assert!(merged.start.contains("a token file of user u"), "{}", merged.start);
    let bearer = cluster.requests()[0].header("authorization").unwrap().to_owned();
    assert_eq!(bearer, format!("Bearer {}", cluster.token("admin")));

    // The flag wins, and names one file only; the usual file is the last resort.
    let token = format!("token: {}", cluster.token("execer"));
    let flag = file("flag", &yaml(&at(&cluster), &token));
    let home = folder.join("home");
    let usual = file("home/.kube/config", &yaml(&at(&cluster), &token).replace(": x", ": usual"));
    let home = home.to_str().unwrap();
    for (flags, environment, path, context) in [
        (vec!["--kubeconfig", &flag], vec![("KUBECONFIG", &*list), ("HOME", home)], &flag, "x"),
        (vec![], vec![("KUBECONFIG", ""), ("HOME", home)], &usual, "usual"),
        (vec![], vec![("KUBECONFIG", "::"), ("HOME", home)], &usual, "usual"),
        (vec![], vec![("PODWIRE_KUBECONFIG", &*flag), ("HOME", home)], &flag, "x"),
    ] {
        let relay = served(&flags, &environment).await;
        assert!(relay.start.contains(&format!("{path}, context {context} at ")), "{}", relay.start);
        assert_eq!(relay.ask().await.0, 101, "{environment:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_authority_it_is_one_of_this_machine() {
    let cluster = cluster(Behaviour::default()).await;
    let folder = files(&cluster);
    let path = folder.join("config");
    let token = format!("token: {}", cluster.token("execer"));
    std::fs::write(&path, yaml(&format!("server: '{}'", cluster.url()), &token)).unwrap();
    let (path, ca) = (path.to_str().unwrap(), folder.join("ca.crt"));
    let relay = served(&["--kubeconfig", path], &[("SSL_CERT_FILE", ca.to_str().unwrap())]).await;
    assert_eq!(relay.ask().await.0, 101);
}

/// Listens, and gives the first line that somebody says.
async fn first_line() -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut line = String::new();
        BufReader::new(tcp).read_line(&mut line).await.unwrap();
        line
    });
    (url, heard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_that_of_the_cluster_or_of_the_environment() {
    let folder = folder();
    let path = folder.join("config");
    let server = "insecure-skip-tls-verify: true, server: 'https://cluster.example'";
    let (dead, _) = first_line().await;
    for (id, is_field, excepted) in [
        ("S14 no port, proxy-url", true, ""),
        ("proxy-url whatever NO_PROXY says", true, "cluster.example"),
        ("an empty proxy-url, HTTPS_PROXY", false, "other.example"),
    ] {
        let (url, heard) = first_line().await;
        let proxy = if is_field { url.as_str() } else { "" };
        std::fs::write(&path, yaml(&format!("{server}, proxy-url: '{proxy}'"), "")).unwrap();
        let environment =
            [("HTTPS_PROXY", if is_field { &*dead } else { &*url }), ("NO_PROXY", excepted)];
        let relay = served(&["--kubeconfig", path.to_str().unwrap()], &environment).await;
        let (status, sentence) = relay.ask().await;
        assert_eq!(status, 502, "{id}: {sentence}");
        assert!(sentence.contains("proxy"), "{id}: {sentence}");
        let line = within("a line", heard).await.unwrap();
        assert_eq!(line.trim_end(), "CONNECT cluster.example:443 HTTP/1.1", "{id}");
    }
}

/// A front that serves a cluster without TLS under a path, as some products do.
async fn under(prefix: &'static str, cluster: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut inner = TcpStream::connect(cluster).await.unwrap();
            let mut start = vec![0; "GET ".len() + prefix.len()];
            tcp.read_exact(&mut start).await.unwrap();
            assert_eq!(start, format!("GET {prefix}").as_bytes());
            inner.write_all(b"GET ").await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut tcp, &mut inner).await });
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_have_a_path_or_an_address_of_ipv6() {
    let plain = FakeCluster::start(Options { tls: false, ..Options::default() }).await.unwrap();
    let front = under("/k8s/clusters/c-1", plain.addr()).await;
    let listen = "[::1]:0".parse().unwrap();
    let v6 = FakeCluster::start(Options { listen, ..Options::default() }).await.unwrap();
    let rows = [
        ("S14 path prefix", &plain, format!("server: 'http://{front}/k8s/clusters/c-1/'")),
        ("S14 IPv6", &v6, at(&v6)),
        ("http on loopback", &plain, format!("server: '{}'", plain.url())),
    ];
    for (id, cluster, fields) in rows {
        let token = cluster.token("execer");
        let text = yaml(&fields, &format!("token: {token}"));
        let clusters = Clusters::parse(text.as_bytes(), Path::new("."), None, &[], Own::Included);
        assert_eq!(open(cluster, &clusters).await, Ok(token), "{id}");
    }
}
