//! A bad line between any two parties: a TCP proxy that is slow, or falls silent.
//!
//! It stands for the way between a browser and the relay, or between the relay and the cluster.
//! What it reads it holds for as long as a line of that speed would need, and it reads no more
//! meanwhile, with small socket buffers, so that who writes faster has to wait.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Of each socket and direction, where there is a limit. The kernel doubles it.
const SOCKET_BUFFER_BYTES: u32 = 8 * 1024;
/// An Ethernet's segment. Whoever sends in loopback's, of 64 KiB, is given some 4 MB of buffer by
/// the kernel, which is 16 seconds of a line of 2 Mbit/s.
const SEGMENT_BYTES: u32 = 1460;
/// A slow line moves this much of a second at once.
const TICKS_PER_SECOND: u64 = 50;
const CHUNK_MAX_BYTES: usize = 16 * 1024;
/// How much lateness is made good by moving faster, so that the clock's grain does not slow the
/// line down.
const CREDIT: Duration = Duration::from_millis(50);
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// How fast a cable is, in bits per second; as fast as it goes where there is no number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Speed {
    /// From who dials to who is dialled.
    pub up: Option<u64>,
    /// Back to who dials.
    pub down: Option<u64>,
}

impl Speed {
    /// The same both ways, such as `2_000_000` for 2 Mbit/s.
    pub fn both(bits_per_second: u64) -> Speed {
        Speed { up: Some(bits_per_second), down: Some(bits_per_second) }
    }
}

/// A line to one address. Each connection to it is one to that address, each at this speed. The
/// end of one direction is passed on; a reset is too, and it discards what the kernel had still
/// to deliver, at most 16 KiB on a slow line. Dropping the cable resets all connections.
pub struct Cable {
    addr: SocketAddr,
    silent: watch::Sender<bool>,
    carrying: JoinHandle<()>,
}

impl Cable {
    /// Lays a cable to this address, on the current runtime.
    #[allow(clippy::unused_async, reason = "it needs a runtime, and its signature says so")]
    pub async fn lay(to: SocketAddr, speed: Speed) -> io::Result<Cable> {
        let socket = TcpSocket::new_v4()?;
        // Before it listens, as the window's scale is settled when a connection begins.
        limit_buffers(&socket, speed)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let addr = socket.local_addr()?;
        let listener = socket.listen(1024)?;
        let silent = watch::Sender::new(false);
        let carrying = tokio::spawn(accept(listener, to, speed, silent.subscribe()));
        Ok(Cable { addr, silent, carrying })
    }

    /// Where to dial instead.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Moves nothing any more in either direction, and lets both sockets stand: no FIN, no
    /// reset. A connection that is dialled from now on is accepted and hears nothing. What was
    /// moved before may still lie in a buffer of the kernel, which goes on to acknowledge what
    /// it takes in, until its buffers are full.
    pub fn go_silent(&self) {
        self.silent.send_replace(true);
    }

    /// Moves again what was held.
    pub fn come_back(&self) {
        self.silent.send_replace(false);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

fn limit_buffers(socket: &TcpSocket, speed: Speed) -> io::Result<()> {
    if speed.up.is_some() || speed.down.is_some() {
        SockRef::from(socket).set_tcp_mss(SEGMENT_BYTES)?;
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    }
    Ok(())
}

async fn accept(
    listener: TcpListener,
    to: SocketAddr,
    speed: Speed,
    silent: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => {
                    connections.spawn(carry(near, to, speed, silent.clone()));
                }
                // Out of descriptors, most likely: let others end first.
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN_AFTER).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection. Its sockets end with a reset unless both directions came to their end.
async fn carry(
    mut near: TcpStream,
    to: SocketAddr,
    speed: Speed,
    mut silent: watch::Receiver<bool>,
) -> io::Result<()> {
    near.set_zero_linger()?;
    heard(&mut silent, false).await;
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    limit_buffers(&socket, speed)?;
    let mut far = socket.connect(to).await?;
    far.set_zero_linger()?;
    for socket in [&near, &far] {
        socket.set_nodelay(true)?;
    }
    let (near_read, near_write) = near.split();
    let (far_read, far_write) = far.split();
    tokio::try_join!(
        pump(near_read, far_write, speed.up, silent.clone()),
        pump(far_read, near_write, speed.down, silent),
    )?;
    // Both have sent their end, so an ordinary close is all that is left to do.
    for socket in [&near, &far] {
        rustix::net::sockopt::set_socket_linger(socket, None)?;
    }
    Ok(())
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    bits_per_second: Option<u64>,
    mut silent: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut pace = Pace::new(bits_per_second);
    let mut buffer = vec![0; pace.chunk()];
    loop {
        let length = tokio::select! {
            read = from.read(&mut buffer) => read?,
            () = heard(&mut silent, true) => {
                heard(&mut silent, false).await;
                continue;
            }
        };
        pace.wait(length).await;
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            heard(&mut silent, false).await;
            tokio::select! {
                written = to.write(rest) => rest = &rest[written?..],
                () = heard(&mut silent, true) => {}
            }
        }
        if length == 0 {
            heard(&mut silent, false).await;
            return to.shutdown().await;
        }
    }
}

/// Waits until the cable is silent, or is not.
async fn heard(silent: &mut watch::Receiver<bool>, wanted: bool) {
    if silent.wait_for(|silent| *silent == wanted).await.is_err() {
        // The cable is gone, and this task in a moment.
        std::future::pending::<()>().await;
    }
}

/// When the next bytes have passed.
struct Pace {
    bits_per_second: Option<u64>,
    due: Instant,
}

impl Pace {
    fn new(bits_per_second: Option<u64>) -> Pace {
        Pace { bits_per_second, due: Instant::now() }
    }

    fn chunk(&self) -> usize {
        let bytes = self.bits_per_second.map_or(u64::MAX, |bits| bits / 8 / TICKS_PER_SECOND);
        usize::try_from(bytes).unwrap_or(usize::MAX).clamp(1, CHUNK_MAX_BYTES)
    }

    async fn wait(&mut self, bytes: usize) {
        let Some(bits) = self.bits_per_second else { return };
        let nanoseconds = bytes as u64 * 8 * 1_000_000_000 / bits.max(1);
        let now = Instant::now();
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        self.due = self.due.max(earliest) + Duration::from_nanos(nanoseconds);
        sleep_until(self.due).await;
    }
}
