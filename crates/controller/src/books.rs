//! What the controller knows: applications, their deployments and replicas, and what is known of each.
//!
//! The files below are records, each with the rules that it keeps by itself: which states follow one another, which
//! failures make a crash loop, when a question is due. They decide nothing and command nothing; that is
//! [`crate::core`], which is given them as `&mut` beside its outbox.

pub(crate) mod application;
pub(crate) mod attempts;
pub(crate) mod condition;
pub(crate) mod deployment;
pub(crate) mod health;
mod register;
pub(crate) mod replica;
pub(crate) mod replica_state;
pub(crate) mod revision;
pub(crate) mod status;
pub(crate) mod told;

use std::collections::BTreeMap;

use eagleray_types::DeploymentKey;

pub(crate) use register::Register;

use application::Application;
use deployment::Deployment;
use replica::Replica;

#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) applications: BTreeMap<String, Application>,
    pub(crate) register: Register,
}

impl Books {
    pub(crate) fn deployment_mut(&mut self, key: &DeploymentKey) -> Option<&mut Deployment> {
        let application = self.applications.get_mut(&key.application)?;
        application.deployments.get_mut(&key.deployment)
    }

    /// The deployment that a replica belongs to.
    pub(crate) fn owner_mut(&mut self, replica_id: &str) -> Option<&mut Deployment> {
        let Self {
            applications,
            register,
        } = self;
        let key = register.owner(replica_id)?;
        let application = applications.get_mut(&key.application)?;
        application.deployments.get_mut(&key.deployment)
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

    /// In debug builds: every replica is in the register, and nothing else.
    pub(crate) fn check(&self) {
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
