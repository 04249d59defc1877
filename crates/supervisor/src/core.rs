//! What a node does about what happens: event in, commands out.
//!
//! It reads no clock, does no I/O and draws no randomness: the same events at the same times give the same commands in a
//! test, in a simulator and in service. Times are counted from the node's beginning. Around it lies the
//! `supervisor`, which carries commands out.
//!
//! A node decides nothing about applications. It carries out the controller's commands, passes messages on between
//! controller, proxy and replicas, starts again what dies, and ends all in order. While the controller is away replicas
//! and proxy go on; what must not be forgotten meanwhile is kept, and the next controller asks for it.

use std::{path::PathBuf, time::Duration};

use eagleray_types::{
    NodeId,
    control::{ConfigureProxy, Empty, NodeResources, node_event::Body},
};

use self::{
    outbox::Outbox,
    phase::{Patience, Phase},
    proxy_watch::ProxyWatch,
    publisher::Publisher,
    replicas::Replicas,
    service::{Service, Turn},
    status::Troubles,
};
use crate::{owner::Gone, ready::Failure};

mod command;
mod controller;
mod ending;
mod event;
mod outbox;
mod phase;
mod proxy;
mod proxy_watch;
mod publisher;
mod replicas;
mod restarts;
mod service;
mod services;
mod status;

pub use command::{Command, Level, ReplicaCommand, Role, ServiceCommand, Status, Trouble};
pub use event::{Event, Looked, ReplicaNews, ServiceNews};

/// Proxy and controller have spoken within this time, or the node does not come up.
const START_WITHIN: Duration = Duration::from_secs(20);
/// How often the node looks whether its files are still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Deaths of a process before the node is up after which it is given up.
const DEATHS_WHILE_STARTING: u32 = 3;

/// How the node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// It came up, was known to be, and ended without force.
    pub as_asked: bool,
    /// Nothing of it is left. Else the reaper must see to that.
    pub in_order: bool,
}

/// Whether the proxy that is there accepts connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    NotYet,
    /// It has been told to.
    Told,
    /// It has said that it does.
    Yes,
}

/// The state of a node.
#[derive(Debug)]
pub struct Core {
    phase: Phase,
    patience: Patience,
    reaper: Service,
    controller: Service,
    proxy: Service,
    replicas: Replicas,
    publisher: Publisher,
    /// What the proxy was told to go by beside how it was started.
    proxy_settings: ConfigureProxy,
    watch: ProxyWatch,
    troubles: Troubles,
    accepting: Accepting,
    controller_spoke: bool,
    deaths_while_starting: u32,
    /// Why the node does not come up.
    failure: Option<Failure>,
    /// Those who wait for the node could not be told of it.
    failed: bool,
    outcome: Option<Outcome>,
    look_at: Duration,
    out: Outbox,
}

impl Core {
    /// The node `node`, which begins now. Its processes write their logs into `log_directory`, which people are told.
    pub fn new(node: NodeId, log_directory: PathBuf) -> Self {
        Self {
            phase: Phase::Starting {
                until: START_WITHIN,
            },
            patience: Patience::ORDERLY,
            reaper: Service::new(Role::Reaper),
            controller: Service::new(Role::Controller),
            proxy: Service::new(Role::Proxy),
            replicas: Replicas::default(),
            publisher: Publisher::default(),
            proxy_settings: ConfigureProxy::default(),
            watch: ProxyWatch::default(),
            troubles: Troubles::new(log_directory),
            accepting: Accepting::NotYet,
            controller_spoke: false,
            deaths_while_starting: 0,
            failure: None,
            failed: false,
            outcome: None,
            look_at: Duration::ZERO,
            out: Outbox::new(node),
        }
    }

    /// Its replicas may have this of the machine.
    #[must_use]
    pub fn with_resources(self, resources: NodeResources) -> Self {
        Self {
            replicas: Replicas::of(resources),
            ..self
        }
    }

