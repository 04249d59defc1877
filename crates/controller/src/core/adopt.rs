//! The first moments: desired state from the checkpoint, and what lives from the node.
//!
//! A replica carries its label through the node, so a controller that begins anew knows what each process runs.
//! Those that desired state wants, or may still need (an older version during an update), are adopted with their
//! state; all others are stopped. What options an adopted replica last heard of is not known, so it is told again:
//! the same `user_config` twice does not call user code. It is told that in steps all the same, since the last
//! controller may have ended in the middle of a change.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use eagleray_types::{
    DeploymentKey,
    control::{Empty, Listed, ListedReplica, ReplicaEvent, Route, replica_command, replica_event},
};
use prost::Message as _;

use super::{
    Core, Level, ReplicaState,
    condition::Condition,
    health::Health,
    model::{Application, Deployment, Revision, VersionSpec},
    reaching::Reach,
    reconcile::{relay, stop_command},
    replica::{Replica, Told},
};
use crate::store::checkpoint::{Loaded, RootApplication};

/// What the node keeps of a replica for the controller's successor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Label {
    #[prost(message, required, tag = "1")]
    pub deployment: DeploymentKey,
    #[prost(string, tag = "2")]
    pub version: String,
    /// Blob of the revision that it was started for.
    #[prost(string, tag = "3")]
    pub revision_blob: String,
    #[prost(uint32, tag = "4")]
    pub rank: u32,
    /// Position among all starts of the epoch.
    #[prost(uint64, tag = "5")]
    pub order: u64,
    /// For a replica that nobody wants any more.
    #[prost(uint64, tag = "6")]
    pub grace_milliseconds: u64,
}

impl Label {
    pub(super) fn of(deployment: &Deployment, replica: &Replica) -> Self {
        Self {
            deployment: deployment.key.clone(),
            version: replica.spec.version().to_owned(),
            revision_blob: replica.spec.revision().blob.clone(),
            rank: replica.rank,
            order: replica.order,
            grace_milliseconds: replica.grace_milliseconds(),
        }
    }
}

impl Core {
    pub(super) fn restore(&mut self, loaded: Loaded) {
        let revisions: BTreeMap<String, Arc<Revision>> = loaded
            .revisions
            .into_iter()
            .map(|(blob, spec)| (blob.clone(), Arc::new(Revision { spec, blob })))
            .collect();
        for stored in &loaded.root.applications {
            let application = restore_application(stored, &revisions);
            self.applications.insert(stored.name.clone(), application);
        }
        self.saved = Some(loaded.root);
    }

    pub(super) fn adopt(&mut self, replicas: Vec<ListedReplica>, now: Duration) {
        let (mut adopted, mut unknown) = (0_u32, 0_u32);
        for listed in replicas {
            let label = Label::decode(listed.label.as_slice()).ok();
            let place = label
                .as_ref()
                .and_then(|label| Some((label, self.place(label)?)));
            match place {
                Some((label, spec)) => {
                    self.adopt_one(&listed, label, spec, now);
                    adopted += 1;
                }
                None if listed.stopping => {}
                None => {
                    // Routers may still send to it: it drains before the first update leaves it out.
                    self.commands.push(relay(
                        &listed.replica_id,
                        replica_command::Body::Drain(Empty {}),
                    ));
                    let grace = label.map_or(0, |label| label.grace_milliseconds);
                    self.stops
                        .push(stop_command(&listed.replica_id, listed.epoch, grace));
                    unknown += 1;
                }
            }
        }
        if adopted + unknown > 0 {
            self.log(
                Level::Info,
                format!("adopted {adopted} replica(s), stopped {unknown} that nothing wants"),
            );
        }
        self.touch_all();
    }

