//! The parts of the world that answer commands: node, router and store.

use std::collections::{BTreeMap, BTreeSet};

use eagleray_types::{DeploymentKey, control::*};
use prost::Message as _;

use super::world::{Behaviour, Process, World, from_node};
use crate::{
    core::{Event, Save, SaveError},
    store::sha256_hex,
};

impl World {
    pub(super) fn on_node_command(&mut self, body: node_command::Body) {
        match body {
            node_command::Body::Spawn(spawn) => {
                assert!(
                    self.ids.insert(spawn.replica_id.clone()),
                    "id {} is used twice",
                    spawn.replica_id
                );
                if spawn.policies {
                    self.words.push("policies".to_owned());
                    self.builds.insert(spawn.replica_id.clone(), spawn);
                    return;
                }
                if !spawn.build.is_empty() {
                    let application = &spawn.deployment.application;
                    self.words.push(format!("build {application}"));
                    self.builds.insert(spawn.replica_id.clone(), spawn);
                    return;
                }
                self.words.push(format!("spawn {}", spawn.deployment));
                assert!(!spawn.imports.is_empty());
                self.imports.insert(spawn.imports.clone());
                let Ok(ReplicaCommand {
                    body: Some(replica_command::Body::Start(config)),
                }) = ReplicaCommand::decode(spawn.first_command.as_slice())
                else {
                    panic!("the first command starts");
                };
                assert_eq!(config.replica_id, spawn.replica_id);
                let told = (config.rank, config.world_size);
                let (version, ready, failed) = (config.version, false, false);
                let config = config.options.user_config;
                let process = Process {
                    version,
                    ready,
                    failed,
                    draining: false,
                    config,
                    taking: None,
                    told,
                    stopping: None,
                    accepted: 0,
                    resident_bytes: 0,
                    spawn,
                };
                self.processes
                    .insert(process.spawn.replica_id.clone(), process);
            }
            node_command::Body::Stop(stop) => self.on_stop(stop),
            node_command::Body::ForgetImports(forget) => {
                self.imports.remove(&forget.imports);
            }
            node_command::Body::List(_) => {
                let listed = self.listed();
                self.pending
                    .push_back(from_node(node_event::Body::Listed(listed)));
                // As the node does: a failure to start that the last controller may not have heard of.
                let failed = self.processes.iter().filter(|(_, process)| process.failed);
                for id in failed.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
                    self.say(
                        &id,
                        replica_event::Body::StartFailed(Failed {
                            message: "Traceback: ValueError".into(),
                        }),
                    );
                }
            }
            node_command::Body::Relay(relay) => self.on_relay(&relay),
            node_command::Body::Publish(_) => panic!("the service publishes"),
            node_command::Body::ConfigureProxy(told) => self.settings.push(told.settings),
        }
    }

    fn on_stop(&mut self, stop: Stop) {
        self.words.push("stop".to_owned());
        if self.builds.contains_key(&stop.replica_id) {
            assert_eq!(stop.grace_milliseconds, 0, "a build is killed");
            self.end_build(&stop.replica_id, "signal 9 (SIGKILL)", "");
        } else if let Some(process) = self.processes.get_mut(&stop.replica_id) {
            assert_eq!(stop.epoch, process.spawn.epoch);
            // What hangs is killed as it is, and its death is what routers learn of.
            let killed = self.hung.contains(&stop.replica_id) && stop.grace_milliseconds == 0;
            if killed {
                self.dead.insert(stop.replica_id.clone());
            }
            assert!(
                killed
                    || process.draining
                    || !process.ready
                    || self.routed_nowhere(&stop.replica_id)
            );
            self.processes.get_mut(&stop.replica_id).unwrap().stopping =
                Some(stop.grace_milliseconds);
        } else {
            let (replica_id, epoch) = (stop.replica_id, stop.epoch);
            let exited = Exited {
                replica_id,
                epoch,
                reason: "not running".into(),
                ..Default::default()
            };
            self.pending
                .push_back(from_node(node_event::Body::Exited(exited)));
        }
    }

    fn routed_nowhere(&self, id: &str) -> bool {
        !self
            .routed
            .values()
            .flat_map(|one| &one.versions)
            .flat_map(|one| &one.replicas)
            .any(|one| one.replica_id == id)
    }

    pub(super) fn listed(&self) -> Listed {
        let ready = ReplicaEvent {
            body: Some(replica_event::Body::Ready(Ready {
                resident_bytes: self.begin_with_bytes,
                ..Ready::default()
            })),
        }
        .encode_to_vec();
        let replicas = self.processes.values().map(|process| ListedReplica {
            replica_id: process.spawn.replica_id.clone(),
            epoch: process.spawn.epoch,
            socket_path: format!("/run/r/{}.sock", process.spawn.replica_id),
            pid: 42,
            label: process.spawn.label.clone(),
            ready: if process.ready {
                ready.clone()
            } else {
                Vec::new()
            },
            stopping: process.stopping.is_some(),
        });
        let builds = self.builds.values().map(|spawn| ListedReplica {
            replica_id: spawn.replica_id.clone(),
            epoch: spawn.epoch,
            label: spawn.label.clone(),
            ..ListedReplica::default()
        });
        Listed {
            replicas: replicas.chain(builds).collect(),
            imports: self.imports.iter().cloned().collect(),
            resources: self.resources.clone(),
            ..Listed::default()
        }
    }

    fn on_relay(&mut self, relay: &Relay) {
        let Some(process) = self.processes.get_mut(&relay.replica_id) else {
            return;
        };
        let behaviour = self
            .behaviours
            .get(&process.version)
            .copied()
            .unwrap_or_default();
        let (accepted, resident_bytes) = (process.accepted, process.resident_bytes);
        let answer = |id, failure: &str| Outcome {
            id,
            failure: failure.to_owned(),
            accepted,
            resident_bytes,
        };
        match ReplicaCommand::decode(relay.payload.as_slice())
            .unwrap()
            .body
            .unwrap()
        {
            replica_command::Body::Drain(_) => {
                self.words.push("drain".to_owned());
                process.draining = true;
            }
            replica_command::Body::Reconfigure(reconfigure) => {
                let rank = reconfigure.rank.expect("the rank goes along");
                process.told = (rank, reconfigure.world_size);
                let config = reconfigure.options.user_config;
                let same = reconfigure.keep_user_config || config == process.config;
                let word = if same { "options" } else { "reconfigure" };
                self.words
                    .push(format!("{word} {config}").trim_end().to_owned());
                assert!(
                    same || process.taking.is_none(),
                    "two reconfigure at the same time"
                );
                if same {
                    let outcome = answer(reconfigure.id, "");
                    let body = replica_event::Body::Reconfigured(outcome);
                    return self.say(&relay.replica_id, body);
                }
                process.taking = Some((reconfigure.id, config));
                match behaviour {
                    Behaviour::ReconfigureHangs => {}
                    Behaviour::ReconfigureCrashes => self.die(&relay.replica_id),
                    Behaviour::ReconfigureFails => {
                        self.finish_reconfigure(&relay.replica_id, "TypeError");
                    }
                    _ => self.finish_reconfigure(&relay.replica_id, ""),
                }
            }
            replica_command::Body::ShowStacks(ask) => {
                self.stack_questions
                    .push((relay.replica_id.clone(), ask.id));
            }
            replica_command::Body::CheckHealth(check) => match behaviour {
                Behaviour::Silent => {}
                Behaviour::Sick => self.say(
                    &relay.replica_id,
                    replica_event::Body::Health(answer(check.id, "sick")),
                ),
                _ => self.say(
                    &relay.replica_id,
                    replica_event::Body::Health(answer(check.id, "")),
                ),
            },
            other => panic!("{other:?}"),
        }
    }

    /// `reconfigure` of user code returns, or raises.
    pub(super) fn finish_reconfigure(&mut self, id: &str, failure: &str) {
        let process = self.processes.get_mut(id).unwrap();
        let (command, config) = process.taking.take().unwrap();
        if failure.is_empty() {
            process.config = config;
        }
        let outcome = Outcome {
            id: command,
            failure: failure.to_owned(),
            ..Outcome::default()
        };
        self.say(id, replica_event::Body::Reconfigured(outcome));
    }

    /// At any moment no two processes of a version know one rank, but for those that are being killed.
    pub(super) fn assert_ranks_apart(&self) {
        let mut taken = BTreeSet::new();
        for process in self.processes.values() {
            let runs = !process.failed && process.stopping != Some(0);
            let key = (&process.spawn.deployment, &process.version, process.told.0);
            assert!(!runs || taken.insert(key), "{key:?} is there twice");
        }
    }

    /// Replicas of one version know different ranks, below the number of them that is wanted, which they know too.
    pub(super) fn assert_ranks(&self) {
        let mut groups: BTreeMap<(DeploymentKey, &str), Vec<(u32, u32)>> = BTreeMap::new();
        for process in self.processes.values().filter(|one| one.serves()) {
            let key = (process.spawn.deployment.clone(), process.version.as_str());
            groups.entry(key).or_default().push(process.told);
        }
        for (key, told) in groups {
            let ranks: BTreeSet<u32> = told.iter().map(|(rank, _)| *rank).collect();
            assert_eq!(ranks.len(), told.len(), "{key:?} shares a rank: {told:?}");
            for (rank, world_size) in &told {
                let below = (told.len() as u32).max(*world_size);
                assert!(*rank < below, "{key:?}: rank {rank} of {below}: {told:?}");
            }
        }
    }

    /// Numbers have no gap, and a replica only leaves dead or draining.
    pub(super) fn on_publish(&mut self, update: TargetUpdate) {
        assert_eq!(update.epoch, self.stored.epoch);
        assert_eq!(update.number, self.number + 1);
        self.number = update.number;
        let before: Vec<String> = self.all_routed();
        if update.snapshot {
            self.routed.clear();
        }
        for key in &update.removed {
            assert!(self.routed.remove(key).is_some(), "{key} is removed twice");
        }
        self.routed.extend(
            update
                .deployments
                .into_iter()
                .map(|target| (target.key.clone(), target)),
        );
        if update.snapshot {
            self.marks.clear();
        }
        for mark in update.marks {
            self.marks.insert(mark.application, mark.mark);
        }
        self.marks.retain(|_, mark| *mark != 0);
        if let Some(routes) = update.routes {
            self.routes = routes;
        }
        let after: BTreeSet<String> = self.all_routed().into_iter().collect();
        for id in before.iter().filter(|id| !after.contains(*id)) {
            let proof = self
                .processes
                .get(id)
                .is_none_or(|process| process.draining);
            assert!(proof || self.dead.contains(id), "{id} left without proof");
        }
        for id in after {
            assert!(
                self.processes.get(&id).is_none_or(|process| process.ready),
                "{id} is routed and not ready"
            );
        }
        let applied = AppliedUpdate {
            epoch: update.epoch,
            number: update.number,
        };
        self.pending
            .push_back(from_node(node_event::Body::Published(applied)));
    }

    pub(super) fn all_routed(&self) -> Vec<String> {
        let versions = self.routed.values().flat_map(|target| &target.versions);
        versions
            .flat_map(|version| &version.replicas)
            .map(|replica| replica.replica_id.clone())
            .collect()
    }

    pub(super) fn on_save(&mut self, save: Save) {
        let result = if self.missing_files && !save.files.is_empty() {
            Err(SaveError::Blob("blob x cannot be opened".to_owned()))
        } else if self.fail_saves {
            Err(SaveError::Store("disk full".to_owned()))
        } else {
            for (blob, bytes) in save.blobs {
                assert_eq!(sha256_hex(&bytes), blob);
                self.blobs.insert(blob, bytes);
            }
            for blob in save.root.revision_blobs() {
                let bytes = &self.blobs[blob];
                let spec = ApplicationSpec::decode(bytes.as_slice()).unwrap();
                self.stored.revisions.insert(blob.to_owned(), spec);
            }
            for blob in save.root.record_blobs() {
                let bytes = &self.blobs[blob];
                let record = RevisionRecord::decode(bytes.as_slice()).unwrap();
                self.stored.records.insert(blob.to_owned(), record);
            }
            self.stored.root = save.root;
            Ok(())
        };
        self.pending.push_back(Event::Saved(result));
    }
}
