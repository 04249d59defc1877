//! A frame that is longer than what is read at once: it is received into memory of its own, each byte once.
//!
//! Who keeps its data keeps no more than the frame, and the bytes are not cleared before they come. What is received with it is at most
//! the header of the next, so that one long frame after another takes one system call each.

use std::os::fd::AsFd;

use bytes::{Bytes, BytesMut};
use rustix::{
    buffer::spare_capacity,
    io::{Errno, Result},
    net::{RecvFlags, recv},
};

use crate::{Decoder, HEADER_BYTES};

/// A shorter frame may share the memory that others came in.
const LONG_FRAME: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub struct LongFrame {
    bytes: Vec<u8>,
    length: usize,
}

impl LongFrame {
    /// The frame that has begun in `buffer`, which is empty afterwards. `None`: it is short, or whole, or its header is not.
    ///
    /// To be asked after [`Decoder::decode`] found no more.
    pub fn begin(decoder: Decoder, buffer: &mut BytesMut) -> Option<Self> {
        let length = decoder
            .incomplete(buffer)
            .filter(|length| *length > LONG_FRAME && *length > buffer.len())?;
        let mut bytes = Vec::with_capacity(length + HEADER_BYTES);
        bytes.extend_from_slice(buffer);
        buffer.clear();
        Some(Self { bytes, length })
    }

    pub fn is_whole(&self) -> bool {
        self.bytes.len() >= self.length
    }

    /// Whether there was more to come at once than was asked for: the next call may find more.
    pub fn is_full(&self) -> bool {
        self.bytes.len() == self.bytes.capacity()
    }

    /// Receives what has come of it; 0: nothing will come any more.
    ///
    /// # Errors
    /// As `recv(2)`; of a nonblocking socket `AGAIN`: nothing has come.
    pub fn receive(&mut self, socket: impl AsFd, flags: RecvFlags) -> Result<usize> {
        debug_assert!(!self.is_full(), "a whole frame is taken, not received on");
        if self.is_full() {
            // Nothing can be received into no room, which would look like the end.
            return Err(Errno::AGAIN);
        }
        recv(socket, spare_capacity(&mut self.bytes), flags).map(|(length, _)| length)
    }

    /// What came, for [`Decoder::decode`].
    pub fn into_bytes(self) -> BytesMut {
        Bytes::from(self.bytes)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixStream};

    use super::*;
    use crate::{Frame, Header, Kind};

    fn frame(sequence: u64, length: usize) -> Frame {
        let data: Vec<u8> = (0..length).map(|at| (at * 31 / 7) as u8).collect();
        Frame::new(Header::new(Kind::Body, 1, sequence), data.into())
    }

    /// Reads all frames of a stream, the first bytes in short reads.
    fn read(socket: &UnixStream, first: usize) -> Vec<Frame> {
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        loop {
            while let Some(frame) = Decoder::data().decode(&mut buffer).unwrap() {
                frames.push(frame);
            }
            if let Some(mut long) = LongFrame::begin(Decoder::data(), &mut buffer) {
                while !long.is_whole() {
                    assert!(long.receive(socket, RecvFlags::empty()).unwrap() > 0);
                }
                buffer = long.into_bytes();
                continue;
            }
            let mut bytes = vec![0; first];
            match recv(socket, &mut bytes[..], RecvFlags::empty()).unwrap() {
                (0, _) => return frames,
                (length, _) => buffer.extend_from_slice(&bytes[..length]),
            }
        }
    }

    #[test]
    fn frames_of_all_lengths_come_whole_and_in_order() {
        for first in [1, 31, 8 * 1024, 100 * 1024] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let lengths = [
                0,
                5,
                16 * 1024,
                64 * 1024,
                64 * 1024,
                3,
                256 * 1024,
                17_000,
                0,
            ];
            let sent: Vec<_> = (1..)
                .zip(lengths)
                .map(|(at, length)| frame(at, length))
                .collect();
            let writing = {
                let sent = sent.clone();
                std::thread::spawn(move || {
                    let mut out = BytesMut::new();
                    for frame in &sent {
                        frame.encode(&mut out);
                    }
                    for piece in out.chunks(10_007) {
                        ours.write_all(piece).unwrap();
                    }
                })
            };
            assert!(read(&theirs, first) == sent);
            writing.join().unwrap();
        }
    }

    #[test]
    fn no_more_than_the_next_header_is_received_with_it() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut out = BytesMut::new();
        frame(1, 20_000).encode(&mut out);
        frame(2, 20_000).encode(&mut out);
        ours.write_all(&out).unwrap();
        let mut buffer = BytesMut::from(&out[..HEADER_BYTES]);
        recv(&theirs, &mut vec![0; HEADER_BYTES][..], RecvFlags::empty()).unwrap();
        let mut long = LongFrame::begin(Decoder::data(), &mut buffer).unwrap();
        assert!(buffer.is_empty());
        while !long.is_whole() {
            long.receive(&theirs, RecvFlags::empty()).unwrap();
        }
        let mut bytes = long.into_bytes();
        assert_eq!(
            Decoder::data().decode(&mut bytes).unwrap(),
            Some(frame(1, 20_000))
        );
        assert!(bytes.len() <= HEADER_BYTES);
    }
}
