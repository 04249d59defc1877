//! How many replicas of which version start and stop now: a pure function of what is there and what is wanted.
//!
//! The rule: new before old. While the target version is not at full size, the old ones are kept so that together
//! they are never fewer than wanted; at full size, all of them, until the first new replica is ready. At most
//! [`surge`] replicas run above the wanted number: `rolling_update_percentage` of it, by default a fifth, so an update
//! of a large model needs room for a fifth more, not for twice as many; or `max_surge_percent` where that is given.
//! Replicas marked for replacement serve until the replacement does.
//!
//! Later rules (health windows, canaries, an autoscaler's count) are other inputs or other functions beside this one;
//! nothing else decides about starts and stops.

use eagleray_types::control::DeploymentOptions;

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
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) count: usize,
    /// A replica of this version has been ready.
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
        kept.sort_by_key(|one| (one.phase == Phase::Starting, one.order));
        stop.extend(kept.iter().skip(count).rev().map(|one| one.id.to_owned()));
    }

    /// Stops replicas whose replacement serves: as many as serve beyond what is wanted without them.
    fn stop_replaced(&self, wanted: usize, serving: usize, stop: &mut Vec<String>) {
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
    fleet.stop_replaced(wanted, serving + old_serving, &mut plan.stop);

    if let Some(target) = fleet.target {
        let missing = count.saturating_sub(serving + starting);
        let room = (count.max(serving + old_wanted) + target.surge)
            .saturating_sub(serving + starting + old);
        let room = if old == 0 { missing } else { room };
        plan.start_target = missing.min(room).min(target.starts_allowed);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(target: Want, fallback: Option<usize>, members: &[(Version, Phase)]) -> Plan {
        let ids: Vec<String> = (0..members.len())
            .map(|order| format!("r{order}"))
            .collect();
        let members = members
            .iter()
            .enumerate()
            .map(|(order, &(version, phase))| Member {
                id: &ids[order],
                order: order as u64,
                version,
                phase,
            })
            .collect();
        let fallback = fallback.map(|count| Want {
            count,
            proven: true,
            starts_allowed: usize::MAX,
            surge: (count / 5).max(1),
        });
        plan(&Fleet {
            target: Some(target),
            fallback,
            members,
        })
    }

    fn want(count: usize, proven: bool) -> Want {
        Want {
            count,
            proven,
            starts_allowed: usize::MAX,
            surge: (count / 5).max(1),
        }
    }

    // contract: 2/surge better: replacements always start first; max_surge_percent says how many at a time
    // contract: 2/rolling-update better: replacements start first, rolling_update_percentage of the replicas at a time
    #[test]
    fn the_share_that_is_replaced_at_a_time_is_the_users() {
        // (replicas, rolling_update_percentage, max_surge_percent, at a time)
        let table = [
            (1, 0.0, 0, 1),
            (10, 0.0, 0, 2),
            (10, 0.2, 0, 2),
            (10, 0.05, 0, 1),
            (10, 0.59, 0, 5),
            (10, 1.0, 0, 10),
            (10, 0.2, 1, 1),
            (10, 0.2, 31, 4),
            (10, 0.2, 100, 10),
        ];
        for (num_replicas, rolling_update_percentage, max_surge_percent, expected) in table {
            let options = DeploymentOptions {
                rolling_update_percentage,
                max_surge_percent,
                ..Default::default()
            };
            assert_eq!(surge(&options, num_replicas), expected, "{options:?}");
        }
        let all = Want {
            surge: 3,
            ..want(3, false)
        };
        assert_eq!(fleet(all, Some(3), &[OLD, OLD, OLD]).start_target, 3);
    }

    const NEW: (Version, Phase) = (Version::Target, Phase::Serving);
    const NEW_STARTING: (Version, Phase) = (Version::Target, Phase::Starting);
    const OLD: (Version, Phase) = (Version::Fallback, Phase::Serving);

    #[test]
    fn a_first_deploy_starts_everything_at_once() {
        assert_eq!(fleet(want(5, false), None, &[]).start_target, 5);
    }

    #[test]
    fn an_update_starts_before_it_stops() {
        let first = fleet(want(2, false), Some(2), &[OLD, OLD]);
        assert_eq!((first.start_target, first.stop), (1, vec![]));
        let waiting = fleet(want(2, false), Some(2), &[OLD, OLD, NEW_STARTING]);
        assert_eq!(waiting, Plan::default());
        let ready = fleet(want(2, true), Some(2), &[OLD, OLD, NEW]);
        assert_eq!(
            ready,
            Plan {
                start_target: 1,
                stop: vec!["r1".into()],
                ..Default::default()
            }
        );
    }

    #[test]
    fn an_old_replica_that_dies_before_the_new_version_is_proven_comes_back() {
        let plan = fleet(want(2, false), Some(2), &[OLD, NEW_STARTING]);
        assert_eq!(
            plan,
            Plan {
                start_fallback: 1,
                ..Default::default()
            }
        );
    }

    #[test]
    fn an_update_that_also_scales_down_does_not_get_stuck() {
        let plan = fleet(want(1, false), Some(3), &[OLD, OLD, OLD]);
        assert_eq!(
            plan,
            Plan {
                start_target: 1,
                ..Default::default()
            }
        );
        let plan = fleet(want(1, true), Some(3), &[OLD, OLD, OLD, NEW]);
        assert_eq!(plan.stop, ["r2", "r1", "r0"]);
    }

    #[test]
    fn scaling_down_stops_what_does_not_serve_yet_and_then_the_newest() {
        let plan = fleet(want(1, true), None, &[NEW, NEW, NEW_STARTING]);
        assert_eq!(plan.stop, ["r2", "r1"]);
    }

    #[test]
    fn a_replica_to_be_replaced_serves_until_its_replacement_does() {
        const SICK: (Version, Phase) = (Version::Target, Phase::Replaced);
        assert_eq!(
            fleet(want(1, true), None, &[SICK]),
            Plan {
                start_target: 1,
                ..Default::default()
            }
        );
        assert_eq!(
            fleet(want(1, true), None, &[SICK, NEW_STARTING]),
            Plan::default()
        );
        assert_eq!(fleet(want(1, true), None, &[SICK, NEW]).stop, ["r0"]);
    }

    #[test]
    fn a_starting_replica_of_an_overtaken_update_is_stopped_and_a_serving_one_is_kept() {
        let overtaken = [
            OLD,
            (Version::Other, Phase::Serving),
            (Version::Other, Phase::Starting),
        ];
        let plan = fleet(want(2, false), Some(2), &overtaken);
        assert_eq!((plan.stop, plan.start_target), (vec!["r2".to_owned()], 1));
    }

    /// Every small fleet, followed to its end with healthy starts: it ends, at the target alone, and never serves
    /// with fewer replicas than it should.
    #[test]
    fn every_update_ends_without_a_dip() {
        for (old, new) in (1..8).flat_map(|old| (1..8).map(move |new| (old, new))) {
            let mut members: Vec<(Version, Phase)> = vec![OLD; old];
            let floor = old.min(new);
            for _ in 0..100 {
                let proven = members.contains(&NEW);
                let step = fleet(want(new, proven), Some(old), &members);
                let mut kept = Vec::new();
                for (order, member) in members.iter().enumerate() {
                    if !step.stop.contains(&format!("r{order}")) {
                        kept.push(*member);
                    }
                }
                members = kept;
                let serving = members.iter().filter(|one| one.1 == Phase::Serving).count();
                assert!(serving >= floor, "{old} to {new}: {serving} serve");
                assert!(
                    members.len() <= old.max(new) + want(new, proven).surge,
                    "{old} to {new}: {} run",
                    members.len()
                );
                members.extend(vec![NEW_STARTING; step.start_target]);
                members.extend(vec![OLD; step.start_fallback]);
                if step == Plan::default() {
                    match members.iter_mut().find(|one| **one == NEW_STARTING) {
                        Some(one) => *one = NEW,
                        None => break,
                    }
                }
            }
            assert_eq!(members, vec![NEW; new], "{old} to {new}");
        }
    }
}
