//! A client of HTTP/2 that sends any frame it likes, right or wrong, and sees every frame that comes.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::PATIENCE;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// The pseudo-fields of a plain request.
pub(crate) const GET: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "test"),
];
pub(crate) const POST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "test"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl RawFrame {
    pub(crate) fn is_end(&self) -> bool {
        self.flags & END_STREAM != 0
    }

    /// The error code of `RST_STREAM` or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status in a HEADERS frame that is the first on its connection to have one that is not in HPACK's table.
    pub(crate) fn status(&self) -> u16 {
        // New sizes of the table come first.
        let sizes = self.payload.iter().take_while(|byte| **byte >> 5 == 1);
        match self.payload[sizes.count()..] {
            // Indexed: 200, 204, 206, 304, 400, 404, 500.
            [index @ 0x88..=0x8e, ..] => {
                [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)]
            }
            // Literal, with the name at index 8.
            [0x48 | 0x08 | 0x18, length, ref rest @ ..] => {
                let value = &rest[..usize::from(length & 0x7f)];
                let digits = if length & 0x80 == 0 {
                    String::from_utf8(value.to_vec()).unwrap()
                } else {
                    huffman_digits(value)
                };
                digits.parse().unwrap()
            }
            _ => panic!(
                "a status in a form that is not known here: {:x?}",
                self.payload
            ),
        }
    }
}

/// Digits in HPACK's Huffman code: 0 to 2 have five bits, 3 to 9 six.
fn huffman_digits(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
        .collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |all, bit| all << 1 | bit);
    let (mut text, mut rest) = (String::new(), &bits[..]);
    while text.len() < 3 {
        let short = number(&rest[..5]);
        let (digit, length) = if short <= 2 {
            (short, 5)
        } else {
            (number(&rest[..6]) - 0b01_1001 + 3, 6)
        };
        text.push(char::from(b'0' + digit));
        rest = &rest[length..];
    }
    text
}

/// A frame as bytes, its length as it is.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals that are neither indexed nor compressed, whatever is in them.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        string(&mut bytes, name.as_bytes());
        string(&mut bytes, value.as_bytes());
    }
    bytes
}

pub(crate) fn string(bytes: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        bytes.push(length as u8);
    } else {
        bytes.push(127);
        length -= 127;
        while length >= 128 {
            bytes.push(length as u8 | 128);
            length >>= 7;
        }
        bytes.push(length as u8);
    }
    bytes.extend(text);
}

/// The payload of SETTINGS.
pub(crate) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, value) in values {
        bytes.extend(id.to_be_bytes());
        bytes.extend(value.to_be_bytes());
    }
    bytes
}

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    /// A connection on which nothing was sent.
    pub(crate) fn bare(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// A connection whose settings are exchanged.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::with_settings(address, &[])
    }

    pub(crate) fn with_settings(address: SocketAddr, values: &[(u16, u32)]) -> Self {
        let mut raw = Self::bare(address);
        raw.bytes(PREFACE);
        raw.frame(SETTINGS, 0, 0, &settings(values));
        raw.expect(SETTINGS);
        raw.frame(SETTINGS, ACK, 0, &[]);
        raw.expect(SETTINGS);
        raw
    }

    /// Another end of the same connection, to read on another thread.
    pub(crate) fn reader(&self) -> Self {
        Self {
            stream: self.stream.try_clone().unwrap(),
            buffer: self.buffer.clone(),
        }
    }

    /// Sends bytes. A connection that the proxy has closed is for what reads to notice.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.bytes(&frame(kind, flags, stream, payload))
    }

    /// A whole head; `flags` beside `END_HEADERS`.
    pub(crate) fn head(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) -> bool {
        self.frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
    }

    /// A request without a body.
    pub(crate) fn get(&mut self, stream: u32) -> bool {
        self.head(stream, END_STREAM, GET)
    }

    pub(crate) fn window(&mut self, stream: u32, more: u32) -> bool {
        self.frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
    }

    /// The next frame; `None` when the connection is closed.
    pub(crate) fn next(&mut self) -> Option<RawFrame> {
        loop {
            if let [high, middle, low, kind, flags, a, b, c, d, rest @ ..] = &self.buffer[..] {
                let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
                if rest.len() >= length {
                    let frame = RawFrame {
                        kind: *kind,
                        flags: *flags,
                        stream: u32::from_be_bytes([*a, *b, *c, *d]),
                        payload: rest[..length].to_vec(),
                    };
                    self.buffer.drain(..9 + length);
                    return Some(frame);
                }
            }
            let mut chunk = vec![0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(length) => self.buffer.extend(&chunk[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came for {PATIENCE:?}: {error}"),
            }
        }
    }

    /// The next frame of a kind; others before it are passed over.
    pub(crate) fn expect(&mut self, kind: u8) -> RawFrame {
        loop {
            let frame = self
                .next()
                .unwrap_or_else(|| panic!("closed before a frame of kind {kind}"));
            if frame.kind == kind {
                return frame;
            }
            assert_ne!(
                frame.kind, GOAWAY,
                "the proxy ended the connection: {frame:?}"
            );
        }
    }

    /// The next frame of a stream, of a kind.
    pub(crate) fn expect_on(&mut self, stream: u32, kind: u8) -> RawFrame {
        loop {
            let frame = self.expect(kind);
            if frame.stream == stream {
                return frame;
            }
        }
    }

    /// Status and body of a stream's answer.
    pub(crate) fn answer(&mut self, stream: u32) -> (u16, Vec<u8>) {
        let head = self.expect_on(stream, HEADERS);
        let (status, mut body, mut over) = (head.status(), Vec::new(), head.is_end());
        while !over {
            let data = self.expect_on(stream, DATA);
            body.extend(&data.payload);
            over = data.is_end();
            if !data.payload.is_empty() {
                self.window(0, data.payload.len() as u32);
            }
        }
        (status, body)
    }

    /// The code of the next GOAWAY.
    pub(crate) fn expect_goaway(&mut self) -> u32 {
        loop {
            let frame = self.next().expect("closed without a GOAWAY");
            if frame.kind == GOAWAY {
                return frame.code();
            }
        }
    }

    /// Reads to the end of the connection: the code of the last GOAWAY, and whether a stream was answered before.
    pub(crate) fn goodbye_after(&mut self, stream: u32) -> (Option<u32>, bool) {
        let (mut code, mut answered) = (None, false);
        while let Some(frame) = self.next() {
            match frame.kind {
                GOAWAY => code = Some(frame.code()),
                DATA | HEADERS if frame.stream == stream => answered |= frame.is_end(),
                _ => {}
            }
        }
        (code, answered)
    }

    /// Reads bytes that are no frames, to the end of the connection.
    pub(crate) fn close_whatever_comes(&mut self) {
        let mut ignored = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut ignored) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }

    /// Reads to the end of the connection; the code of the last GOAWAY.
    pub(crate) fn goodbye(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                code = Some(frame.code());
            }
        }
        code
    }
}
