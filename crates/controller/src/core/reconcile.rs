//! From what is there to what is wanted, one application at a time.
//!
//! Idempotent: with nothing new, it gives no commands. Decisions are [`super::rollout`]'s; this file carries them
//! into state and commands, and notices what has come true (a deployment at full size, an application gone).

use std::time::Duration;

use eagleray_types::control::{
    Empty, Reconfigure, Relay, ReplicaCommand, ReplicaConfig, Spawn, Stop, node_command,
    replica_command,
};
use prost::Message as _;

use super::{
    Command, Core, ReplicaInput, ReplicaState,
    adopt::Label,
    condition::Condition,
    departure,
    health::Health,
    model::{Application, Deployment, VersionSpec},
    ranks,
    reaching::Reach,
    replica::{Replica, ReplicaView, Told},
    rollout::{self, Fleet, Member, Phase, Version, Want},
    routed::settle_route,
    status::{Status, StatusInput},
};

/// A replica that has not started gets its own grace to give back what its constructor took, but no more than this.
const STARTING_GRACE_MILLISECONDS: u64 = 5_000;

impl Core {
    pub(super) fn reconcile(&mut self, name: &str, now: Duration) {
        let Some(mut application) = self.applications.remove(name) else {
            return;
        };
        if application.deleting() {
            self.dismiss(&mut application, now);
        } else {
            self.reconcile_deployments(&mut application, now);
        }
        application.deployments.retain(|_, one| {
            one.target.is_some() || one.serving.is_some() || !one.replicas.is_empty()
        });
        settle_route(&mut application);
        if !(application.deleting() && application.deployments.is_empty()) {
            self.applications.insert(name.to_owned(), application);
        }
    }

    fn reconcile_deployments(&mut self, application: &mut Application, now: Duration) {
        for deployment in application.deployments.values_mut() {
            self.reconcile_deployment(deployment, now);
        }
        let settled =
            |one: &Deployment| one.target.is_none() || one.status.status == Status::Healthy;
        if application.deployments.values().all(settled) {
            // Deployments that the new revision does not have go last: what called them is replaced by now.
            self.dismiss(application, now);
        }
    }

    /// Deployments without a target go, but for those that are still called.
    fn dismiss(&mut self, application: &mut Application, now: Duration) {
        let waiting = departure::waiting(application);
        for deployment in application
            .deployments
            .values_mut()
            .filter(|one| one.target.is_none())
        {
            if !waiting.contains(&deployment.key.deployment) {
                deployment.serving = None;
                self.reconcile_deployment(deployment, now);
            } else if deployment.serving.is_none() {
                self.stop_starting(deployment);
            }
        }
    }

    fn reconcile_deployment(&mut self, deployment: &mut Deployment, now: Duration) {
        self.reconfigure(deployment, now);
        self.give_up_ranks(deployment);
        let plan = rollout::plan(&fleet(deployment, now));
        for id in &plan.stop {
            self.stop(deployment, id);
        }
        if let Some(target) = deployment.wanted().cloned() {
            (0..plan.start_target).for_each(|_| self.spawn(deployment, &target, now));
        }
        if let Some(serving) = deployment.serving.clone() {
            (0..plan.start_fallback).for_each(|_| self.spawn(deployment, &serving, now));
        }
        if ranks::settle(deployment) {
            self.reconfigure(deployment, now);
        }
        notice_target_reached(deployment);
    }

    /// Before their successors start. Whether they hear of it changes nothing here.
    fn give_up_ranks(&mut self, deployment: &mut Deployment) {
        for id in ranks::give_up(deployment) {
            let question = self.next_question();
            let Some(replica) = deployment.replicas.get(&id) else {
                continue;
            };
            let options = replica.spec.options();
            let body = replica_command::Body::Reconfigure(Reconfigure {
                id: question,
                options: options.clone(),
                world_size: options.num_replicas,
                revision: replica.spec.application().revision.clone(),
                rank: Some(replica.rank),
                replaced: true,
                keep_user_config: true,
            });
            self.commands.push(relay(&id, body));
        }
    }

    fn spawn(&mut self, deployment: &mut Deployment, spec: &VersionSpec, now: Duration) {
        let id = self.new_replica_id();
        let rank = ranks::free(deployment, spec.version());
        self.order += 1;
        let replica = Replica {
            id: id.clone(),
            epoch: self.options.epoch,
            spec: spec.clone(),
            rank,
            order: self.order,
            state: ReplicaState::Starting,
            socket_path: self.socket_path(&id),
            pid: 0,
            sync_bodies: false,
            spawned_at: now,
            ready_at: None,
            failed: false,
            view: Told::known(ReplicaView::of(spec.options(), rank)),
            config: Told::known(spec.options().user_config.clone()),
            configured_at: now,
            drained: false,
            reach: Reach::default(),
            health: Health::default(),
            condition: Condition::default(),
        };
        let spawn = self.spawn_command(deployment, &replica);
        self.commands
            .push(Command::Node(node_command::Body::Spawn(spawn)));
        self.owners.insert(id.clone(), deployment.key.clone());
        deployment.replicas.insert(id, replica);
    }

