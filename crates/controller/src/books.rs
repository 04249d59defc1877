//! What the controller knows: applications, their deployments and replicas, and what is known of each.
//!
//! The files below are records, each with the rules that it keeps by itself: which states follow one another, which
//! failures make a crash loop, when a question is due. They decide nothing and command nothing; that is
//! [`crate::core`], which is given them as `&mut` beside its outbox.

pub(crate) mod application;
pub(crate) mod attempts;
pub(crate) mod autoscaling;
pub(crate) mod capacity;
pub(crate) mod cold_start;
pub(crate) mod condition;
mod counts;
pub(crate) mod dead;
pub(crate) mod declared;
pub(crate) mod deployment;
pub(crate) mod desired;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod loads;
pub(crate) mod plan;
pub(crate) mod planning;
pub(crate) mod policy;
pub(crate) mod refusals;
mod register;
pub(crate) mod replica;
pub(crate) mod replica_state;
pub(crate) mod resources;
pub(crate) mod revision;
mod saved;
pub(crate) mod sizes;
pub(crate) mod status;
pub(crate) mod tallies;
pub(crate) mod told;
pub(crate) mod trial;

use std::collections::BTreeMap;

use eagleray_types::DeploymentKey;

pub(crate) use register::Register;

use application::Application;
use deployment::Deployment;
use desired::{Desired, Plan};
use loads::Loads;
use replica::Replica;
use resources::Resources;
use sizes::Sizes;
use tallies::Tallies;

#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) desired: Desired,
    /// What runs, or shall run: those that are being deleted, too.
    pub(crate) applications: BTreeMap<String, Application>,
    pub(crate) register: Register,
    pub(crate) sizes: Sizes,
    pub(crate) tallies: Tallies,
    pub(crate) loads: Loads,
    pub(crate) resources: Resources,
}

impl Books {
    /// As the checkpoint has them: what should run, and no replica yet.
    pub(crate) fn new(desired: Desired) -> Self {
        let applications = desired.plans().map(|(name, plan)| {
            let mut application = Application::new(name);
            application.follow(Some(plan));
            for deployment in application.deployments.values_mut() {
                deployment.trust_serving();
            }
            (name.clone(), application)
        });
        Self {
            applications: applications.collect(),
            desired,
            register: Register::default(),
            sizes: Sizes::default(),
            tallies: Tallies::default(),
            loads: Loads::default(),
            resources: Resources::default(),
        }
    }

    pub(crate) fn plan(&self, application: &str) -> Option<&Plan> {
        self.desired.plan(application)
    }

    /// It should not run any more, but something of it does.
    pub(crate) fn is_deleting(&self, application: &str) -> bool {
        self.applications.contains_key(application) && self.plan(application).is_none()
    }

    /// Whether that holds of any application.
    pub(crate) fn is_any_deleting(&self) -> bool {
        self.applications.keys().any(|name| self.is_deleting(name))
    }

    pub(crate) fn deployment_mut(&mut self, key: &DeploymentKey) -> Option<&mut Deployment> {
        let application = self.applications.get_mut(&key.application)?;
        application.deployments.get_mut(&key.deployment)
    }

    pub(crate) fn replica(&self, replica_id: &str) -> Option<&Replica> {
        let key = self.register.owner(replica_id)?;
        let application = self.applications.get(&key.application)?;
        let deployment = application.deployments.get(&key.deployment)?;
        deployment.replicas.get(replica_id)
    }

    /// The deployment that a replica belongs to.
    pub(crate) fn owner_mut(&mut self, replica_id: &str) -> Option<&mut Deployment> {
        let Self {
            applications,
            register,
            ..
        } = self;
        let key = register.owner(replica_id)?;
        let application = applications.get_mut(&key.application);
        let deployment = application.and_then(|one| one.deployments.get_mut(&key.deployment));
        debug_assert!(deployment.is_some(), "{key} is in the register only");
        deployment
    }

    /// Strikes a replica of this epoch, and returns it with the deployment that had it. One id may have lived in two
    /// epochs: what is said of another is not about this one.
    pub(crate) fn strike(
        &mut self,
        replica_id: &str,
        epoch: u64,
    ) -> Option<(Replica, &mut Deployment)> {
        let Self {
            applications,
            register,
            ..
        } = self;
        let key = register.owner(replica_id)?;
        let application = applications.get_mut(&key.application)?;
        let deployment = application.deployments.get_mut(&key.deployment)?;
        if deployment.replicas.get(replica_id)?.epoch != epoch {
            return None;
        }
        let replica = deployment.replicas.remove(replica_id)?;
        register.strike(replica_id);
        Some((replica, deployment))
    }

    /// In debug builds: every replica is in the register, and nothing else; and all follow the plans.
    pub(crate) fn check(&self) {
        debug_assert!(
            self.deployments().all(|one| {
                let plan = self.plan(&one.key.application);
                one.follows(plan)
            }),
            "a deployment has what its plan does not have"
        );
        debug_assert_eq!(
            self.deployments()
                .flat_map(|one| one.replicas.keys().map(move |id| (id, &one.key)))
                .filter(|(id, key)| self.register.owner(id) == Some(key))
                .count(),
            self.register.len(),
            "the register has what the books do not have"
        );
        debug_assert_eq!(
            self.deployments()
                .map(|one| one.replicas.len())
                .sum::<usize>(),
            self.register.len(),
            "the books have what the register does not have"
        );
    }

    fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.applications
            .values()
            .flat_map(|one| one.deployments.values())
    }
}
