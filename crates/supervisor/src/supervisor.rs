//! The node's loop around [`Core`]: one thread, one `select!`. What happens becomes an event, and what the core commands is
//! carried out before the next event is taken.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    pin::pin,
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use eagleray_types::control::{NodeCounters, NodeEvent, Why, node_event};
use prost::Message;
use tokio::{
    signal::unix::{SignalKind, signal},
    time,
};

use crate::{
    api::{CountersWanted, ShutdownWanted},
    core::{
        Command, Core, Event, Level, Looked, Outcome, ReplicaCommand, ReplicaNews, Role,
        ServiceCommand, ServiceNews, Trouble,
    },
    directory::Error,
    link::NotSent,
    loads::{BEHIND, HeldLoads},
    owner,
    ready::{Failure, Kind},
    spawn,
    state_directory::Logs,
};

mod channels;
mod machine;

pub(crate) use channels::Channels;
pub(crate) use machine::{Machine, Services};

/// How often what was left to this process and has ended is waited for.
const REAP_EVERY: Duration = Duration::from_secs(1);
/// Zygotes have nothing to finish, and are killed.
const ZYGOTES_WITHIN: Duration = Duration::from_secs(1);
/// What is shown of the log of a process that does not start.
const LOG_TAIL_BYTES: usize = 2000;

#[derive(Debug)]
pub(crate) struct Supervisor<Announce> {
    core: Core,
    began: Instant,
    machine: Machine,
    /// What carrying out a command has shown; taken before anything else.
    events: VecDeque<Event>,
    /// Who waits for what the proxy has counted; at most as many as the node has connections.
    counters_wanted: Vec<CountersWanted>,
    held_loads: HeldLoads,
    announce: Option<Announce>,
}

impl<Announce: FnOnce(Result<(), Failure>)> Supervisor<Announce> {
    /// `announce` is called once, when the node is up and can be found, or has failed to come up.
    pub(crate) fn new(machine: Machine, announce: Announce) -> Self {
        Self {
            core: Core::new(machine.node_id.clone(), machine.log_directory.clone())
                .with_resources(machine.resources.clone()),
            began: Instant::now(),
            machine,
            events: VecDeque::new(),
            counters_wanted: Vec::new(),
            held_loads: HeldLoads::default(),
            announce: Some(announce),
        }
    }

