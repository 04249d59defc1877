//! Replicas of a version that is kept hear what its options are now.
//!
//! Light options go to all of them at once. A changed `user_config` has `reconfigure` of user code called, which may
//! take as long as loading weights, so replicas take it in turns ([`rollout::config_turns`]) while the others serve. The
//! first that fails ends it: no other is asked, and those that had taken it go back to what the deployment had before,
//! in turns too, so that all of them run one configuration.

use std::time::Duration;

use eagleray_types::control::{Reconfigure, replica_command};

use super::{
    clip::{IN_MESSAGE, clip},
    outbox::{About, EventLevel, Outbox},
    ranks, rollout,
};
use crate::books::{
    deployment::Deployment,
    events::EventKind,
    replica::{Replica, ReplicaView},
    replica_state::ReplicaInput,
    revision::VersionSpec,
    status::StatusInput,
};

pub(super) fn reconfigure(deployment: &mut Deployment, now: Duration, out: &mut Outbox) {
    let wanted = deployment.aim().cloned();
    let fallback = deployment.fallback().cloned();
    for spec in wanted.iter().chain(&fallback) {
        reconfigure_version(deployment, spec, now, out);
    }
}

fn reconfigure_version(
    deployment: &mut Deployment,
    spec: &VersionSpec,
    now: Duration,
    out: &mut Outbox,
) {
    let options = spec.options();
    let world_size = deployment.wanted_of(spec);
    let mut turns = turns(deployment, spec);
    for replica in deployment
        .replicas
        .values_mut()
        .filter(|one| one.state.serving() && one.spec.version() == spec.version())
    {
        replica.spec = spec.clone();
        let view = ReplicaView::of(options, replica.rank, world_size);
        let turn = turns > 0 && waits(replica, &options.user_config);
        if !(turn || replica.view.needs(&view)) || !replica.step(ReplicaInput::Reconfigure) {
            continue;
        }
        // It is not asked for its health until it has done so, and owes no answer that `reconfigure` keeps it from.
        replica.health.excuse(now, out.draw());
        let id = out.next_question();
        replica.view.send(id, view);
        if turn {
            turns -= 1;
            replica.config.send(id, options.user_config.clone());
            replica.configured_at = now;
        }
        let place = Place {
            world_size,
            replaced: false,
        };
        tell(replica, id, !turn, place, out);
    }
}

/// Before their successors start. Whether they hear of it changes nothing here.
pub(super) fn give_up_ranks(deployment: &mut Deployment, out: &mut Outbox) {
    for id in ranks::give_up(deployment) {
        if let Some(replica) = deployment.replicas.get(&id) {
            let question = out.next_question();
            let place = Place {
                world_size: deployment.wanted_of(&replica.spec),
                replaced: true,
            };
            tell(replica, question, true, place, out);
        }
    }
}

/// Where a replica stands among its siblings, beside its rank.
#[derive(Clone, Copy)]
struct Place {
    world_size: u32,
    replaced: bool,
}

fn tell(replica: &Replica, id: u64, keep_user_config: bool, place: Place, out: &mut Outbox) {
    let body = replica_command::Body::Reconfigure(Reconfigure {
        id,
        options: replica.spec.options().clone(),
        world_size: place.world_size,
        revision: replica.spec.application().revision.clone(),
        rank: Some(replica.rank),
        replaced: place.replaced,
        keep_user_config,
    });
    out.tell(&replica.node, &replica.id, body);
}

