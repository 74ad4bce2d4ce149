//! What is asked of the kernel for the sockets of a session's two ends.
//!
//! None of it can be had of every system, and a session without it is better than none, so a
//! refusal is no error.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

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
/// nothing.
///
/// Bytes that nobody acknowledges are given up a minute after that: by default the kernel would
/// try for a quarter of an hour, and a window that stays closed it would watch for ever.
pub fn browser(stream: &TcpStream, slow_browser: Duration) {
    prepare(stream);
    #[cfg(target_os = "linux")]
    {
        let timeout = slow_browser.saturating_add(LATER).min(USER_TIMEOUT_MAX);
        let _ = SockRef::from(stream).set_tcp_user_timeout(Some(timeout));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = slow_browser;
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
        browser(&accepted, Duration::from_mins(5));
        assert_prepared(&accepted, Some(Duration::from_mins(6)));
        // The longest that the flag takes is more than the kernel does.
        browser(&accepted, Duration::from_hours(365 * 24));
        assert_prepared(&accepted, Some(USER_TIMEOUT_MAX));
        browser(&accepted, Duration::MAX);
        assert_prepared(&accepted, Some(USER_TIMEOUT_MAX));
    }

    #[tokio::test]
    async fn a_cluster_may_take_nothing_for_ever() {
        let (connected, _cluster) = pair().await;
        cluster(&connected);
        assert_prepared(&connected, None);
    }
}
