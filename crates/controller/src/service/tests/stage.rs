//! The whole controller in a thread, between a fake node on a socket pair and real clients on its socket.

pub(super) use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

pub(super) use bytes::BytesMut;
pub(super) use eagleray_types::{NodeId, control::*};
pub(super) use eagleray_wire::{Decoder, Frame, Header, Kind};
pub(super) use prost::Message;
pub(super) use tempfile::TempDir;

pub(super) use crate::{
    Error, Options, run, run_with,
    store::{Sqlite, Store, StoreError, sha256_hex},
};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Frames over a blocking socket.
pub(super) struct Link {
    pub(super) stream: UnixStream,
    pub(super) buffer: BytesMut,
}

impl Link {
    pub(super) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    pub(super) fn send(&mut self, sequence: u64, message: Vec<u8>) -> std::io::Result<()> {
        let mut out = BytesMut::new();
        Frame::control(sequence, message).encode(&mut out);
        self.stream.write_all(&out)
    }

    pub(super) fn receive(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Decoder::control().decode(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            let mut bytes = [0; 16384];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }
}

/// What lives on the node; survives the controller.
#[derive(Default)]
pub(super) struct Machine {
    pub(super) replicas: BTreeMap<String, (Spawn, bool)>,
    pub(super) listeners: BTreeMap<String, UnixListener>,
    pub(super) spawned: usize,
    pub(super) updates: Vec<TargetUpdate>,
    pub(super) newest_epoch: u64,
    pub(super) run_directory: PathBuf,
}

pub(super) fn event(body: node_event::Body) -> Vec<u8> {
    let node = node_id().to_string();
    let body = Some(body);
    NodeEvent { body, node }.encode_to_vec()
}

pub(super) fn node_id() -> NodeId {
    NodeId::parse("n1").unwrap()
}

pub(super) fn ready() -> Vec<u8> {
    let ready = Ready {
        sync_bodies: true,
        start_microseconds: 1,
        ..Ready::default()
    };
    ReplicaEvent {
        body: Some(replica_event::Body::Ready(ready)),
    }
    .encode_to_vec()
}

/// Plays the node until the controller hangs up: every replica is ready at once and stops at once.
pub(super) fn play_node(stream: UnixStream, machine: &Mutex<Machine>) {
    let mut link = Link::new(stream);
    link.stream.set_read_timeout(None).unwrap();
    while let Some(frame) = link.receive() {
        let mut machine = machine.lock().unwrap();
        let mut answers = Vec::new();
        let command = NodeCommand::decode(frame.payload).unwrap();
        assert_eq!(command.node, "n1");
        match command.body.unwrap() {
            node_command::Body::Spawn(spawn) => {
                machine.spawned += 1;
                let id = spawn.replica_id.clone();
                let listener = answer_hello(&machine.run_directory, id.clone());
                machine.listeners.insert(id, listener);
                let relay = Relay {
                    replica_id: spawn.replica_id.clone(),
                    payload: ready(),
                };
                machine
                    .replicas
                    .insert(spawn.replica_id.clone(), (spawn, true));
                answers.push(node_event::Body::Relay(relay));
            }
            node_command::Body::Stop(stop) => {
                machine.replicas.remove(&stop.replica_id);
                if let Some(listener) = machine.listeners.remove(&stop.replica_id) {
                    rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
                }
                let (replica_id, epoch) = (stop.replica_id, stop.epoch);
                answers.push(node_event::Body::Exited(Exited {
                    replica_id,
                    epoch,
                    ..Default::default()
                }));
            }
            node_command::Body::List(_) => {
                let listed = machine
                    .replicas
                    .values()
                    .map(|(spawn, is_ready)| ListedReplica {
                        replica_id: spawn.replica_id.clone(),
                        epoch: spawn.epoch,
                        socket_path: String::new(),
                        pid: 7,
                        label: spawn.label.clone(),
                        ready: if *is_ready { ready() } else { Vec::new() },
                        stopping: false,
                    });
                answers.push(node_event::Body::Listed(Listed {
                    replicas: listed.collect(),
                    newest_epoch: machine.newest_epoch,
                    ..Listed::default()
                }));
            }
            node_command::Body::ForgetImports(_) => {}
            node_command::Body::Relay(relay) => answers.extend(play_replica(&relay)),
            node_command::Body::ConfigureProxy(_) => {}
            node_command::Body::Publish(publish) => {
                let update = TargetUpdate::decode(publish.update.as_slice()).unwrap();
                assert_eq!(publish.snapshot, update.snapshot);
                let (epoch, number) = (update.epoch, update.number);
                machine.newest_epoch = machine.newest_epoch.max(publish.epoch);
                machine.updates.push(update);
                answers.push(node_event::Body::Published(AppliedUpdate { epoch, number }));
            }
        }
        drop(machine);
        for body in answers {
            if link.send(0, event(body)).is_err() {
                return;
            }
        }
    }
}

/// The replica can be reached from now on, until its listener is shut down.
pub(super) fn answer_hello(run_directory: &Path, id: String) -> UnixListener {
    let directory = run_directory.join("r");
    fs::create_dir_all(&directory).unwrap();
    let listener = UnixListener::bind(directory.join(format!("{id}.sock"))).unwrap();
    let accepting = listener.try_clone().unwrap();
    thread::spawn(move || {
        while let Ok((mut router, _)) = accepting.accept() {
            // Closed with something unread, it would be reset.
            drop(router.read(&mut [0; 256]));
            let mut out = BytesMut::new();
            let hello = Header::new(Kind::Hello, 0, 0);
            Frame::new(hello, id.clone().into()).encode(&mut out);
            // Who has left needs no answer.
            drop(router.write_all(&out));
        }
    });
    listener
}

pub(super) fn play_replica(relay: &Relay) -> Option<node_event::Body> {
    let outcome = |id| Outcome {
        id,
        ..Default::default()
    };
    let body = match ReplicaCommand::decode(relay.payload.as_slice())
        .unwrap()
        .body
        .unwrap()
    {
        replica_command::Body::Reconfigure(reconfigure) => {
            replica_event::Body::Reconfigured(outcome(reconfigure.id))
        }
        replica_command::Body::CheckHealth(check) => replica_event::Body::Health(outcome(check.id)),
        _ => return None,
    };
    let payload = ReplicaEvent { body: Some(body) }.encode_to_vec();
    Some(node_event::Body::Relay(Relay {
        replica_id: relay.replica_id.clone(),
        payload,
    }))
}

/// The controller's thread, the node's, and what hangs up between them.
pub(super) type Running = (JoinHandle<Result<(), Error>>, JoinHandle<()>, UnixStream);

pub(super) struct Stage {
    pub(super) directory: TempDir,
    pub(super) listener: UnixListener,
    pub(super) machine: Arc<Mutex<Machine>>,
    pub(super) controller: Option<Running>,
    pub(super) store: Arc<MakeStore>,
}

pub(super) fn options(directory: &Path) -> Options {
    Options {
        node: node_id(),
        checkpoint_path: directory.join("checkpoint.sqlite"),
        blob_directory: directory.join("blobs"),
        log_directory: directory.join("logs"),
        run_directory: directory.to_owned(),
        python: "python3".to_owned(),
        http: serde_json::Map::new(),
    }
}

pub(super) type MakeStore = dyn Fn(&Path) -> Box<dyn Store> + Send + Sync;

impl Stage {
    pub(super) fn new() -> Self {
        Self::with_store(|path| Box::new(Sqlite::open(path).unwrap()))
    }

