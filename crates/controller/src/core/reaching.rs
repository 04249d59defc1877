//! A replica that routers cannot reach is not healthy, whatever it says of itself.
//!
//! One that is ready serves when it could be connected to: until then it is starting, so a version that nobody can reach
//! replaces nothing. Later, routers report what they cannot connect to. The report may be about themselves, so it is no
//! proof: it makes the controller try, and what it cannot reach either is replaced. Whoever is connected already is
//! served until then.

use std::time::Duration;

use eagleray_types::control::Unreachable;

use super::{
    clip::{IN_MESSAGE, clip},
    command::{Command, Level, Span},
    event::Reached,
    failures,
    outbox::{About, EventLevel, Outbox},
    trial,
};
use crate::books::{
    deployment::Deployment,
    events::EventKind,
    replica::Replica,
    replica_state::{ReplicaInput, ReplicaState},
};

/// However many routers report a replica, it is tried no more often.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Has the replica connected to, unless that is being done.
pub(super) fn reach(replica: &mut Replica, now: Duration, out: &mut Outbox) {
    if !std::mem::replace(&mut replica.reach.trying, true) {
        replica.reach.tried_at = Some(now);
        out.push(Command::Reach {
            replica_id: replica.id.clone(),
            socket_path: replica.socket_path.clone(),
        });
    }
}

/// A router cannot connect to a replica.
pub(super) fn on_unreachable(
    deployment: &mut Deployment,
    report: &Unreachable,
    now: Duration,
    out: &mut Outbox,
) {
    let id = report.replica_id.as_str();
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
        reach(replica, now, out);
        out.log(Level::Warning, message);
    }
}

/// What came of [`reach`].
pub(super) fn on_reached(
    deployment: &mut Deployment,
    id: &str,
    reached: Reached,
    now: Duration,
    out: &mut Outbox,
) {
    let Some(replica) = deployment.replica_mut(id) else {
        return;
    };
    replica.reach.trying = false;
    match (replica.state, reached) {
        (ReplicaState::Starting, Reached::No(why)) => {
            let message = format!("it started, but nobody can connect to it: {why}");
            failures::on_start_failed(deployment, id, &message, now, out);
        }
        (ReplicaState::Starting, _) => begin_to_serve(deployment, id, now, out),
        (_, Reached::No(why)) => {
            let message = format!(
                "nobody can connect to replica {id} any more, and it is being replaced: {why}"
            );
            trial::lost(deployment, id, &message, now, out);
        }
        _ => {}
    }
}

fn begin_to_serve(deployment: &mut Deployment, id: &str, now: Duration, out: &mut Outbox) {
    let Some(replica) = deployment.replica_mut(id) else {
        return;
    };
    if !replica.step(ReplicaInput::Ready) {
        return;
    }
    replica.ready_at = Some(now);
    let spec = replica.spec.clone();
    replica.health.plan(now, out.draw());
    if replica.pid == 0 {
        out.list();
    }
    let took = now.saturating_sub(replica.spawned_at);
    let trial = deployment.trial_of(&spec, now);
    deployment.attempts_of(spec.version()).proven |= !trial.is_on();
    if let Some(replica) = deployment.replica_mut(id) {
        replica.trial = trial;
    }
    let about = About::replica(&deployment.key, id);
    let message = format!("ready after {:.1} s", took.as_secs_f64());
    out.event(EventKind::Replica, EventLevel::Info, about, &message);
    out.push(Command::Measured {
        deployment: deployment.key.clone(),
        span: Span::Start,
        took,
    });
}
