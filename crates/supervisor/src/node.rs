//! A node: makes its sockets, starts its processes, and runs its loop to the end.

use std::{
    cell::RefCell,
    io,
    os::fd::OwnedFd,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use eagleray_logs::Writer;
use eagleray_types::control::{NodeInfo, NodeResources};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{runtime::Builder, task::LocalSet};

use crate::{
    api::Api,
    core::Role,
    descriptor::listen,
    listeners::{self, Listener, Listeners},
    output::Watchers,
    owner,
    places::Places,
    presence::Presence,
    ready::{Failure, Up},
    replicas::Replicas,
    run_directory::NodeRecord,
    service::{Recipe, Service},
    state_directory::Logs,
    state_watch::StateWatch,
    supervisor::{Channels, Machine, Services, Supervisor},
};

/// Threads that may look through `/proc` at a time.
const SCANNING_THREADS: usize = 2;
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The last lines of the node reach the disk within this time, or are lost.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);

/// Who a node says that it is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub name: String,
    /// The script that owns the node; 0 for a resident one.
    pub owner_pid: u32,
    /// Command line of that script, for people.
    pub argv: Vec<String>,
}

/// The script that owns a node, as the node watches it. Neither: nobody owns it.
#[derive(Debug, Default)]
pub struct Owner {
    pub pid: Option<u32>,
    /// Read end of a pipe that the owner holds.
    pub pipe: Option<OwnedFd>,
}

/// What each process of the node is told, as text that only it understands: JSON, in the variable
/// [`OPTIONS`](crate::environment::OPTIONS).
#[derive(Clone, Debug)]
pub struct Programs {
    /// What is run, in each role.
    pub executable: PathBuf,
    pub reaper: String,
    pub controller: String,
    pub proxy: String,
}

/// A node that has all it needs but its processes.
#[derive(Debug)]
pub struct Node {
    identity: Identity,
    places: Places,
    listeners: Listeners,
    resources: NodeResources,
    /// `node.sock`.
    socket: UnixListener,
    ending: Arc<AtomicBool>,
}

impl Node {
    /// Makes its own socket and the controller's, beside the `listeners` of its proxies. Its replicas may have `resources`.
    ///
    /// # Errors
    /// When a socket cannot be made; the places are given back.
    pub fn new(
        identity: Identity,
        resources: NodeResources,
        places: Places,
        mut listeners: Listeners,
    ) -> Result<Self, Failure> {
        raise_descriptor_limit();
        let made = listen(&places.run.path().join("node.sock")).and_then(|node_socket| {
            let path = places.run.path().join("controller.sock");
            let controller = Listener {
                socket: listen(&path)?.into(),
                address: path.to_string_lossy().into_owned(),
            };
            listeners.insert(listeners::CONTROLLER, controller);
            Ok(node_socket)
        });
        match made {
            Ok(socket) => Ok(Self {
                identity,
                places,
                listeners,
                resources,
                socket,
                ending: Arc::default(),
            }),
            Err(error) => {
                places.give_back();
                Err(error.into())
            }
        }
    }

