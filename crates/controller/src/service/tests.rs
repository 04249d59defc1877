//! The whole controller in a thread, between a fake node on a socket pair and real clients on its socket.

use std::{
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

use bytes::BytesMut;
use eagleray_types::{NodeId, control::*};
use eagleray_wire::{Decoder, Frame, Header, Kind};
use prost::Message;
use tempfile::TempDir;

use crate::{
    Error, Options, run, run_with,
    store::{Sqlite, Store, StoreError, sha256_hex},
};

mod disk;
mod ends;

const PATIENCE: Duration = Duration::from_secs(20);

/// Frames over a blocking socket.
struct Link {
    stream: UnixStream,
    buffer: BytesMut,
}

impl Link {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    fn send(&mut self, sequence: u64, message: Vec<u8>) -> std::io::Result<()> {
        let mut out = BytesMut::new();
        Frame::control(sequence, message).encode(&mut out);
        self.stream.write_all(&out)
    }

    fn receive(&mut self) -> Option<Frame> {
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
struct Machine {
    replicas: BTreeMap<String, (Spawn, bool)>,
    listeners: BTreeMap<String, UnixListener>,
    spawned: usize,
    updates: Vec<TargetUpdate>,
    newest_epoch: u64,
    run_directory: PathBuf,
}

fn event(body: node_event::Body) -> Vec<u8> {
    let node = node_id().to_string();
    let body = Some(body);
    NodeEvent { body, node }.encode_to_vec()
}

fn node_id() -> NodeId {
    NodeId::parse("n1").unwrap()
}

fn ready() -> Vec<u8> {
    let ready = Ready {
        sync_bodies: true,
        start_microseconds: 1,
    };
    ReplicaEvent {
        body: Some(replica_event::Body::Ready(ready)),
    }
    .encode_to_vec()
}

/// Plays the node until the controller hangs up: every replica is ready at once and stops at once.
fn play_node(stream: UnixStream, machine: &Mutex<Machine>) {
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
                }));
            }
            node_command::Body::Relay(relay) => answers.extend(play_replica(&relay)),
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
fn answer_hello(run_directory: &Path, id: String) -> UnixListener {
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

fn play_replica(relay: &Relay) -> Option<node_event::Body> {
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
type Running = (JoinHandle<Result<(), Error>>, JoinHandle<()>, UnixStream);

struct Stage {
    directory: TempDir,
    listener: UnixListener,
    machine: Arc<Mutex<Machine>>,
    controller: Option<Running>,
    store: Arc<MakeStore>,
}

fn options(directory: &Path) -> Options {
    Options {
        node: node_id(),
        checkpoint_path: directory.join("checkpoint.sqlite"),
        blob_directory: directory.join("blobs"),
        log_directory: directory.join("logs"),
        run_directory: directory.to_owned(),
        python: "python3".to_owned(),
    }
}

type MakeStore = dyn Fn(&Path) -> Box<dyn Store> + Send + Sync;

impl Stage {
    fn new() -> Self {
        Self::with_store(|path| Box::new(Sqlite::open(path).unwrap()))
    }

    fn with_store(store: impl Fn(&Path) -> Box<dyn Store> + Send + Sync + 'static) -> Self {
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
    fn tell(&self, body: node_event::Body) {
        let (_, _, hang_up) = self.controller.as_ref().unwrap();
        Link::new(hang_up.try_clone().unwrap())
            .send(0, event(body))
            .unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&mut self) {
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
            run_with(listener, controller, options, store)
        });
        self.controller = Some((controller, node, hang_up));
    }

    /// The node hangs up, and the controller ends.
    fn stop(&mut self) {
        let (controller, node, hang_up) = self.controller.take().unwrap();
        hang_up.shutdown(std::net::Shutdown::Both).unwrap();
        controller.join().unwrap().unwrap();
        node.join().unwrap();
    }

    fn client(&self) -> Client {
        let stream = UnixStream::connect(self.path("controller.sock")).unwrap();
        Client {
            link: Link::new(stream),
            sequence: 0,
        }
    }

    fn spec(&self, version: &str, num_replicas: u32) -> ApplicationSpec {
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

struct Client {
    link: Link,
    sequence: u64,
}

impl Client {
    fn send(&mut self, body: api_request::Body) {
        self.sequence += 1;
        self.link
            .send(
                self.sequence,
                ApiRequest { body: Some(body) }.encode_to_vec(),
            )
            .unwrap();
    }

    fn receive(&mut self) -> api_response::Body {
        let frame = self.link.receive().expect("an answer");
        assert_eq!(frame.header.sequence, self.sequence);
        ApiResponse::decode(frame.payload).unwrap().body.unwrap()
    }

    fn call(&mut self, body: api_request::Body) -> api_response::Body {
        self.send(body);
        self.receive()
    }

    /// Deploys and waits until it has settled.
    fn deploy(&mut self, spec: ApplicationSpec) -> ApplicationStatus {
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

    fn next_target(&mut self) -> TargetUpdate {
        match self.receive() {
            api_response::Body::Target(update) => update,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_deploy_spawns_is_published_and_settles() {
    let stage = Stage::new();
    let status = stage.client().deploy(stage.spec("v1", 2));
    assert_eq!(
        (
            status.status.as_str(),
            status.deployments[0].replica_states["RUNNING"]
        ),
        ("RUNNING", 2)
    );
    let machine = stage.machine.lock().unwrap();
    let last = machine.updates.last().unwrap();
    let version = &last.deployments[0].versions[0];
    assert_eq!(
        (version.replicas.len(), version.sync_bodies, version.weight),
        (2, true, 2)
    );
    assert!(version.replicas[0].socket_path.contains("/r/"));
}

#[test]
fn a_deploy_without_its_blob_is_refused_and_nothing_starts() {
    let stage = Stage::new();
    let spec = stage.spec("v1", 1);
    fs::remove_file(stage.path("blobs").join(&spec.deployments[0].callable_blob)).unwrap();
    match stage.client().call(api_request::Body::Deploy(spec)) {
        api_response::Body::Error(error) => {
            assert_eq!(error.kind, "invalid");
            assert!(
                error.message.contains("deploy the application again"),
                "{}",
                error.message
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.machine.lock().unwrap().spawned, 0);
}

#[test]
fn a_restarted_controller_adopts_its_replicas_in_a_new_epoch() {
    let mut stage = Stage::new();
    let spec = stage.spec("v1", 2);
    stage.client().deploy(spec.clone());
    let before: Vec<String> = stage
        .machine
        .lock()
        .unwrap()
        .replicas
        .keys()
        .cloned()
        .collect();
    stage.stop();
    stage.start();
    let mut client = stage.client();
    let status = client.deploy(spec);
    assert_eq!(status.status, "RUNNING");
    assert_eq!(status.deployments[0].replicas[0].pid, 7);
    {
        let machine = stage.machine.lock().unwrap();
        assert_eq!(machine.replicas.keys().cloned().collect::<Vec<_>>(), before);
        assert_eq!(machine.spawned, 2);
        let epochs: Vec<u64> = machine.updates.iter().map(|update| update.epoch).collect();
        assert!(
            epochs.is_sorted() && epochs.first() == Some(&1) && epochs.last() == Some(&2),
            "{epochs:?}"
        );
        let first = machine
            .updates
            .iter()
            .find(|update| update.epoch == 2)
            .unwrap();
        assert!(
            first.snapshot && first.deployments[0].versions[0].replicas.len() == 2,
            "never fewer"
        );
    }
    let answer = client.call(api_request::Body::Delete("app".into()));
    assert!(matches!(answer, api_response::Body::Done(_)));
    assert!(stage.machine.lock().unwrap().replicas.is_empty());
}

#[test]
fn a_rollback_goes_back() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.deploy(stage.spec("v1", 1));
    client.deploy(stage.spec("v2", 1));
    let rollback = Rollback {
        application: "app".into(),
        revision: String::new(),
    };
    match client.call(api_request::Body::Rollback(rollback)) {
        api_response::Body::Deployed(deployed) => assert_eq!(deployed.revision, "v1-1"),
        other => panic!("{other:?}"),
    }
    let wait = AwaitApplication {
        name: "app".into(),
        revision: "v1-1".into(),
    };
    assert!(matches!(
        client.call(api_request::Body::AwaitApplication(wait)),
        api_response::Body::Settled(_)
    ));
    let api_response::Body::Status(status) = client.call(api_request::Body::Status(Empty {}))
    else {
        panic!()
    };
    assert_eq!(
        status.applications[0].deployments[0].replicas[0].version,
        "v1"
    );
}

#[test]
fn a_watcher_gets_a_snapshot_and_then_what_changes() {
    let stage = Stage::new();
    let mut watcher = stage.client();
    watcher.send(api_request::Body::WatchTargets(Empty {}));
    let first = watcher.next_target();
    assert!(first.snapshot && first.deployments.is_empty());
    stage.client().deploy(stage.spec("v1", 1));
    let mut number = first.number;
    loop {
        let update = watcher.next_target();
        assert_eq!(update.number, number + 1);
        number = update.number;
        if update
            .deployments
            .iter()
            .any(|target| !target.versions.is_empty())
        {
            break;
        }
    }
}

#[test]
fn a_watcher_that_does_not_read_is_passed_over_and_gets_a_snapshot_later() {
    let stage = Stage::new();
    let mut watcher = stage.client();
    watcher.send(api_request::Body::WatchTargets(Empty {}));
    watcher.next_target();
    let mut client = stage.client();
    let mut spec = stage.spec("v1", 200);
    let last = 300;
    for queued in 1..=last {
        spec.revision = format!("r{queued}");
        spec.deployments[0].options.max_queued_requests = queued;
        client.deploy(spec.clone());
    }
    let (mut received, mut number, mut skipped) = (0, 0, false);
    loop {
        let update = watcher.next_target();
        received += 1;
        assert!(
            update.snapshot || update.number == number + 1 || number == 0,
            "a gap without a snapshot"
        );
        skipped |= number != 0 && update.number > number + 1;
        number = update.number;
        if update
            .deployments
            .iter()
            .any(|target| target.max_queued_requests == last)
        {
            break;
        }
    }
    assert!(skipped, "all {received} updates were kept for it");
}

#[test]
fn what_cannot_be_read_is_answered_and_a_broken_stream_is_cut_off() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.sequence = 5;
    client.link.send(5, vec![0xff; 9]).unwrap();
    assert!(
        matches!(client.receive(), api_response::Body::Error(error) if error.kind == "invalid")
    );
    client.link.send(5, Vec::new()).unwrap();
    assert!(
        matches!(client.receive(), api_response::Body::Error(error) if error.message.contains("newer"))
    );
    client.link.stream.write_all(&[0xff; 64]).unwrap();
    assert!(client.link.receive().is_none());
    let mut other = stage.client();
    assert!(matches!(
        other.call(api_request::Body::Status(Empty {})),
        api_response::Body::Status(_)
    ));
}

#[test]
fn a_checkpoint_that_cannot_be_used_ends_the_controller_with_its_reason() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("checkpoint.sqlite");
    fs::write(&path, [7; 4096]).unwrap();
    let listener = UnixListener::bind(directory.path().join("controller.sock")).unwrap();
    let (_node, controller) = UnixStream::pair().unwrap();
    let options = Options {
        node: node_id(),
        checkpoint_path: path,
        blob_directory: directory.path().join("blobs"),
        log_directory: directory.path().join("logs"),
        run_directory: directory.path().to_owned(),
        python: "python3".to_owned(),
    };
    let error = run(listener, controller, options).unwrap_err();
    assert!(error.to_string().contains("left untouched"), "{error}");
}

#[test]
fn a_socket_that_was_removed_is_made_again_and_open_connections_stay() {
    let stage = Stage::new();
    let mut before = stage.client();
    before.deploy(stage.spec("v1", 1));
    fs::remove_file(stage.path("controller.sock")).unwrap();
    stage.tell(node_event::Body::ControllerSocketLost(Empty {}));
    let status = |client: &mut Client| {
        let answer = client.call(api_request::Body::Status(Empty {}));
        assert!(
            matches!(answer, api_response::Body::Status(status) if status.applications.len() == 1)
        );
    };
    status(&mut before);
    let path = stage.path("controller.sock");
    assert!(path.exists(), "the event was handled before the call");
    assert_eq!(
        fs::metadata(path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    status(&mut stage.client());
    status(&mut before);
}

#[test]
fn a_client_has_a_few_watches_at_most() {
    let stage = Stage::new();
    let mut client = stage.client();
    for _ in 0..16 {
        client.send(api_request::Body::WatchTargets(Empty {}));
        client.next_target();
    }
    let answer = client.call(api_request::Body::WatchTargets(Empty {}));
    assert!(
        matches!(answer, api_response::Body::Error(error) if error.message.contains("16 watches"))
    );
}

/// A store on a disk that is full now and then.
struct FullDisk {
    store: Sqlite,
    full: Arc<AtomicBool>,
}

impl FullDisk {
    fn check(&self) -> Result<(), StoreError> {
        if !self.full.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(StoreError::Unavailable {
            location: self.store.location(),
            detail: "database or disk is full".into(),
        })
    }
}

impl Store for FullDisk {
    fn location(&self) -> String {
        self.store.location()
    }

    fn put_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        self.store.put_blob(name, bytes)
    }

    fn blob(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.blob(name)
    }

    fn blob_names(&mut self) -> Result<Vec<String>, StoreError> {
        self.store.blob_names()
    }

    fn remove_blob(&mut self, name: &str) -> Result<(), StoreError> {
        self.check()?;
        self.store.remove_blob(name)
    }

    fn root(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.root()
    }

    fn replace_root(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        self.store.replace_root(bytes)
    }
}

#[test]
fn a_disk_that_is_full_fails_the_deploy_and_not_the_controller() {
    let full = Arc::new(AtomicBool::new(false));
    let stage = Stage::with_store({
        let full = Arc::clone(&full);
        move |path| {
            Box::new(FullDisk {
                store: Sqlite::open(path).unwrap(),
                full: Arc::clone(&full),
            })
        }
    });
    let mut client = stage.client();
    client.deploy(stage.spec("v1", 1));
    full.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        match client.call(api_request::Body::Deploy(stage.spec("v2", 1))) {
            api_response::Body::Error(error) => {
                assert_eq!(error.kind, "internal");
                assert!(error.message.contains("disk is full"), "{}", error.message);
            }
            other => panic!("{other:?}"),
        }
    }
    let victim = stage
        .machine
        .lock()
        .unwrap()
        .replicas
        .keys()
        .next()
        .cloned()
        .unwrap();
    stage.machine.lock().unwrap().replicas.remove(&victim);
    stage.tell(node_event::Body::Exited(Exited {
        replica_id: victim.clone(),
        epoch: 1,
        reason: "signal 9 (SIGKILL)".into(),
        signal: 9,
        ..Default::default()
    }));
    let status = client.call(api_request::Body::Status(Empty {}));
    assert!(
        matches!(status, api_response::Body::Status(_)),
        "it answers"
    );
    assert!(
        !stage.machine.lock().unwrap().replicas.contains_key(&victim),
        "and replaces what dies"
    );
    full.store(false, Ordering::Relaxed);
    assert_eq!(client.deploy(stage.spec("v2", 1)).status, "RUNNING");
}
