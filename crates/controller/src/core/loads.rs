//! What routers say of their loads.

use std::time::Duration;

use eagleray_types::{
    DeploymentKey,
    control::{DeploymentLoad, Loads},
};

use super::Core;
use crate::books::{
    deployment::Deployment,
    loads::{self, Load, Speaker},
    refusals::Refusals,
};

impl Core {
    /// Returns the deployments whose load is another now.
    pub(super) fn on_loads(
        &mut self,
        said: &Loads,
        from: Speaker,
        now: Duration,
    ) -> Vec<DeploymentKey> {
        for load in said.loads.iter().filter(|load| load.refused > 0) {
            let application = self.books.applications.get_mut(&load.application);
            let deployment = application.and_then(|one| one.deployments.get_mut(&load.deployment));
            if let Some(one) = deployment {
                one.refusals = Some(Refusals::with(one.refusals, load.refused.into(), now));
            }
        }
        self.books.loads.hear(said, from, now)
    }

    /// A connection has ended: if a router spoke on it, what that had is over, or will come back to another.
    pub(super) fn on_router_gone(&mut self, connection: u64) -> Vec<DeploymentKey> {
        self.books.loads.on_connection_gone(connection)
    }
}

/// What the status says of it; `None`: nobody asks routers for it.
pub(super) fn shown(
    deployment: &Deployment,
    loads: &loads::Loads,
    now: Duration,
) -> Option<DeploymentLoad> {
    if !deployment.scales() {
        return None;
    }
    let Load { queued, running } = loads.of(&deployment.key);
    Some(DeploymentLoad {
        queued,
        running,
        routers: loads.routers_of(&deployment.key).count() as u32,
        whole: loads.is_whole(now),
    })
}
