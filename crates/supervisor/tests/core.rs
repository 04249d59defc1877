//! The core as another program drives it: two nodes and their controllers on one simulated clock and network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use eagleray_supervisor::core::{
    Command, Core, Event, ReplicaCommand, ReplicaNews, Role, ServiceCommand, ServiceNews,
};
use eagleray_types::{
    NodeId,
    control::{
        Empty, NodeCommand, NodeEvent, ProxyEvent, Spawn, node_command, node_event, proxy_event,
    },
};
use prost::Message as _;

/// Between two processes, each way.
const DELAY: Duration = Duration::from_millis(3);
/// A process is there, or gone, after this.
const START: Duration = Duration::from_millis(200);

struct Node {
    core: Core,
    began: Duration,
    outcome_at: Option<Duration>,
}

/// What is on its way, in the order in which it arrives.
#[derive(Default)]
struct Simulation {
    nodes: BTreeMap<&'static str, Node>,
    on_the_way: BTreeMap<(Duration, u64), (&'static str, Event)>,
    sent: u64,
    now: Duration,
    /// What the controllers heard.
    reports: Vec<(Duration, NodeEvent)>,
}

impl Simulation {
    fn start(&mut self, name: &'static str) {
        let id = NodeId::parse(name).unwrap();
        let mut core = Core::new(id, "/logs".into());
        let commands = core.start();
        let node = Node {
            core,
            began: self.now,
            outcome_at: None,
        };
        self.nodes.insert(name, node);
        self.carry_out(name, commands);
    }

    fn send(&mut self, after: Duration, name: &'static str, event: Event) {
        self.sent += 1;
        let key = (self.now + after, self.sent);
        self.on_the_way.insert(key, (name, event));
    }

    fn command(&mut self, name: &'static str, body: node_command::Body) {
        let command = NodeCommand {
            body: Some(body),
            node: name.into(),
        };
        let said = ServiceNews::Said(command.encode_to_vec().into());
        self.send(DELAY, name, Event::Service(Role::Controller, said));
    }

    fn carry_out(&mut self, name: &'static str, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Service(role, ServiceCommand::Start) => {
                    let pid = 1;
                    let news = ServiceNews::Started { pid };
                    self.send(Duration::ZERO, name, Event::Service(role, news));
                    match role {
                        Role::Controller => {
                            self.command(name, node_command::Body::List(Empty {}));
                        }
                        Role::Proxy => {
                            let body = Some(proxy_event::Body::Ready(Empty {}));
                            let said =
                                ServiceNews::Said(ProxyEvent { body }.encode_to_vec().into());
                            self.send(START, name, Event::Service(role, said));
                        }
                        Role::Reaper => {}
                    }
                }
                // Whoever is told to end does. The proxy, which is only asked to, does not finish.
                Command::Service(
                    role,
                    ServiceCommand::Signal(_) | ServiceCommand::SayAllIsWell,
                ) => {
                    let reason = "it was told to".to_owned();
                    let ended = ServiceNews::Ended { reason };
                    self.send(START, name, Event::Service(role, ended));
                }
                Command::Replica(id, ReplicaCommand::Start(_)) => {
                    let socket_path = format!("/run/{name}/r/{id}.sock");
                    let started = ReplicaNews::Started {
                        pid: 2,
                        socket_path,
                    };
                    self.send(Duration::ZERO, name, Event::Replica(id, started));
                }
                Command::Replica(id, ReplicaCommand::Kill | ReplicaCommand::Ask(_)) => {
                    let exited = ReplicaNews::Exited {
                        reason: "exit status 0".to_owned(),
                        signal: 0,
                        stderr_tail: String::new(),
                    };
                    self.send(START, name, Event::Replica(id, exited));
                }
                Command::Announce(Ok(())) => {
                    self.send(Duration::ZERO, name, Event::Announced { known: true });
                }
                Command::Report(event) => self.reports.push((self.now + DELAY, event)),
                _ => {}
            }
        }
    }

    /// Whatever comes next, on any node, until `until`.
    fn run(&mut self, until: Duration) {
        loop {
            let arrival = self.on_the_way.first_key_value();
            let arrival = arrival.map(|(key, _)| key.0);
            let running = self
                .nodes
                .iter()
                .filter(|(_, node)| node.outcome_at.is_none());
            let timeout = running
                .filter_map(|(name, node)| Some((node.began + node.core.next_timeout()?, *name)))
                .min();
            let next = arrival.into_iter().chain(timeout.map(|(at, _)| at)).min();
            let Some(at) = next.filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = at;
            let (name, event) = match timeout {
                Some((due, name)) if arrival.is_none_or(|arrival| due < arrival) => {
                    (name, Event::Timeout)
                }
                _ => self.on_the_way.pop_first().unwrap().1,
            };
            let node = self.nodes.get_mut(name).unwrap();
            let commands = node.core.on_event(event, at.saturating_sub(node.began));
            if node.core.outcome().is_some() {
                node.outcome_at.get_or_insert(at);
            }
            self.carry_out(name, commands);
        }
    }
}

#[test]
fn two_nodes_live_on_one_simulated_clock_and_each_hears_only_its_own() {
    let seconds = Duration::from_secs;
    let mut simulation = Simulation::default();
    simulation.start("n1");
    simulation.run(seconds(5));
    simulation.start("n2");
    simulation.run(seconds(6));
    for name in ["n1", "n2"] {
        for number in 0..1000 {
            let spawn = Spawn {
                replica_id: format!("{name}-{number}"),
                epoch: 1,
                ..Spawn::default()
            };
            simulation.command(name, node_command::Body::Spawn(spawn));
        }
        simulation.command(name, node_command::Body::List(Empty {}));
    }
    simulation.run(seconds(7));
    let listed = |name: &str| {
        let of_it = simulation.reports.iter().rev();
        let mut of_it = of_it.filter(|(_, event)| event.node == name);
        of_it.find_map(|(_, event)| match &event.body {
            Some(node_event::Body::Listed(listed)) => Some(listed.replicas.clone()),
            _ => None,
        })
    };
    for name in ["n1", "n2"] {
        let ids: BTreeSet<String> = listed(name)
            .unwrap()
            .into_iter()
            .map(|replica| replica.replica_id)
            .collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.starts_with(name)));
    }

    simulation.send(Duration::ZERO, "n2", Event::ShutdownWanted);
    simulation.run(seconds(60));
    let n2 = &simulation.nodes["n2"];
    assert!(n2.core.outcome().unwrap().in_order);
    // The proxy did not finish, so it took its 10 s; then 200 ms each for it, the replicas, the controller, the reaper.
    assert_eq!(n2.outcome_at.unwrap(), seconds(7) + seconds(10) + 4 * START);
    assert_eq!(simulation.nodes["n1"].core.outcome(), None);
}