/// A replica failed to take a `user_config`, or died of it, and is being replaced. False: its failure is not about
/// a change of that.
pub(super) fn config_refused(
    deployment: &mut Deployment,
    id: &str,
    config: &str,
    error: &str,
    out: &mut Outbox,
) -> bool {
    if same_version(deployment.serving.as_ref(), deployment.target.as_ref())
        && has_config(deployment.serving.as_ref(), config)
    {
        return false;
    }
    let stops = has_config(deployment.target.as_ref(), config) && refuse(deployment);
    let next = if stops {
        "so the update has stopped. The replicas keep the user_config that they had before, or go back to it. Correct \
         the error below and deploy again."
    } else {
        "which is not wanted any more."
    };
    let error = clip(error.trim_end(), IN_MESSAGE);
    let output = out.log_path(&deployment.key, id);
    let message = format!(
        "Replica {id} failed to take its user_config and is being replaced, {next} What it wrote is in {output}. \
         Error:\n{error}"
    );
    out.warn_of(&deployment.key, &message);
    let about = About::replica(&deployment.key, id);
    out.event(EventKind::Config, EventLevel::Warning, about, &message);
    if stops {
        deployment
            .status
            .on(StatusInput::ConfigRefused, message.as_str());
    }
    true
}

fn same_version(one: Option<&VersionSpec>, other: Option<&VersionSpec>) -> bool {
    one.map(VersionSpec::version) == other.map(VersionSpec::version)
}

fn has_config(spec: Option<&VersionSpec>, config: &str) -> bool {
    spec.is_some_and(|spec| spec.options().user_config == config)
}

/// A start with this spec was one with the target's `user_config`, and there is another to go back to.
pub(super) fn brings_config(deployment: &Deployment, spec: &VersionSpec) -> bool {
    let (target, serving) = (deployment.target.as_ref(), deployment.serving.as_ref());
    let config = spec.options().user_config.as_str();
    same_version(target, Some(spec))
        && same_version(serving, Some(spec))
        && has_config(target, config)
        && !has_config(serving, config)
}

/// Nobody is asked to take the target's `user_config` any more. False: that is so already.
pub(super) fn refuse(deployment: &mut Deployment) -> bool {
    let Some(version) = deployment
        .target
        .as_ref()
        .map(|spec| spec.version().to_owned())
    else {
        return false;
    };
    let attempts = deployment.attempts_of(&version);
    if attempts.config_refused {
        return false;
    }
    // What failed so far was not the configuration that is wanted from now on.
    attempts.reset();
    attempts.config_refused = true;
    true
}

/// It has another `user_config`, or one that is not known, and can take this one now.
fn waits(replica: &Replica, config: &String) -> bool {
    let busy = replica.config.on_its_way() || replica.condition.is_hung();
    !busy && replica.config.needs(config)
}

/// How many replicas of this version may begin to take its `user_config` now.
fn turns(deployment: &Deployment, spec: &VersionSpec) -> usize {
    let refused = deployment
        .target
        .as_ref()
        .is_some_and(|target| deployment.is_refused() && target.same_revision(spec));
    if refused {
        return 0;
    }
    let members = || {
        deployment
            .replicas
            .values()
            .filter(|one| one.state.serving() && one.spec.version() == spec.version())
    };
    let changing = members().filter(|one| one.config.on_its_way()).count();
    let serving = members().filter(|one| !one.condition.is_hung()).count();
    rollout::config_turns(
        spec.options(),
        deployment.wanted_of(spec),
        serving,
        changing,
    )
}

/// For people: how far a change of `user_config` is, and who takes long. `None`: no change is under way.
pub(super) fn progress(deployment: &Deployment, now: Duration) -> Option<String> {
    let spec = deployment.aim()?;
    let config = &spec.options().user_config;
    let members = || {
        deployment
            .replicas
            .values()
            .filter(|one| one.state.serving() && one.spec.version() == spec.version())
    };
    let changed = members().filter(|one| one.config.is(config)).count();
    let all = members().count();
    if changed == all {
        return None;
    }
    let slow = members().filter_map(|one| {
        let time = now.saturating_sub(one.configured_at).as_secs();
        let names = one.config.on_its_way() && time > 0;
        names.then(|| {
            format!(
                " Replica {} has been in reconfigure for {time} s, which has no time limit.",
                one.id
            )
        })
    });
    let mut text = format!("{changed} of {all} replicas have the user_config that is wanted.");
    text.extend(slow);
    Some(text)
}
