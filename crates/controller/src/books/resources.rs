//! What the node has, what each replica holds of it, and what is asked and does not fit.
//!
//! A replica takes its share when it is started and gives it back when the node has reported its process dead, not when it
//! is told to stop: a process that drains still has its memory and its device. So nothing is given out twice, whoever dies
//! and whenever; what a controller before this one gave out is held again when its replicas are adopted.
//!
//! **Fractions** of a GPU are packed: they go where the least is left that is enough, so that whole devices stay free for
//! those who need one. Whole GPUs take whole devices. Of two deployments that wait, the one that has waited longer is
//! asked first ([`Resources::in_turn`]).
//!
//! What is not asked for is not counted: a replica that states nothing holds nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use eagleray_types::{
    DeploymentKey,
    control::{NodeResources, ResourceShare, UNIT},
};

pub(crate) const GPUS: &str = "num_gpus";

/// What a replica asks for, by name, in ten-thousandths; nothing that is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand(pub(crate) BTreeMap<String, u64>);

impl Demand {
    /// Of the option `resources`. What is too little to count counts as the least.
    pub(crate) fn of(stated: &BTreeMap<String, f64>) -> Self {
        let amount = |stated: f64| ((stated * UNIT as f64).round() as u64).max(1);
        let counted = stated.iter().filter(|(_, stated)| **stated > 0.0);
        Self(
            counted
                .map(|(name, stated)| (name.clone(), amount(*stated)))
                .collect(),
        )
    }
}

/// The first resource of which there is not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub(crate) name: String,
    pub(crate) asked: u64,
    /// Of all.
    pub(crate) total: u64,
    /// What one replica could get now; of GPUs less than is free, where that is in pieces.
    pub(crate) free: u64,
}

/// A deployment of which replicas wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Among all that have ever waited.
    order: u64,
    /// Its own replicas end for it: nobody else gets what becomes free.
    pub(crate) makes_room: bool,
    pub(crate) since: Duration,
    pub(crate) replicas: usize,
    pub(crate) demand: Demand,
    pub(crate) lack: Lack,
}

#[derive(Clone, Debug)]
pub(crate) struct Holder {
    epoch: u64,
    pub(crate) deployment: DeploymentKey,
    pub(crate) share: ResourceShare,
}

#[derive(Clone, Debug, Default)]
struct Used {
    amounts: BTreeMap<String, u64>,
    devices: Vec<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Resources {
    /// `None`: the node has not said, and everything fits.
    has: Option<NodeResources>,
    used: Used,
    /// By replica.
    holders: BTreeMap<String, Holder>,
    waiting: BTreeMap<DeploymentKey, Waiting>,
    waits: u64,
    /// Something was given back since the last [`Resources::take_news`].
    news: bool,
}

impl Resources {
    /// What the node has to give.
    pub(crate) fn learn(&mut self, has: Option<NodeResources>) {
        self.news |= has != self.has;
        self.has = has;
    }

    pub(crate) fn has(&self) -> Option<&NodeResources> {
        self.has.as_ref()
    }

    /// Whether replicas are told which GPUs they may use.
    pub(crate) fn has_devices(&self) -> bool {
        self.has.as_ref().is_some_and(|has| !has.devices.is_empty())
    }

    /// What `CUDA_VISIBLE_DEVICES` calls the devices of a share.
    pub(crate) fn device_names(&self, share: &ResourceShare) -> String {
        let devices = self.has.iter().flat_map(|has| &has.devices).enumerate();
        let own = devices.filter(|(number, _)| share.devices.contains_key(&(*number as u32)));
        let names: Vec<&str> = own.map(|(_, device)| device.id.as_str()).collect();
        names.join(",")
    }

    /// Gives a new replica what it asks for, or says what is missing.
    pub(crate) fn take(
        &mut self,
        replica_id: &str,
        epoch: u64,
        deployment: &DeploymentKey,
        demand: &Demand,
    ) -> Result<ResourceShare, Lack> {
        let share = self.fit(&self.used, demand)?;
        self.leaves_room(deployment, demand, &share)?;
        self.hold(replica_id, epoch, deployment, share.clone());
        Ok(share)
    }

