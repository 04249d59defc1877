//! Who has what of each node.

use std::collections::BTreeMap;

use eagleray_types::control::{
    NodeResources, PendingResources, ResourceHolder, ResourceShare, ResourcesStatus, UNIT,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{some, time};

const GPUS: &str = "num_gpus";

/// Who has what, and who waits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Resources {
    nodes: Vec<ResourcesOfNode>,
}

/// One node.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResourcesOfNode {
    node_id: String,
    /// By name: `num_cpus`, `num_gpus`, `memory` in bytes, and custom ones.
    resources: BTreeMap<String, Resource>,
    devices: Vec<Device>,
    /// Replicas that hold something.
    holders: Vec<Holder>,
    /// Deployments of which replicas wait for room.
    pending: Vec<Pending>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Resource {
    total: f64,
    /// What replicas hold, whether they use it or not.
    used: f64,
}

/// One GPU.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Device {
    /// What `CUDA_VISIBLE_DEVICES` calls it.
    id: String,
    model: Option<String>,
    /// From 0 to 1.
    used: f64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Holder {
    application: String,
    deployment: String,
    replica_id: String,
    resources: BTreeMap<String, f64>,
    /// As `CUDA_VISIBLE_DEVICES` calls them.
    devices: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pending {
    application: String,
    deployment: String,
    /// So many wait.
    replicas: u32,
    /// What each asks for.
    resources: BTreeMap<String, f64>,
    /// What is missing first.
    missing: String,
    /// Wall clock, seconds.
    since_s: Option<f64>,
    /// What is missing, how much, and who holds it.
    sentence: String,
}

impl From<Vec<ResourcesStatus>> for Resources {
    fn from(nodes: Vec<ResourcesStatus>) -> Self {
        Self {
            nodes: nodes.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<ResourcesStatus> for ResourcesOfNode {
    fn from(status: ResourcesStatus) -> Self {
        let has = status.has.unwrap_or_default();
        let mut totals = has.amounts.clone();
        totals.insert(GPUS.to_owned(), has.devices.len() as u64 * UNIT);
        let resource = |(name, total): (String, u64)| {
            let used = status.used.get(&name).copied().unwrap_or_default();
            let (total, used) = (number(total), number(used));
            (name, Resource { total, used })
        };
        let used = status
            .devices_used
            .iter()
            .copied()
            .chain(std::iter::repeat(0));
        let devices = has.devices.iter().zip(used).map(|(device, used)| Device {
            id: device.id.clone(),
            model: some(device.model.clone()),
            used: number(used),
        });
        Self {
            node_id: status.node_id,
            resources: totals.into_iter().map(resource).collect(),
            devices: devices.collect(),
            holders: status
                .holders
                .into_iter()
                .map(|one| holder(one, &has))
                .collect(),
            pending: status.pending.into_iter().map(Into::into).collect(),
        }
    }
}

fn holder(one: ResourceHolder, has: &NodeResources) -> Holder {
    let ResourceShare { amounts, devices } = one.share.unwrap_or_default();
    let name = |number: &u32| {
        let device = has.devices.get(*number as usize)?;
        Some(device.id.clone())
    };
    Holder {
        application: one.application,
        deployment: one.deployment,
        replica_id: one.replica_id,
        resources: numbers(amounts),
        devices: devices.keys().filter_map(name).collect(),
    }
}

impl From<PendingResources> for Pending {
    fn from(pending: PendingResources) -> Self {
        Self {
            application: pending.application,
            deployment: pending.deployment,
            replicas: pending.replicas,
            resources: numbers(pending.asked),
            missing: pending.missing,
            since_s: time(pending.since_s),
            sentence: pending.sentence,
        }
    }
}

fn numbers(amounts: BTreeMap<String, u64>) -> BTreeMap<String, f64> {
    let amounts = amounts.into_iter();
    amounts.map(|(name, one)| (name, number(one))).collect()
}

fn number(amount: u64) -> f64 {
    amount as f64 / UNIT as f64
}
