//! The loop around the core: events in, commands out.
//!
//! One thread, one `select!`. Only the store works beside it, on a blocking thread, one save at a time, so a slow
//! disk delays a deploy and nothing else. The commands of one event are carried out in their order before the next
//! event is looked at. Whatever cannot be helped here (a checkpoint that is not ours, a node that does not read)
//! ends the process: the node starts another, which adopts what runs.

mod journal;
mod keeper;
mod metrics;

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream},
    },
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use eagleray_types::{
    NodeId,
    control::{
        ApiResponse, NodeCommand, NodeEvent, Publish, api_request, api_response, node_command,
        node_event,
    },
};
use eagleray_wire::{Decoder, Frame, Kind};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::Instant,
};

use crate::{
    Error, Options,
    api::{ClientEvent, Clients, LocalCalls},
    core::{CallId, Command, Core, CoreOptions, Event, Level, Origin, Request},
    reach::Reaching,
    store::{Sqlite, Store, checkpoint},
};
use journal::Journal;
use keeper::{Everything, Keeper};
use metrics::Metrics;

/// Bytes that may wait for a node that does not read.
const UNSENT_BYTES: usize = 64 * 1024 * 1024;

const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Runs the controller until the node hangs up.
///
/// `listener` is `controller.sock`, `node` the control connection. `beside` is given what asks the loop from within the
/// process, once there is one. Blocks the calling thread.
pub fn run(
    listener: StdUnixListener,
    node: StdUnixStream,
    options: Options,
    beside: impl FnOnce(LocalCalls),
) -> Result<(), Error> {
    let store = Sqlite::open(&options.checkpoint_path)?;
    run_with(listener, node, options, Box::new(store), beside)
}