    /// What others have made room for still fits beside this share, if it fits now.
    fn leaves_room(
        &self,
        deployment: &DeploymentKey,
        demand: &Demand,
        share: &ResourceShare,
    ) -> Result<(), Lack> {
        let others = self.waiting.iter().filter(|(key, _)| *key != deployment);
        for (_, other) in others.filter(|(_, one)| one.makes_room) {
            let Ok(kept) = self.fit(&self.used, &other.demand) else {
                continue;
            };
            let mut used = self.used.clone();
            used.add(share);
            if self.fit(&used, &other.demand).is_err() {
                let mut used = self.used.clone();
                used.add(&kept);
                return self.fit(&used, demand).map(drop);
            }
        }
        Ok(())
    }

    /// A replica has this, whoever gave it.
    pub(crate) fn hold(
        &mut self,
        replica_id: &str,
        epoch: u64,
        deployment: &DeploymentKey,
        share: ResourceShare,
    ) {
        if share.amounts.is_empty() {
            return;
        }
        self.used.add(&share);
        let holder = Holder {
            epoch,
            deployment: deployment.clone(),
            share,
        };
        let before = self.holders.insert(replica_id.to_owned(), holder);
        debug_assert!(before.is_none(), "{replica_id} holds two shares");
    }

    /// The process of a replica is gone, and with it whatever it held.
    pub(crate) fn release(&mut self, replica_id: &str, epoch: u64) {
        let of_epoch = |one: &Holder| one.epoch == epoch;
        if self.holders.get(replica_id).is_some_and(of_epoch)
            && let Some(holder) = self.holders.remove(replica_id)
        {
            self.used.remove(&holder.share);
            self.news = true;
        }
    }

    /// Whether one replica would fit once these have ended.
    pub(crate) fn fits_without<'a>(
        &self,
        demand: &Demand,
        ended: impl IntoIterator<Item = &'a str>,
    ) -> bool {
        let mut used = self.used.clone();
        for holder in ended.into_iter().filter_map(|id| self.holders.get(id)) {
            used.remove(&holder.share);
        }
        self.fit(&used, demand).is_ok()
    }

    /// What an empty node would lack.
    pub(crate) fn lack_of_all(&self, demand: &Demand) -> Option<Lack> {
        self.fit(&Used::default(), demand).err()
    }

    /// Replicas of a deployment wait, or do not.
    pub(crate) fn settle(&mut self, deployment: &DeploymentKey, waiting: Option<Waiting>) {
        let Some(waiting) = waiting else {
            self.waiting.remove(deployment);
            return;
        };
        let before = self.waiting.get(deployment);
        let (order, since) = before.map_or_else(
            || (self.waits + 1, waiting.since),
            |before| (before.order, before.since),
        );
        self.waits = self.waits.max(order);
        let waiting = Waiting {
            order,
            since,
            ..waiting
        };
        self.waiting.insert(deployment.clone(), waiting);
    }

    pub(crate) fn waiting(&self, deployment: &DeploymentKey) -> Option<&Waiting> {
        self.waiting.get(deployment)
    }

    pub(crate) fn all_waiting(&self) -> impl Iterator<Item = (&DeploymentKey, &Waiting)> {
        self.waiting.iter()
    }

    /// Applications that wait for something, if something was given back since this was last asked.
    pub(crate) fn take_news(&mut self) -> BTreeSet<String> {
        if !std::mem::take(&mut self.news) {
            return BTreeSet::new();
        }
        let names = self.waiting.keys().map(|key| key.application.clone());
        names.collect()
    }

