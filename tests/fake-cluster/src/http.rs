//! HTTP/1.1 as far as an API server's clients need it: request heads in, responses out.
//!
//! Written by hand because the tests need what a server library rightly prevents: a 101 with
//! exactly four headers, a 403 with no length, frames in the same write as the head.

use std::io;
use std::time::SystemTime;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::random;
use crate::socket::Socket;

/// Go's `MaxHeaderBytes`, which the API server leaves at its default.
const HEAD_MAX_BYTES: usize = 1024 * 1024;
const HEADERS_MAX: usize = 256;
/// Access reviews are a few hundred bytes; nothing else here has a body.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// A request as it came: the target is not decoded, the headers keep their order and case.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names and values in the order of the wire.
    pub headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The first value of this header, the name compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_lines(name).first().copied()
    }

    /// Every value of this header, one for each line.
    pub fn header_lines(&self, name: &str) -> Vec<&str> {
        let of_name = |pair: &&(String, String)| pair.0.eq_ignore_ascii_case(name);
        self.headers.iter().filter(of_name).map(|(_, value)| value.as_str()).collect()
    }

    /// The target up to the question mark.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The target after the question mark, or nothing.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// "Any header line contains `upgrade`", as the API server tests it.
    pub(crate) fn wants_upgrade(&self) -> bool {
        let names = |line: &&str| line.to_ascii_lowercase().contains("upgrade");
        self.header_lines("connection").iter().any(names)
    }

    pub(crate) fn wants_websocket(&self) -> bool {
        let websocket = |value: &str| value.eq_ignore_ascii_case("websocket");
        self.wants_upgrade() && self.header("upgrade").is_some_and(websocket)
    }

    fn wants_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// The next request of a connection, or `None` at its end. What follows it stays in `buffer`.
pub(crate) async fn read_request(
    socket: &mut Socket,
    buffer: &mut BytesMut,
) -> io::Result<Option<Request>> {
    let mut request = loop {
        if let Some(request) = parse_head(buffer)? {
            break request;
        }
        if buffer.len() > HEAD_MAX_BYTES {
            return Err(io::Error::other("request head too long"));
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    if length > BODY_MAX_BYTES {
        return Err(io::Error::other("request body too long"));
    }
    while buffer.len() < length {
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    request.body = buffer.split_to(length).to_vec();
    Ok(Some(request))
}

fn parse_head(buffer: &mut BytesMut) -> io::Result<Option<Request>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(buffer).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let text = |raw: &[u8]| String::from_utf8_lossy(raw).into_owned();
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        headers: head.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect(),
        body: Vec::new(),
    };
    buffer.advance(length);
    Ok(Some(request))
}

/// A response with a body of known length.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the server ends the connection afterwards, whatever the request asked for.
    pub(crate) last: bool,
}

impl Response {
    /// The API server's own JSON, with the headers the recordings show, in their order.
    pub(crate) fn json(request: &Request, status: u16, body: String) -> Response {
        let mut response = Response::typed(request, status, "application/json", body);
        response.body.push(b'\n');
        response
    }

    pub(crate) fn typed(
        request: &Request,
        status: u16,
        content_type: &str,
        body: String,
    ) -> Response {
        let audit_id = request.header("audit-id").map_or_else(random::uuid, str::to_owned);
        Response {
            status,
            headers: vec![
                ("Audit-Id", audit_id),
                ("Cache-Control", "no-cache, private".to_owned()),
                ("Content-Type", content_type.to_owned()),
            ],
            body: body.into_bytes(),
            last: false,
        }
    }

    /// A kubelet's text, which the API server copies and then ends the connection (recordings
    /// `no_streams` and `pod_succeeded`).
    pub(crate) fn text(status: u16, body: &str) -> Response {
        let headers = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        Response { status, headers, body: body.as_bytes().to_vec(), last: true }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Response {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Writes it; says whether the connection goes on.
    pub(crate) async fn send(self, request: &Request, socket: &mut Socket) -> io::Result<bool> {
        let mut bytes = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            bytes.extend([name, ": ", value, "\r\n"]);
        }
        let date = httpdate::fmt_http_date(SystemTime::now());
        let length = self.body.len().to_string();
        bytes.extend(["Date: ", &date, "\r\nContent-Length: ", &length, "\r\n"]);
        let close = request.wants_close();
        bytes.push_str(if close { "Connection: close\r\n\r\n" } else { "\r\n" });
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(&self.body);
        socket.write_all(&bytes).await?;
        socket.flush().await?;
        Ok(!close && !self.last)
    }
}

/// The reason phrase Go writes for a status.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}
