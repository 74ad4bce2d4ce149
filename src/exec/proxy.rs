//! What is said to a proxy until it is a tunnel: HTTP `CONNECT`, and SOCKS 5 (RFC 1928).
//!
//! hyper-util has connectors for both. They do not tell which status a proxy answered, drop what
//! they read behind its answer, and offer a SOCKS proxy with a login no way without one, as Go
//! does; so hyper itself speaks the `CONNECT`, and SOCKS stands here.
//!
//! What it must never know: deadlines, and whom the tunnel leads to beyond a host and a port.

use std::io;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::{HOST, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::conversation::{drive, hand_over};
use super::via::{Login, Proxy, Scheme, authority};
use crate::line::Line;

/// The longest head of a proxy's answer; real ones are under 1 KiB.
const ANSWER_MAX: usize = 16 * 1024;

/// Asks the proxy for a way to this place, and gives the connection once it leads there.
///
/// # Errors
///
/// What the proxy did instead, to be said after its name.
pub(super) async fn tunnel(
    proxy: &Proxy,
    wire: Line,
    host: &str,
    port: u16,
) -> Result<Line, String> {
    match proxy.scheme {
        Scheme::Http | Scheme::Https => connect(proxy, wire, &authority(host, port)).await,
        Scheme::Socks => socks(proxy.login.as_ref(), wire, host, port).await,
    }
}

async fn connect(proxy: &Proxy, wire: Line, place: &str) -> Result<Line, String> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(place)
        .header(HOST, place)
        .header(USER_AGENT, concat!("podwire/", env!("CARGO_PKG_VERSION")));
    if let Some(login) = proxy.login.as_ref().and_then(Login::basic) {
        request = request.header(PROXY_AUTHORIZATION, login);
    }
    let request = request
        .body(Full::new(Bytes::new()))
        .map_err(|error| format!("cannot be asked for {place}: {error}"))?;
    let (mut sender, mut connection) = http1::Builder::new()
        .max_buf_size(ANSWER_MAX)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(|error| broken(&error))?;
    let response = drive(&mut connection, sender.send_request(request)).await;
    let status = response.map_err(|error| broken(&error))?.status();
    if !status.is_success() {
        return Err(refused(status, proxy, place));
    }
    let (wire, early) = hand_over(connection).await.map_err(|error| broken(&error))?;
    // The cluster never speaks first, so this is not the cluster's.
    if early.is_empty() { Ok(wire) } else { Err("says more than its answer".to_owned()) }
}

fn refused(status: StatusCode, proxy: &Proxy, place: &str) -> String {
    let code = status.as_u16();
    match (code, &proxy.login) {
        (407, None) => {
            format!("wants a login ({code}): put USER:PASSWORD@ before the host in its URL")
        }
        // Some say 401 of a wrong login, which is for the servers behind them.
        (401 | 407, Some(_)) => format!("does not accept the login in its URL ({code})"),
        _ => format!("answered {status} when asked for {place}"),
    }
}

fn broken(error: &hyper::Error) -> String {
    if error.is_parse() {
        format!("does not speak HTTP/1.1 as it should: {error}")
    } else {
        "ended the connection without an answer".to_owned()
    }
}

/// The version that every message begins with, but for those about a login.
const SOCKS: u8 = 5;
/// The version of messages about a login (RFC 1929).
const LOGIN: u8 = 1;
const WITHOUT_LOGIN: u8 = 0;
const WITH_LOGIN: u8 = 2;
const NO_WAY: u8 = 0xff;
const CONNECT: u8 = 1;
const V4: u8 = 1;
const NAME: u8 = 3;
const V6: u8 = 4;

async fn socks(
    login: Option<&Login>,
    mut wire: Line,
    host: &str,
    port: u16,
) -> Result<Line, String> {
    let lost = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "ended the connection without an answer".to_owned(),
        _ => format!("is lost: {error}"),
    };
    let methods: &[u8] =
        if login.is_some() { &[WITHOUT_LOGIN, WITH_LOGIN] } else { &[WITHOUT_LOGIN] };
    let hello = [&[SOCKS], &counted(methods)?[..]].concat();
    wire.write_all(&hello).await.map_err(lost)?;
    wire.flush().await.map_err(lost)?;
    let mut chosen = [0; 2];
    wire.read_exact(&mut chosen).await.map_err(lost)?;
    match (chosen, login) {
        ([SOCKS, WITHOUT_LOGIN], _) => {}
        ([SOCKS, WITH_LOGIN], Some(login)) => {
            let message = [&[LOGIN], &counted(&login.user)?[..], &counted(&login.password)?[..]];
            wire.write_all(&message.concat()).await.map_err(lost)?;
            wire.flush().await.map_err(lost)?;
            let mut verdict = [0; 2];
            wire.read_exact(&mut verdict).await.map_err(lost)?;
            if verdict[1] != 0 {
                return Err("does not accept the login in its URL".to_owned());
            }
        }
        ([SOCKS, NO_WAY], None) => {
            return Err("wants a login: put USER:PASSWORD@ before the host in its URL".to_owned());
        }
        ([SOCKS, NO_WAY], Some(_)) => return Err("wants another kind of login".to_owned()),
        _ => return Err("does not speak SOCKS 5".to_owned()),
    }
    wire.write_all(&request(host, port)?).await.map_err(lost)?;
    wire.flush().await.map_err(lost)?;
    let mut answer = [0; 4];
    wire.read_exact(&mut answer).await.map_err(lost)?;
    let [SOCKS, code, _, kind] = answer else {
        return Err("does not speak SOCKS 5".to_owned());
    };
    if code != 0 {
        return Err(format!("cannot reach {}: {}", authority(host, port), words(code)));
    }
    // Which address it uses itself is nothing to us, and must be read.
    let length = match kind {
        V4 => 4,
        V6 => 16,
        NAME => usize::from(wire.read_u8().await.map_err(lost)?),
        _ => return Err("does not speak SOCKS 5".to_owned()),
    };
    let mut address = [0; 255 + 2];
    wire.read_exact(&mut address[..length + 2]).await.map_err(lost)?;
    Ok(wire)
}

/// The request for a connection. A name is looked up by the proxy.
fn request(host: &str, port: u16) -> Result<Vec<u8>, String> {
    let (kind, address) = match host.parse() {
        Ok(std::net::IpAddr::V4(ip)) => (V4, ip.octets().to_vec()),
        Ok(std::net::IpAddr::V6(ip)) => (V6, ip.octets().to_vec()),
        Err(_) => (NAME, counted(host.as_bytes())?),
    };
    Ok([&[SOCKS, CONNECT, 0, kind], &address[..], &port.to_be_bytes()].concat())
}

/// Bytes after their number.
fn counted(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let count = u8::try_from(bytes.len())
        .map_err(|_| "has no room for a name of more than 255 bytes".to_owned())?;
    Ok([&[count], bytes].concat())
}

/// The replies of RFC 1928 section 6.
fn words(code: u8) -> &'static str {
    match code {
        2 => "its rules do not allow it",
        3 => "network unreachable",
        4 => "no such host, or it cannot be reached",
        5 => "connection refused",
        6 => "the way is too long",
        7 | 8 => "it does not know how",
        _ => "it does not say why",
    }
}