    fn spawn_command(&self, deployment: &Deployment, replica: &Replica) -> Spawn {
        let (application, spec) = (replica.spec.application(), replica.spec.deployment());
        let blob = |name: &str| match name {
            "" => String::new(),
            name => self.options.blob_directory.join(name).display().to_string(),
        };
        let is_ingress = application.ingress == spec.name;
        let config = ReplicaConfig {
            deployment: deployment.key.clone(),
            replica_id: replica.id.clone(),
            version: spec.version.clone(),
            revision: application.revision.clone(),
            callable_path: blob(&spec.callable_blob),
            code_path: blob(&application.code_blob),
            sys_path: application.sys_path.clone(),
            options: spec.options.clone(),
            rank: replica.rank,
            world_size: spec.options.num_replicas,
            route_prefix: if is_ingress {
                application.route_prefix.clone()
            } else {
                String::new()
            },
            controller_socket_path: self
                .options
                .run_directory
                .join("controller.sock")
                .display()
                .to_string(),
        };
        let mut environment = application.environment.clone();
        environment.extend(spec.options.environment.clone());
        Spawn {
            replica_id: replica.id.clone(),
            epoch: replica.epoch,
            deployment: deployment.key.clone(),
            python: match application.python.as_str() {
                "" => self.options.python.clone(),
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
        }
    }

    /// Drain, then leave the routers, then stop: in this order. One that is not ready has nothing to drain, but its
    /// constructor may have taken something to give back.
    pub(super) fn stop(&mut self, deployment: &mut Deployment, id: &str) {
        let Some(replica) = deployment.replicas.get_mut(id) else {
            return;
        };
        let starting = replica.state == ReplicaState::Starting;
        if !replica.step(ReplicaInput::Stop) {
            return;
        }
        if !starting {
            self.commands
                .push(relay(id, replica_command::Body::Drain(Empty {})));
        }
        let grace_milliseconds = if starting {
            // A constructor that blocks hears nothing, and its successor waits for what it holds.
            replica
                .grace_milliseconds()
                .min(STARTING_GRACE_MILLISECONDS)
        } else {
            replica.grace_milliseconds()
        };
        self.stops
            .push(stop_command(id, replica.epoch, grace_milliseconds));
    }

    pub(super) fn socket_path(&self, id: &str) -> String {
        self.options
            .run_directory
            .join("r")
            .join(format!("{id}.sock"))
            .display()
            .to_string()
    }
}

pub(super) fn relay(id: &str, body: replica_command::Body) -> Command {
    let payload = ReplicaCommand { body: Some(body) }.encode_to_vec();
    Command::Node(node_command::Body::Relay(Relay {
        replica_id: id.to_owned(),
        payload,
    }))
}

pub(super) fn stop_command(id: &str, epoch: u64, grace_milliseconds: u64) -> Command {
    Command::Node(node_command::Body::Stop(Stop {
        replica_id: id.to_owned(),
        epoch,
        grace_milliseconds,
    }))
}

fn want(deployment: &Deployment, spec: &VersionSpec, now: Duration) -> Want {
    let attempts = deployment.attempts.get(spec.version());
    Want {
        count: spec.options().num_replicas as usize,
        proven: attempts.is_some_and(|attempts| attempts.proven),
        starts_allowed: attempts.map_or(usize::MAX, |attempts| {
            attempts.starts_allowed(now, deployment.young(spec.version(), now))
        }),
        surge: rollout::surge(spec.options()),
    }
}

fn fleet(deployment: &Deployment, now: Duration) -> Fleet<'_> {
    let member = |replica: &Replica| {
        let version = replica.spec.version();
        let version = if deployment.is_target(version) {
            Version::Target
        } else if deployment
            .fallback()
            .is_some_and(|spec| spec.version() == version)
        {
            Version::Fallback
        } else {
            Version::Other
        };
        let phase = match replica.state {
            ReplicaState::Starting => Phase::Starting,
            ReplicaState::Running | ReplicaState::Updating | ReplicaState::Recovering => {
                Phase::Serving
            }
            ReplicaState::PendingMigration => Phase::Replaced,
            ReplicaState::Stopping | ReplicaState::Stopped => return None,
        };
        Some((version, phase))
    };
    let members = deployment.replicas.values().filter_map(|replica| {
        let (version, phase) = member(replica)?;
        Some(Member {
            id: replica.id.as_str(),
            order: replica.order,
            version,
            phase,
        })
    });
    Fleet {
        target: deployment.wanted().map(|spec| want(deployment, spec, now)),
        fallback: deployment
            .fallback()
            .map(|spec| want(deployment, spec, now)),
        members: members.collect(),
    }
}

/// Full size with the wanted options, and nothing else that lives: the version is now the one to fall back on.
fn notice_target_reached(deployment: &mut Deployment) {
    let Some(target) = deployment.target.clone() else {
        return;
    };
    let live = deployment
        .replicas
        .values()
        .filter(|replica| replica.state.live())
        .count();
    let wanted = target.options().num_replicas as usize;
    if live != wanted || deployment.running(&target) != wanted || deployment.is_refused() {
        return;
    }
    // Ready again is not well again: that is for the ten seconds to show.
    if deployment
        .target_attempts()
        .is_some_and(|attempts| attempts.crash_loop.is_some())
    {
        return;
    }
    deployment.status.on(StatusInput::TargetReached, "");
    if !deployment
        .serving
        .as_ref()
        .is_some_and(|serving| serving.same_revision(&target))
    {
        deployment
            .attempts
            .retain(|version, _| version == target.version());
        deployment.serving = Some(target);
    }
}
