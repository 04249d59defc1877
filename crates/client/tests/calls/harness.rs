//! A controller that says what the test says, and a real replica whose user code is the test.

use std::{
    io::{Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use eagleray_client::{Arguments, Call, Content, Order, Outcome, Router};
use eagleray_replica::{Ended, Handle, Handler, Request, Serving, build};
use eagleray_types::{
    DeploymentKey,
    control::{
        ApiRequest, ApiResponse, DeploymentTarget, ReplicaTarget, TargetUpdate, VersionTarget,
        api_request, api_response,
    },
};
use eagleray_wire::{Decoder, Flags, Frame};
use prost::Message as _;

/// No wait of a test is longer: then it fails.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) fn key() -> DeploymentKey {
    DeploymentKey::new("app", "model")
}

/// The controller's socket. Routers that follow its targets are its connections, in the order in which they came.
pub(crate) struct Controller {
    listener: UnixListener,
    pub(crate) path: PathBuf,
    number: u64,
}

impl Controller {
    pub(crate) fn new(folder: &Path) -> Self {
        let path = folder.join("controller.sock");
        let listener = UnixListener::bind(&path).expect("a socket can be made");
        Self {
            listener,
            path,
            number: 0,
        }
    }

    /// The next process that asks for targets.
    pub(crate) fn follower(&self) -> UnixStream {
        let (mut stream, _) = self.listener.accept().expect("a router connects");
        let request = read_frame(&mut stream);
        let request = ApiRequest::decode(request.payload).expect("a request");
        assert!(matches!(
            request.body,
            Some(api_request::Body::WatchTargets(_))
        ));
        stream
    }

    /// All that is known, to one follower.
    pub(crate) fn tell(&mut self, mut follower: &UnixStream, deployments: Vec<DeploymentTarget>) {
        self.number += 1;
        let update = TargetUpdate {
            epoch: 1,
            number: self.number,
            snapshot: true,
            deployments,
            removed: Vec::new(),
            routes: None,
            marks: Vec::new(),
        };
        let response = ApiResponse {
            body: Some(api_response::Body::Target(update)),
        };
        let mut out = BytesMut::new();
        Frame::control(1, response.encode_to_vec()).encode(&mut out);
        follower.write_all(&out).expect("targets are sent");
    }
}

pub(crate) fn read_frame(stream: &mut UnixStream) -> Frame {
    stream
        .set_read_timeout(Some(BOUND))
        .expect("a socket takes a time limit");
    let mut buffer = BytesMut::new();
    loop {
        if let Some(frame) = Decoder::control().decode(&mut buffer).expect("a frame") {
            return frame;
        }
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).expect("something comes in time");
        assert_ne!(length, 0, "closed before a whole frame");
        buffer.extend_from_slice(&chunk[..length]);
    }
}

struct Wake(std::sync::mpsc::Sender<()>);

impl Handler for Wake {
    fn wake(&self) {
        self.0.send(()).ok();
    }

    fn stacks(&self) -> String {
        String::new()
    }
}

pub(crate) struct Replica {
    pub(crate) handle: Handle,
    path: PathBuf,
    wakes: Receiver<()>,
    thread: Option<JoinHandle<Ended>>,
    /// What a node would hold.
    _control: UnixStream,
}

impl Replica {
    pub(crate) fn start(folder: &Path, name: &str, limit: u32) -> Self {
        let path = folder.join(name);
        let listener = UnixListener::bind(&path).expect("a socket can be made");
        let (control, theirs) = UnixStream::pair().expect("a pair can be made");
        let (sender, wakes) = channel();
        let (handle, service) = build(
            OwnedFd::from(theirs),
            OwnedFd::from(listener),
            Box::new(Wake(sender)),
        )
        .expect("a replica can be made");
        let thread = std::thread::spawn(move || service.run().expect("it runs to its end"));
        handle.serve(Serving {
            replica_id: name.to_owned(),
            max_ongoing_requests: limit,
            max_body_bytes: 1 << 20,
            sync_http: false,
            websockets: false,
            sync_methods: Vec::new(),
            metrics: None,
        });
        Self {
            handle,
            path,
            wakes,
            thread: Some(thread),
            _control: control,
        }
    }