    /// Becomes true once the node has begun to end: what is asked of its controller from then on comes to nothing.
    pub fn ending(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ending)
    }

    /// Starts everything and runs until the node has ended. Returns whether that was in order and as asked.
    ///
    /// `announce` is called once: when the node is up, or when it is clear that it does not come up and nothing of it is
    /// left. Blocks the thread, which must be the main one: children end with the thread that started them.
    pub fn run(
        self,
        programs: Programs,
        logs: Writer,
        owner: Owner,
        announce: impl FnOnce(Result<Up, Failure>),
    ) -> bool {
        let runtime = match Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(SCANNING_THREADS)
            .thread_keep_alive(FOR_EVER)
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                announce(Err(error.into()));
                return false;
            }
        };
        // One of them is there from now on: a replica's death can be seen to when no thread can be made any more.
        runtime.spawn_blocking(|| {});
        let local = LocalSet::new();
        let result = local.block_on(&runtime, self.live(programs, logs, owner, announce));
        drop(local);
        runtime.shutdown_background();
        result
    }

    async fn live(
        self,
        programs: Programs,
        logs: Writer,
        owner: Owner,
        announce: impl FnOnce(Result<Up, Failure>),
    ) -> bool {
        let channels = Channels::new();
        let up = self.up();
        let machine = match self.machine(programs, logs.clone(), &channels) {
            Ok(machine) => machine,
            Err(error) => {
                announce(Err(error.into()));
                return false;
            }
        };
        let owner = owner::gone(owner.pid, owner.pipe);
        let announce = |result: Result<(), Failure>| announce(result.map(|()| up));
        let mut supervisor = Supervisor::new(machine, announce);
        let outcome = supervisor.run(channels, owner).await;
        if outcome.in_order {
            supervisor.end_zygotes().await;
        }
        tracing::info!("the node ends");
        logs.flush(LAST_LINES_WITHIN);
        if !outcome.in_order {
            // The reaper sees the pipe close, and ends the rest.
            return false;
        }
        // Directories last: a line logged after that has no place to go.
        let kept = if supervisor.any_replica_failed() {
            Logs::Keep
        } else {
            Logs::Remove
        };
        if let Err(error) = supervisor.leave(kept).await {
            tracing::warn!(%error, "what the node had on disk was not removed");
            logs.flush(LAST_LINES_WITHIN);
        }
        outcome.as_asked
    }

    fn machine(self, programs: Programs, logs: Writer, channels: &Channels) -> io::Result<Machine> {
        let recipes = self.recipes(programs)?;
        let [reaper, controller, proxy] =
            recipes.map(|recipe| Service::new(recipe, channels.service_sender.clone()));
        let info = Rc::new(RefCell::new(self.info()));
        let watchers = Rc::new(Watchers::default());
        let log_directory = self.places.state.logs();
        let replicas = Replicas::new(
            self.places.run.path(),
            &log_directory,
            self.places.node_id.as_str(),
            Rc::clone(&watchers),
            logs.clone(),
            channels.replica_sender.clone(),
        );
        let api = Api {
            info: Rc::clone(&info),
            watchers,
            shutdown: channels.shutdown_sender.clone(),
            counters: channels.counters_sender.clone(),
        };
        let record = self.record();
        // From here on the only copies are those that the services hold, so that they can be closed.
        drop(self.listeners);
        let state = StateWatch::new(self.places.state);
        let presence = Presence::new(self.places.run, state, record, api, self.socket)?;
        Ok(Machine {
            node_id: self.places.node_id,
            services: Services {
                reaper,
                controller,
                proxy,
            },
            replicas,
            resources: self.resources,
            presence,
            info,
            log_directory,
            logs,
            ending: self.ending,
        })
    }

    fn recipes(&self, programs: Programs) -> io::Result<[Recipe; 3]> {
        let recipe = |role, options, listeners: &[&str]| {
            Ok::<_, io::Error>(Recipe {
                role,
                executable: programs.executable.clone(),
                options,
                node_id: self.places.node_id.to_string(),
                run_directory: self.places.run.path().to_owned(),
                listeners: self.listeners.copies(listeners)?,
            })
        };
        Ok([
            recipe(Role::Reaper, programs.reaper, &[])?,
            recipe(
                Role::Controller,
                programs.controller,
                &[listeners::CONTROLLER],
            )?,
            recipe(Role::Proxy, programs.proxy, listeners::OF_PROXIES)?,
        ])
    }
}

impl Node {
    fn address(&self, name: &str) -> String {
        let listener = self.listeners.get(name);
        listener.map_or_else(String::new, |listener| listener.address.clone())
    }

    /// What `node.json` says of this node.
    fn record(&self) -> NodeRecord {
        NodeRecord {
            name: self.identity.name.clone(),
            pid: std::process::id(),
            node_id: self.places.node_id.to_string(),
            http_address: self.address(listeners::HTTP),
            control_address: self.address(listeners::CONTROL),
            metrics_address: self.address(listeners::METRICS),
            owner_pid: self.identity.owner_pid,
            argv: self.identity.argv.clone(),
            log_directory: self.places.state.logs(),
        }
    }

    /// What whoever started the node is told.
    fn up(&self) -> Up {
        let path = self.places.run.path();
        Up {
            name: self.identity.name.clone(),
            pid: std::process::id(),
            http_address: self.address(listeners::HTTP),
            control_address: self.address(listeners::CONTROL),
            metrics_address: self.address(listeners::METRICS),
            node_socket: path.join("node.sock"),
            run_directory: path.to_owned(),
            log_directory: self.places.state.logs(),
            warning: String::new(),
        }
    }

    /// What it says of itself on its socket.
    fn info(&self) -> NodeInfo {
        let path = self.places.run.path();
        let text = |path: &Path| path.to_string_lossy().into_owned();
        NodeInfo {
            name: self.identity.name.clone(),
            pid: std::process::id(),
            http_address: self.address(listeners::HTTP),
            run_directory: text(path),
            blob_directory: text(&self.places.state.blobs()),
            controller_socket_path: text(&path.join("controller.sock")),
            owner_pid: self.identity.owner_pid,
            node_id: self.places.node_id.to_string(),
            log_directory: text(&self.places.state.logs()),
            proxy_status: "STARTING".to_owned(),
            why: Vec::new(),
            control_address: self.address(listeners::CONTROL),
            started_at_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64(),
        }
    }
}

/// Six descriptors a replica, one a client connection: the usual soft limit of 1024 is soon met.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    ) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