    /// Applications in the order in which they are to be asked: those that have waited longest, then by name.
    pub(crate) fn in_turn(&self, applications: &BTreeSet<String>) -> Vec<String> {
        let mut first: BTreeMap<&str, u64> = BTreeMap::new();
        for (key, waiting) in &self.waiting {
            let order = first.entry(&key.application).or_insert(waiting.order);
            *order = waiting.order.min(*order);
        }
        let mut names: Vec<&String> = applications.iter().collect();
        names.sort_by_key(|name| first.get(name.as_str()).copied().unwrap_or(u64::MAX));
        names.into_iter().cloned().collect()
    }

    pub(crate) fn holders(&self) -> impl Iterator<Item = (&String, &Holder)> {
        self.holders.iter()
    }

    pub(crate) fn used(&self) -> (&BTreeMap<String, u64>, &[u64]) {
        (&self.used.amounts, &self.used.devices)
    }

    fn fit(&self, used: &Used, demand: &Demand) -> Result<ResourceShare, Lack> {
        let mut share = ResourceShare::default();
        for (name, &asked) in &demand.0 {
            if let Some(has) = &self.has {
                if name == GPUS {
                    let devices = has.devices.len();
                    share.devices = used.choose_devices(devices, asked)?;
                } else {
                    let total = has.amounts.get(name).copied().unwrap_or_default();
                    let free = total.saturating_sub(used.of(name));
                    if asked > free {
                        return Err(Lack {
                            name: name.clone(),
                            asked,
                            total,
                            free,
                        });
                    }
                }
            }
            share.amounts.insert(name.clone(), asked);
        }
        Ok(share)
    }
}

impl Used {
    fn of(&self, name: &str) -> u64 {
        self.amounts.get(name).copied().unwrap_or_default()
    }

    fn add(&mut self, share: &ResourceShare) {
        for (name, amount) in &share.amounts {
            let used = self.amounts.entry(name.clone()).or_default();
            *used = used.saturating_add(*amount);
        }
        for (number, amount) in &share.devices {
            let number = *number as usize;
            if self.devices.len() <= number {
                self.devices.resize(number + 1, 0);
            }
            if let Some(used) = self.devices.get_mut(number) {
                *used = used.saturating_add(*amount);
            }
        }
    }

    fn remove(&mut self, share: &ResourceShare) {
        for (name, amount) in &share.amounts {
            let left = self.of(name).saturating_sub(*amount);
            if left == 0 {
                self.amounts.remove(name);
            } else {
                self.amounts.insert(name.clone(), left);
            }
        }
        for (number, amount) in &share.devices {
            if let Some(used) = self.devices.get_mut(*number as usize) {
                *used = used.saturating_sub(*amount);
            }
        }
    }

    /// How much of each of the `devices` a replica gets.
    fn choose_devices(&self, devices: usize, asked: u64) -> Result<BTreeMap<u32, u64>, Lack> {
        let used = |number: usize| self.devices.get(number).copied().unwrap_or_default();
        let whole = asked.div_ceil(UNIT) as usize;
        let untouched: Vec<usize> = (0..devices).filter(|one| used(*one) == 0).collect();
        let chosen = if asked < UNIT {
            let room = (0..devices).filter(|one| used(*one) + asked <= UNIT);
            room.max_by_key(|one| (used(*one), std::cmp::Reverse(*one)))
                .map(|number| BTreeMap::from([(number as u32, asked)]))
        } else {
            let numbers = untouched.iter().take(whole);
            let all: BTreeMap<u32, u64> = numbers.map(|one| (*one as u32, UNIT)).collect();
            (all.len() == whole).then_some(all)
        };
        chosen.ok_or_else(|| Lack {
            name: GPUS.to_owned(),
            asked,
            total: devices as u64 * UNIT,
            free: if asked < UNIT {
                let free = |one| UNIT.saturating_sub(used(one));
                (0..devices).map(free).max().unwrap_or_default()
            } else {
                untouched.len() as u64 * UNIT
            },
        })
    }
}

impl Waiting {
    pub(crate) fn new(since: Duration, replicas: usize, demand: Demand, lack: Lack) -> Self {
        Self {
            order: 0,
            makes_room: false,
            since,
            replicas,
            demand,
            lack,
        }
    }
}

#[cfg(test)]
mod tests;