/// As [`run`], with any store.
pub fn run_with(
    listener: StdUnixListener,
    node: StdUnixStream,
    options: Options,
    mut store: Box<dyn Store>,
    beside: impl FnOnce(LocalCalls),
) -> Result<(), Error> {
    let loaded = checkpoint::open(&mut *store)?;
    let keeper = Keeper::new(store, options.blob_directory.clone(), &loaded);
    tracing::info!(
        epoch = loaded.epoch,
        applications = loaded.root.applications.len(),
        "controller starts"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_keep_alive(FOR_EVER)
        .build()
        .map_err(Error::Runtime)?;
    // The store's thread is there from now on: a save must not need one when none can be made any more.
    runtime.spawn_blocking(|| {});
    runtime.block_on(async {
        let listener_failed = |source| Error::Listener {
            path: options.run_directory.join("controller.sock"),
            source,
        };
        listener.set_nonblocking(true).map_err(listener_failed)?;
        let listener = UnixListener::from_std(listener).map_err(listener_failed)?;
        node.set_nonblocking(true).map_err(Error::Node)?;
        let node = UnixStream::from_std(node).map_err(Error::Node)?;
        let epoch = loaded.epoch;
        let core_options = CoreOptions {
            node: options.node.clone(),
            epoch,
            seed: fastrand::u64(..),
            blob_directory: options.blob_directory.clone(),
            log_directory: options.log_directory.clone(),
            run_directory: options.run_directory.clone(),
            python: options.python.clone(),
            http: options.http.clone(),
        };
        let clients = Clients::new(listener);
        beside(clients.local());
        let (journal, kept) = Journal::open(&options.checkpoint_path.with_file_name("events"));
        let metrics = Metrics::new(&options.run_directory);
        let mut core = Core::new(core_options, &loaded);
        core.remember(kept);
        core.know_sizes(keeper.sizes());
        let service = Service {
            core,
            began: Instant::now(),
            epoch,
            options,
            keeper,
            has_listed: false,
            reaching: Reaching::new(),
            clients,
            journal,
            metrics,
            unsent: BytesMut::new(),
        };
        service.run(node).await
    })
}

struct Service {
    core: Core,
    began: Instant,
    epoch: u64,
    options: Options,
    keeper: Keeper,
    /// The node has said what lives, in this life.
    has_listed: bool,
    reaching: Reaching,
    clients: Clients,
    journal: Journal,
    metrics: Metrics,
    /// Commands that the node has not taken yet.
    unsent: BytesMut,
}

/// A node that hangs up is seen by whoever is first, who reads or who writes: both mean the same.
const fn is_hang_up(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

impl Service {
    /// To the end: until the node hangs up, or something cannot be helped here.
    async fn run(mut self, node: UnixStream) -> Result<(), Error> {
        match self.serve(node).await {
            Err(Error::Node(error)) if !is_hang_up(error.kind()) => Err(Error::Node(error)),
            Ok(()) | Err(Error::Node(_)) => {
                tracing::info!("the node hung up");
                Ok(())
            }
            other => other,
        }
    }

    async fn serve(&mut self, mut node: UnixStream) -> Result<(), Error> {
        let (mut from_node, mut to_node) = node.split();
        let mut inbox = BytesMut::new();
        let commands = self.core.start();
        self.carry_out(commands)?;
        loop {
            self.journal.write();
            let timeout = self.core.next_timeout().map(|at| self.began + at);
            tokio::select! {
                read = from_node.read_buf(&mut inbox) => {
                    if read.map_err(Error::Node)? == 0 {
                        return Ok(());
                    }
                    self.on_node_bytes(&mut inbox)?;
                }
                written = to_node.write_buf(&mut self.unsent), if !self.unsent.is_empty() => {
                    written.map_err(Error::Node)?;
                }
                saved = self.keeper.saved() => {
                    let result = saved.map_err(|error| Error::Runtime(io::Error::other(error)))?;
                    let done = result.is_ok();
                    if !done {
                        self.metrics.count_checkpoint_failure();
                    }
                    let result = result.map(|sizes| self.core.know_sizes(sizes));
                    self.take(Event::Saved(result))?;
                    if done {
                        self.remove_blobs();
                    }
                }
                written = self.journal.written() => written.map_err(Error::Runtime)?,
                reached = self.reaching.next() => {
                    let reached = reached.map_err(|error| Error::Runtime(io::Error::other(error)))?;
                    self.take_all(reached)?;
                }
                Some(event) = self.clients.next() => self.on_client(event)?,
                () = self.metrics.due() => self.metrics.show(&self.core.summary()),
                () = until(timeout), if timeout.is_some() => self.take(Event::Timeout)?,
            }
        }
    }

    /// What one read has brought is one batch.
    fn on_node_bytes(&mut self, inbox: &mut BytesMut) -> Result<(), Error> {
        let decoder = Decoder::control();
        let broken = |error| Error::Node(io::Error::new(io::ErrorKind::InvalidData, error));
        let (mut events, mut exited) = (Vec::new(), false);
        while let Some(frame) = decoder.decode(inbox).map_err(broken)? {
            if frame.header.kind != Kind::Control {
                continue;
            }
            let unreadable = |error| Error::Node(io::Error::new(io::ErrorKind::InvalidData, error));
            let event = NodeEvent::decode(frame.payload).map_err(unreadable)?;
            match event.body {
                _ if !self.options.node.is_meant_by(&event.node) => {
                    tracing::warn!(node = event.node, "an event of another node is ignored");
                }
                Some(body) => {
                    self.check_epoch(&body)?;
                    exited |= matches!(body, node_event::Body::Exited(_));
                    let node = self.options.node.clone();
                    events.push(Event::Node { node, body });
                }
                None => tracing::warn!("the node sent an event that is not known here"),
            }
        }
        self.take_all(events)?;
        if exited {
            self.remove_blobs();
        }
        Ok(())
    }

    /// The first list tells whether this controller is behind one before it: then the checkpoint that it read is not the
    /// one that was written last (somebody moved that away), and what it sent would be refused as old for ever.
    fn check_epoch(&mut self, body: &node_event::Body) -> Result<(), Error> {
        let node_event::Body::Listed(listed) = body else {
            return Ok(());
        };
        if std::mem::replace(&mut self.has_listed, true) || listed.newest_epoch < self.epoch {
            return Ok(());
        }
        self.keeper.begin_above(listed.newest_epoch)?;
        Err(Error::Behind {
            epoch: self.epoch,
            newest: listed.newest_epoch,
        })
    }

    fn on_client(&mut self, event: ClientEvent) -> Result<(), Error> {
        match event {
            ClientEvent::Connected { connection, client } => {
                self.clients.connected(connection, client);
            }
            ClientEvent::Call { call, body } => return self.on_call(call, body),
            ClientEvent::Bad { call, message } => {
                let error = eagleray_types::control::ApiError {
                    kind: "invalid".to_owned(),
                    message,
                };
                self.clients.answer(
                    call,
                    &ApiResponse {
                        body: Some(api_response::Body::Error(error)),
                    },
                );
            }
            ClientEvent::CaughtUp { connection } => {
                self.clients.caught_up(connection, self.core.snapshot());
            }
            ClientEvent::Gone { connection } => {
                self.clients.gone(connection);
                return self.take(Event::ClientGone { connection });
            }
        }
        Ok(())
    }

    fn on_call(&mut self, call: CallId, body: api_request::Body) -> Result<(), Error> {
        let request = match body {
            api_request::Body::Deploy(spec) => {
                let origin = Origin {
                    author: user(),
                    ..Origin::default()
                };
                let origin = Box::new(origin);
                Request::Deploy { spec, origin }
            }
            api_request::Body::Rollback(mut rollback) => {
                if rollback.author.is_empty() {
                    rollback.author = user();
                }
                Request::Rollback { rollback }
            }
            api_request::Body::Scale(scale) => Request::Scale { scale },
            api_request::Body::Delete(name) => Request::Delete { name },
            api_request::Body::DeleteAll(_) => Request::DeleteAll,
            api_request::Body::BeginDelete(name) => Request::BeginDelete { name },
            api_request::Body::AwaitApplication(wait) => {
                return self.take(Event::Await { call, wait });
            }
            api_request::Body::AwaitDeleted(name) => {
                return self.take(Event::AwaitDeleted { call, name });
            }
            api_request::Body::Status(_) => return self.take(Event::Status { call }),
            api_request::Body::Stacks(replica_id) => {
                return self.take(Event::Stacks { call, replica_id });
            }
            api_request::Body::Compare(compare) => {
                return self.take(Event::Compare { call, compare });
            }
            api_request::Body::Events(request) => {
                return self.take(Event::Events { call, request });
            }
            api_request::Body::History(application) => {
                return self.take(Event::History { call, application });
            }
            api_request::Body::Apply(mut apply) => {
                if apply.author.is_empty() {
                    apply.author = user();
                }
                Request::Apply(Box::new(apply))
            }
            api_request::Body::Built(built) => Request::Built(Box::new(built)),
            api_request::Body::Plan(apply) => Request::Plan(Box::new(apply)),
            api_request::Body::Unreachable(report) => {
                return self.take(Event::Unreachable(report));
            }
            api_request::Body::WhatIf(question) => {
                return self.take(Event::WhatIf { call, question });
            }
            api_request::Body::Policy(said) => {
                return self.take(Event::Policy { call, said });
            }
            api_request::Body::Loads(loads) => {
                let connection = call.connection;
                return self.take(Event::Loads { connection, loads });
            }
            api_request::Body::WatchTargets(_) => {
                self.clients.watch(call, self.core.snapshot());
                return Ok(());
            }
        };
        self.take(Event::Request { call, request })
    }

    fn take(&mut self, event: Event) -> Result<(), Error> {
        self.take_all([event])
    }

    fn take_all(&mut self, events: impl IntoIterator<Item = Event>) -> Result<(), Error> {
        let now = self.began.elapsed();
        self.core.set_wall_time_s(wall_time_s(), now);
        let commands = self.core.on_events(events, now);
        self.metrics.touch();
        self.carry_out(commands)
    }

    fn carry_out(&mut self, commands: Vec<Command>) -> Result<(), Error> {
        for command in commands {
            match command {
                Command::Node { node, body } => self.tell_node(&node, body)?,
                Command::Publish(update) => {
                    let publish = Publish {
                        snapshot: update.snapshot,
                        update: update.encode_to_vec(),
                        epoch: self.epoch,
                    };
                    let node = self.options.node.clone();
                    self.tell_node(&node, node_command::Body::Publish(publish))?;
                    self.clients.publish(&update);
                }
                Command::Save(save) => {
                    let all = Everything {
                        revisions: self.core.revisions(),
                        entries: self.core.entries(),
                    };
                    self.keeper.save(save, all);
                }
                Command::Keep(event) => {
                    self.metrics.count_event(&event);
                    self.journal.add(event);
                }
                Command::Measured {
                    deployment,
                    span,
                    took,
                } => self.metrics.count_time(&deployment, span, took),
                Command::Listen => self.listen(),
                Command::Reach {
                    replica_id,
                    socket_path,
                } => self.reaching.begin(replica_id, socket_path),
                Command::Reply { call, response } => self.clients.answer(call, &response),
                Command::Log {
                    level: Level::Info,
                    message,
                } => tracing::info!("{message}"),
                Command::Log {
                    level: Level::Warning,
                    message,
                } => tracing::warn!("{message}"),
            }
        }
        Ok(())
    }

    fn tell_node(&mut self, node: &NodeId, body: node_command::Body) -> Result<(), Error> {
        debug_assert_eq!(
            *node, self.options.node,
            "there is one connection, to this node"
        );
        let command = NodeCommand {
            body: Some(body),
            node: node.to_string(),
        };
        Frame::control(0, command.encode_to_vec()).encode(&mut self.unsent);
        if self.unsent.len() > UNSENT_BYTES {
            Err(Error::NodeStuck(self.unsent.len()))
        } else {
            Ok(())
        }
    }

    /// Makes `controller.sock` again after somebody removed it. Connections that are open stay.
    fn listen(&mut self) {
        let path = self.options.run_directory.join("controller.sock");
        match bind(&path).and_then(UnixListener::from_std) {
            Ok(listener) => {
                self.clients.accept_from(listener);
                tracing::warn!(path = %path.display(), "the socket was removed and is made again");
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the socket was removed and cannot be made again");
            }
        }
    }

    fn remove_blobs(&mut self) {
        let (needed, pending) = (self.core.revisions(), self.core.pending_files());
        self.keeper.remove_blobs(&needed, &pending);
    }
}

fn wall_time_s() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// Whose processes may speak here at all, by the name that the environment gives them, or else the system.
fn user() -> String {
    let named = ["USER", "LOGNAME"].iter();
    let named = named.filter_map(|name| std::env::var(name).ok());
    let uid = rustix::process::geteuid().as_raw();
    named
        .chain(passwd_name(uid))
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| format!("uid {uid}"))
}

fn passwd_name(uid: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = users.lines().map(|line| line.split(':'));
    fields.find_map(|mut fields| {
        let name = fields.next()?;
        let found: u32 = fields.nth(1)?.parse().ok()?;
        (found == uid).then(|| name.to_owned())
    })
}

fn bind(path: &Path) -> io::Result<StdUnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdUnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn until(timeout: Option<Instant>) {
    match timeout {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
