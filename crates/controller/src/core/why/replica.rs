//! What is not fine of one replica: the one thing that matters most.

use std::time::Duration;

use eagleray_types::control::Why;

use super::{Moment, counted, gist, innermost};
use crate::books::{
    health::FAILURES_UNTIL_REPLACED, replica::Replica, replica_state::ReplicaState,
};
use crate::core::recycling;

/// One that is idle stops sooner.
const DRAINS_LONG: Duration = Duration::from_secs(5);
const MEBIBYTE: u64 = 1 << 20;

pub(super) fn of_replica(replica: &Replica, moment: Moment<'_>) -> Option<Why> {
    let by_state = || match replica.state {
        ReplicaState::Starting => Some(starting(replica, moment)),
        ReplicaState::Updating => Some(taking_options(replica, moment)),
        ReplicaState::Recovering => Some(recovering(replica, moment)),
        ReplicaState::PendingMigration => Some(replaced(replica, moment)),
        ReplicaState::Stopping => stopping(replica, moment),
        ReplicaState::Running => on_trial(replica, moment),
        ReplicaState::Stopped => None,
    };
    let why = hung(replica, moment)
        .or_else(|| unhealthy(replica, moment).filter(|_| replica.trial.is_on()))
        .or_else(by_state)
        .or_else(|| unhealthy(replica, moment))
        .or_else(|| cannot_connect(replica, moment))
        .or_else(|| memory_over(replica, moment))
        .or_else(|| abandoned(replica, moment))
        .or_else(|| too_large(replica, moment))?;
    Some(Why {
        replica_id: replica.id.clone(),
        ..why
    })
}

fn hung(replica: &Replica, moment: Moment<'_>) -> Option<Why> {
    let since = replica.condition.hung_since()?;
    let place = innermost(replica.condition.stacks())
        .map_or_else(String::new, |place| format!(", at {place}"));
    let end = replica.hang_ends_at().map_or_else(String::new, |at| {
        let left = at.saturating_sub(moment.now).as_secs();
        format!(" It is ended in {left} s (hang_timeout_s).")
    });
    let sentence = format!(
        "Its event loop has not turned for {}{place}: new requests go elsewhere while there is an elsewhere.{end}",
        moment.seconds(since)
    );
    let help = format!(
        "Put what blocks into a sync method, or into asyncio.to_thread. All stacks: eagleray stack {}",
        replica.id
    );
    Some(moment.why("loop_hung", Some(since), sentence, help))
}

fn starting(replica: &Replica, moment: Moment<'_>) -> Why {
    let time = moment.seconds(replica.spawned_at);
    let (code, sentence) = if replica.reach.said_ready {
        let sentence =
            format!("It says that it is ready, and is being connected to; started {time} ago.");
        ("connecting", sentence)
    } else {
        let limit = replica.start_ends_at().map_or_else(
            || "which has no time limit".to_owned(),
            |at| {
                let left = at.saturating_sub(moment.now).as_secs();
                format!("and it is ended in {left} s (start_timeout_s)")
            },
        );
        let sentence = format!(
            "It has been starting for {time}: its code is imported, or its constructor runs, {limit}."
        );
        ("starting", sentence)
    };
    let help = format!(
        "What it waits for: eagleray stack {id}. What it has printed: eagleray logs --replica {id}",
        id = replica.id
    );
    moment.why(code, Some(replica.spawned_at), sentence, help)
}

fn too_large(replica: &Replica, moment: Moment<'_>) -> Option<Why> {
    let sentence = recycling::too_low(replica).filter(|_| replica.state.serving())?;
    let help = "Raise max_rss of the deployment, or have it load less, and deploy.".to_owned();
    Some(moment.why("max_rss_too_low", None, sentence, help))
}

fn on_trial(replica: &Replica, moment: Moment<'_>) -> Option<Why> {
    let left = replica.trial_over_at()?.saturating_sub(moment.now);
    let sentence = format!(
        "It has been ready for {}, and the update counts on it in {:.0} s if it stays well (min_ready_s).",
        moment.seconds(replica.ready_at?),
        left.as_secs_f64().ceil()
    );
    Some(moment.why("on_trial", replica.ready_at, sentence, String::new()))
}

