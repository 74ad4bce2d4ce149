//! The way of stdin from the read loop to the process: a queue with a limit in bytes. When it is
//! full the read loop waits, which is all the flow control there is on a real cluster.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use pty_process::OwnedWritePty;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::wire::OUTPUT_MAX_BYTES;

/// What a pipe holds: up to here stdin that nobody read does no harm.
const PIPE_BYTES: usize = 64 * 1024;

struct Piece {
    bytes: Bytes,
    /// Given back once the process, or its pipe, has the bytes.
    room: OwnedSemaphorePermit,
}

/// The read loop's end. Dropping it, and all that share it, is the end of stdin.
#[derive(Clone)]
pub(crate) struct Inlet {
    pieces: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
}

/// The process's end.
pub(crate) struct Outlet {
    pieces: mpsc::UnboundedReceiver<Piece>,
    room: Arc<Semaphore>,
    limit: usize,
}

pub(crate) fn queue(limit: usize) -> (Inlet, Outlet) {
    let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
    let room = Arc::new(Semaphore::new(limit));
    let (sender, pieces) = mpsc::unbounded_channel();
    (Inlet { pieces: sender, room: Arc::clone(&room) }, Outlet { pieces, room, limit })
}

impl Inlet {
    /// Puts a frame's bytes into the queue, waiting for room.
    pub(crate) async fn put(&self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let length = bytes.len().min(OUTPUT_MAX_BYTES);
            // More than the whole queue would be waited for in vain.
            let wanted = u32::try_from(length).unwrap_or(u32::MAX);
            let Ok(room) = acquire(&self.room, wanted).await else { return };
            // A process that has ended reads nothing, which is not the peer's affair.
            let _ = self.pieces.send(Piece { bytes: bytes.split_to(length), room });
        }
    }
}

async fn acquire(
    room: &Arc<Semaphore>,
    wanted: u32,
) -> Result<OwnedSemaphorePermit, tokio::sync::AcquireError> {
    Arc::clone(room).acquire_many_owned(wanted).await
}

impl Outlet {
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        // The room is given back before the bytes are used; for a reader that takes everything
        // at once that makes no difference.
        self.pieces.recv().await.map(|piece| piece.bytes)
    }

    /// Feeds a pipe until the peer ends stdin; what is written to a process that has closed its
    /// end is lost. Returns a look at what stays unread.
    pub(crate) fn into_pipe(mut self, pipe: pipe::Sender) -> (Unread, impl Future<Output = ()>) {
        let pipe = Arc::new(pipe);
        let unread = self.unread(Some(Arc::downgrade(&pipe)));
        let feed = async move {
            while let Some(piece) = self.pieces.recv().await {
                if write_all(&pipe, &piece.bytes).await.is_err() {
                    // The piece keeps its room: it was never read, and that matters at the end.
                    self.swallow(piece).await;
                    return;
                }
                drop(piece.room);
            }
        };
        (unread, feed)
    }

    /// Feeds a terminal. The end of stdin is nothing a terminal could be told.
    pub(crate) fn into_terminal(
        mut self,
        mut terminal: OwnedWritePty,
    ) -> (Unread, impl Future<Output = ()>) {
        let unread = self.unread(None);
        let feed = async move {
            while let Some(piece) = self.pieces.recv().await {
                if terminal.write_all(&piece.bytes).await.is_err() {
                    self.swallow(piece).await;
                    return;
                }
                drop(piece.room);
            }
        };
        (unread, feed)
    }

    /// Keeps what nobody will read, so that it can be counted, until the session is over.
    async fn swallow(&mut self, first: Piece) {
        let mut kept = vec![first.room];
        while let Some(piece) = self.pieces.recv().await {
            kept.push(piece.room);
        }
    }

    fn unread(&self, pipe: Option<Weak<pipe::Sender>>) -> Unread {
        Unread { room: Arc::clone(&self.room), limit: self.limit, pipe }
    }
}

async fn write_all(pipe: &pipe::Sender, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        pipe.writable().await?;
        match pipe.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How much stdin the process has left unread.
pub(crate) struct Unread {
    room: Arc<Semaphore>,
    limit: usize,
    pipe: Option<Weak<pipe::Sender>>,
}

impl Unread {
    /// Whether it is more than a real cluster gets over (recordings `unread_stdin_64KiB_*`,
    /// which end, and `unread_stdin_256KiB_*`, which do not).
    pub(crate) fn is_too_much(&self) -> bool {
        let queued = self.limit - self.room.available_permits();
        let in_pipe = self
            .pipe
            .as_ref()
            .and_then(Weak::upgrade)
            .and_then(|pipe| rustix::io::ioctl_fionread(&*pipe).ok())
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(0);
        queued > 0 && queued + in_pipe > PIPE_BYTES
    }
}
