//! A replica that does what a test says: the other end of data connections, with threads and blocking sockets.

use std::{
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{
    ClaimPage, Claims, Decoder, Flags, Frame, Header, Kind, PROTOCOL_VERSION, RequestHead,
    encode_response_head, send_with_fd,
};

use super::PATIENCE;

pub(crate) struct Replica {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) max_ongoing: u32,
    connections: Receiver<Connection>,
    open: Arc<Mutex<Vec<UnixStream>>>,
    _folder: tempfile::TempDir,
}

impl Replica {
    /// A replica whose connections the test takes with [`Self::accept`].
    pub(crate) fn start(id: &str, max_ongoing: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (sender, connections) = channel();
        let open = Arc::new(Mutex::new(Vec::new()));
        let (name, list) = (id.to_owned(), Arc::clone(&open));
        std::thread::spawn(move || accept_all(&listener, &name, max_ongoing, &sender, &list));
        Self {
            id: id.to_owned(),
            path,
            max_ongoing,
            connections,
            open,
            _folder: folder,
        }
    }

    /// A replica that lets `serve` have each of its connections, on a thread of its own.
    pub(crate) fn serving(
        id: &str,
        max_ongoing: u32,
        serve: impl Fn(Connection) + Send + Sync + Clone + 'static,
    ) -> Self {
        let mut replica = Self::start(id, max_ongoing);
        let (_sender, none) = channel();
        let connections = std::mem::replace(&mut replica.connections, none);
        std::thread::spawn(move || {
            while let Ok(connection) = connections.recv() {
                let serve = serve.clone();
                std::thread::spawn(move || serve(connection));
            }
        });
        replica
    }

    pub(crate) fn accept(&self) -> Connection {
        self.connections
            .recv_timeout(PATIENCE)
            .expect("no router connected")
    }

    /// Closes every connection and takes no new one, as a dead process does.
    pub(crate) fn die(&self) {
        std::fs::remove_file(&self.path).ok();
        for stream in self.open.lock().unwrap().drain(..) {
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
    }
}

fn accept_all(
    listener: &UnixListener,
    id: &str,
    max_ongoing: u32,
    sender: &Sender<Connection>,
    open: &Mutex<Vec<UnixStream>>,
) {
    while let Ok((stream, _)) = listener.accept() {
        open.lock().unwrap().push(stream.try_clone().unwrap());
        if let Some(connection) = Connection::begin(stream, id, max_ongoing)
            && sender.send(connection).is_err()
        {
            return;
        }
    }
}

/// The replica's end of one connection.
pub(crate) struct Connection {
    pub(crate) stream: UnixStream,
    pub(crate) page: ClaimPage,
    buffer: BytesMut,
}

impl Connection {
    fn begin(stream: UnixStream, id: &str, max_ongoing: u32) -> Option<Self> {
        let slots = (2 * max_ongoing).max(64);
        let (page, fd) = ClaimPage::create(slots).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut connection = Self {
            stream,
            page,
            buffer: BytesMut::new(),
        };
        assert_eq!(connection.try_frame()?.header.kind, Kind::Hello);
        let mut header = Header::new(Kind::Hello, 0, 0);
        (header.a, header.b, header.c) = (PROTOCOL_VERSION, slots, max_ongoing);
        let mut hello = BytesMut::new();
        Frame::new(header, Bytes::copy_from_slice(id.as_bytes())).encode(&mut hello);
        send_with_fd(&connection.stream, &hello, fd.as_fd()).unwrap();
        Some(connection)
    }

