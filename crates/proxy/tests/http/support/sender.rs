//! A client of HTTP/2 that keeps to the windows it is given, and can say how wide they are.

use std::{collections::HashMap, net::SocketAddr};

use super::raw::{self, Raw, RawFrame};

pub(crate) struct Sender {
    pub(crate) raw: Raw,
    /// What all streams together may send.
    pub(crate) room: i64,
    /// Of a new stream.
    initial: i64,
    streams: HashMap<u32, i64>,
    /// Frames that came for streams, but windows.
    pub(crate) seen: Vec<RawFrame>,
    /// Bytes sent.
    pub(crate) sent: i64,
    pings: u64,
}

impl Sender {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::with_settings(address, &[])
    }

    pub(crate) fn with_settings(address: SocketAddr, values: &[(u16, u32)]) -> Self {
        let mut raw = Raw::bare(address);
        raw.bytes(raw::PREFACE);
        raw.frame(raw::SETTINGS, 0, 0, &raw::settings(values));
        let mut sender = Self {
            raw,
            room: 65_535,
            initial: 65_535,
            streams: HashMap::new(),
            seen: Vec::new(),
            sent: 0,
            pings: 0,
        };
        sender.hear();
        sender
    }

    /// Takes in all that the proxy has said until now.
    pub(crate) fn hear(&mut self) {
        self.pings += 1;
        let ping = self.pings.to_be_bytes();
        self.raw.frame(raw::PING, 0, 0, &ping);
        loop {
            let frame = self.next();
            if frame.kind == raw::PING && frame.payload == ping {
                return;
            }
        }
    }

    /// The next frame, which is taken in.
    pub(crate) fn next(&mut self) -> RawFrame {
        let frame = self.raw.next().expect("the proxy closed the connection");
        match frame.kind {
            raw::GOAWAY => panic!("the proxy ended the connection: {frame:?}"),
            raw::SETTINGS if frame.flags & raw::ACK == 0 => {
                for setting in frame.payload.chunks(6) {
                    if setting[..2] == [0, 4] {
                        let initial = u32::from_be_bytes(setting[2..].try_into().unwrap()).into();
                        let more = initial - self.initial;
                        self.streams.values_mut().for_each(|room| *room += more);
                        self.initial = initial;
                    }
                }
                self.raw.frame(raw::SETTINGS, raw::ACK, 0, &[]);
            }
            raw::WINDOW_UPDATE => {
                let more = i64::from(u32::from_be_bytes(
                    frame.payload.clone().try_into().unwrap(),
                ));
                match frame.stream {
                    0 => self.room += more,
                    stream => *self.streams.entry(stream).or_insert(self.initial) += more,
                }
            }
            raw::HEADERS | raw::DATA | raw::RST_STREAM => self.seen.push(frame.clone()),
            _ => {}
        }
        frame
    }

    /// What a stream may send now.
    pub(crate) fn room_of(&mut self, stream: u32) -> usize {
        let initial = self.initial;
        let of_stream = *self.streams.entry(stream).or_insert(initial);
        usize::try_from(of_stream.min(self.room)).unwrap_or(0)
    }

    /// One frame of as much as may go; how much that was.
    pub(crate) fn send(&mut self, stream: u32, bytes: &[u8], is_last: bool) -> usize {
        let length = self.room_of(stream).min(16_384).min(bytes.len());
        let ends = is_last && length == bytes.len();
        if length > 0 || ends {
            self.raw
                .frame(raw::DATA, u8::from(ends), stream, &bytes[..length]);
            self.room -= length.cast_signed() as i64;
            self.sent += length.cast_signed() as i64;
            *self.streams.get_mut(&stream).unwrap() -= length.cast_signed() as i64;
        }
        length
    }

    /// The whole body, as windows open, or until the stream is reset.
    pub(crate) fn send_all(&mut self, stream: u32, mut bytes: &[u8]) {
        while !self.is_reset(stream) {
            let sent = self.send(stream, bytes, true);
            bytes = &bytes[sent..];
            if bytes.is_empty() {
                return;
            }
            if sent == 0 {
                self.next();
            }
        }
    }

    pub(crate) fn is_reset(&self, stream: u32) -> bool {
        self.seen
            .iter()
            .any(|frame| frame.stream == stream && frame.kind == raw::RST_STREAM)
    }

    /// Sends until nothing more may go and the proxy says no more of it.
    pub(crate) fn fill(&mut self, stream: u32) {
        let bytes = [b'x'; 16_384];
        loop {
            while self.send(stream, &bytes, false) > 0 {}
            self.hear();
            if self.room_of(stream) == 0 {
                return;
            }
        }
    }
}
