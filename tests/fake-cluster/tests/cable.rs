//! The cable: that a slow one is slow, that a silent one is silent, and that nothing is lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on should stop"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fake_cluster::{Cable, Speed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Everything here happens within this, or never.
const DEADLINE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let limit = tokio::time::timeout(DEADLINE, wait).await;
    limit.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// A cable with both its ends: who dialled, and who was dialled.
async fn ends(speed: Speed) -> (Cable, TcpStream, TcpStream) {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let cable = Cable::lay(listener.local_addr().unwrap(), speed).await.unwrap();
    let near = TcpStream::connect(cable.addr()).await.unwrap();
    let (far, _) = soon("the far end", listener.accept()).await.unwrap();
    (cable, near, far)
}

fn bytes(count: usize) -> Vec<u8> {
    (0..=250).cycle().take(count).collect()
}

/// Sends it all in one direction and takes the time until the other end has it.
async fn transfer(mut from: TcpStream, mut to: TcpStream, count: usize) -> Duration {
    let begun = Instant::now();
    let sending = tokio::spawn(async move {
        from.write_all(&bytes(count)).await.unwrap();
        from.shutdown().await.unwrap();
        from
    });
    let mut got = Vec::new();
    soon("the bytes", to.read_to_end(&mut got)).await.unwrap();
    let elapsed = begun.elapsed();
    assert!(got == bytes(count));
    drop(sending.await);
    elapsed
}

#[tokio::test]
async fn a_line_of_two_megabits_takes_its_time_in_either_direction() {
    const BYTES: usize = 250_000;
    let (_cable, near, far) = ends(Speed::both(2_000_000)).await;
    let up = transfer(near, far, BYTES);
    let (_other, near, far) = ends(Speed { up: None, down: Some(2_000_000) }).await;
    let down = transfer(far, near, BYTES);
    let (up, down) = tokio::join!(up, down);
    for elapsed in [up, down] {
        // A second, less what may be made good at the beginning.
        assert!(elapsed > Duration::from_millis(900), "{elapsed:?}");
        assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
    }
}

#[tokio::test]
async fn a_direction_without_a_number_is_not_held_up() {
    let (_cable, near, far) = ends(Speed { up: None, down: Some(8_000) }).await;
    let elapsed = transfer(near, far, 10_000_000).await;
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
}

/// Or a test of a slow line would only see the buffers fill.
#[tokio::test]
async fn a_slow_line_takes_little_in_advance() {
    let (_cable, mut near, _far) = ends(Speed::both(8_000)).await;
    let mut taken = 0;
    let chunk = bytes(16 * 1024);
    // The line moves 1 kB in a second; who is not let go on within this has been stopped.
    let pause = Duration::from_millis(300);
    while let Ok(written) = tokio::time::timeout(pause, near.write(&chunk)).await {
        taken += written.unwrap();
    }
    // Most of it lies with the sender; behind a segment of loopback it would be 4 MB.
    assert!(taken < 512 * 1024, "{taken}");
}

#[tokio::test]
async fn a_silent_line_moves_nothing_and_says_nothing() {
    let (cable, mut near, mut far) = ends(Speed::default()).await;
    near.write_all(b"before").await.unwrap();
    let mut got = [0; 6];
    soon("the first words", far.read_exact(&mut got)).await.unwrap();
    cable.go_silent();
    near.write_all(b"within").await.unwrap();
    far.write_all(b"within").await.unwrap();
    let silence = Duration::from_millis(300);
    let mut byte = [0];
    assert!(tokio::time::timeout(silence, far.read(&mut byte)).await.is_err());
    assert!(tokio::time::timeout(silence, near.read(&mut byte)).await.is_err());
    // Not even the end of one side is told to the other, and a new connection hears nothing.
    near.shutdown().await.unwrap();
    assert!(tokio::time::timeout(silence, far.read(&mut byte)).await.is_err());
    let mut late = TcpStream::connect(cable.addr()).await.unwrap();
    late.write_all(b"hello").await.unwrap();
    assert!(tokio::time::timeout(silence, late.read(&mut byte)).await.is_err());
    cable.come_back();
    let mut rest = Vec::new();
    soon("what was held", far.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"within");
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    let (_cable, near, mut far) = ends(Speed::default()).await;
    near.set_zero_linger().unwrap();
    drop(near);
    let error = soon("the reset", far.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_cable_that_is_dropped_ends_its_connections() {
    let (cable, mut near, mut far) = ends(Speed::default()).await;
    drop(cable);
    assert!(soon("the near end", near.read(&mut [0])).await.is_err());
    assert!(soon("the far end", far.read(&mut [0])).await.is_err());
}
