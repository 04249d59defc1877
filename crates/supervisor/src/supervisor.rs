//! The node's loop: one thread, one `select!`, one place where what children say meets what is done about it.
//!
//! The node decides nothing. It carries out the controller's commands, passes messages on between controller,
//! proxy and replicas, and starts again what dies. While the controller is away replicas and proxy go on; what
//! must not be forgotten meanwhile is kept ([`Publisher`], [`Replicas`]) and the next controller asks for it.

use std::{
    cell::RefCell,
    path::PathBuf,
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use eagleray_types::control::{
    Empty, NodeCommand, NodeCounters, NodeEvent, NodeInfo, ProxyCommand, ProxyEvent, node_command,
    node_event::Body, proxy_command, proxy_event,
};
use prost::Message;
use rustix::process::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time,
};

use crate::{
    api::{CountersWanted, ShutdownWanted},
    directory::Error,
    link, owner,
    phase::{Patience, Phase},
    presence::Presence,
    proxy_watch::{Look, ProxyWatch},
    publisher::{Published, Publisher},
    ready::{Failure, Kind},
    replicas::{self, Replicas, event},
    service::{self, Role, Service},
    spawn,
    state_directory::Logs,
};

mod ending;

/// Messages of children that may wait for the loop; then the reading of their connections waits.
const QUEUE: usize = 1024;
const START_WITHIN: Duration = Duration::from_secs(20);
/// How often the node looks whether its files are still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Deaths of a process before the node is up after which it is given up.
const DEATHS_WHILE_STARTING: u32 = 3;

/// Where the tasks of a node tell its loop what happened.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) service_sender: mpsc::Sender<service::News>,
    pub(crate) replica_sender: mpsc::Sender<replicas::News>,
    pub(crate) shutdown_sender: mpsc::Sender<ShutdownWanted>,
    pub(crate) counters_sender: mpsc::Sender<CountersWanted>,
    services: mpsc::Receiver<service::News>,
    replicas: mpsc::Receiver<replicas::News>,
    shutdown: mpsc::Receiver<ShutdownWanted>,
    counters: mpsc::Receiver<CountersWanted>,
}

impl Channels {
    pub(crate) fn new() -> Self {
        let (service_sender, services) = mpsc::channel(QUEUE);
        let (replica_sender, replicas) = mpsc::channel(QUEUE);
        let (shutdown_sender, shutdown) = mpsc::channel(QUEUE);
        let (counters_sender, counters) = mpsc::channel(QUEUE);
        Self {
            service_sender,
            replica_sender,
            shutdown_sender,
            counters_sender,
            services,
            replicas,
            shutdown,
            counters,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) reaper: Rc<Service>,
    pub(crate) controller: Rc<Service>,
    pub(crate) proxy: Rc<Service>,
}

/// How the node ended. Not in order: processes may be left, and the reaper must see to them.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) as_asked: bool,
    pub(crate) in_order: bool,
}

#[derive(Debug)]
pub(crate) struct Supervisor {
    services: Services,
    replicas: Replicas,
    presence: Presence,
    publisher: Publisher,
    info: Rc<RefCell<NodeInfo>>,
    log_directory: PathBuf,
    logs: eagleray_logs::Writer,
    controller: Option<link::Sender>,
    proxy: Option<link::Sender>,
    /// The proxy that is there has been told to accept connections.
    proxy_may_accept: bool,
    watch: ProxyWatch,
    /// Who waits for what the proxy has counted; at most as many as the node has connections.
    counters_wanted: Vec<CountersWanted>,
    phase: Phase,
    patience: Patience,
    controller_spoke: bool,
    proxy_ready: bool,
    deaths_while_starting: u32,
    failure: Option<Failure>,
}

impl Supervisor {
    pub(crate) fn new(
        services: Services,
        replicas: Replicas,
        presence: Presence,
        info: Rc<RefCell<NodeInfo>>,
        log_directory: PathBuf,
        logs: eagleray_logs::Writer,
    ) -> Self {
        Self {
            services,
            replicas,
            presence,
            publisher: Publisher::default(),
            info,
            log_directory,
            logs,
            controller: None,
            proxy: None,
            proxy_may_accept: false,
            watch: ProxyWatch::default(),
            counters_wanted: Vec::new(),
            phase: Phase::Starting {
                until: Instant::now() + START_WITHIN,
            },
            patience: Patience::ORDERLY,
            controller_spoke: false,
            proxy_ready: false,
            deaths_while_starting: 0,
            failure: None,
        }
    }

