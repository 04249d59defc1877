//! Replicas that have done their share, or have grown too large, are replaced: for code that leaks.
//!
//! One replica of a deployment at a time, when nothing else is under way in it, and its replacement serves first; until
//! its turn comes a replica works on. Replicas that started together and share the load evenly would all be due at once,
//! so the share of requests of each ends somewhere in the last tenth: where follows from its id, so that it stays when
//! the controller begins anew. Memory has no such spread, since a replica that lives well just below its limit is no leak.
//!
//! One that was above `max_rss` when it became ready is not replaced for it: its replacement would be, too, for ever. It is
//! said instead.

use eagleray_types::control::Outcome;

use super::{
    command::Level,
    outbox::{About, EventLevel, Outbox},
};
use crate::books::{
    deployment::Deployment, events::EventKind, replica::Replica, replica_state::ReplicaInput,
};

/// A replica is well, and says what it has done and what it has. Returns whether it is replaced.
pub(super) fn look(
    deployment: &mut Deployment,
    id: &str,
    outcome: &Outcome,
    out: &mut Outbox,
) -> bool {
    let Some(spec) = deployment.aim() else {
        return false;
    };
    let count = deployment.wanted_of(spec) as usize;
    let complete = deployment.replicas.len() == count && deployment.running(spec) == count;
    let Some(replica) = deployment.replicas.get_mut(id) else {
        return false;
    };
    let Some(reason) = due(replica, outcome).filter(|_| complete) else {
        return false;
    };
    if !replica.step(ReplicaInput::Unhealthy) {
        return false;
    }
    replica.goes(out.now, &reason);
    let about = About::replica(&deployment.key, id);
    let message = format!("is replaced: {reason}");
    out.event(EventKind::Replica, EventLevel::Info, about, &message);
    let message = format!("{}: replica {id} {message}", deployment.key);
    out.log(Level::Info, message);
    true
}

/// Why a replica is replaced, in words.
fn due(replica: &Replica, outcome: &Outcome) -> Option<String> {
    let options = replica.spec.options();
    let (accepted, most) = (outcome.accepted, options.max_requests_per_replica);
    if most > 0 && accepted >= share(&replica.id, most) {
        return Some(format!(
            "{accepted} requests reach max_requests_per_replica, {most}"
        ));
    }
    let (bytes, most) = (outcome.resident_bytes, options.max_rss);
    let fits = replica.began_with_bytes < most;
    (most > 0 && bytes >= most && fits)
        .then(|| format!("{} in memory reach max_rss, {}", mib(bytes), mib(most)))
}

/// After how many requests this one is due: between nine tenths of them and all.
fn share(id: &str, most: u64) -> u64 {
    // FNV-1a, which is enough to have them apart.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let spread = most / 10;
    most - (hash >> 32) % (spread + 1)
}

/// In words why a replica cannot be kept below its `max_rss`; `None`: it can.
pub(super) fn too_low(replica: &Replica) -> Option<String> {
    let most = replica.spec.options().max_rss;
    let begins = replica.began_with_bytes;
    (most > 0 && begins >= most).then(|| {
        format!(
            "It had {} in memory when it was ready, which is more than max_rss, {}: so it is not replaced for that.",
            mib(begins),
            mib(most)
        )
    })
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_lie_in_the_last_tenth_and_are_spread_over_it() {
        let shares = |most: u64| (0..200).map(move |number| share(&format!("r{number}"), most));
        assert!(shares(1_000).all(|one| (900..=1_000).contains(&one)));
        let (first, second) = shares(1_000).fold((0, 0), |(low, high), one| {
            if one < 950 {
                (low + 1, high)
            } else {
                (low, high + 1)
            }
        });
        assert!(first > 50 && second > 50, "{first} and {second}");
        assert!(shares(5).all(|one| one == 5), "a small number is exact");
        assert!(shares(u64::MAX).all(|one| one > u64::MAX / 10 * 8));
    }
}
