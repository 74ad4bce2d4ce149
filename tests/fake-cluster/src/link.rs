//! The way towards the peer of one session, shared by everybody who writes: output, pongs, the
//! status and Close. One lock, one frame at a time, as in Go's library.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncWriteExt as _, WriteHalf};
use tokio::sync::{Mutex, watch};

use crate::behaviour::Behaviour;
use crate::idle::Idle;
use crate::socket::Socket;
use crate::wire::{self, HEADROOM, opcode};

/// The sending side of a session. Once closed it swallows everything.
pub(crate) struct Link {
    half: Mutex<Option<WriteHalf<Socket>>>,
    severed: watch::Sender<bool>,
    base64: bool,
    /// The deadline for reads and writes alike, see [`Behaviour::data_timeout`].
    pub(crate) data: Idle,
    /// The connection behind this one, see [`Behaviour::kubelet_idle_timeout`].
    pub(crate) leg: Idle,
}

impl Link {
    pub(crate) fn new(half: WriteHalf<Socket>, base64: bool, behaviour: &Behaviour) -> Link {
        Link {
            half: Mutex::new(Some(half)),
            severed: watch::Sender::new(false),
            base64,
            data: Idle::new(Some(behaviour.data_timeout)),
            leg: Idle::new(behaviour.kubelet_idle_timeout),
        }
    }

    /// Sends one channel's bytes, which lie in `buffer` behind [`HEADROOM`].
    pub(crate) async fn output(&self, buffer: &mut [u8], length: usize, channel: u8) -> bool {
        if self.base64 {
            return self.data(channel, &buffer[HEADROOM..HEADROOM + length]).await;
        }
        self.moves();
        self.send(wire::channel_in_place(buffer, length, channel)).await
    }

    /// Sends one channel's bytes in the subprotocol's coding (recording `base64_channel`).
    pub(crate) async fn data(&self, channel: u8, payload: &[u8]) -> bool {
        self.moves();
        if self.base64 {
            let text = format!("{channel}{}", STANDARD.encode(payload));
            return self.send(&wire::frame(opcode::TEXT, text.as_bytes())).await;
        }
        self.send(&wire::channel(channel, payload)).await
    }

    fn moves(&self) {
        self.data.moves();
        self.leg.moves();
    }

    /// Sends bytes as they are. False when nobody is there any more.
    ///
    /// The half is taken out while it writes: a future dropped half-way takes the connection
    /// with it instead of leaving half a frame in front of the next one.
    pub(crate) async fn send(&self, bytes: &[u8]) -> bool {
        let mut guard = self.half.lock().await;
        let Some(mut half) = guard.take() else { return false };
        let mut severed = self.severed.subscribe();
        let sent = async {
            half.write_all(bytes).await?;
            half.flush().await
        };
        let sent = tokio::select! {
            // First, so that a write that need not wait sets no timer.
            biased;
            sent = sent => sent.is_ok(),
            () = self.data.over() => false,
            _ = severed.wait_for(|severed| *severed) => false,
        };
        if !sent {
            return false;
        }
        *guard = Some(half);
        true
    }

    /// Lets go of the connection at once, whoever is writing, with no word to the peer.
    fn sever(&self) {
        self.severed.send_replace(true);
        // Who holds the lock is told by the line above.
        if let Ok(mut half) = self.half.try_lock() {
            half.take();
        }
    }

    /// Sends a Close frame and ends the connection without waiting for the peer's.
    pub(crate) async fn close(&self, code: u16) {
        self.send(&wire::close(code)).await;
        self.end().await;
    }

    /// Ends the connection with no word to the peer but TLS's own.
    pub(crate) async fn end(&self) {
        if let Some(mut half) = self.half.lock().await.take() {
            // The peer may be gone, which is as closed as can be.
            let _ = half.shutdown().await;
        }
    }
}

/// Severs the link when the session's connection is dropped: the process's task, which lives
/// on, must not keep the connection open.
pub(crate) struct Hold(pub(crate) Arc<Link>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.sever();
    }
}
