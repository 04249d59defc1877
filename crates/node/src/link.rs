//! A control connection: CONTROL frames both ways on a unix stream socket.
//!
//! Sending never waits: the queue is bounded, and the caller says what a full one means (for a child process:
//! it does not read, so it is ended and a successor is told everything anew).

use std::{io, os::unix::net::UnixStream as StdUnixStream};

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
/// Frames are gathered into one write up to this size.
const GATHER_BYTES: usize = 64 * 1024;
const READ_BYTES: usize = 16 * 1024;

/// The sending half. When the last clone is dropped, what is queued is written and the connection is shut down
/// for writing.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    frames: mpsc::Sender<Frame>,
}

/// The queue is full, or the connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    Full,
    Ended,
}

impl Sender {
    pub(crate) fn send(&self, sequence: u64, message: impl Into<Bytes>) -> Result<(), NotSent> {
        self.frames
            .try_send(Frame::control(sequence, message))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => NotSent::Full,
                mpsc::error::TrySendError::Closed(_) => NotSent::Ended,
            })
    }

    /// As [`Sender::send`], waiting while the queue is full. `false` when the connection has ended.
    pub(crate) async fn send_patiently(&self, sequence: u64, message: impl Into<Bytes>) -> bool {
        self.frames
            .send(Frame::control(sequence, message))
            .await
            .is_ok()
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
    spawn_local(write_all(write, queue));
    (
        Sender { frames },
        Receiver {
            stream: read,
            decoder: Decoder::control(),
            buffer: BytesMut::new(),
        },
    )
}

async fn write_all(mut stream: OwnedWriteHalf, mut queue: mpsc::Receiver<Frame>) {
    let mut out = BytesMut::new();
    while let Some(frame) = queue.recv().await {
        frame.encode(&mut out);
        while out.len() < GATHER_BYTES
            && let Ok(frame) = queue.try_recv()
        {
            frame.encode(&mut out);
        }
        // The peer is gone; whoever reads from it sees that too. Dropping the queue tells the senders.
        if stream.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
    }
}
