//! What is not fine of a deployment: who answers, what fails, what is on its way; then each of its replicas.

use eagleray_autoscaler::Hold;
use eagleray_types::control::Why;

use super::{HELD_BACK, Moment, PENDING, counted, gist, replica};
use crate::{
    books::{attempts::Attempts, deployment::Deployment, status::Status},
    core::pending,
};

pub(in crate::core) fn of_deployment(deployment: &Deployment, moment: Moment<'_>) -> Vec<Why> {
    let mut all: Vec<Why> = Vec::new();
    all.extend(starts_fail(deployment, moment));
    all.extend(config_refused(deployment, moment));
    all.extend(waits(deployment, moment));
    all.extend(queue_full(deployment, moment));
    let replicas = deployment.replicas.values();
    all.extend(replicas.filter_map(|one| replica::of_replica(one, moment)));
    all.extend(unsteady(deployment, moment).filter(|_| all.is_empty()));
    all.extend(held(deployment, moment));
    all.extend(policy_fails(deployment, moment));
    // Nobody answers: that is said first, with whatever is the reason after it.
    let nobody = no_replica(deployment, moment);
    nobody.into_iter().chain(all).collect()
}

/// No request can be answered.
fn no_replica(deployment: &Deployment, moment: Moment<'_>) -> Option<Why> {
    let target = deployment.target.as_ref()?;
    // None is what its load asks for: the first request starts one.
    let at_none = deployment.autoscaling.is_some() && deployment.wanted.target == 0;
    if deployment.routable().next().is_some() || at_none {
        return None;
    }
    let given_up = deployment.target_attempts().is_some_and(|one| one.gave_up);
    let application = &deployment.key.application;
    let (sentence, help) = if given_up {
        (
            "No replica runs, and none is started any more: each request is answered 503 at once.",
            format!("Correct what the logs show and deploy again: eagleray logs {application}"),
        )
    } else if target.options().max_queued_requests == 0 {
        ("No replica runs, so requests are refused.", String::new())
    } else {
        (
            "No replica runs, so requests wait until one does.",
            String::new(),
        )
    };
    Some(moment.why("no_replica", None, sentence.to_owned(), help))
}

/// Replicas wait for room.
fn waits(deployment: &Deployment, moment: Moment<'_>) -> Option<Why> {
    let waiting = moment.resources.waiting(&deployment.key)?;
    let sentence = pending::sentence(moment.resources, waiting);
    let since = Some(waiting.since);
    Some(moment.why(PENDING, since, sentence, pending::help(waiting)))
}

/// What shall say how many it needs does not.
fn policy_fails(deployment: &Deployment, moment: Moment<'_>) -> Option<Why> {
    let policy = deployment.autoscaling.as_ref()?.policy.as_ref()?;
    let error = Some(policy.error.as_str()).filter(|error| !error.is_empty())?;
    let sentence = format!(
        "Its autoscaling policy {} fails, so the number of replicas stays at {}: {error}.",
        policy.name, deployment.wanted.target
    );
    let help = format!(
        "Correct the policy and deploy; what it prints: eagleray logs {}",
        deployment.key.application
    );
    Some(moment.why("policy_failed", None, sentence, help))
}

/// Its load asks for more than shall run.
fn held(deployment: &Deployment, moment: Moment<'_>) -> Option<Why> {
    let (measured, decision) = deployment.autoscaling.as_ref()?.last.as_ref()?;
    let hold = decision.hold.as_ref()?;
    let wanted = deployment.wanted.target;
    if decision.asked <= wanted || matches!(hold, Hold::Policy(_)) {
        return None;
    }
    let ongoing = measured.queued.saturating_add(measured.running);
    let sentence = format!(
        "Its load asks for {} instead of {wanted}: {} ({} ongoing).",
        counted(decision.asked as usize, "replica"),
        hold.words(moment.now),
        counted(ongoing as usize, "request")
    );
    let help = match hold {
        Hold::MaxReplicas { .. } => {
            "Raise autoscaling_config.max_replicas, or target_ongoing_requests, and deploy."
        }
        _ => "",
    };
    Some(moment.why(HELD_BACK, None, sentence, help.to_owned()))
}