    /// Runs until the node has ended. `announce` is called once, when it is up or has failed to come up, and
    /// returns whether the node is up and known to be.
    pub(crate) async fn run(
        &mut self,
        mut channels: Channels,
        owner_gone: impl Future<Output = owner::Gone>,
        announce: impl FnOnce(Result<(), Failure>) -> bool,
    ) -> Outcome {
        let signals = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::hangup()),
            signal(SignalKind::child()),
        );
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup), Ok(mut child)) = signals else {
            announce(Err(Failure::new(
                Kind::Failed,
                "the node cannot receive signals",
            )));
            return Outcome {
                as_asked: false,
                in_order: false,
            };
        };
        let mut announce = Some(announce);
        let mut as_asked = true;
        let mut owner_gone = pin!(owner_gone);
        let mut owner_watched = true;
        let mut look = time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        spawn::adopt_orphans();
        let mut child_ended = false;
        let mut reap = time::interval(LOOK_EVERY);
        reap.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        while self.phase != Phase::Over {
            let deadline = self.phase.deadline();
            // Biased: signals first, so that a flood of messages cannot hold up the end.
            tokio::select! {
                biased;
                _ = terminate.recv() => if self.on_signal("SIGTERM") { return self.abandon() },
                _ = interrupt.recv() => if self.on_signal("SIGINT") { return self.abandon() },
                _ = hangup.recv() => if self.on_signal("SIGHUP") { return self.abandon() },
                gone = &mut owner_gone, if owner_watched => {
                    owner_watched = false;
                    match gone {
                        owner::Gone::LetGo => self.begin_end("its script let go of it", Patience::ORDERLY),
                        owner::Gone::Dead => self.begin_end("its script is dead", Patience::ABANDONED),
                    }
                }
                Some(ShutdownWanted) = channels.shutdown.recv() => {
                    self.begin_end("it was asked to", Patience::ORDERLY);
                }
                () = sleep_until(deadline) => self.on_deadline(),
                Some(wanted) = channels.counters.recv() => self.count(wanted),
                _ = look.tick(), if self.phase == Phase::Up => self.look(),
                // Not at once: a scan a second is enough, however many end.
                _ = reap.tick(), if child_ended => {
                    child_ended = false;
                    spawn::reap_orphans();
                }
                Some(()) = child.recv(), if !child_ended => child_ended = true,
                Some(news) = channels.services.recv() => self.on_service(news),
                Some(news) = channels.replicas.recv() => {
                    if let Some(event) = self.replicas.on_news(news) {
                        self.tell_controller(&event);
                    }
                }
            }
            self.advance();
            if self.phase == Phase::Up
                && let Some(announce) = announce.take()
            {
                as_asked = announce(Ok(()));
                if !as_asked {
                    self.begin_end("it could not say that it is up", Patience::ABANDONED);
                }
            }
        }
        // Said last: who hears that it failed may count on nothing being left.
        if let (Some(announce), Some(failure)) = (announce, self.failure.take()) {
            as_asked = announce(Err(failure));
        }
        Outcome {
            as_asked,
            in_order: self.replicas.is_empty(),
        }
    }

    fn on_service(&mut self, news: service::News) {
        match news {
            service::News::Up {
                role: Role::Controller,
                link,
            } if !self.phase.is_ending() => {
                self.controller = link;
                if !self.presence.has_inherited_controller_socket() {
                    self.tell_controller(&event(Body::ControllerSocketLost(Empty {})));
                }
            }
            service::News::Up {
                role: Role::Proxy,
                link: Some(link),
            } => {
                for update in self.publisher.replay() {
                    // More updates than the queue takes are never kept.
                    link.send(
                        0,
                        encode_proxy(proxy_command::Body::Update(update.to_vec())),
                    )
                    .ok();
                }
                if self.phase.is_ending() {
                    link.send(0, encode_proxy(proxy_command::Body::Drain(Empty {})))
                        .ok();
                }
                self.proxy = Some(link);
                self.let_proxy_accept();
            }
            service::News::Up { .. } => {}
            service::News::Said {
                role: Role::Controller,
                message,
            } => self.on_controller(message),
            service::News::Said {
                role: Role::Proxy,
                message,
            } => self.on_proxy(message),
            service::News::Said {
                role: Role::Reaper, ..
            } => {}
            service::News::Well { role } => self.set_trouble(role, None),
            service::News::Down {
                role,
                reason,
                trouble,
            } => {
                self.forget(role);
                self.set_trouble(role, trouble);
                if matches!(self.phase, Phase::Starting { .. }) {
                    self.deaths_while_starting += 1;
                    if self.deaths_while_starting >= DEATHS_WHILE_STARTING {
                        self.fail_to_start(
                            role,
                            format!("the {} does not start ({reason})", role.name()),
                        );
                    }
                }
            }
            service::News::Ended { role } => self.forget(role),
        }
    }

    /// What people are told of a process that keeps dying. `None`: nothing is wrong, or not yet.
    fn set_trouble(&mut self, role: Role, trouble: Option<String>) {
        let mut info = self.info.borrow_mut();
        if role == Role::Proxy && trouble.is_some() {
            "UNHEALTHY".clone_into(&mut info.proxy_status);
        }
        drop(info);
        self.set_process_trouble(role.name(), trouble);
    }

    fn set_process_trouble(&self, of: &str, trouble: Option<String>) {
        let troubles = &mut self.info.borrow_mut().troubles;
        match trouble {
            Some(trouble) => troubles.insert(of.to_owned(), trouble),
            None => troubles.remove(of),
        };
    }

    fn forget(&mut self, role: Role) {
        match role {
            Role::Controller => self.controller = None,
            Role::Proxy => {
                self.proxy = None;
                self.counters_wanted.clear();
                self.proxy_may_accept = false;
                self.proxy_ready = false;
                self.watch = ProxyWatch::default();
                "STARTING".clone_into(&mut self.info.borrow_mut().proxy_status);
            }
            Role::Reaper => {}
        }
    }

    /// Whether a replica of this node has failed, so that its log may be wanted.
    pub(crate) fn any_replica_failed(&self) -> bool {
        self.replicas.any_failed()
    }

    /// Removes what the node has on disk and is of no use without it.
    pub(crate) async fn leave(&self, logs: Logs) -> Result<(), Error> {
        self.presence.leave(logs).await
    }

    /// Makes again what somebody removed, or asks those who can.
    fn look(&mut self) {
        let trouble = self.logs.trouble().map(|trouble| {
            format!("lines of logs are lost: {trouble}. Make room there; nothing has to be started again")
        });
        self.set_process_trouble("logs", trouble);
        let lost = self.presence.look();
        if lost.state {
            self.tell_controller(&event(Body::StateLost(Empty {})));
        }
        if lost.controller_socket {
            self.tell_controller(&event(Body::ControllerSocketLost(Empty {})));
        }
        for event in self.replicas.without_socket() {
            self.tell_controller(&event);
        }
        self.look_at_proxy(Instant::now());
    }

    /// Asks the proxy whether its threads turn, and says so in the status when it does not answer.
    fn look_at_proxy(&mut self, now: Instant) {
        let Some(proxy) = self.proxy.as_ref().filter(|_| self.proxy_ready) else {
            return;
        };
        match self.watch.look(now) {
            Look::Ask => {
                let ask = proxy_command::Body::LookWhetherItTurns(Empty {});
                // A full queue is seen to when the next update finds it so.
                proxy.send(0, encode_proxy(ask)).ok();
            }
            Look::Silent(time) => {
                let pid = self.services.proxy.pid().unwrap_or(0);
                let trouble = format!(
                    "the proxy (pid {pid}) has not answered for {} s, so requests may wait; if it was stopped, \
                     `kill -CONT {pid}` lets it go on, and `kill -KILL {pid}` has another one started",
                    time.as_secs()
                );
                if !self.watch.said {
                    tracing::warn!(trouble, "the proxy does not turn");
                    self.watch.said = true;
                }
                self.set_trouble(Role::Proxy, Some(trouble));
            }
            Look::Wait => {}
        }
    }

    /// It turns.
    fn proxy_answered(&mut self) {
        if std::mem::take(&mut self.watch).said {
            tracing::info!("the proxy turns again");
            self.set_trouble(Role::Proxy, None);
            "HEALTHY".clone_into(&mut self.info.borrow_mut().proxy_status);
        }
    }

    fn on_controller(&mut self, message: Bytes) {
        if self.phase.is_ending() {
            return;
        }
        self.controller_spoke = true;
        // It has read its checkpoint.
        self.set_trouble(Role::Controller, None);
        let body = match NodeCommand::decode(message) {
            Ok(NodeCommand { body: Some(body) }) => body,
            Ok(NodeCommand { body: None }) => {
                return tracing::warn!("a command of a newer controller is ignored");
            }
            Err(error) => {
                return tracing::error!(%error, "a command that cannot be read is ignored");
            }
        };
        match body {
            node_command::Body::Spawn(command) => {
                if !self.presence.has_room_for_sockets() {
                    // Not in a second, when it is looked for: this start would fail, and so would those after it.
                    self.look();
                }
                if let Some(event) = self.replicas.spawn(command) {
                    self.tell_controller(&event);
                }
            }
            node_command::Body::Stop(command) => {
                if let Some(event) = self.replicas.stop(&command) {
                    self.tell_controller(&event);
                }
            }
            node_command::Body::List(Empty {}) => {
                for event in self.replicas.list() {
                    self.tell_controller(&event);
                }
            }
            node_command::Body::Relay(relay) => self.replicas.relay(relay),
            node_command::Body::Publish(publish) => {
                self.replicas.note_epoch(publish.epoch);
                self.publish(publish.snapshot, &publish.update.into());
            }
        }
    }

    fn publish(&mut self, snapshot: bool, update: &Bytes) {
        if self.publisher.publish(snapshot, update.clone()) == Published::SnapshotWanted {
            self.tell_controller(&event(Body::SnapshotWanted(Empty {})));
        }
        let Some(proxy) = &self.proxy else { return };
        if proxy.send(
            0,
            encode_proxy(proxy_command::Body::Update(update.to_vec())),
        ) == Err(link::NotSent::Full)
        {
            // A gap would only be noticed by a proxy that reads, and this one does not.
            tracing::error!("the proxy does not read its updates and is started again");
            self.services.proxy.signal(Signal::KILL);
        }
        self.let_proxy_accept();
    }

    /// A proxy accepts connections when it knows what its predecessor knew, or the first snapshot: before, it would
    /// answer that there is no such application.
    fn let_proxy_accept(&mut self) {
        let Some(proxy) = self.proxy.as_ref().filter(|_| !self.proxy_may_accept) else {
            return;
        };
        if !self.publisher.replay().is_empty() {
            self.proxy_may_accept = proxy
                .send(0, encode_proxy(proxy_command::Body::Accept(Empty {})))
                .is_ok();
        }
    }

    fn on_proxy(&mut self, message: Bytes) {
        match ProxyEvent::decode(message).map(|event| event.body) {
            Ok(Some(proxy_event::Body::Ready(Empty {}))) => {
                self.proxy_ready = true;
                self.set_trouble(Role::Proxy, None);
                "HEALTHY".clone_into(&mut self.info.borrow_mut().proxy_status);
            }
            Ok(Some(proxy_event::Body::SnapshotWanted(Empty {}))) => {
                self.tell_controller(&event(Body::SnapshotWanted(Empty {})));
            }
            Ok(Some(proxy_event::Body::Applied(applied))) => {
                self.tell_controller(&event(Body::Published(applied)));
            }
            Ok(Some(proxy_event::Body::Counted(counters))) => {
                let counters = NodeCounters {
                    proxies: vec![counters],
                };
                for wanted in self.counters_wanted.drain(..) {
                    // Who asked may have left.
                    drop(wanted.send(counters.clone()));
                }
            }
            Ok(Some(proxy_event::Body::Turns(Empty {}))) => self.proxy_answered(),
            Ok(Some(proxy_event::Body::Unreachable(report))) => {
                self.tell_controller(&event(Body::Unreachable(report)));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "a message of the proxy that cannot be read is ignored");
            }
        }
    }

    /// Asks the proxy; whoever waits already gets the same answer.
    fn count(&mut self, wanted: CountersWanted) {
        self.counters_wanted.retain(|waiting| !waiting.is_closed());
        let Some(proxy) = &self.proxy else { return };
        if proxy
            .send(0, encode_proxy(proxy_command::Body::Count(Empty {})))
            .is_ok()
        {
            self.counters_wanted.push(wanted);
        }
    }

    /// One that is away learns the truth when it comes back and lists.
    fn tell_controller(&self, event: &NodeEvent) {
        let Some(controller) = self.controller.as_ref().filter(|_| !self.phase.is_ending()) else {
            return;
        };
        if controller.send(0, event.encode_to_vec()) == Err(link::NotSent::Full) {
            tracing::error!("the controller does not read its events and is started again");
            self.services.controller.signal(Signal::KILL);
        }
    }
}

fn encode_proxy(body: proxy_command::Body) -> Bytes {
    ProxyCommand { body: Some(body) }.encode_to_vec().into()
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
