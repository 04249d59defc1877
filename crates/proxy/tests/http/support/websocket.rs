//! A WebSocket client of raw frames, and the replica's side of one.

use eagleray_wire::{Flags, Frame, Kind, RequestHead};

use super::{Client, Connection, Proxy};

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

pub(crate) const HANDSHAKE: &str = "GET /chat?a=b HTTP/1.1\r\nhost: test\r\nconnection: keep-alive, Upgrade\r\n\
     upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

pub(crate) struct Socket {
    pub(crate) client: Client,
}

impl Socket {
    /// Asks, with these fields besides, and lets `replica` accept with those.
    pub(crate) fn open(
        proxy: &Proxy,
        replica: &mut Connection,
        fields: &str,
        answer: &[(&[u8], &[u8])],
    ) -> (Self, Frame) {
        let mut client = proxy.client();
        client.send(format!("{HANDSHAKE}{fields}\r\n"));
        let request = replica.expect(Kind::Request);
        assert!(replica.start(&request));
        let Ok((RequestHead::Http(head), body)) = RequestHead::decode(&request.payload) else {
            panic!("not http")
        };
        assert!(head.websocket && body.is_empty() && !request.header.flags.contains(Flags::END));
        replica.begin_answer(&request, 101, answer);
        let response = client.head();
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(
            response.header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        (Self { client }, request)
    }

    /// Sends a frame; `first` is its first byte.
    pub(crate) fn send(&mut self, first: u8, payload: &[u8]) {
        self.client.send(masked(first, payload));
    }

    /// The next frame: its first byte and its payload. `None`: the connection has ended.
    pub(crate) fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let head = self.client.exactly(2)?;
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let length = match head[1] {
            126 => u64::from(u16::from_be_bytes(
                self.client.exactly(2)?.try_into().unwrap(),
            )),
            127 => u64::from_be_bytes(self.client.exactly(8)?.try_into().unwrap()),
            length => u64::from(length),
        };
        let payload = self.client.exactly(usize::try_from(length).unwrap())?;
        Some((head[0], payload))
    }

    /// The code and reason of the closing frame that comes next.
    pub(crate) fn close(&mut self) -> (u16, String) {
        let (first, payload) = self.frame().expect("no closing frame came");
        assert_eq!(first, CLOSE, "{payload:?}");
        close_of(&payload)
    }
}

pub(crate) fn close_of(payload: &[u8]) -> (u16, String) {
    match payload.split_first_chunk::<2>() {
        Some((code, reason)) => (
            u16::from_be_bytes(*code),
            String::from_utf8(reason.to_vec()).unwrap(),
        ),
        None => (1005, String::new()),
    }
}

/// A frame as a client sends it.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        length @ ..=125 => frame.push(0x80 | length as u8),
        length @ ..=0xffff => {
            frame.push(0x80 | 0x7e);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 0x7f);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ mask[at % 4]),
    );
    frame
}

impl Connection {
    /// The next whole message from the client (`true`: text), or what ended it.
    pub(crate) fn message(&mut self, request: &Frame) -> Result<(bool, Vec<u8>), (u16, String)> {
        let mut data = Vec::new();
        loop {
            let frame = self.expect(Kind::Body);
            let flags = frame.header.flags;
            if flags.contains(Flags::END) {
                return Err(close_of(&frame.payload));
            }
            data.extend_from_slice(&frame.payload);
            self.send(
                request,
                Kind::Credit,
                Flags::NONE,
                flags.cost(frame.payload.len()) as u32,
                &[],
            );
            if flags.contains(Flags::END_OF_MESSAGE) {
                return Ok((flags.contains(Flags::TEXT), data));
            }
        }
    }

    pub(crate) fn send_message(&mut self, request: &Frame, is_text: bool, data: &[u8]) {
        let flags = if is_text { Flags::TEXT } else { Flags::NONE };
        self.respond(request, flags.with(Flags::END_OF_MESSAGE), data);
    }

    /// User code closes.
    pub(crate) fn close(&mut self, request: &Frame, code: u16, reason: &str) {
        let data = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
        self.respond(request, Flags::END, &data);
    }
}
