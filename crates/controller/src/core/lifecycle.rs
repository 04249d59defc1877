//! How a replica comes and goes: started, marked for replacement, told to stop.

use std::{collections::BTreeMap, time::Duration};

use eagleray_types::control::{
    Empty, ReplicaCommand, ReplicaConfig, ResourceShare, Spawn, node_command, replica_command,
};
use prost::Message as _;

use super::{
    clip::{IN_LOG, clip},
    command::Level,
    imports,
    label::Label,
    outbox::{About, EventLevel, Outbox},
    ranks,
};
use crate::books::{
    Register,
    condition::Condition,
    deployment::Deployment,
    events::EventKind,
    health::Health,
    replica::{Reach, Replica, ReplicaView},
    replica_state::{ReplicaInput, ReplicaState},
    resources::{Demand, Resources, Waiting},
    revision::VersionSpec,
    status::StatusInput,
    told::Told,
    trial::Trial,
};

/// A replica that has not started gets its own grace to give back what its constructor took, but no more than this.
const STARTING_GRACE_MILLISECONDS: u64 = 5_000;

/// Which GPUs the libraries of a process see.
const DEVICES: &str = "CUDA_VISIBLE_DEVICES";

/// What a new replica is given before it is started.
struct Place {
    id: String,
    rank: u32,
    share: ResourceShare,
}

/// Starts so many more replicas of `spec`, or as many as fit. Returns those that wait for room.
pub(super) fn spawn(
    deployment: &mut Deployment,
    spec: &VersionSpec,
    count: usize,
    (register, resources): (&mut Register, &mut Resources),
    now: Duration,
    out: &mut Outbox,
) -> Option<Waiting> {
    if count == 0 {
        return None;
    }
    let demand = Demand::of(&spec.options().resources);
    let ranks = ranks::free(deployment, spec.version(), count);
    for (started, rank) in ranks.into_iter().enumerate() {
        let id = new_id(register, out);
        let share = match resources.take(&id, out.options.epoch, &deployment.key, &demand) {
            Ok(share) => share,
            Err(lack) => return Some(Waiting::new(now, count - started, demand, lack)),
        };
        let place = Place { id, rank, share };
        let order = register.count_start();
        register.enter(&place.id, &deployment.key);
        spawn_one(deployment, spec, place, order, resources, out);
    }
    None
}

fn spawn_one(
    deployment: &mut Deployment,
    spec: &VersionSpec,
    place: Place,
    order: u64,
    resources: &Resources,
    out: &mut Outbox,
) {
    let Place { id, rank, share } = place;
    let now = out.now;
    let replica = Replica {
        id: id.clone(),
        node: out.options.node.clone(),
        epoch: out.options.epoch,
        spec: spec.clone(),
        rank,
        share,
        order,
        state: ReplicaState::Starting,
        socket_path: out.socket_path(&id),
        pid: 0,
        sync_bodies: false,
        docs_path: String::new(),
        compiled_routes: None,
        began_with_bytes: 0,
        memory_bytes: 0,
        spawned_at: now,
        started_at_s: out.wall_time_s(now),
        ready_at: None,
        trial: Trial::default(),
        failed: false,
        view: Told::known(ReplicaView::of(
            spec.options(),
            rank,
            deployment.wanted_of(spec),
        )),
        config: Told::known(spec.options().user_config.clone()),
        configured_at: now,
        drained: false,
        reach: Reach::default(),
        health: Health::default(),
        condition: Condition::default(),
        going: None,
    };
    let spawn = node_command::Body::Spawn(command(deployment, &replica, resources, out));
    out.node(&replica.node, spawn);
    let about = About::replica(&deployment.key, &id);
    out.event(EventKind::Replica, EventLevel::Info, about, "starts");
    deployment.imports.insert(imports::of(&replica.spec));
    deployment.replicas.insert(id, replica);
}

fn new_id(register: &Register, out: &mut Outbox) -> String {
    loop {
        let id = out.draw_id();
        if register.owner(&id).is_none() {
            return id;
        }
    }
}