    pub(crate) fn target(&self) -> DeploymentTarget {
        let name = self.path.file_name().expect("a file").to_string_lossy();
        let replica = ReplicaTarget {
            replica_id: name.into_owned(),
            socket_path: self.path.to_string_lossy().into_owned(),
            epoch: 1,
        };
        let version = VersionTarget {
            version: "v".into(),
            weight: 1,
            max_ongoing_requests: 10,
            replicas: vec![replica],
            ..VersionTarget::default()
        };
        DeploymentTarget {
            key: key(),
            max_queued_requests: -1,
            backpressure_status: 503,
            versions: vec![version],
            ..DeploymentTarget::default()
        }
    }

    /// The next request, claimed.
    pub(crate) fn request(&self) -> Arc<Request> {
        loop {
            if let Some(request) = self.handle.next_request() {
                assert!(request.claim(), "nobody wants it back");
                return request;
            }
            self.rest();
        }
    }

    /// The loop looks at its queues.
    pub(crate) fn rest(&self) {
        while self.handle.next_event().is_some() {}
        self.handle.turned();
        if !self.handle.rest() {
            self.wakes
                .recv_timeout(BOUND)
                .expect("something for the loop");
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends in order");
        }
    }
}

/// A process with handles, its controller and one replica of `model`.
pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) replica: Replica,
    pub(crate) controller: Controller,
    pub(crate) follower: UnixStream,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self::untold();
        let target = world.replica.target();
        world.controller.tell(&world.follower, vec![target]);
        world
    }

    /// The controller has said nothing yet.
    pub(crate) fn untold() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let controller = Controller::new(folder.path());
        let path = controller.path.to_string_lossy().into_owned();
        let router = Router::start(path, "DRIVER".to_owned()).expect("a thread can be made");
        let follower = controller.follower();
        Self {
            replica: Replica::start(folder.path(), "replica", 10),
            router,
            controller,
            follower,
            _folder: folder,
        }
    }

    pub(crate) fn call(&self, body: &'static [u8]) -> Arc<Call> {
        self.order(Arguments::Whole(Content::Bytes(body.into())), false)
    }

    pub(crate) fn order(&self, arguments: Arguments, stream: bool) -> Arc<Call> {
        let order = order("predict", arguments, stream);
        self.router.call(order).expect("a head can be made").call
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.router.close();
    }
}

pub(crate) fn order(method: &str, arguments: Arguments, stream: bool) -> Order<'_> {
    Order {
        key: key(),
        replica_id: "",
        method,
        multiplexed_model_id: "",
        session_id: "",
        arguments,
        stream,
        caller: None,
    }
}

/// The body of a request that came in one piece.
pub(crate) fn body(request: &Request) -> Vec<u8> {
    let (data, attachments) = request.take_value().expect("a whole body");
    assert!(attachments.is_empty());
    data.to_vec()
}

pub(crate) fn answer(request: &Request, data: &[u8]) {
    request.respond(200, [], data, true).expect("a head");
}

pub(crate) fn item(request: &Request, data: &[u8]) {
    request.send(data, Flags::END_OF_MESSAGE);
}

pub(crate) fn ready(call: &Call) {
    assert!(call.wait_until(Instant::now() + BOUND), "nothing came");
}

pub(crate) fn outcome(call: &Call) -> Outcome {
    ready(call);
    call.outcome().expect("no items were asked for")
}

pub(crate) fn value(call: &Call) -> Vec<u8> {
    match outcome(call) {
        Outcome::Answer(Content::Bytes(bytes), false) => bytes.to_vec(),
        other => panic!("an answer, not {other:?}"),
    }
}

pub(crate) fn code(call: &Call) -> &'static str {
    match outcome(call) {
        Outcome::Failure(failed) => failed.code,
        other => panic!("a failure, not {other:?}"),
    }
}
