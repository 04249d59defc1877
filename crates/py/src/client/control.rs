//! One control call: connect, one CONTROL frame out, the answer with the same sequence number back.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{Decoder, Frame, Kind};
use pyo3::{exceptions::PyConnectionError, prelude::*};

/// How long a wait lasts before signals are looked at.
pub(super) const SLICE: Duration = Duration::from_millis(100);
/// A controller that ends is started again by its node within this time.
const RECONNECT_FOR: Duration = Duration::from_secs(15);
const SEQUENCE: u64 = 1;

/// A connection that has one call on it, or one stream of answers.
#[derive(Debug)]
pub(super) struct Conversation {
    stream: UnixStream,
    buffer: BytesMut,
    decoder: Decoder,
}

impl Conversation {
    /// Connects and sends.
    pub(super) fn open(path: &str, request: &[u8]) -> std::io::Result<Self> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(SLICE))?;
        let mut out = BytesMut::new();
        Frame::control(SEQUENCE, request.to_vec()).encode(&mut out);
        stream.write_all(&out)?;
        Ok(Self {
            stream,
            buffer: BytesMut::new(),
            decoder: Decoder::control(),
        })
    }

    /// A second handle of the socket, to end a read from another thread.
    pub(super) fn closer(&self) -> std::io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Waits for the next answer, for one slice. `Ok(None)`: nothing came.
    pub(super) fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        loop {
            let frame = self
                .decoder
                .decode(&mut self.buffer)
                .map_err(|error| std::io::Error::other(error.to_string()))?;
            if let Some(frame) = frame {
                if frame.header.kind == Kind::Control && frame.header.sequence == SEQUENCE {
                    return Ok(Some(frame.payload));
                }
                continue;
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.buffer.extend_from_slice(&chunk[..length]),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Makes one call and waits for its answer. All calls are idempotent, so one whose connection ends is made again
/// while the process at the other end is being restarted. `None` after `timeout`.
pub(super) fn call(
    py: Python<'_>,
    path: &str,
    request: &[u8],
    timeout: Option<Duration>,
) -> PyResult<Option<Bytes>> {
    let begun = Instant::now();
    let mut lost: Option<Instant> = None;
    let mut conversation: Option<Conversation> = None;
    loop {
        let step = py.detach(|| {
            if conversation.is_none() {
                conversation = Some(Conversation::open(path, request)?);
            }
            conversation.as_mut().map_or(Ok(None), Conversation::next)
        });
        match step {
            Ok(Some(answer)) => return Ok(Some(answer)),
            Ok(None) => {}
            Err(error) => {
                conversation = None;
                let since = *lost.get_or_insert_with(Instant::now);
                let gone = matches!(
                    error.kind(),
                    ErrorKind::NotFound
                        | ErrorKind::ConnectionRefused
                        | ErrorKind::PermissionDenied
                );
                if gone || since.elapsed() > RECONNECT_FOR {
                    return Err(PyConnectionError::new_err(format!(
                        "no answer from {path}: {error}"
                    )));
                }
                py.detach(|| std::thread::sleep(SLICE));
            }
        }
        py.check_signals()?;
        if timeout.is_some_and(|timeout| begun.elapsed() > timeout) {
            return Ok(None);
        }
    }
}
