//! One connection of the peer: TLS, requests one after the other, and what each comes to.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::api::{self, Place};
use crate::cluster::Cluster;
use crate::exec::{self, Exec, Verdict};
use crate::http::{self, Request};
use crate::seen::Session;
use crate::socket::Socket;

/// Serves a connection to its end.
pub(crate) async fn serve(cluster: Arc<Cluster>, tcp: TcpStream) -> io::Result<()> {
    // As Go does: a keystroke must not wait for the next one.
    tcp.set_nodelay(true)?;
    let behaviour = cluster.behaviour();
    let mut socket = Socket::Plain(tcp);
    if let Some(script) = behaviour.before_tls {
        let Some((honest, _)) = script.play(socket, BytesMut::new(), None).await else {
            return Ok(());
        };
        socket = honest;
    }
    let mut user = None;
    if cluster.tls() {
        let Socket::Plain(tcp) = socket else { return Ok(()) };
        let tls = cluster.pki().acceptor.accept(tcp).await?;
        let state = tls.get_ref().1;
        if state.alpn_protocol() == Some(b"h2") {
            return Ok(());
        }
        user = cluster.pki().user_of(state.peer_certificates()).map(str::to_owned);
        socket = Socket::Tls(Box::new(tls));
    }
    if let Some(script) = behaviour.after_tls {
        let Some((honest, _)) = script.play(socket, BytesMut::new(), None).await else {
            return Ok(());
        };
        socket = honest;
    }
    let mut buffer = BytesMut::new();
    while let Some(request) = http::read_request(&mut socket, &mut buffer).await? {
        cluster.seen().note(|state| state.requests.push(request.clone()));
        let place = Place::of(request.path()).filter(Place::streams);
        if let Some(place) = place {
            match stream(&cluster, &request, user.as_deref(), place, socket, buffer).await? {
                Some(rest) => (socket, buffer) = rest,
                None => return Ok(()),
            }
            continue;
        }
        let response = match cluster.access().authenticate(&request, user.as_deref()) {
            Ok(user) => api::answer(&request, &user, &cluster.behaviour()),
            Err(why) => api::denied(&request, &why),
        };
        if !response.send(&request, &mut socket).await? {
            socket.shutdown().await?;
            return Ok(());
        }
    }
    Ok(())
}

/// An exec or attach request. Gives the connection back if it can take another request.
async fn stream(
    cluster: &Arc<Cluster>,
    request: &Request,
    certificate: Option<&str>,
    place: Place,
    mut socket: Socket,
    mut early: BytesMut,
) -> io::Result<Option<(Socket, BytesMut)>> {
    let session = Session::new(request.clone());
    let _over = Over(session.clone());
    cluster.seen().note(|state| state.sessions.push(session.clone()));
    let behaviour = cluster.behaviour();
    if let Some(script) = cluster.next_script().or_else(|| behaviour.exec.clone()) {
        match script.play(socket, early, Some((request, &session))).await {
            Some(honest) => (socket, early) = honest,
            None => return Ok(None),
        }
    }
    let verdict = match cluster.access().authenticate(request, certificate) {
        Ok(user) => {
            let session = session.clone();
            Exec { cluster, request, user: &user, place, behaviour, session }.check()
        }
        Err(why) => Verdict::Refused(api::denied(request, &why)),
    };
    match verdict {
        Verdict::Refused(response) => {
            session.note(|facts| facts.answered = Some(response.status));
            if response.send(request, &mut socket).await? {
                return Ok(Some((socket, early)));
            }
            socket.shutdown().await?;
        }
        Verdict::NoProtocol => {
            session.note(|facts| facts.answered = Some(403));
            socket.write_all(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n").await?;
            socket.shutdown().await?;
        }
        Verdict::Granted { start, key } => {
            exec::open(cluster, *start, &key, socket, early).await;
        }
    }
    Ok(None)
}

/// Tells whoever waits that a session's connection is over, however it ended.
struct Over(Session);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.note(|facts| facts.closed = true);
    }
}