    /// The spec under which a replica is kept; `None` when nothing wants it.
    fn place(&self, label: &Label) -> Option<VersionSpec> {
        let application = self.applications.get(&label.deployment.application)?;
        let name = &label.deployment.deployment;
        let deployment = application.deployments.get(name)?;
        let current = deployment.target.iter().chain(&deployment.serving).cloned();
        let earlier = application
            .history
            .iter()
            .rev()
            .filter_map(|revision| revision.find(name));
        current
            .chain(earlier)
            .find(|spec| spec.version() == label.version)
    }

    fn adopt_one(
        &mut self,
        listed: &ListedReplica,
        label: &Label,
        spec: VersionSpec,
        now: Duration,
    ) {
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
        health.plan(now, self.random.f64());
        self.order = self.order.max(label.order);
        let socket_path = match listed.socket_path.as_str() {
            "" => self.socket_path(&listed.replica_id),
            path => path.to_owned(),
        };
        let version = spec.version().to_owned();
        let mut replica = Replica {
            id: listed.replica_id.clone(),
            epoch: listed.epoch,
            spec,
            rank: label.rank,
            order: label.order,
            state,
            socket_path,
            pid: listed.pid,
            sync_bodies: ready.as_ref().is_some_and(|ready| ready.sync_bodies),
            spawned_at: now,
            ready_at: ready.as_ref().map(|_| now),
            failed: false,
            view: Told::unknown(),
            config: Told::unknown(),
            configured_at: now,
            drained: false,
            reach: Reach::default(),
            health,
            condition: Condition::default(),
        };
        if state == ReplicaState::Recovering {
            // The last controller may have ended before it had done so.
            self.reach(&mut replica, now);
        }
        let key = &label.deployment;
        let application = self.applications.get_mut(&key.application);
        if let Some(deployment) =
            application.and_then(|one| one.deployments.get_mut(&key.deployment))
        {
            deployment.attempts_of(&version).proven |= ready.is_some();
            self.owners.insert(replica.id.clone(), key.clone());
            deployment.replicas.insert(replica.id.clone(), replica);
        }
    }

    /// A later list only tells process ids, for people: what lives and dies is told by events.
    pub(super) fn learn_pids(&mut self, listed: &Listed) {
        self.listing = false;
        for one in &listed.replicas {
            let Some(key) = self.owners.get(&one.replica_id) else {
                continue;
            };
            let application = self.applications.get_mut(&key.application);
            let deployment = application
                .and_then(|application| application.deployments.get_mut(&key.deployment));
            if let Some(replica) =
                deployment.and_then(|deployment| deployment.replicas.get_mut(&one.replica_id))
            {
                replica.pid = one.pid;
            }
        }
    }
}

fn restore_application(
    stored: &RootApplication,
    revisions: &BTreeMap<String, Arc<Revision>>,
) -> Application {
    let mut application = Application::new(&stored.name);
    application.history = stored
        .history
        .iter()
        .filter_map(|blob| revisions.get(blob).cloned())
        .collect();
    application.target = application.history.last().cloned();
    application.deployed_at_s = stored.deployed_at_s;
    if !stored.route_prefix.is_empty() {
        let ingress = DeploymentKey::new(stored.name.as_str(), stored.route_ingress.as_str());
        application.route = Some(Route {
            prefix: stored.route_prefix.clone(),
            ingress,
        });
    }
    let target = application.target.clone();
    let targeted = target.iter().flat_map(|revision| {
        revision
            .spec
            .deployments
            .iter()
            .map(|one| one.name.as_str())
    });
    for name in targeted.chain(stored.serving.keys().map(String::as_str)) {
        let mut deployment = Deployment::new(DeploymentKey::new(stored.name.as_str(), name));
        deployment.target = target.as_ref().and_then(|revision| revision.find(name));
        let serving = stored
            .serving
            .get(name)
            .and_then(|blob| revisions.get(blob));
        deployment.serving = serving.and_then(|revision| revision.find(name));
        if let Some(version) = deployment
            .serving
            .as_ref()
            .map(|serving| serving.version().to_owned())
        {
            deployment.attempts_of(&version).proven = true;
        }
        application.deployments.insert(name.to_owned(), deployment);
    }
    application
}
