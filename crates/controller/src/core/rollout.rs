//! How many replicas of which version start and stop now: a pure function of what is there and what is wanted.
//!
//! The rule: new before old. While the target version is not at full size, the old ones are kept so that together
//! they are never fewer than wanted; at full size, all of them, until the first new replica is ready. At most
//! [`surge`] replicas run above the wanted number: `rolling_update_percentage` of it, by default a fifth, so an update
//! of a large model needs room for a fifth more, not for twice as many; or `max_surge_percent` where that is given.
//! Replicas marked for replacement serve until the replacement does. They count towards the surge too: where a check of all
//! replicas fails at once, since what they depend on is away, they are not all there twice.
//!
//! A replica on trial ([`crate::books::trial`]) counts as one that starts: that is the health gate. Later rules (canaries)
//! are other inputs or other functions beside this one; nothing else decides about starts and stops.

use std::cmp::Reverse;

use eagleray_types::control::DeploymentOptions;

use crate::books::loads::ReplicaLoad;

/// Which version a replica runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    Target,
    /// What ran before at full size, and can be started again.
    Fallback,
    /// An update that was overtaken by the next one.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is not ready yet, or on trial.
    Starting,
    Serving,
    /// Serves until its replacement does.
    Replaced,
}

#[derive(Clone, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) id: &'a str,
    pub(crate) order: u64,
    pub(crate) version: Version,
    pub(crate) phase: Phase,
    /// What routers say of it; of a deployment whose number is stated, nothing.
    pub(crate) load: ReplicaLoad,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) count: usize,
    /// A replica of this version has been ready, for as long as its trial asks.
    pub(crate) proven: bool,
    /// As many as its back-off lets start now; 0 when it was given up.
    pub(crate) starts_allowed: usize,
    /// As [`surge`] has it.
    pub(crate) surge: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Fleet<'a> {
    /// `None`: the deployment goes.
    pub(crate) target: Option<Want>,
    /// The version to fall back on, if it is another one.
    pub(crate) fallback: Option<Want>,
    /// Old ones that may be kept where new ones do not fit beside them; see [`super::room`].
    pub(crate) old_limit: Option<usize>,
    pub(crate) members: Vec<Member<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) start_target: usize,
    pub(crate) start_fallback: usize,
    pub(crate) stop: Vec<String>,
}

/// The share of the replicas that is replaced at a time unless the user gives one.
const USUAL_SHARE: f64 = 0.2;

/// Replicas that an update may run above the wanted number, which are those that it replaces at a time: one at least,
/// since new comes before old.
pub(crate) fn surge(options: &DeploymentOptions, wanted: u32) -> usize {
    let count = f64::from(wanted);
    match options.max_surge_percent {
        0 => step(options, wanted),
        percent => ((count * f64::from(percent.min(100)) / 100.0).ceil() as usize).max(1),
    }
}

/// Replicas that an update changes at a time: `rolling_update_percentage` of them, one at least.
fn step(options: &DeploymentOptions, wanted: u32) -> usize {
    let share = match options.rolling_update_percentage {
        share if share > 0.0 => share.min(1.0),
        _ => USUAL_SHARE,
    };
    ((f64::from(wanted) * share).floor() as usize).max(1)
}

/// How many more replicas may take a new `user_config` now, when `serving` of them serve and `changing` take one.
///
/// A replica that takes one counts as away, as one that is missing does, and no more than [`step`] are away at a time.
/// But one always gets its turn: the change may be what brings the missing ones back.
pub(crate) fn config_turns(
    options: &DeploymentOptions,
    wanted: u32,
    serving: usize,
    changing: usize,
) -> usize {
    let missing = (wanted as usize).saturating_sub(serving);
    step(options, wanted)
        .saturating_sub(missing)
        .max(1)
        .saturating_sub(changing)
}

