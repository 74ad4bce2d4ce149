//! What is asked of the kernel for the sockets of a session's two ends.
//!
//! None of it can be had of every system, and a session without it is better than none, so a
//! refusal is no error.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

/// After so long without a byte the kernel asks whether the peer is there, and again after as
/// long. It keeps the entries of firewalls and address translators alive where a session's own
/// pings are switched down, and notices a machine that is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How much later than the session the kernel gives up: it is the session that knows why, and can
/// hang up the process and say it.
#[cfg(target_os = "linux")]
const LATER: Duration = Duration::from_mins(1);

/// The most that the kernel takes, which is a signed number of milliseconds.
#[cfg(target_os = "linux")]
const USER_TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// Prepares a browser's connection. `slow_browser` is how long a session lets the browser take
/// nothing, `buffer` how many bytes the kernel keeps each way (see [`connect`]).
///
/// Bytes that nobody acknowledges are given up a minute after that: by default the kernel would
/// try for a quarter of an hour, and a window that stays closed it would watch for ever.
pub fn browser(stream: &TcpStream, slow_browser: Duration, buffer: Option<usize>) {
    prepare(stream);
    bound(&SockRef::from(stream), buffer);
    #[cfg(target_os = "linux")]
    {
        let timeout = slow_browser.saturating_add(LATER).min(USER_TIMEOUT_MAX);
        let _ = SockRef::from(stream).set_tcp_user_timeout(Some(timeout));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = slow_browser;
}

/// Connects to an address. `buffer` is how many bytes the kernel keeps each way that one side has
/// sent and the other one does not take; nothing leaves that to the kernel, which comes to
/// megabytes on its own. Whatever waits there stands before the echo of the next key, and is no
/// memory of this process that anybody would see.
///
/// # Errors
///
/// What the system says.
///
/// # Cancellation
///
/// Dropping the future gives the attempt up.
pub async fn connect(address: SocketAddr, buffer: Option<usize>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Before it connects: the peer is promised a window in the handshake, and how far that may
    // grow is settled there, too.
    bound(&SockRef::from(&socket), buffer);
    socket.connect(address).await
}

/// Bounds what waits in the kernel.
///
/// What was received and not read is bounded as a whole. Of what was sent only the part is that the
/// network has not taken yet: a bound of the rest would bound the throughput on a long way, and it
/// would not wait here without it, but on that way.
fn bound(socket: &SockRef<'_>, buffer: Option<usize>) {
    let Some(buffer) = buffer else { return };
    // The kernel takes twice as much for its own bookkeeping, and never more than its own limit.
    let _ = socket.set_recv_buffer_size(buffer);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(u32::try_from(buffer).unwrap_or(u32::MAX));
    #[cfg(not(target_os = "linux"))]
    let _ = socket.set_send_buffer_size(buffer);
}

/// Prepares a connection to the cluster.
///
/// It has no limit for bytes that wait: a process that does not read its stdin closes the window
/// for as long as it likes, and is alive all the time.
pub fn cluster(stream: &TcpStream) {
    prepare(stream);
}

fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    // A keystroke and its echo must not wait for the acknowledgement of the one before.
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (one, two) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.unwrap(), two.unwrap().0)
    }

    fn assert_prepared(stream: &TcpStream, user_timeout: Option<Duration>) {
        let socket = SockRef::from(stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE);
        assert_eq!(socket.tcp_user_timeout().unwrap(), user_timeout);
    }

    #[tokio::test]
    async fn the_kernel_gives_a_browser_up_after_the_session_does() {
        let (_browser, accepted) = pair().await;
        browser(&accepted, Duration::from_mins(5), None);
        assert_prepared(&accepted, Some(Duration::from_mins(6)));
        // The longest that the flag takes is more than the kernel does.
        browser(&accepted, Duration::from_hours(365 * 24), None);
        assert_prepared(&accepted, Some(USER_TIMEOUT_MAX));
        browser(&accepted, Duration::MAX, None);
        assert_prepared(&accepted, Some(USER_TIMEOUT_MAX));
    }

    /// What the kernel keeps of what it received, and of what it could not send yet.
    fn bounds(stream: &TcpStream) -> (usize, u32) {
        let socket = SockRef::from(stream);
        (socket.recv_buffer_size().unwrap(), socket.tcp_notsent_lowat().unwrap())
    }

    #[tokio::test]
    async fn what_the_kernel_keeps_is_bounded_on_both_legs() {
        // Little enough for the limit of any kernel, which counts its bookkeeping as well.
        const BUFFER: usize = 64 * 1024;
        let (_browser, accepted) = pair().await;
        let usual = bounds(&accepted);
        browser(&accepted, Duration::from_mins(5), Some(BUFFER));
        assert_eq!(bounds(&accepted), (2 * BUFFER, 64 * 1024));
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Not every machine has the newer one.
            let Ok(listener) = TcpListener::bind(address).await else { continue };
            let address = listener.local_addr().unwrap();
            let bounded = connect(address, Some(BUFFER)).await.unwrap();
            assert_eq!(bounds(&bounded), (2 * BUFFER, 64 * 1024));
            cluster(&bounded);
            assert_eq!(bounds(&bounded), (2 * BUFFER, 64 * 1024), "it stays so");
            let free = connect(address, None).await.unwrap();
            assert_ne!(bounds(&free), bounds(&bounded), "the kernel's own");
            assert_eq!(bounds(&free).1, usual.1);
        }
    }

    #[tokio::test]
    async fn a_cluster_may_take_nothing_for_ever() {
        let (connected, _cluster) = pair().await;
        cluster(&connected);
        assert_prepared(&connected, None);
    }
}
