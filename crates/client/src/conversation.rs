//! One control call: connect, one CONTROL frame out, the answer with the same sequence number back.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{Decoder, Frame, Kind, check_peer};

/// How long a wait lasts before signals are looked at.
pub const SLICE: Duration = Duration::from_millis(100);
/// A controller that ends is started again by its node within this time.
const RECONNECT_FOR: Duration = Duration::from_secs(15);
const SEQUENCE: u64 = 1;

/// A connection that has one call on it, or one stream of answers.
#[derive(Debug)]
pub struct Conversation {
    stream: UnixStream,
    buffer: BytesMut,
    decoder: Decoder,
}

impl Conversation {
    /// Connects and sends.
    pub fn open(path: &str, request: &[u8]) -> std::io::Result<Self> {
        let mut stream = UnixStream::connect(path)?;
        check_peer(&stream)?;
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
    pub fn closer(&self) -> std::io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Waits for the next answer, for one slice. `Ok(None)`: nothing came.
    pub fn read(&mut self) -> std::io::Result<Option<Bytes>> {
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

/// One call and the wait for its answer. All calls are idempotent, so one whose connection ends is made again while the
/// process at the other end is being restarted.
#[derive(Debug)]
pub struct Asking<'a> {
    path: &'a str,
    request: &'a [u8],
    conversation: Option<Conversation>,
    /// Since when there is no connection.
    lost: Option<Instant>,
}

impl<'a> Asking<'a> {
    pub const fn new(path: &'a str, request: &'a [u8]) -> Self {
        Self {
            path,
            request,
            conversation: None,
            lost: None,
        }
    }

    /// Waits for the answer for about one [`SLICE`]; `None`: it has not come yet. After `Some` or an error it is over.
    ///
    /// # Errors
    /// Nobody listens there, or the connection broke and was not to be had again.
    pub fn step(&mut self) -> std::io::Result<Option<Bytes>> {
        let conversation = match self.conversation.take() {
            Some(conversation) => Ok(conversation),
            None => Conversation::open(self.path, self.request),
        };
        let step = conversation.and_then(|mut conversation| {
            let answer = conversation.read()?;
            self.conversation = Some(conversation);
            Ok(answer)
        });
        let Err(error) = step else { return step };
        let since = *self.lost.get_or_insert_with(Instant::now);
        let gone = matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied
        );
        if gone || since.elapsed() > RECONNECT_FOR {
            return Err(error);
        }
        std::thread::sleep(SLICE);
        Ok(None)
    }
}