    /// The first commands.
    pub fn start(&mut self) -> Vec<Command> {
        for role in [Role::Reaper, Role::Controller, Role::Proxy] {
            self.start_service(role, Duration::ZERO);
        }
        self.out.take(true)
    }

    /// What is to be done about an event at `now`, which never goes back.
    pub fn on_event(&mut self, event: Event, now: Duration) -> Vec<Command> {
        match event {
            Event::Service(role, news) => self.on_service(role, news, now),
            Event::Replica(replica_id, news) => {
                self.replicas.on_news(&replica_id, news, &mut self.out);
            }
            Event::Timeout => self.on_timeout(now),
            Event::Looked(looked) => self.on_looked(looked, now),
            Event::Signalled(name) => self.on_signal(name, now),
            Event::OwnerGone(Gone::LetGo) => {
                self.begin_end("its script let go of it", Patience::ORDERLY, now);
            }
            Event::OwnerGone(Gone::Dead) => {
                self.begin_end("its script is dead", Patience::ABANDONED, now);
            }
            Event::ShutdownWanted => self.begin_end("it was asked to", Patience::ORDERLY, now),
            Event::CountersWanted => self.count(),
            Event::Announced { known: true } => {}
            Event::Announced { known: false } => {
                self.failed = true;
                let reason = "it could not say that it is up";
                self.begin_end(reason, Patience::ABANDONED, now);
            }
            Event::LogRead(tail) => self.on_log(&tail),
        }
        self.advance(now);
        if let Some(status) = self.troubles.changed() {
            self.out.push(Command::Show(status));
        }
        // One that is away learns the truth when it comes back and lists. One that is not listened to any more would
        // replace what ends.
        let hears = self.controller.is_running() && !self.phase.is_ending();
        self.out.take(hears)
    }

    /// When [`Event::Timeout`] is due.
    pub fn next_timeout(&self) -> Option<Duration> {
        let look = (self.phase == Phase::Up).then_some(self.look_at);
        let services = [&self.reaper, &self.controller, &self.proxy];
        services
            .into_iter()
            .filter_map(Service::next_timeout)
            .chain(self.phase.deadline())
            .chain(self.replicas.next_timeout())
            .chain(look)
            .min()
    }

    /// Once the node has ended.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Whether a replica could not start, or died though nobody asked it to, so that its log may be wanted.
    pub fn any_replica_failed(&self) -> bool {
        self.replicas.any_failed()
    }

    fn on_timeout(&mut self, now: Duration) {
        if self.phase.deadline().is_some_and(|at| at <= now) {
            self.on_deadline(now);
        }
        for role in [Role::Reaper, Role::Controller, Role::Proxy] {
            match self.service(role).on_timeout(now) {
                Turn::Start => self.start_service(role, now),
                Turn::Well => self.troubles.clear(role.name()),
                Turn::Nothing => {}
            }
        }
        self.replicas.on_timeout(now, &mut self.out);
        if self.phase == Phase::Up && self.look_at <= now {
            self.look_at = now + LOOK_EVERY;
            self.out.push(Command::Look);
            self.look_at_proxy(now);
        }
    }

    fn on_looked(&mut self, looked: Looked, now: Duration) {
        if let Some(logs) = looked.logs {
            match logs {
                Ok(()) => self.troubles.clear("logs"),
                Err(trouble) => self.troubles.set(
                    "logs",
                    Trouble {
                        code: "logs_lost".to_owned(),
                        sentence: format!("Lines of logs are lost: {trouble}."),
                        help: "Make room there; nothing has to be started again.".to_owned(),
                        since: now,
                    },
                ),
            }
        }
        if looked.state_lost {
            self.out.report(Body::StateLost(Empty {}));
        }
        if looked.controller_socket_lost {
            self.out.report(Body::ControllerSocketLost(Empty {}));
        }
        self.replicas
            .without_socket(&looked.replica_sockets_lost, &mut self.out);
    }
}

#[cfg(test)]
mod tests;
