//! A proxy on a loopback port, replicas that do what a test says, and a client that sees every byte.
//!
//! Every wait has a bound ([`PATIENCE`]) and waits for a condition, so a test is as quick as the machine.

mod client;
pub(crate) mod raw;
pub(crate) mod record;
mod replica;
pub(crate) mod sender;
mod tunnel;
pub(crate) mod websocket;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixStream,
    path::Path,
    thread::JoinHandle,
    time::Duration,
};

use bytes::BytesMut;
use eagleray_proxy::{Error, Options, run};
use eagleray_types::{
    DeploymentKey,
    control::{
        ConfigureProxy, DeploymentTarget, Empty, Loads, ProxyCommand, ProxyEvent, ReplicaTarget,
        Route, RouteTable, Tally, TargetUpdate, VersionTarget, proxy_command, proxy_event,
    },
};
use eagleray_wire::{Decoder, Frame};
use prost::Message;

pub(crate) use client::{Client, Response};
pub(crate) use replica::{Connection, Replica, answer_all};
use tunnel::{Identity, Tunnel};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Proxy {
    /// Where a client of HTTP/1.1 connects: the proxy's own address, or that of a tunnel to it.
    pub(crate) address: SocketAddr,
    /// The same for HTTP/2.
    pub(crate) http2: SocketAddr,
    /// Where the proxy listens.
    pub(crate) own_address: SocketAddr,
    _tunnel: Option<(Identity, Tunnel)>,
    pub(crate) control: UnixStream,
    buffer: BytesMut,
    thread: Option<JoinHandle<Result<(), Error>>>,
    pub(crate) number: u64,
    /// What it has said of requests that are counted.
    pub(crate) tallied: Vec<Tally>,
    /// By thread and deployment: how many requests wait and how many run.
    pub(crate) loads: BTreeMap<String, BTreeMap<String, (u32, u32)>>,
}

impl Proxy {
    pub(crate) fn start() -> Self {
        Self::with(Options {
            threads: 1.try_into().unwrap(),
            ..Options::default()
        })
    }

    /// With TLS, and a tunnel to it, if that is what the tests of this crate are run over.
    pub(crate) fn with(mut options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own_address = listener.local_addr().unwrap();
        let tunnel = (crate::OVER_TLS && options.tls.is_none()).then(|| {
            let identity = Identity::new();
            let tunnel = Tunnel::new(own_address, &identity);
            options.tls = Some(identity.options());
            (identity, tunnel)
        });
        let (address, http2) = tunnel
            .as_ref()
            .map_or((own_address, own_address), |(_, tunnel)| {
                (tunnel.http1, tunnel.http2)
            });
        let (control, theirs) = UnixStream::pair().unwrap();
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        let first = options.clone();
        let read = move |text: &str| with_limits(first.clone(), text);
        let thread = std::thread::spawn(move || run(Some(listener), theirs, options, &read));
        let mut proxy = Self {
            address,
            http2,
            own_address,
            _tunnel: tunnel,
            control,
            buffer: BytesMut::new(),
            thread: Some(thread),
            number: 0,
            tallied: Vec::new(),
            loads: BTreeMap::new(),
        };
        proxy.command(proxy_command::Body::Accept(Empty {}));
        assert_eq!(proxy.event(), proxy_event::Body::Ready(Empty {}));
        proxy
    }

    /// A proxy that serves one deployment at `/`.
    pub(crate) fn serving(target: DeploymentTarget) -> Self {
        let mut proxy = Self::start();
        proxy.snapshot(&[("/", target)]);
        proxy
    }

    pub(crate) fn event(&mut self) -> proxy_event::Body {
        loop {
            if let Some(frame) = Decoder::control().decode(&mut self.buffer).unwrap() {
                match ProxyEvent::decode(frame.payload).unwrap().body.unwrap() {
                    proxy_event::Body::Tallied(said) => self.tallied.extend(said.tallies),
                    proxy_event::Body::Loads(said) => self.hear_loads(said),
                    // What a successor may need; nobody has told it anything.
                    proxy_event::Body::Configured(said) if said.number == 0 => {}
                    other => return other,
                }
                continue;
            }
            let mut chunk = [0; 4096];
            let length = std::io::Read::read(&mut self.control, &mut chunk).unwrap();
            assert_ne!(length, 0, "the proxy closed its control connection");
            self.buffer.extend_from_slice(&chunk[..length]);
        }
    }

