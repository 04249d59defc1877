//! What replicas say of themselves unasked: whether their event loop turns, and what runs there for nobody.
//!
//! A hung replica (its loop has not turned for a second, see `eagleray_replica::liveness`) is the routers' business
//! at first: they send elsewhere what they can. Here it is shown, and ended after `hang_timeout_s`. Its silence fails
//! no health check meanwhile: one rule, with one time, decides how long a loop may be blocked.

use std::time::Duration;

use eagleray_types::control;

use super::{
    clip::{IN_MESSAGE, clip},
    command::Level,
    outbox::{About, EventLevel, Outbox},
};
use crate::books::{deployment::Deployment, events::EventKind, replica::Replica};

/// Characters of a stack in a status.
const SHOWN_STACK: usize = 4 * 1024;

/// A replica says how it is.
pub(super) fn on_condition(
    deployment: &mut Deployment,
    id: &str,
    said: &control::Condition,
    now: Duration,
    out: &mut Outbox,
) {
    let Some(replica) = deployment.replica_mut(id) else {
        return;
    };
    let was_hung = replica.condition.is_hung();
    let stacks = || clip(&said.stacks, IN_MESSAGE).into_owned();
    replica.condition.hear(said, stacks, now);
    match (was_hung, replica.condition.is_hung()) {
        (true, false) => {
            replica.health.excuse(now, out.draw());
            let about = About::replica(&deployment.key, id);
            let text = "its event loop turns again";
            out.event(EventKind::Health, EventLevel::Info, about, text);
            let message = format!(
                "{}: the event loop of replica {id} turns again",
                deployment.key
            );
            out.log(Level::Info, message);
        }
        (false, true) => {
            let text = hung_text(replica, now).unwrap_or_default();
            let about = About::replica(&deployment.key, id);
            out.event(EventKind::Health, EventLevel::Warning, about, &text);
            out.log(Level::Warning, format!("{}: {text}", deployment.key));
        }
        _ => {}
    }
}

/// Ends a replica that has been hung for too long. Its death is reported as any other.
pub(super) fn end_hung(replica: &mut Replica, now: Duration, out: &mut Outbox) {
    if replica.condition.end(now) {
        out.stop(&replica.node, &replica.id, replica.epoch, 0);
    }
}

/// For people; `None`: its loop turns.
pub(crate) fn hung_text(replica: &Replica, now: Duration) -> Option<String> {
    let since = replica.condition.hung_since()?;
    let mut text = format!(
        "The event loop of replica {} has not turned for {:.1} s. New requests go to other replicas while there are \
         any.",
        replica.id,
        now.saturating_sub(since).as_secs_f64()
    );
    let limit = replica.spec.options().hang_timeout_s;
    if limit > 0.0 {
        let end = format!(" It is ended when it does not turn for {limit} s (hang_timeout_s).");
        text.push_str(&end);
    }
    text.push_str(
        " Code that blocks belongs into a sync method, or into a thread (asyncio.to_thread).",
    );
    let stacks = replica.condition.stacks();
    if !stacks.is_empty() {
        text.push_str(" It stands here:\n");
        text.extend(stacks.trim_end().chars().take(SHOWN_STACK));
    }
    Some(text)
}