/// Starting the newest version, or what runs of it, keeps failing.
fn starts_fail(deployment: &Deployment, moment: Moment<'_>) -> Option<Why> {
    let (target, attempts) = deployment.judged()?;
    let attempts = attempts?;
    let is_taken_back = deployment.failed.is_some() && !attempts.config_refused;
    if attempts.failures == 0 && attempts.crash_loop.is_none() && !is_taken_back {
        return None;
    }
    // Failures are remembered for the pauses between starts; those that were made good are nobody's concern.
    let is_whole =
        !is_taken_back && deployment.running(target) == deployment.wanted_of(target) as usize;
    if is_whole && attempts.proven && attempts.crash_loop.is_none() {
        return None;
    }
    let last = gist(&attempts.last_error);
    let limit = deployment.round_of(target).limit();
    let next = next_start(deployment, attempts, target.version(), moment);
    let (code, sentence) = if attempts.gave_up {
        let sentence = format!(
            "It failed to start {} times and is not tried again. Last: {last}",
            attempts.failures
        );
        ("gave_up", sentence)
    } else if is_taken_back {
        let sentence =
            format!("Its newest revision failed, so what ran before runs again. Last: {last}");
        ("taken_back", sentence)
    } else if let Some(known) = &attempts.crash_loop {
        let sentence = format!(
            "{}. {next} Last: {last}",
            capital(&known.describe(moment.now))
        );
        ("crash_loop", sentence)
    } else if attempts.proven {
        let sentence = format!(
            "{} failed of late. {next} Last: {last}",
            counted(attempts.failures as usize, "replica")
        );
        ("replicas_fail", sentence)
    } else {
        let sentence = format!(
            "{} of {limit} starts have failed. {next} Last: {last}",
            attempts.failures
        );
        ("start_failed", sentence)
    };
    let help = format!(
        "Correct it and deploy again. What its replicas wrote: eagleray logs {}",
        deployment.key.application
    );
    Some(moment.why(code, attempts.failing_since, sentence, help))
}

/// When it is tried again.
fn next_start(
    deployment: &Deployment,
    attempts: &Attempts,
    version: &str,
    moment: Moment<'_>,
) -> String {
    let left = |at: std::time::Duration| {
        let left = at.saturating_sub(moment.now).as_secs_f64();
        format!("{} s", left.ceil())
    };
    if let Some((over, _)) = deployment.crash_loop_over_at(version) {
        return format!(
            "A replica runs again; it is over if that lives {} more.",
            left(over)
        );
    }
    match attempts.next_start.filter(|at| *at > moment.now) {
        Some(at) => format!("The next start is in {}.", left(at)),
        None => "The next start is under way.".to_owned(),
    }
}

/// Requests are refused, since as many wait as may.
fn queue_full(deployment: &Deployment, moment: Moment<'_>) -> Option<Why> {
    let refusals = deployment.refusals.filter(|one| one.goes_on(moment.now))?;
    let options = deployment.answering()?.options();
    let status = match options.backpressure_status {
        0 => 503,
        status => status,
    };
    let refused = match refusals.count {
        1 => "1 request was".to_owned(),
        count => format!("{count} requests were"),
    };
    let seconds = moment.now.saturating_sub(refusals.since).as_secs().max(1);
    let sentence = format!(
        "Its queue is full: {refused} refused with {status} within {seconds} s, since no more than {} may wait in a \
         process (max_queued_requests).",
        options.max_queued_requests
    );
    let key = &deployment.key;
    let help = format!(
        "Give it more replicas (eagleray scale {}/{} +1), or raise max_queued_requests.",
        key.application, key.deployment
    );
    Some(moment.why("queue_full", Some(refusals.since), sentence, help))
}

/// Replicas keep an older `user_config` than the one that is wanted.
fn config_refused(deployment: &Deployment, moment: Moment<'_>) -> Option<Why> {
    let (_, attempts) = deployment.judged()?;
    if !attempts.is_some_and(|one| one.config_refused) {
        return None;
    }
    let raised = deployment.status.message.rsplit("Error:\n").next();
    let sentence = format!(
        "The new user_config was refused, and replicas keep the one before it. Last: {}",
        gist(raised.unwrap_or_default())
    );
    let help = "Correct user_config, or reconfigure, and deploy again.".to_owned();
    Some(moment.why("config_refused", None, sentence, help))
}

/// It is on its way to what is wanted, and no replica has anything to say about that.
fn unsteady(deployment: &Deployment, moment: Moment<'_>) -> Option<Why> {
    let Some(target) = &deployment.target else {
        let sentence =
            "The newest revision does not have it: it goes when nothing calls it any more.";
        return Some(moment.why("leaving", None, sentence.to_owned(), String::new()));
    };
    let (running, wanted) = (
        deployment.running(target),
        deployment.wanted_of(target) as usize,
    );
    let status = deployment.status.status;
    if status == Status::Healthy && running == wanted {
        return None;
    }
    let sentence = format!(
        "{running} of {} of its newest revision run.",
        counted(wanted, "replica")
    );
    Some(moment.why("updating", None, sentence, String::new()))
}

/// With a capital letter at its beginning.
fn capital(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}