/// What a replica is told of the GPUs of its node: those that are its own, and none if it asked for none, since CUDA would
/// else take the first that it finds. What the user sets stands where nothing was asked for.
fn tell_devices(
    environment: &mut BTreeMap<String, String>,
    share: &ResourceShare,
    resources: &Resources,
) {
    let is_told = resources.has_devices() && !environment.contains_key(DEVICES);
    if is_told || !share.devices.is_empty() {
        environment.insert(DEVICES.to_owned(), resources.device_names(share));
    }
}

fn command(
    deployment: &Deployment,
    replica: &Replica,
    resources: &Resources,
    out: &Outbox,
) -> Spawn {
    let (application, spec) = (replica.spec.application(), replica.spec.deployment());
    let is_ingress = application.ingress == spec.name;
    let socket = out.options.run_directory.join("controller.sock");
    let config = ReplicaConfig {
        deployment: deployment.key.clone(),
        replica_id: replica.id.clone(),
        version: spec.version.clone(),
        revision: application.revision.clone(),
        callable_path: out.blob_path(&spec.callable_blob),
        code_path: out.blob_path(&application.code_blob),
        sys_path: application.sys_path.clone(),
        options: spec.options.clone(),
        rank: replica.rank,
        world_size: deployment.wanted_of(&replica.spec),
        route_prefix: if is_ingress {
            application.route_prefix.clone()
        } else {
            String::new()
        },
        controller_socket_path: socket.display().to_string(),
    };
    let mut environment = application.environment.clone();
    environment.extend(spec.options.environment.clone());
    tell_devices(&mut environment, &replica.share, resources);
    Spawn {
        replica_id: replica.id.clone(),
        epoch: replica.epoch,
        deployment: deployment.key.clone(),
        python: match application.python.as_str() {
            "" => out.options.python.clone(),
            python => python.to_owned(),
        },
        working_directory: application.working_directory.clone(),
        environment,
        first_command: ReplicaCommand {
            body: Some(replica_command::Body::Start(config)),
        }
        .encode_to_vec(),
        label: Label::of(deployment, replica).encode_to_vec(),
        bootstrap: application.bootstrap.clone(),
        build: String::new(),
        imports: imports::of(&replica.spec),
        policies: false,
    }
}

/// Drain, then leave the routers, then stop: in this order. One that is not ready has nothing to drain, but its
/// constructor may have taken something to give back.
pub(super) fn stop(replica: &mut Replica, out: &mut Outbox) {
    let starting = replica.state == ReplicaState::Starting;
    if !replica.step(ReplicaInput::Stop) {
        return;
    }
    replica.going = None;
    replica.goes(out.now, "");
    let mut grace_milliseconds = replica.grace_milliseconds();
    if starting {
        // A constructor that blocks hears nothing, and its successor waits for what it holds.
        grace_milliseconds = grace_milliseconds.min(STARTING_GRACE_MILLISECONDS);
    } else {
        let drain = replica_command::Body::Drain(Empty {});
        out.tell(&replica.node, &replica.id, drain);
    }
    out.stop(
        &replica.node,
        &replica.id,
        replica.epoch,
        grace_milliseconds,
    );
}

/// Nobody new can reach it, or it is sick: its replacement is made, unless it is on its way out already.
pub(super) fn replace(deployment: &mut Deployment, id: &str, message: &str, out: &mut Outbox) {
    let Some(replica) = deployment.replica_mut(id) else {
        return;
    };
    if !replica.step(ReplicaInput::Unhealthy) {
        return;
    }
    replica.goes(out.now, &clip(message, IN_LOG));
    let version = replica.spec.version().to_owned();
    if deployment.speaks_for(&version) {
        deployment.status.on(StatusInput::ReachLost, message);
    }
    let about = About::replica(&deployment.key, id);
    out.event(EventKind::Health, EventLevel::Warning, about, message);
    let message = format!("{}: {message}", deployment.key);
    out.log(Level::Warning, message);
}
