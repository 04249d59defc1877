//! One keep-alive connection: a request out, a response in, and again.

use std::{
    io::{self, Read, Write},
    time::Instant,
};

use crate::{
    response::{Broken, Response},
    stream::{Dial, Stream},
};

/// Longest response that is followed.
const MAX_RESPONSE: usize = 64 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    parse: fn(&[u8]) -> Result<Option<Response>, Broken>,
    buffer: Vec<u8>,
    filled: usize,
    /// Bytes of the request that are written.
    written: usize,
    pub(crate) sent_at: Instant,
}

/// What a readable connection came to.
#[derive(Debug)]
pub(crate) enum Progress {
    /// More must arrive.
    Waiting,
    /// A whole response; its body is `Connection::body`.
    Answered(Response),
    /// The connection is of no use any more, in the middle of a response.
    Failed,
}

impl Connection {
    pub(crate) fn open(dial: &Dial) -> io::Result<Self> {
        Ok(Self {
            stream: dial.connect()?,
            parse: dial.parser(),
            buffer: vec![0; 16 * 1024],
            filled: 0,
            written: 0,
            sent_at: Instant::now(),
        })
    }

    /// Begins the next request. `Ok(false)`: the socket is full, [`Self::resume`] when it is writable.
    pub(crate) fn send(&mut self, request: &[u8], now: Instant) -> io::Result<bool> {
        self.sent_at = now;
        self.written = 0;
        self.resume(request)
    }

    pub(crate) fn resume(&mut self, request: &[u8]) -> io::Result<bool> {
        while self.written < request.len() {
            match self.stream.write(&request[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match self.stream.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            flushed => flushed.map(|()| true),
        }
    }

    pub(crate) fn receive(&mut self) -> Progress {
        loop {
            if self.filled == self.buffer.len() {
                if self.filled >= MAX_RESPONSE {
                    return Progress::Failed;
                }
                self.buffer.resize(self.filled * 2, 0);
            }
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Progress::Failed,
                Ok(bytes) => self.filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Progress::Waiting;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Progress::Failed,
            }
            let full = self.filled == self.buffer.len();
            match (self.parse)(&self.buffer[..self.filled]) {
                Ok(Some(response)) => return Progress::Answered(response),
                // A read that left room has taken all there is: epoll tells of more.
                Ok(None) if full => {}
                Ok(None) => return Progress::Waiting,
                Err(Broken) => return Progress::Failed,
            }
        }
    }

    pub(crate) fn body(&self, response: &Response) -> &[u8] {
        &self.buffer[response.body_start..response.length]
    }

    /// Drops the response from the buffer. Bytes after it would be an answer to a request never sent.
    pub(crate) fn consume(&mut self, response: &Response) -> Result<(), Broken> {
        let rest = self.filled - response.length;
        self.filled = 0;
        if rest == 0 { Ok(()) } else { Err(Broken) }
    }
}
