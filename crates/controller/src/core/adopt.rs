//! The first moments: desired state from the checkpoint, and what lives from the node.
//!
//! A replica carries its label through the node, so a controller that begins anew knows what each process runs.
//! Those that desired state wants, or may still need (an older version during an update), are adopted with their
//! state; all others are stopped. What options an adopted replica last heard of is not known, so it is told again:
//! the same `user_config` twice does not call user code. It is told that in steps all the same, since the last
//! controller may have ended in the middle of a change.

use std::time::Duration;

use eagleray_types::{
    NodeId,
    control::{Empty, Listed, ListedReplica, ReplicaEvent, replica_command, replica_event},
};
use prost::Message as _;

use super::{
    builds::Builds,
    command::Level,
    imports,
    label::Label,
    outbox::{About, EventLevel, Outbox},
    policies::Policies,
    reaching::reach,
};
use crate::books::{
    Books,
    condition::Condition,
    events::EventKind,
    health::Health,
    replica::{Reach, Replica},
    replica_state::ReplicaState,
    revision::VersionSpec,
    told::Told,
    trial::Trial,
};

/// Takes over what lives. What nothing wants is stopped.
pub(super) fn adopt(
    books: &mut Books,
    processes: (&mut Builds, &mut Policies),
    node: &NodeId,
    listed: &Listed,
    now: Duration,
    out: &mut Outbox,
) {
    adopt_replicas(books, processes, node, &listed.replicas, now, out);
    imports::adopt(books, node, &listed.imports, out);
}

fn adopt_replicas(
    books: &mut Books,
    (builds, policies): (&mut Builds, &mut Policies),
    node: &NodeId,
    replicas: &[ListedReplica],
    now: Duration,
    out: &mut Outbox,
) {
    let (mut adopted, mut unknown) = (0_u32, 0_u32);
    for listed in replicas {
        let label = Label::decode(listed.label.as_slice()).ok();
        if let Some(label) = label.as_ref().filter(|label| label.build != 0) {
            builds.adopt(listed, label, now);
            continue;
        }
        if label.as_ref().is_some_and(|label| label.policy_host) {
            policies.on_listed(listed, out);
            continue;
        }
        // Whatever becomes of it, it has this until it is dead.
        if let Some(label) = &label
            && let Some(share) = &label.share
        {
            let (id, epoch) = (&listed.replica_id, listed.epoch);
            books
                .resources
                .hold(id, epoch, &label.deployment, share.clone());
        }
        let place = label
            .as_ref()
            .and_then(|label| Some((label, place(books, label)?)));
        match place {
            Some((label, spec)) => {
                adopt_one(books, node, listed, label, spec, now, out);
                adopted += 1;
            }
            None if listed.stopping => {}
            None => {
                // Routers may still send to it: it drains before the first update leaves it out.
                let drain = replica_command::Body::Drain(Empty {});
                out.tell(node, &listed.replica_id, drain);
                let grace = label.map_or(0, |label| label.grace_milliseconds);
                out.stop(node, &listed.replica_id, listed.epoch, grace);
                unknown += 1;
            }
        }
    }
    if adopted + unknown > 0 {
        let message = format!("adopted {adopted} replica(s), stopped {unknown} that nothing wants");
        let about = About::default();
        let said = format!("the controller begins anew: {message}");
        out.event(EventKind::Node, EventLevel::Info, about, &said);
        out.log(Level::Info, message);
    }
}

/// The spec under which a replica is kept; `None` when nothing wants it.
fn place(books: &Books, label: &Label) -> Option<VersionSpec> {
    let name = &label.deployment.deployment;
    let application = books.applications.get(&label.deployment.application)?;
    let deployment = application.deployments.get(name)?;
    let current = deployment.target.iter().chain(&deployment.serving).cloned();
    let plan = books.plan(&application.name)?;
    let earlier = plan.revisions().filter_map(|revision| revision.find(name));
    current
        .chain(earlier)
        .find(|spec| spec.version() == label.version)
}

fn adopt_one(
    books: &mut Books,
    node: &NodeId,
    listed: &ListedReplica,
    label: &Label,
    spec: VersionSpec,
    now: Duration,
    out: &mut Outbox,
) {
    let Some(deployment) = books.deployment_mut(&label.deployment) else {
        debug_assert!(false, "{} has no place in the books", label.deployment);
        return;
    };
    let ready = match ReplicaEvent::decode(listed.ready.as_slice()) {
        Ok(ReplicaEvent {
            body: Some(replica_event::Body::Ready(ready)),
        }) => Some(ready),
        _ => None,
    };
    let state = match (listed.stopping, ready.is_some()) {
        (true, _) => ReplicaState::Stopping,
        (false, true) => ReplicaState::Recovering,
        (false, false) => ReplicaState::Starting,
    };
    let mut health = Health::default();
    health.plan(now, out.draw());
    let socket_path = match listed.socket_path.as_str() {
        "" => out.socket_path(&listed.replica_id),
        path => path.to_owned(),
    };
    let version = spec.version().to_owned();
    let trial = match &ready {
        Some(_) => deployment.trial_of(&spec, now),
        None => Trial::default(),
    };
    let mut replica = Replica {
        id: listed.replica_id.clone(),
        node: node.clone(),
        epoch: listed.epoch,
        spec,
        rank: label.rank,
        share: label.share.clone().unwrap_or_default(),
        order: label.order,
        state,
        socket_path,
        pid: listed.pid,
        began_with_bytes: ready.as_ref().map_or(0, |ready| ready.resident_bytes),
        memory_bytes: ready.as_ref().map_or(0, |ready| ready.resident_bytes),
        sync_bodies: ready.as_ref().is_some_and(|ready| ready.sync_bodies),
        docs_path: ready
            .as_ref()
            .map(|ready| ready.docs_path.clone())
            .unwrap_or_default(),
        compiled_routes: ready
            .as_ref()
            .and_then(|ready| ready.compiled_routes.clone()),
        spawned_at: now,
        started_at_s: label.started_at_s,
        ready_at: ready.as_ref().map(|_| now),
        trial,
        failed: false,
        view: Told::unknown(),
        config: Told::unknown(),
        configured_at: now,
        drained: false,
        reach: Reach::default(),
        health,
        condition: Condition::default(),
        going: None,
    };
    if state == ReplicaState::Recovering {
        // The last controller may have ended before it had done so.
        reach(&mut replica, now, out);
    }
    deployment.attempts_of(&version).proven |= ready.is_some() && !trial.is_on();
    deployment.imports.insert(imports::of(&replica.spec));
    deployment.replicas.insert(replica.id.clone(), replica);
    books.register.enter(&listed.replica_id, &label.deployment);
    books.register.starts_before(label.order);
}

/// A later list only tells process ids, for people: what lives and dies is told by events.
pub(super) fn learn_pids(books: &mut Books, listed: &Listed) {
    for one in &listed.replicas {
        let deployment = books.owner_mut(&one.replica_id);
        if let Some(replica) = deployment.and_then(|own| own.replicas.get_mut(&one.replica_id)) {
            replica.pid = one.pid;
        }
    }
}