impl Fleet<'_> {
    fn count(&self, target: bool, phase: Phase) -> usize {
        let matches =
            |one: &&Member<'_>| (one.version == Version::Target) == target && one.phase == phase;
        self.members.iter().filter(matches).count()
    }

    /// Old replicas that must serve now.
    fn old_wanted(&self) -> usize {
        let is_tried = self.target.is_some_and(|want| {
            let live = self.count(true, Phase::Serving) + self.count(true, Phase::Starting);
            want.starts_allowed > 0 || live > 0
        });
        let limit = self.old_limit.filter(|_| is_tried);
        self.old_useful().min(limit.unwrap_or(usize::MAX))
    }

    /// The same where there is room for them.
    fn old_useful(&self) -> usize {
        let old_serving = self.count(false, Phase::Serving);
        let Some(target) = self.target else {
            return self.fallback.map_or(0, |want| want.count);
        };
        let old = self
            .fallback
            .map_or(old_serving.min(target.count), |want| want.count);
        if target.proven {
            old.min(
                target
                    .count
                    .saturating_sub(self.count(true, Phase::Serving)),
            )
        } else {
            old
        }
    }

    /// Old replicas to stop, and how many are left (starting or serving).
    fn stop_old(&self, wanted: usize, stop: &mut Vec<String>) -> usize {
        let mut kept: Vec<&Member<'_>> = Vec::new();
        for member in self
            .members
            .iter()
            .filter(|one| one.version != Version::Target)
        {
            match (member.version, member.phase) {
                (Version::Other, Phase::Starting) => stop.push(member.id.to_owned()),
                (_, Phase::Starting | Phase::Serving) => kept.push(member),
                (_, Phase::Replaced) => {}
            }
        }
        // Kept longest: what serves, of the version to fall back on, the oldest.
        kept.sort_by_key(|one| (one.phase == Phase::Starting, one.version, one.order));
        stop.extend(kept.iter().skip(wanted).rev().map(|one| one.id.to_owned()));
        kept.len().min(wanted)
    }

    fn stop_target(&self, count: usize, stop: &mut Vec<String>) {
        let mut kept: Vec<&Member<'_>> = self
            .members
            .iter()
            .filter(|one| one.version == Version::Target && one.phase != Phase::Replaced)
            .collect();
        // Kept longest: what serves, what holds models that another would have to load, what has most to do, the oldest.
        kept.sort_by_key(|one| {
            let ReplicaLoad { running, models } = one.load;
            let serves = one.phase != Phase::Starting;
            let cost = (serves, models > 0, running, models);
            (Reverse(cost), one.order)
        });
        stop.extend(kept.iter().skip(count).rev().map(|one| one.id.to_owned()));
    }

    /// Stops replicas whose replacement serves: as many as serve beyond what is wanted without them. Returns how many are
    /// left.
    fn stop_replaced(&self, wanted: usize, serving: usize, stop: &mut Vec<String>) -> usize {
        let mut replaced: Vec<&Member<'_>> = self
            .members
            .iter()
            .filter(|one| one.phase == Phase::Replaced)
            .collect();
        replaced.sort_by_key(|one| one.order);
        let still_needed = wanted.saturating_sub(serving);
        stop.extend(
            replaced
                .iter()
                .skip(still_needed)
                .map(|one| one.id.to_owned()),
        );
        replaced.len().min(still_needed)
    }
}

/// What to do now. Applied and with nothing else happening, a second call returns an empty plan.
pub(crate) fn plan(fleet: &Fleet<'_>) -> Plan {
    let mut plan = Plan::default();
    let count = fleet.target.map_or(0, |want| want.count);
    let (serving, starting) = (
        fleet.count(true, Phase::Serving),
        fleet.count(true, Phase::Starting),
    );

    let old_wanted = fleet.old_wanted();
    let mut old = fleet.stop_old(old_wanted, &mut plan.stop);
    if let Some(fallback) = fleet.fallback
        && !fleet.target.is_some_and(|want| want.proven)
    {
        plan.start_fallback = old_wanted.saturating_sub(old).min(fallback.starts_allowed);
        old += plan.start_fallback;
    }

    fleet.stop_target(count, &mut plan.stop);
    let wanted = if fleet.target.is_some() {
        count.max(old_wanted)
    } else {
        old_wanted
    };
    let old_serving = fleet.count(false, Phase::Serving).min(old_wanted);
    let replaced = fleet.stop_replaced(wanted, serving + old_serving, &mut plan.stop);

    if let Some(target) = fleet.target {
        let missing = count.saturating_sub(serving + starting);
        let room = (count.max(serving + old_wanted) + target.surge)
            .saturating_sub(serving + starting + old);
        let room = if old == 0 {
            (count + target.surge).saturating_sub(serving + starting + replaced)
        } else {
            room
        };
        plan.start_target = missing.min(room).min(target.starts_allowed);
    }
    plan
}

#[cfg(test)]
mod tests;
