//! A WebSocket whose messages are echoed: the handshake, the message, and its coming back.
//!
//! The message is made once, and compressed once; what comes back is told by its frames and not inflated. So the
//! generator costs the same whatever the server has to do.

use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    net::SocketAddr,
};

use flate2::{Compress, Compression, FlushCompress};

use crate::response::{Broken, Response};

const BINARY: u8 = 2;
const FINAL: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const MASKED: u8 = 0x80;
const OPCODE: u8 = 0x0f;

#[derive(Debug)]
pub(crate) struct WebSocket {
    path: String,
    compresses: bool,
    /// One frame, as it is sent.
    pub(crate) message: Vec<u8>,
}

impl WebSocket {
    pub(crate) fn new(path: &str, bytes: usize, compresses: bool) -> Self {
        let data = records(bytes);
        let (first, data) = if compresses {
            (FINAL | COMPRESSED | BINARY, compressed(&data))
        } else {
            (FINAL | BINARY, data)
        };
        Self {
            path: path.to_owned(),
            compresses,
            message: frame(first, &data),
        }
    }

    pub(crate) fn shake_hands(
        &self,
        address: SocketAddr,
        stream: &mut (impl Read + Write),
    ) -> io::Result<()> {
        let offer = if self.compresses {
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
        } else {
            ""
        };
        write!(
            stream,
            "GET {} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n",
            self.path
        )?;
        stream.flush()?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let is_accepted = head.starts_with("http/1.1 101 ");
        if !is_accepted || head.contains("permessage-deflate") != self.compresses {
            return Err(io::Error::other(format!("the handshake came to {head:?}")));
        }
        Ok(())
    }
}

/// Records as an application would send them: they compress to about a quarter.
fn records(bytes: usize) -> Vec<u8> {
    let (mut text, mut number) = (String::new(), 12345_u64);
    while text.len() < bytes {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (id, user, score) = (number >> 40, number % 977, (number >> 20) % 10_000);
        write!(
            text,
            "{{\"id\":{id},\"name\":\"user {user}\",\"score\":0.{score:04}}},"
        )
        .expect("a text takes anything");
    }
    text.truncate(bytes);
    text.into_bytes()
}

/// Without the end of the flush, as the protocol wants it.
fn compressed(data: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(data.len() + 1024);
    Compress::new(Compression::default(), false)
        .compress_vec(data, &mut packed, FlushCompress::Sync)
        .expect("a compressor that was just made takes anything");
    packed.truncate(packed.len() - 4);
    packed
}

/// As a client sends it. A mask of zeros is one.
fn frame(first: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match data.len() {
        length @ ..=125 => frame.push(MASKED | length as u8),
        length @ ..=0xffff => {
            frame.push(MASKED | 0x7e);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(MASKED | 0x7f);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(data);
    frame
}

/// The message at the front, when it has come whole. Anything but a message ends the connection.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Response>, Broken> {
    let mut at = 0;
    loop {
        let Some(&[first, second]) = bytes[at..].first_chunk::<2>() else {
            return Ok(None);
        };
        if first & OPCODE > BINARY || second & MASKED != 0 {
            return Err(Broken);
        }
        let (length, header) = match second {
            126 => match bytes[at + 2..].first_chunk::<2>() {
                Some(length) => (usize::from(u16::from_be_bytes(*length)), 4),
                None => return Ok(None),
            },
            127 => match bytes[at + 2..].first_chunk::<8>() {
                Some(length) => (u64::from_be_bytes(*length) as usize, 10),
                None => return Ok(None),
            },
            length => (usize::from(length), 2),
        };
        at += header + length;
        if at > bytes.len() {
            return Ok(None);
        }
        if first & FINAL != 0 {
            return Ok(Some(Response {
                status: 200,
                body_start: 0,
                length: at,
                close: false,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server sends it.
    fn bare(first: u8, length: usize) -> Vec<u8> {
        let mut frame = frame(first, &vec![0; length]);
        frame[1] &= !MASKED;
        frame.truncate(frame.len() - 4);
        frame
    }

    #[test]
    fn a_message_has_come_when_its_last_frame_has() {
        let message = [
            bare(BINARY | COMPRESSED, 10),
            bare(0, 70_000),
            bare(FINAL, 300),
        ]
        .concat();
        for length in [0, 1, 5, 12, 70_000, message.len() - 1] {
            assert!(matches!(parse(&message[..length]), Ok(None)), "{length}");
        }
        let more = [&message[..], &bare(FINAL | BINARY, 1)].concat();
        assert_eq!(parse(&more).unwrap().unwrap().length, message.len());
        assert!(parse(&bare(FINAL | 8, 2)).is_err());
    }

    #[test]
    fn records_have_their_length_and_compress() {
        for bytes in [1, 1024, 1 << 20] {
            assert_eq!(records(bytes).len(), bytes);
        }
        assert!(compressed(&records(1 << 20)).len() < 1 << 19);
    }
}