    pub(super) fn with_store(
        store: impl Fn(&Path) -> Box<dyn Store> + Send + Sync + 'static,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("blobs")).unwrap();
        let listener = UnixListener::bind(directory.path().join("controller.sock")).unwrap();
        let mut stage = Self {
            directory,
            listener,
            machine: Arc::default(),
            controller: None,
            store: Arc::new(store),
        };
        let run_directory = stage.directory.path().to_owned();
        stage.machine.lock().unwrap().run_directory = run_directory;
        stage.start();
        stage
    }

    /// An event that the node did not send by itself.
    pub(super) fn tell(&self, body: node_event::Body) {
        let (_, _, hang_up) = self.controller.as_ref().unwrap();
        Link::new(hang_up.try_clone().unwrap())
            .send(0, event(body))
            .unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn start(&mut self) {
        let (node, controller) = UnixStream::pair().unwrap();
        let options = options(self.directory.path());
        let (machine, listener) = (
            Arc::clone(&self.machine),
            self.listener.try_clone().unwrap(),
        );
        let hang_up = node.try_clone().unwrap();
        let node = thread::spawn(move || play_node(node, &machine));
        let store = Arc::clone(&self.store);
        let controller = thread::spawn(move || {
            let store = store(&options.checkpoint_path);
            run_with(listener, controller, options, store, |_| ())
        });
        self.controller = Some((controller, node, hang_up));
    }

    /// The node hangs up, and the controller ends.
    pub(super) fn stop(&mut self) {
        let (controller, node, hang_up) = self.controller.take().unwrap();
        hang_up.shutdown(std::net::Shutdown::Both).unwrap();
        controller.join().unwrap().unwrap();
        node.join().unwrap();
    }

    pub(super) fn client(&self) -> Client {
        let stream = UnixStream::connect(self.path("controller.sock")).unwrap();
        Client {
            link: Link::new(stream),
            sequence: 0,
        }
    }

    pub(super) fn spec(&self, version: &str, num_replicas: u32) -> ApplicationSpec {
        let callable_blob = sha256_hex(version.as_bytes());
        fs::write(self.path("blobs").join(&callable_blob), version).unwrap();
        let options = DeploymentOptions {
            num_replicas,
            max_ongoing_requests: 5,
            max_queued_requests: -1,
            graceful_shutdown_timeout_s: 20.0,
            health_check_period_s: 10.0,
            health_check_timeout_s: 30.0,
            max_constructor_retry_count: 20,
            ..Default::default()
        };
        let deployment = DeploymentSpec {
            name: "d".into(),
            version: version.into(),
            callable_blob,
            options,
            ..Default::default()
        };
        ApplicationSpec {
            name: "app".into(),
            route_prefix: "/".into(),
            revision: format!("{version}-{num_replicas}"),
            ingress: "d".into(),
            deployments: vec![deployment],
            ..Default::default()
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.controller.is_some() && !thread::panicking() {
            self.stop();
        }
    }
}

pub(super) struct Client {
    pub(super) link: Link,
    pub(super) sequence: u64,
}

impl Client {
    pub(super) fn send(&mut self, body: api_request::Body) {
        self.sequence += 1;
        self.link
            .send(
                self.sequence,
                ApiRequest { body: Some(body) }.encode_to_vec(),
            )
            .unwrap();
    }

    pub(super) fn receive(&mut self) -> api_response::Body {
        let frame = self.link.receive().expect("an answer");
        assert_eq!(frame.header.sequence, self.sequence);
        ApiResponse::decode(frame.payload).unwrap().body.unwrap()
    }

    pub(super) fn call(&mut self, body: api_request::Body) -> api_response::Body {
        self.send(body);
        self.receive()
    }

    /// Deploys and waits until it has settled.
    pub(super) fn deploy(&mut self, spec: ApplicationSpec) -> ApplicationStatus {
        let wait = AwaitApplication {
            name: spec.name.clone(),
            revision: spec.revision.clone(),
        };
        match self.call(api_request::Body::Deploy(spec)) {
            api_response::Body::Deployed(deployed) => assert_eq!(deployed.revision, wait.revision),
            other => panic!("{other:?}"),
        }
        match self.call(api_request::Body::AwaitApplication(wait)) {
            api_response::Body::Settled(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn next_target(&mut self) -> TargetUpdate {
        match self.receive() {
            api_response::Body::Target(update) => update,
            other => panic!("{other:?}"),
        }
    }
}
