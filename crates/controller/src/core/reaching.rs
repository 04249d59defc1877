//! A replica that routers cannot reach is not healthy, whatever it says of itself.
//!
//! One that is ready serves when it could be connected to: until then it is starting, so a version that nobody can reach
//! replaces nothing. Later, routers report what they cannot connect to. The report may be about themselves, so it is no
//! proof: it makes the controller try, and what it cannot reach either is replaced. Whoever is connected already is
//! served until then.

use std::time::Duration;

use eagleray_types::control::{Empty, Unreachable, node_command};

use super::{
    Command, Core, Level, Reached, ReplicaInput, ReplicaState,
    failures::{IN_MESSAGE, clip},
    model::Deployment,
    reconcile::stop_command,
    replica::Replica,
};

/// However many routers report a replica, it is tried no more often.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// What is known of the ways to a replica.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reach {
    /// It was ready, and serves when it is reached.
    pub(super) said_ready: bool,
    trying: bool,
    tried_at: Option<Duration>,
}

impl Core {
    pub(super) fn reach(&mut self, replica: &mut Replica, now: Duration) {
        if !std::mem::replace(&mut replica.reach.trying, true) {
            replica.reach.tried_at = Some(now);
            self.commands.push(Command::Reach {
                replica_id: replica.id.clone(),
                socket_path: replica.socket_path.clone(),
            });
        }
    }

    pub(super) fn on_unreachable(&mut self, report: &Unreachable, now: Duration) {
        let id = report.replica_id.as_str();
        let Some(mut deployment) = self.take_owner(id) else {
            return;
        };
        let due = |replica: &&mut Replica| {
            let last = replica.reach.tried_at;
            replica.state.serving() && last.is_none_or(|at| at + TRY_AGAIN <= now)
        };
        if let Some(replica) = deployment.replicas.get_mut(id).filter(due) {
            let message = format!(
                "{}: a router cannot connect to replica {id}: {}",
                deployment.key,
                clip(&report.error, IN_MESSAGE)
            );
            self.reach(replica, now);
            self.log(Level::Warning, message);
        }
        self.put_back(deployment);
    }

    pub(super) fn on_reached(&mut self, id: &str, reached: Reached, now: Duration) {
        let Some(mut deployment) = self.take_owner(id) else {
            return;
        };
        if let Some(replica) = deployment.replicas.get_mut(id) {
            replica.reach.trying = false;
            match (replica.state, reached) {
                (ReplicaState::Starting, Reached::No(why)) => {
                    self.start_unreachable(&mut deployment, id, &why, now);
                }
                (ReplicaState::Starting, _) => self.begin_to_serve(&mut deployment, id, now),
                (_, Reached::No(why)) => {
                    let message = format!(
                        "nobody can connect to replica {id} any more, and it is being replaced: {why}"
                    );
                    self.replace(&mut deployment, id, &message);
                }
                _ => {}
            }
        }
        self.put_back(deployment);
    }

    fn start_unreachable(
        &mut self,
        deployment: &mut Deployment,
        id: &str,
        why: &str,
        now: Duration,
    ) {
        let Some(replica) = deployment.replicas.get_mut(id) else {
            return;
        };
        if replica.step(ReplicaInput::StartFailed) {
            self.stops.push(stop_command(id, replica.epoch, 0));
            let spec = replica.spec.clone();
            let message = format!("it started, but nobody can connect to it: {why}");
            self.start_failed(deployment, id, &spec, &message, now);
        }
    }

    fn begin_to_serve(&mut self, deployment: &mut Deployment, id: &str, now: Duration) {
        let spread = self.random.f64();
        let Some(replica) = deployment.replicas.get_mut(id) else {
            return;
        };
        if !replica.step(ReplicaInput::Ready) {
            return;
        }
        replica.ready_at = Some(now);
        replica.health.plan(now, spread);
        let (pid, version) = (replica.pid, replica.spec.version().to_owned());
        deployment.attempts_of(&version).proven = true;
        if pid == 0 && !self.listing {
            self.listing = true;
            self.commands
                .push(Command::Node(node_command::Body::List(Empty {})));
        }
    }
}