fn taking_options(replica: &Replica, moment: Moment<'_>) -> Why {
    if !replica.config.on_its_way() {
        let sentence = "It is being told its new options.".to_owned();
        return moment.why("taking_options", None, sentence, String::new());
    }
    let since = replica.configured_at;
    let sentence = format!(
        "It has been in reconfigure for {}, which has no time limit.",
        moment.seconds(since)
    );
    let help = format!("What it waits for: eagleray stack {}", replica.id);
    moment.why("reconfiguring", Some(since), sentence, help)
}

fn recovering(replica: &Replica, moment: Moment<'_>) -> Why {
    let since = replica.configured_at;
    let sentence = format!(
        "The controller is new, and has been waiting for {} for it to confirm its options. It serves meanwhile.",
        moment.seconds(since)
    );
    moment.why("recovering", Some(since), sentence, String::new())
}

fn replaced(replica: &Replica, moment: Moment<'_>) -> Why {
    let (since, reason) = match &replica.going {
        Some(going) => (Some(going.since), gist(&going.reason)),
        None => (None, "it could not take its options".to_owned()),
    };
    let sentence = format!("It is being replaced, and serves until then: {reason}");
    let help = format!(
        "What it has printed: eagleray logs --replica {}",
        replica.id
    );
    moment.why("being_replaced", since, sentence, help)
}

/// One that is told to stop is as it should be for a while.
fn stopping(replica: &Replica, moment: Moment<'_>) -> Option<Why> {
    let since = replica.going.as_ref()?.since;
    if moment.now < since + DRAINS_LONG {
        return None;
    }
    let what = if replica.drained {
        "has finished its requests and has not ended yet"
    } else {
        "still finishes what it has accepted"
    };
    let sentence = format!(
        "It was told to stop {} ago and {what}; it is killed after {} s (graceful_shutdown_timeout_s).",
        moment.seconds(since),
        replica.spec.options().graceful_shutdown_timeout_s
    );
    let help = format!("What it is doing: eagleray stack {}", replica.id);
    Some(moment.why("stopping", Some(since), sentence, help))
}

fn unhealthy(replica: &Replica, moment: Moment<'_>) -> Option<Why> {
    let (failures, last) = replica.health.failing()?;
    let sentence = format!(
        "{} in a row failed; after {FAILURES_UNTIL_REPLACED} it is replaced. Last: {}",
        counted(failures as usize, "health check"),
        gist(last)
    );
    let help = format!(
        "What it has printed: eagleray logs --replica {}",
        replica.id
    );
    Some(moment.why("health_check_failed", None, sentence, help))
}

fn memory_over(replica: &Replica, moment: Moment<'_>) -> Option<Why> {
    let (has, stated) = replica.memory_over()?;
    let sentence = format!(
        "It has {} MiB in memory, and its deployment states {} MiB. Nothing keeps it from that, so others may miss what they \
         count on.",
        has / MEBIBYTE,
        stated.div_ceil(MEBIBYTE)
    );
    let help =
        "State as much memory in ray_actor_options as it needs, or find what holds it.".to_owned();
    Some(moment.why("memory_over", None, sentence, help))
}

fn cannot_connect(replica: &Replica, moment: Moment<'_>) -> Option<Why> {
    let since = replica.reach.tried_at.filter(|_| replica.reach.trying)?;
    let sentence =
        "A router cannot connect to it; the controller is trying, and replaces it if that fails too."
            .to_owned();
    Some(moment.why("unreachable", Some(since), sentence, String::new()))
}

fn abandoned(replica: &Replica, moment: Moment<'_>) -> Option<Why> {
    let count = replica.condition.abandoned as usize;
    if count == 0 {
        return None;
    }
    let (runs, waits) = if count == 1 {
        ("runs", "its answer")
    } else {
        ("run", "their answers")
    };
    let sentence = format!(
        "{} {runs} on although nobody waits for {waits}: sync code cannot be cancelled. Each holds a slot of \
         max_ongoing_requests.",
        counted(count, "request")
    );
    let help = format!("What they do: eagleray stack {}", replica.id);
    Some(moment.why("abandoned_requests", None, sentence, help))
}