    /// The next frame; `None` at the end.
    pub(crate) fn try_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Decoder::data().decode(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.buffer.extend_from_slice(&chunk[..length]),
            }
        }
    }

    /// The next frame of a kind; others before it are passed over.
    pub(crate) fn expect(&mut self, kind: Kind) -> Frame {
        loop {
            let frame = self
                .try_frame()
                .unwrap_or_else(|| panic!("no {kind:?} frame came"));
            if frame.header.kind == kind {
                return frame;
            }
        }
    }

    /// Claims a request, as the thread does that calls user code.
    pub(crate) fn start(&self, request: &Frame) -> bool {
        self.page
            .start(request.header.slot, request.header.sequence)
    }

    pub(crate) fn send(
        &mut self,
        request: &Frame,
        kind: Kind,
        flags: Flags,
        a: u32,
        payload: &[u8],
    ) {
        let mut header = Header::new(kind, request.header.slot, request.header.sequence);
        header.flags = flags;
        header.a = a;
        header.c = 1000;
        let mut out = BytesMut::new();
        Frame::new(header, Bytes::copy_from_slice(payload)).encode(&mut out);
        // A proxy that is gone is for the test to notice.
        self.stream.write_all(&out).ok();
    }

    pub(crate) fn respond(&mut self, request: &Frame, flags: Flags, data: &[u8]) {
        self.send(request, Kind::Response, flags, 0, data);
    }

    /// Several frames in one write, so that they are read together.
    pub(crate) fn respond_at_once(&mut self, request: &Frame, parts: &[(Flags, &[u8])]) {
        let mut out = BytesMut::new();
        for (flags, data) in parts {
            let header = &request.header;
            let mut header = Header::new(Kind::Response, header.slot, header.sequence);
            header.flags = *flags;
            header.c = 1000;
            Frame::new(header, Bytes::copy_from_slice(data)).encode(&mut out);
        }
        self.stream.write_all(&out).ok();
    }

    /// A whole answer in one frame.
    pub(crate) fn answer(
        &mut self,
        request: &Frame,
        status: u16,
        headers: &[(&[u8], &[u8])],
        body: &[u8],
    ) {
        self.answer_with(request, Flags::NONE, status, headers, body);
    }

    /// The same, with flags that go along.
    pub(crate) fn answer_with(
        &mut self,
        request: &Frame,
        flags: Flags,
        status: u16,
        headers: &[(&[u8], &[u8])],
        body: &[u8],
    ) {
        let mut payload = BytesMut::new();
        encode_response_head(&mut payload, status, headers.iter().copied()).unwrap();
        payload.extend_from_slice(body);
        let whole = Flags::HEAD.with(Flags::END).with(Flags::DONE);
        self.respond(request, whole.with(flags), &payload);
    }

    /// A head, with more to come.
    pub(crate) fn begin_answer(
        &mut self,
        request: &Frame,
        status: u16,
        headers: &[(&[u8], &[u8])],
    ) {
        let mut payload = BytesMut::new();
        encode_response_head(&mut payload, status, headers.iter().copied()).unwrap();
        self.respond(request, Flags::HEAD, &payload);
    }

    /// A long answer, with no more data than there is credit for.
    pub(crate) fn answer_long(&mut self, request: &Frame, data: &[u8]) {
        self.begin_answer(request, 200, &[]);
        self.continue_long(request, data);
    }

    /// The rest of an answer that has begun, under the credit that comes.
    pub(crate) fn continue_long(&mut self, request: &Frame, data: &[u8]) {
        let mut credit = 64 * 1024;
        for chunk in data.chunks(50_000) {
            while credit < chunk.len() {
                credit += self.expect(Kind::Credit).header.a as usize;
            }
            credit -= chunk.len();
            self.respond(request, Flags::NONE, chunk);
        }
        self.respond(request, Flags::END.with(Flags::DONE), b"");
    }

    /// The whole body of a request, with credit as it is needed.
    pub(crate) fn body(&mut self, request: &Frame) -> Vec<u8> {
        let mut body = RequestHead::decode(&request.payload).unwrap().1.to_vec();
        let mut over = request.header.flags.contains(Flags::END);
        while !over {
            self.send(request, Kind::Credit, Flags::NONE, 64 * 1024, &[]);
            let frame = self.expect(Kind::Body);
            body.extend_from_slice(&frame.payload);
            over = frame.header.flags.contains(Flags::END);
        }
        body
    }
}

/// Serves a connection: every request that can be claimed is answered by its method, path and body.
pub(crate) fn answer_all(mut connection: Connection) {
    while let Some(frame) = connection.try_frame() {
        if frame.header.kind != Kind::Request || !connection.start(&frame) {
            continue;
        }
        let body = connection.body(&frame);
        let Ok((RequestHead::Http(head), _)) = RequestHead::decode(&frame.payload) else {
            panic!("not http")
        };
        let mut text = [
            head.method,
            b" ",
            head.path,
            b"?",
            head.query,
            b" ",
            head.root_path,
            b" ",
        ]
        .concat();
        text.extend_from_slice(&body);
        connection.answer(&frame, 200, &[(b"content-type", b"text/plain")], &text);
    }
}
