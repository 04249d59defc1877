//! A control connection: CONTROL frames both ways on a unix stream socket.
//!
//! Sending never waits: the queue is bounded, and the caller says what a full one means (for a child process:
//! it does not read, so it is ended and a successor is told everything anew).

use std::{cell::Cell, io, os::unix::net::UnixStream as StdUnixStream, rc::Rc};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{Decoder, Frame, Kind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::spawn_local,
};

/// Messages that may wait for a peer that does not read.
const QUEUE: usize = 2048;
/// Bytes of them, beside the first.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// Frames are gathered into one write up to this size.
const GATHER_BYTES: usize = 64 * 1024;
const READ_BYTES: usize = 16 * 1024;

/// The sending half. When the last clone is dropped, what is queued is written and the connection is shut down
/// for writing.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    frames: mpsc::Sender<Frame>,
    /// Bytes in the queue.
    waiting: Rc<Cell<usize>>,
}

/// The queue is full, or the connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    Full,
    Ended,
}

impl Sender {
    pub(crate) fn send(&self, sequence: u64, message: impl Into<Bytes>) -> Result<(), NotSent> {
        let frame = Frame::control(sequence, message);
        let (bytes, waiting) = (frame.payload.len(), self.waiting.get());
        if waiting > 0 && waiting + bytes > QUEUE_BYTES {
            return Err(NotSent::Full);
        }
        self.frames.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotSent::Full,
            mpsc::error::TrySendError::Closed(_) => NotSent::Ended,
        })?;
        self.waiting.set(waiting + bytes);
        Ok(())
    }

    /// As [`Sender::send`], waiting while the queue is full. `false` when the connection has ended.
    pub(crate) async fn send_patiently(&self, sequence: u64, message: impl Into<Bytes>) -> bool {
        let Ok(place) = self.frames.reserve().await else {
            return false;
        };
        let frame = Frame::control(sequence, message);
        self.waiting.set(self.waiting.get() + frame.payload.len());
        place.send(frame);
        true
    }

    /// Messages that wait.
    pub(crate) fn waiting(&self) -> usize {
        QUEUE.saturating_sub(self.frames.capacity())
    }

    /// Waits until the peer is gone.
    pub(crate) async fn ended(&self) {
        self.frames.closed().await;
    }
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Receiver {
    stream: OwnedReadHalf,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Receiver {
    /// The next message with its sequence number; `None` at the end of the connection. Cancel safe.
    pub(crate) async fn next(&mut self) -> io::Result<Option<(u64, Bytes)>> {
        loop {
            while let Some(frame) = self
                .decoder
                .decode(&mut self.buffer)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            {
                if frame.header.kind == Kind::Control {
                    return Ok(Some((frame.header.sequence, frame.payload)));
                }
            }
            self.buffer.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Makes a link of a connected socket. The writer is a task of the current `LocalSet`.
pub(crate) fn open(stream: StdUnixStream) -> io::Result<(Sender, Receiver)> {
    stream.set_nonblocking(true)?;
    Ok(split(UnixStream::from_std(stream)?))
}

pub(crate) fn split(stream: UnixStream) -> (Sender, Receiver) {
    let (read, write) = stream.into_split();
    let (frames, queue) = mpsc::channel(QUEUE);
    let waiting = Rc::<Cell<usize>>::default();
    spawn_local(write_all(write, queue, Rc::clone(&waiting)));
    (
        Sender { frames, waiting },
        Receiver {
            stream: read,
            decoder: Decoder::control(),
            buffer: BytesMut::new(),
        },
    )
}

async fn write_all(
    mut stream: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Frame>,
    waiting: Rc<Cell<usize>>,
) {
    let mut out = BytesMut::new();
    let taken = |frame: &Frame| waiting.set(waiting.get().saturating_sub(frame.payload.len()));
    while let Some(frame) = queue.recv().await {
        taken(&frame);
        frame.encode(&mut out);
        while out.len() < GATHER_BYTES
            && let Ok(frame) = queue.try_recv()
        {
            taken(&frame);
            frame.encode(&mut out);
        }
        // The peer is gone; whoever reads from it sees that too. Dropping the queue tells the senders.
        if stream.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    #[test]
    fn a_peer_that_does_not_read_costs_a_bounded_number_of_bytes() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (ours, _theirs) = StdUnixStream::pair().unwrap();
            let (sender, _receiver) = open(ours).unwrap();
            let large = Bytes::from(vec![0; 40 * 1024 * 1024]);
            assert_eq!(sender.send(0, large.clone()), Ok(()));
            assert_eq!(sender.send(0, large.clone()), Err(NotSent::Full));
            // The writer takes it, and is stuck with it.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(sender.send(0, large.clone()), Ok(()));
            assert_eq!(sender.send(0, large), Err(NotSent::Full));
            assert_eq!(sender.send(0, "small"), Ok(()));
        });
    }
}
