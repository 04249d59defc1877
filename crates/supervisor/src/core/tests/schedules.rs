//! Whatever happens and whenever: the same seed gives the same commands, no process is there twice, and a node that is told
//! to end has ended within its times.

use std::collections::BTreeSet;

use super::*;

/// Runs a node through what a seed says, and returns all that it commanded.
struct Schedule {
    world: World,
    random: fastrand::Rng,
    services: BTreeSet<Role>,
    replicas: BTreeSet<String>,
    /// Replicas that were to be killed, or asked to leave.
    leaving: BTreeSet<String>,
    seen: Vec<Command>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut schedule = Self {
            world: World::new(),
            random: fastrand::Rng::with_seed(seed),
            services: BTreeSet::new(),
            replicas: BTreeSet::new(),
            leaving: BTreeSet::new(),
            seen: Vec::new(),
        };
        schedule.note();
        schedule
    }

    fn note(&mut self) {
        for command in self.world.take_commands() {
            match &command {
                Command::Service(role, ServiceCommand::Start) if !self.world.starts_fail => {
                    assert!(self.services.insert(*role), "two of {role:?}");
                }
                Command::Replica(id, ReplicaCommand::Start(_)) if !self.world.starts_fail => {
                    assert!(self.replicas.insert(id.clone()), "two of {id}");
                }
                Command::Replica(id, ReplicaCommand::Kill | ReplicaCommand::Ask(_)) => {
                    self.leaving.insert(id.clone());
                }
                _ => {}
            }
            self.seen.push(command);
        }
    }

    fn step(&mut self) {
        let world = &mut self.world;
        let id = format!("r{}", self.random.u8(..6));
        let epoch = self.random.u64(1..3);
        let controller = self.services.contains(&Role::Controller);
        match self.random.u8(..12) {
            0 => world.pass(Duration::from_millis(self.random.u64(..3_000))),
            1 if controller => world.spawn(&id, epoch),
            2 if controller => world.stop(&id, epoch, self.random.u64(..3_000)),
            3 if controller => world.publish(self.random.bool(), "update"),
            4 if controller => world.command(node_command::Body::List(Empty {})),
            5 if self.replicas.remove(&id) => world.replica_exits(&id),
            6 => {
                let roles = [Role::Reaper, Role::Controller, Role::Proxy];
                let role = roles[self.random.usize(..3)];
                if self.services.remove(&role) {
                    world.service_ends(role);
                }
            }
            7 if self.services.contains(&Role::Proxy) => {
                world.proxy_says(proxy_event::Body::Ready(Empty {}));
            }
            8 if self.replicas.contains(&id) => {
                world.replica_says(&id, ready());
            }
            9 => {
                self.note();
                self.world.starts_fail = self.random.u8(..4) == 0;
                return;
            }
            10 if self.replicas.contains(&id) => {
                world.event(Event::Replica(id, ReplicaNews::DoesNotRead));
            }
            _ => world.pass(Duration::from_millis(self.random.u64(..100))),
        }
        self.note();
    }

    /// Ends the node; who is asked to leave does, sooner or later or when it is killed.
    fn end(&mut self) -> Duration {
        self.world.event(Event::ShutdownWanted);
        self.note();
        let began = self.world.now;
        while self.world.core.outcome().is_none() {
            if self.random.bool() {
                for id in std::mem::take(&mut self.leaving) {
                    if self.replicas.remove(&id) {
                        self.world.replica_exits(&id);
                    }
                }
                for role in std::mem::take(&mut self.services) {
                    self.world.service_ends(role);
                }
            }
            self.world.pass(Duration::from_millis(100));
            self.note();
        }
        self.world.now.saturating_sub(began)
    }
}

#[test]
fn whatever_happens_a_node_ends_in_its_time_and_two_of_one_seed_are_the_same() {
    for seed in 0..300 {
        let run = || {
            let mut schedule = Schedule::new(seed);
            let steps = schedule.random.usize(..200);
            for _ in 0..steps {
                schedule.step();
            }
            let took = schedule.end();
            // Draining, replicas with their moment, and three times the services.
            assert!(took <= 40 * SECOND, "seed {seed}: {took:?}");
            let ended = schedule.seen.iter().rposition(|command| {
                matches!(
                    command,
                    Command::Service(Role::Proxy, ServiceCommand::CloseListeners)
                )
            });
            let after = schedule.seen.iter().skip(ended.unwrap());
            let mut starts = after.filter(|command| {
                matches!(
                    command,
                    Command::Replica(_, ReplicaCommand::Start(_))
                        | Command::Service(Role::Proxy | Role::Controller, ServiceCommand::Start)
                )
            });
            assert_eq!(starts.next(), None, "seed {seed}");
            schedule.seen
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}