    /// The newest word of each thread on each deployment.
    fn hear_loads(&mut self, said: Loads) {
        let known = self.loads.entry(said.router).or_default();
        if said.whole {
            known.clear();
        }
        for load in said.loads {
            known.insert(load.deployment, (load.queued, load.running));
        }
    }

    pub(crate) fn command(&mut self, body: proxy_command::Body) {
        let mut bytes = BytesMut::new();
        Frame::control(0, ProxyCommand { body: Some(body) }.encode_to_vec()).encode(&mut bytes);
        std::io::Write::write_all(&mut self.control, &bytes).unwrap();
    }

    pub(crate) fn update(&mut self, update: &TargetUpdate) -> proxy_event::Body {
        self.command(proxy_command::Body::Update(update.encode_to_vec()));
        self.event()
    }

    pub(crate) fn snapshot(&mut self, routes: &[(&str, DeploymentTarget)]) {
        self.number += 1;
        let update = TargetUpdate {
            epoch: 1,
            number: self.number,
            snapshot: true,
            deployments: routes.iter().map(|(_, target)| target.clone()).collect(),
            removed: Vec::new(),
            routes: Some(RouteTable {
                routes: routes
                    .iter()
                    .map(|(prefix, target)| Route {
                        prefix: (*prefix).to_owned(),
                        ingress: target.key.clone(),
                    })
                    .collect(),
            }),
            marks: Vec::new(),
        };
        let applied = self.update(&update);
        assert!(
            matches!(&applied, proxy_event::Body::Applied(applied) if applied.number == self.number),
            "{applied:?}"
        );
    }

    /// Other limits, as `KEY=NUMBER` and spaces. Returns what it says is wrong.
    pub(crate) fn configure(&mut self, limits: &str) -> String {
        self.number += 1;
        self.command(proxy_command::Body::Configure(ConfigureProxy {
            settings: limits.to_owned(),
            number: self.number,
            kept: Vec::new(),
        }));
        match self.event() {
            proxy_event::Body::Configured(said) if said.number == self.number => said.problem,
            other => panic!("not configured: {other:?}"),
        }
    }

    /// What one counter shows.
    pub(crate) fn counter(&mut self, name: &str) -> u64 {
        self.command(proxy_command::Body::Count(Empty {}));
        let proxy_event::Body::Counted(counted) = self.event() else {
            panic!("no counters came")
        };
        counted.counters[name]
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Waits for the proxy's end.
    pub(crate) fn join(&mut self) -> Result<(), Error> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // EOF on the control connection ends it.
        self.control.shutdown(std::net::Shutdown::Both).ok();
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !std::thread::panicking() {
                result.unwrap().unwrap();
            }
        }
    }
}

fn with_limits(mut options: Options, text: &str) -> Result<Options, String> {
    let given = text
        .split_whitespace()
        .filter_map(|one| one.split_once('='));
    let given = given.map(|(key, number)| (key, number.parse().unwrap()));
    let set = options.limits.set(given);
    set.map_err(|problems| problems.join("; "))?;
    Ok(options)
}

/// A deployment with these replicas.
pub(crate) fn target(name: &str, replicas: &[&Replica]) -> DeploymentTarget {
    DeploymentTarget {
        key: DeploymentKey::new("app", name),
        max_queued_requests: -1,
        backpressure_status: 503,
        access_log: true,
        versions: vec![VersionTarget {
            version: "v1".to_owned(),
            revision: "r1".to_owned(),
            weight: 1,
            max_ongoing_requests: replicas.first().map_or(5, |replica| replica.max_ongoing),
            replicas: replicas
                .iter()
                .map(|replica| ReplicaTarget {
                    replica_id: replica.id.clone(),
                    socket_path: path_text(&replica.path),
                    epoch: 1,
                })
                .collect(),
            ..VersionTarget::default()
        }],
        ..DeploymentTarget::default()
    }
}

/// The same, with bodies that are whole before user code is called.
pub(crate) fn sync_target(
    name: &str,
    replicas: &[&Replica],
    max_body_bytes: u64,
) -> DeploymentTarget {
    let mut target = target(name, replicas);
    target.versions[0].sync_bodies = true;
    target.versions[0].max_body_bytes = max_body_bytes;
    target
}

fn path_text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
