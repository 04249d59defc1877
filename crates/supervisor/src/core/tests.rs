//! A node on a scripted clock: no process, no socket; what happens and when is the test's.

use std::collections::VecDeque;

use bytes::Bytes;
use eagleray_types::control::{
    self, AppliedUpdate, Listed, NodeCommand, Publish, Ready, Relay, Spawn, Stop, node_command,
    proxy_command, proxy_event, replica_event,
};
use prost::Message as _;
use rustix::process::Signal;

use super::*;

mod ending;
mod replicas;
mod schedules;
mod services;
mod settings;

const SECOND: Duration = Duration::from_secs(1);

/// The core, and a machine on which every start succeeds at once unless the test says otherwise.
struct World {
    core: Core,
    now: Duration,
    next_pid: u32,
    /// Since the test looked last.
    commands: VecDeque<Command>,
    starts_fail: bool,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            core: Core::new(NodeId::parse("n1").unwrap(), "/logs".into()),
            now: Duration::ZERO,
            next_pid: 100,
            commands: VecDeque::new(),
            starts_fail: false,
        };
        let commands = world.core.start();
        world.carry_out(commands);
        world
    }

    /// A node that is up.
    fn up() -> Self {
        let mut world = Self::new();
        world.command(node_command::Body::List(Empty {}));
        world.proxy_says(proxy_event::Body::Ready(Empty {}));
        assert!(world.take_commands().contains(&Command::Announce(Ok(()))));
        world
    }

    fn event(&mut self, event: Event) {
        let commands = self.core.on_event(event, self.now);
        self.carry_out(commands);
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            let answer = self.answer(&command);
            self.commands.push_back(command);
            if let Some(answer) = answer {
                self.event(answer);
            }
        }
    }

    fn answer(&mut self, command: &Command) -> Option<Event> {
        match command {
            Command::Service(role, ServiceCommand::Start) => {
                let news = if self.starts_fail {
                    let error = "no process ids left".to_owned();
                    ServiceNews::NotStarted { error }
                } else {
                    let pid = self.pid();
                    ServiceNews::Started { pid }
                };
                Some(Event::Service(*role, news))
            }
            Command::Replica(id, ReplicaCommand::Start(_)) => {
                let news = if self.starts_fail {
                    let message = "no process ids left".to_owned();
                    ReplicaNews::NotStarted { message }
                } else {
                    let (pid, socket_path) = (self.pid(), format!("/run/r/{id}.sock"));
                    ReplicaNews::Started { pid, socket_path }
                };
                Some(Event::Replica(id.clone(), news))
            }
            Command::ReadLog(_) => Some(Event::LogRead("the reason\n".to_owned())),
            Command::Announce(Ok(())) => Some(Event::Announced { known: true }),
            _ => None,
        }
    }

    fn pid(&mut self) -> u32 {
        self.next_pid += 1;
        self.next_pid
    }

    /// Lets the clock run for `time`, with every timeout on the way.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.core.next_timeout().filter(|at| *at <= until) {
            assert!(at >= self.now, "a timeout of the past");
            self.now = at;
            self.event(Event::Timeout);
        }
        self.now = until;
    }

    fn command(&mut self, body: node_command::Body) {
        self.event(command_for("n1", body));
    }

    fn spawn(&mut self, replica_id: &str, epoch: u64) {
        self.command(node_command::Body::Spawn(Spawn {
            replica_id: replica_id.into(),
            epoch,
            label: b"label".to_vec(),
            ..Spawn::default()
        }));
    }

    fn stop(&mut self, replica_id: &str, epoch: u64, grace_milliseconds: u64) {
        self.command(node_command::Body::Stop(Stop {
            replica_id: replica_id.into(),
            epoch,
            grace_milliseconds,
        }));
    }

    fn publish(&mut self, snapshot: bool, update: &str) {
        self.command(node_command::Body::Publish(Publish {
            snapshot,
            update: update.into(),
            epoch: 1,
        }));
    }

    fn proxy_says(&mut self, body: proxy_event::Body) {
        let message = control::ProxyEvent { body: Some(body) }.encode_to_vec();
        let said = ServiceNews::Said(message.into());
        self.event(Event::Service(Role::Proxy, said));
    }

    fn replica_says(&mut self, id: &str, body: replica_event::Body) -> Vec<u8> {
        let message = control::ReplicaEvent { body: Some(body) }.encode_to_vec();
        let said = ReplicaNews::Said(message.clone().into());
        self.event(Event::Replica(id.into(), said));
        message
    }

    fn service_ends(&mut self, role: Role) {
        let reason = "signal 9 (SIGKILL)".to_owned();
        self.event(Event::Service(role, ServiceNews::Ended { reason }));
    }

    fn replica_exits(&mut self, id: &str) {
        let exited = ReplicaNews::Exited {
            reason: "exit status 3".into(),
            signal: 0,
            stderr_tail: "ValueError".into(),
        };
        self.event(Event::Replica(id.into(), exited));
    }

    fn take_commands(&mut self) -> Vec<Command> {
        self.commands.drain(..).collect()
    }

    fn reports(&mut self) -> Vec<Body> {
        let commands = self.take_commands().into_iter();
        commands
            .filter_map(|command| match command {
                Command::Report(event) => {
                    assert_eq!(event.node, "n1");
                    event.body
                }
                _ => None,
            })
            .collect()
    }

    /// What was commanded for this process.
    fn told(&mut self, of: Role) -> Vec<ServiceCommand> {
        let commands = self.take_commands().into_iter();
        commands
            .filter_map(|command| match command {
                Command::Service(role, command) if role == of => Some(command),
                _ => None,
            })
            .collect()
    }

    fn list(&mut self) -> (Listed, Vec<Body>) {
        self.take_commands();
        self.command(node_command::Body::List(Empty {}));
        let mut reports = self.reports();
        match reports.remove(0) {
            Body::Listed(listed) => (listed, reports),
            other => panic!("not a list: {other:?}"),
        }
    }
}

fn command_for(node: &str, body: node_command::Body) -> Event {
    let command = NodeCommand {
        body: Some(body),
        node: node.into(),
    };
    let said = ServiceNews::Said(command.encode_to_vec().into());
    Event::Service(Role::Controller, said)
}

fn signal(signal: Signal) -> ServiceCommand {
    ServiceCommand::Signal(signal)
}

fn update(text: &str) -> ServiceCommand {
    let body = proxy_command::Body::Update(text.into());
    ServiceCommand::Tell(proxy(body))
}

fn proxy(body: proxy_command::Body) -> Bytes {
    control::ProxyCommand { body: Some(body) }
        .encode_to_vec()
        .into()
}

fn accept() -> ServiceCommand {
    ServiceCommand::Tell(proxy(proxy_command::Body::Accept(Empty {})))
}

fn ready() -> replica_event::Body {
    replica_event::Body::Ready(Ready::default())
}

fn start_failed() -> replica_event::Body {
    replica_event::Body::StartFailed(control::Failed::default())
}

fn relay(id: &str, payload: Vec<u8>) -> Body {
    Body::Relay(Relay {
        replica_id: id.into(),
        payload,
    })
}
