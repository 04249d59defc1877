//! The replica of the WebSocket target: it accepts whatever comes and sends back each message as it is.

use std::{
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{
    ClaimPage, Claims, Decoder, Flags, Frame, Header, Kind, PROTOCOL_VERSION, encode_response_head,
    send_with_fd,
};

const SLOTS: u32 = 64;
const ID: &[u8] = b"echo";

/// Serves the one router that connects, on a thread of its own. Returns the path to connect to.
pub(super) fn start() -> PathBuf {
    let name = format!("eagleray-fuzz-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&path).expect("a socket in the temporary folder");
    let bound = path.clone();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the proxy connects");
        std::fs::remove_file(bound).ok();
        serve(stream);
    });
    path
}

fn serve(stream: UnixStream) {
    let (page, descriptor) = ClaimPage::create(SLOTS).expect("a claim page");
    let mut connection = Connection {
        stream,
        input: BytesMut::new(),
    };
    connection.next().expect("HELLO comes first");
    let mut hello = Header::new(Kind::Hello, 0, 0);
    (hello.a, hello.b, hello.c) = (PROTOCOL_VERSION, SLOTS, SLOTS / 2);
    let mut bytes = BytesMut::new();
    Frame::new(hello, Bytes::from_static(ID)).encode(&mut bytes);
    send_with_fd(&connection.stream, &bytes, descriptor.as_fd()).expect("a new socket takes it");
    let mut accepted = BytesMut::new();
    encode_response_head(&mut accepted, 101, []).expect("a short head");
    while let Some(frame) = connection.next() {
        let header = frame.header;
        let end = Flags::END.with(Flags::DONE);
        match header.kind {
            Kind::Request if page.start(header.slot, header.sequence) => {
                connection.send(&header, Kind::Response, Flags::HEAD, 0, &accepted);
                connection.send(&header, Kind::Credit, Flags::NONE, u32::MAX / 2, &[]);
            }
            Kind::Body if !header.flags.contains(Flags::END) => {
                let flags = header.flags;
                connection.send(&header, Kind::Response, flags, 0, &frame.payload);
            }
            Kind::Cancel => connection.send(&header, Kind::Response, end, 0, &[]),
            _ => {}
        }
    }
}

struct Connection {
    stream: UnixStream,
    input: BytesMut,
}

impl Connection {
    fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Decoder::data()
                .decode(&mut self.input)
                .expect("the proxy sends frames")
            {
                return Some(frame);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.input.extend_from_slice(&chunk[..length]),
            }
        }
    }

    fn send(&mut self, about: &Header, kind: Kind, flags: Flags, a: u32, payload: &[u8]) {
        let mut header = Header::new(kind, about.slot, about.sequence);
        (header.flags, header.a, header.c) = (flags, a, SLOTS / 2);
        let mut bytes = BytesMut::new();
        Frame::new(header, Bytes::copy_from_slice(payload)).encode(&mut bytes);
        self.stream.write_all(&bytes).ok();
    }
}
