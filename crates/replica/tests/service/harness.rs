//! A replica whose user code is the test, and routers that the test drives frame by frame.

use std::{
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use eagleray_replica::{Ended, Event, Handle, Handler, Request, Serving, build};
use eagleray_wire::{
    Attachments, CallHead, ClaimPage, Claims, Decoder, Flags, Frame, HEADER_BYTES, Header, Headers,
    HttpHead, Kind, NO_DEADLINE, PROTOCOL_VERSION, RequestHead, SlotState, recv_with_fds,
    region::{Channel, Named},
};

/// No wait of a test is longer: then it fails.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

struct Outside(Sender<()>);

impl Handler for Outside {
    fn wake(&self) {
        self.0.send(()).ok();
    }

    fn stacks(&self) -> String {
        "here".into()
    }
}

pub(crate) struct Replica {
    pub(crate) handle: Handle,
    pub(crate) control: UnixStream,
    path: std::path::PathBuf,
    thread: Option<JoinHandle<Ended>>,
    wakes: Receiver<()>,
    _folder: tempfile::TempDir,
}

impl Replica {
    pub(crate) fn start(limit: u32) -> Self {
        Self::serving(Serving {
            max_ongoing_requests: limit,
            ..serving()
        })
    }

    pub(crate) fn serving(serving: Serving) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replica.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (control, theirs) = UnixStream::pair().unwrap();
        let (sender, wakes) = channel();
        let (handle, service) = build(
            OwnedFd::from(theirs),
            OwnedFd::from(listener),
            Box::new(Outside(sender)),
        )
        .unwrap();
        let thread = std::thread::spawn(move || service.run().unwrap());
        handle.serve(serving);
        Self {
            handle,
            control,
            path,
            thread: Some(thread),
            wakes,
            _folder: folder,
        }
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream
    }

    pub(crate) fn router(&self) -> Router {
        Router::new(self.connect(), false, false)
    }

    /// A router that reads routes.
    pub(crate) fn reader_of_routes(&self) -> Router {
        Router::new(self.connect(), false, true)
    }

    /// A router that wants a channel for regions.
    pub(crate) fn caller(&self) -> Router {
        Router::new(self.connect(), true, false)
    }

    /// The next request for the loop.
    pub(crate) fn request(&self) -> Arc<Request> {
        loop {
            if let Some(request) = self.handle.next_request() {
                return request;
            }
            self.rest();
        }
    }

    pub(crate) fn event(&self) -> Event {
        loop {
            if let Some(event) = self.handle.next_event() {
                return event;
            }
            self.rest();
        }
    }

    /// The loop looks at its queues.
    fn rest(&self) {
        self.handle.turned();
        if !self.handle.rest() {
            self.wakes
                .recv_timeout(BOUND)
                .expect("something for the loop");
        }
    }

    pub(crate) fn ended(&mut self) -> Ended {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

pub(crate) fn serving() -> Serving {
    Serving {
        replica_id: "abc".into(),
        max_ongoing_requests: 10,
        max_body_bytes: 1 << 20,
        sync_http: false,
        sync_methods: vec!["sync".into()],
        websockets: true,
        metrics: None,
    }
}

pub(crate) struct Router {
    pub(crate) stream: UnixStream,
    pub(crate) page: ClaimPage,
    pub(crate) channel: Option<Channel>,
    pub(crate) hello: Header,
    input: BytesMut,
    sequence: u64,
}

/// What names a request on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) slot: u32,
    pub(crate) sequence: u64,
}

impl Router {
    fn new(stream: UnixStream, regions: bool, routes: bool) -> Self {
        let mut header = Header::new(Kind::Hello, 0, 0);
        header.a = PROTOCOL_VERSION;
        header.b = u32::from(regions);
        header.c = u32::from(routes);
        write(&stream, header, &[]);
        let mut bytes = [0; HEADER_BYTES + 3];
        let (length, descriptors) = recv_with_fds(&stream, &mut bytes).unwrap();
        assert_eq!(length, bytes.len());
        let mut descriptors = descriptors.into_iter();
        let mut input = BytesMut::from(&bytes[..]);
        let hello = Decoder::data().decode(&mut input).unwrap().unwrap();
        assert_eq!(&hello.payload[..], b"abc");
        let page = ClaimPage::open(descriptors.next().unwrap().as_fd(), hello.header.b).unwrap();
        Self {
            stream,
            page,
            channel: descriptors
                .next()
                .map(|descriptor| Channel::new(descriptor).unwrap()),
            hello: hello.header,
            input,
            sequence: 0,
        }
    }

    pub(crate) fn http(&mut self, flags: Flags, body: &[u8]) -> Name {
        let mut payload = http_head();
        payload.extend_from_slice(body);
        self.send_request(flags, &payload)
    }

    /// A request whose answer has no body.
    pub(crate) fn head(&mut self) -> Name {
        let payload = head_of(false, b"HEAD");
        self.send_request(Flags::END, &payload)
    }

    /// A request for a WebSocket.
    pub(crate) fn websocket(&mut self) -> Name {
        let payload = head_of(true, b"POST");
        self.send_request(Flags::NONE, &payload)
    }

    pub(crate) fn get(&mut self) -> Name {
        self.http(Flags::END, &[])
    }

    pub(crate) fn call(&mut self, method: &str, flags: Flags, body: &[u8]) -> Name {
        self.call_with(method, flags, body, &[])
    }

    /// A call whose head names these attachments.
    pub(crate) fn call_with(
        &mut self,
        method: &str,
        flags: Flags,
        body: &[u8],
        named: &[Named],
    ) -> Name {
        let mut table = BytesMut::new();
        let head = CallHead {
            request_id: b"id",
            traceparent: b"",
            priority: 0,
            method: method.as_bytes(),
            multiplexed_model_id: b"",
            session_id: b"",
            stream: false,
            route: b"",
            attachments: Attachments::build(&mut table, named.iter().copied()).unwrap(),
        };
        let mut payload = BytesMut::new();
        RequestHead::Call(head).encode(&mut payload).unwrap();
        payload.extend_from_slice(body);
        self.send_request(flags, &payload)
    }

    pub(crate) fn send_request(&mut self, flags: Flags, payload: &[u8]) -> Name {
        self.sequence += 1;
        let name = Name {
            slot: (self.sequence % u64::from(self.page.slots())) as u32,
            sequence: self.sequence,
        };
        self.page.queue(name.slot, name.sequence);
        let mut header = Header::new(Kind::Request, name.slot, name.sequence);
        header.flags = flags;
        header.c = NO_DEADLINE;
        write(&self.stream, header, payload);
        name
    }

    pub(crate) fn send(&self, kind: Kind, name: Name, flags: Flags, a: u32, payload: &[u8]) {
        let mut header = Header::new(kind, name.slot, name.sequence);
        header.flags = flags;
        header.a = a;
        write(&self.stream, header, payload);
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Decoder::data().decode(&mut self.input).unwrap() {
                return Some(frame);
            }
            let mut bytes = vec![0; 65536];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(length) => self.input.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no frame came: {error}"),
            }
        }
    }

    /// The next frame if there is one.
    pub(crate) fn try_read(&mut self) -> Option<Frame> {
        let mut bytes = vec![0; 65536];
        self.stream.set_nonblocking(true).unwrap();
        if let Ok(length) = self.stream.read(&mut bytes) {
            self.input.extend_from_slice(&bytes[..length]);
        }
        self.stream.set_nonblocking(false).unwrap();
        Decoder::data().decode(&mut self.input).unwrap()
    }

    pub(crate) fn frame(&mut self, kind: Kind) -> Frame {
        let frame = self.read().expect("a frame, not the end");
        assert_eq!(frame.header.kind, kind, "{frame:?}");
        frame
    }

    /// A RESPONSE that ends the request, after any GRANTs.
    pub(crate) fn done_after_grants(&mut self, name: Name) -> Frame {
        loop {
            let frame = self.read().expect("a frame, not the end");
            if frame.header.kind != Kind::Grant {
                return Self::check_done(frame, name);
            }
        }
    }

    /// A RESPONSE that ends the request.
    pub(crate) fn done(&mut self, name: Name) -> Frame {
        let frame = self.frame(Kind::Response);
        Self::check_done(frame, name)
    }

    fn check_done(frame: Frame, name: Name) -> Frame {
        assert_eq!(
            (frame.header.slot, frame.header.sequence),
            (name.slot, name.sequence)
        );
        assert!(frame.header.flags.contains(Flags::DONE), "{frame:?}");
        frame
    }

    pub(crate) fn state(&self, name: Name) -> SlotState {
        let (sequence, state) = self.page.read(name.slot);
        assert_eq!(sequence, name.sequence);
        state
    }
}

pub(crate) fn write(mut stream: &UnixStream, header: Header, payload: &[u8]) {
    let mut out = BytesMut::new();
    Frame::new(header, Bytes::copy_from_slice(payload)).encode(&mut out);
    stream.write_all(&out).unwrap();
}

pub(crate) fn http_head() -> BytesMut {
    head_of(false, b"POST")
}

fn head_of(websocket: bool, method: &[u8]) -> BytesMut {
    let mut block = BytesMut::new();
    let head = HttpHead {
        websocket,
        request_id: b"id",
        traceparent: b"",
        version: 11,
        priority: 0,
        tls: false,
        method,
        path: b"/",
        query: b"",
        root_path: b"",
        client: (b"127.0.0.1", 1),
        server: (b"127.0.0.1", 2),
        headers: Headers::build(&mut block, []).unwrap(),
    };
    let mut payload = BytesMut::new();
    RequestHead::Http(head).encode(&mut payload).unwrap();
    payload
}