    /// Runs until the node has ended.
    pub(crate) async fn run(
        &mut self,
        mut channels: Channels,
        owner_gone: impl Future<Output = owner::Gone>,
    ) -> Outcome {
        let signals = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::hangup()),
            signal(SignalKind::child()),
        );
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup), Ok(mut child)) = signals else {
            let message = "the node cannot receive signals";
            self.announce(Err(Failure::new(Kind::Failed, message)));
            return Outcome {
                as_asked: false,
                in_order: false,
            };
        };
        let mut owner_gone = pin!(owner_gone);
        let mut owner_watched = true;
        spawn::adopt_orphans();
        let mut child_ended = false;
        let mut reap = time::interval(REAP_EVERY);
        reap.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let commands = self.core.start();
        self.carry_out(commands);
        loop {
            if let Some(outcome) = self.core.outcome() {
                return outcome;
            }
            let timeout = self.core.next_timeout().map(|at| self.began + at);
            // Biased: signals first, so that a flood of messages cannot hold up the end.
            let event = tokio::select! {
                biased;
                _ = terminate.recv() => Event::Signalled("SIGTERM"),
                _ = interrupt.recv() => Event::Signalled("SIGINT"),
                _ = hangup.recv() => Event::Signalled("SIGHUP"),
                gone = &mut owner_gone, if owner_watched => {
                    owner_watched = false;
                    Event::OwnerGone(gone)
                }
                Some(ShutdownWanted) = channels.shutdown.recv() => Event::ShutdownWanted,
                () = sleep_until(timeout) => Event::Timeout,
                Some(wanted) = channels.counters.recv() => {
                    self.counters_wanted.retain(|waiting| !waiting.is_closed());
                    self.counters_wanted.push(wanted);
                    Event::CountersWanted
                }
                // Not at once: a scan a second is enough, however many end.
                _ = reap.tick(), if child_ended => {
                    child_ended = !spawn::reap_orphans();
                    continue;
                }
                Some(()) = child.recv(), if !child_ended => {
                    child_ended = true;
                    continue;
                }
                Some(event) = channels.services.recv() => event,
                Some(event) = channels.replicas.recv() => event,
            };
            self.take(event);
        }
    }

    /// Whether a replica of this node has failed, so that its log may be wanted.
    pub(crate) fn any_replica_failed(&self) -> bool {
        self.core.any_replica_failed()
    }

    /// Ends what no replica is forked from any more, and waits for that.
    pub(crate) async fn end_zygotes(&self) {
        let zygotes = self.machine.replicas.end_zygotes();
        if time::timeout(ZYGOTES_WITHIN, zygotes.ended())
            .await
            .is_err()
        {
            tracing::warn!("zygotes are left; they end when they see that the node is gone");
        }
    }

    /// Removes what the node has on disk and is of no use without it.
    pub(crate) async fn leave(&mut self, logs: Logs) -> Result<(), Error> {
        self.machine.presence.leave(logs).await
    }

    fn take(&mut self, event: Event) {
        match &event {
            Event::Service(role, ServiceNews::Ended { .. }) => {
                self.machine.services.of(*role).forget();
            }
            Event::Replica(
                replica_id,
                ReplicaNews::Exited { .. } | ReplicaNews::NotStarted { .. },
            ) => {
                self.machine.replicas.forget(replica_id);
            }
            _ => {}
        }
        let commands = self.core.on_event(event, self.began.elapsed());
        self.carry_out(commands);
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Service(role, command) => self.command_service(role, command),
                Command::Replica(replica_id, command) => self.command_replica(replica_id, command),
                Command::ForgetImports(imports) => self.machine.replicas.forget_imports(&imports),
                Command::Report(event) => self.report(event),
                Command::Look => self.look(),
                Command::Announce(result) => {
                    if result.is_ok() {
                        let address = &self.machine.info.borrow().http_address;
                        tracing::info!(address, "the node is up");
                    }
                    let known = self.announce(result);
                    self.events.push_back(Event::Announced { known });
                }
                Command::ReadLog(role) => {
                    let tail = self.log_tail(role);
                    self.events.push_back(Event::LogRead(tail));
                }
                Command::Counted(counters) => self.counted(counters.as_ref()),
                Command::Show(status) => {
                    let mut info = self.machine.info.borrow_mut();
                    status.proxy.clone_into(&mut info.proxy_status);
                    info.why = self.reasons(status.troubles);
                }
                Command::Log { level, message } => match level {
                    Level::Info => tracing::info!("{message}"),
                    Level::Warning => tracing::warn!("{message}"),
                    Level::Error => tracing::error!("{message}"),
                },
            }
        }
        while let Some(event) = self.events.pop_front() {
            self.take(event);
        }
    }

    /// What is wrong, as it is told. Times become those of the wall clock.
    fn reasons(&self, troubles: BTreeMap<String, Trouble>) -> Vec<Why> {
        let wall_s = SystemTime::now().duration_since(UNIX_EPOCH);
        let began_s = wall_s.unwrap_or_default().as_secs_f64() - self.began.elapsed().as_secs_f64();
        let troubles = troubles.into_values();
        let reason = |one: Trouble| Why {
            code: one.code,
            sentence: one.sentence,
            since_s: began_s + one.since.as_secs_f64(),
            help: one.help,
            replica_id: String::new(),
        };
        troubles.map(reason).collect()
    }

    fn command_service(&mut self, role: Role, command: ServiceCommand) {
        if matches!(command, ServiceCommand::CloseListeners) {
            self.machine.ending.store(true, Ordering::Relaxed);
        }
        let service = self.machine.services.of(role);
        let news = match command {
            ServiceCommand::Start => match service.start() {
                Ok(pid) => ServiceNews::Started { pid },
                Err(error) => ServiceNews::NotStarted {
                    error: error.to_string(),
                },
            },
            ServiceCommand::Tell(message) => {
                if service.tell(message) != Err(NotSent::Full) {
                    return;
                }
                ServiceNews::DoesNotRead
            }
            // Missed: nobody counts on it.
            ServiceCommand::Ask(message) => {
                service.tell(message).ok();
                return;
            }
            ServiceCommand::Signal(signal) => return service.signal(signal),
            ServiceCommand::CloseListeners => return service.close_listeners(),
            ServiceCommand::SayAllIsWell => return service.say_all_is_well(),
        };
        let is_new_controller =
            role == Role::Controller && matches!(news, ServiceNews::Started { .. });
        self.events.push_back(Event::Service(role, news));
        if is_new_controller && !self.machine.presence.has_inherited_controller_socket() {
            self.events.push_back(Event::Looked(Looked {
                controller_socket_lost: true,
                ..Looked::default()
            }));
        }
    }

    fn command_replica(&mut self, replica_id: String, command: ReplicaCommand) {
        let news = match command {
            ReplicaCommand::Start(command) => {
                if !self.machine.presence.has_room_for_sockets() {
                    // Not in a second, when it is looked for: this start would fail, and so would those after it.
                    self.look();
                }
                let Some(news) = self.machine.replicas.start(*command) else {
                    return;
                };
                news
            }
            ReplicaCommand::Tell(message) => {
                if self.machine.replicas.tell(&replica_id, message) != Err(NotSent::Full) {
                    return;
                }
                ReplicaNews::DoesNotRead
            }
            ReplicaCommand::Ask(message) => {
                self.machine.replicas.tell(&replica_id, message).ok();
                return;
            }
            ReplicaCommand::Kill => return self.machine.replicas.kill(&replica_id),
        };
        self.events.push_back(Event::Replica(replica_id, news));
    }

    fn report(&mut self, event: NodeEvent) {
        match event.body {
            Some(node_event::Body::Loads(said)) if !said.gone && self.controller_is_behind() => {
                self.held_loads.hold(said);
            }
            _ => {
                self.say_held_loads();
                self.tell_controller(&event);
            }
        }
    }

    fn tell_controller(&mut self, event: &NodeEvent) {
        let message = event.encode_to_vec().into();
        self.command_service(Role::Controller, ServiceCommand::Tell(message));
    }

    fn controller_is_behind(&mut self) -> bool {
        self.machine.services.of(Role::Controller).waiting() > BEHIND
    }

    fn say_held_loads(&mut self) {
        for said in self.held_loads.take() {
            let event = NodeEvent {
                body: Some(node_event::Body::Loads(said)),
                node: self.machine.node_id.to_string(),
            };
            self.tell_controller(&event);
        }
    }

    /// Makes again what somebody removed, and says what others have to.
    fn look(&mut self) {
        if !self.controller_is_behind() {
            self.say_held_loads();
        }
        let lost = self.machine.presence.look();
        self.events.push_back(Event::Looked(Looked {
            state_lost: lost.state,
            controller_socket_lost: lost.controller_socket,
            replica_sockets_lost: self.machine.replicas.without_socket(),
            logs: Some(self.machine.logs.trouble().map_or(Ok(()), Err)),
        }));
    }

    /// Returns whether those who wait for the node can find it now.
    fn announce(&mut self, result: Result<(), Failure>) -> bool {
        let result = result.and_then(|()| Ok(self.machine.presence.publish()?));
        let known = result.is_ok();
        if let Some(announce) = self.announce.take() {
            announce(result);
        }
        known
    }

    fn log_tail(&self, role: Role) -> String {
        let log = fs::read(self.machine.log_directory.join(role.log_name())).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(LOG_TAIL_BYTES)..);
        String::from_utf8_lossy(tail.unwrap_or_default()).into_owned()
    }

    fn counted(&mut self, counters: Option<&NodeCounters>) {
        for wanted in self.counters_wanted.drain(..) {
            if let Some(counters) = counters {
                // Who asked may have left.
                drop(wanted.send(counters.clone()));
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
