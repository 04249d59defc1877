//! What replicas say of themselves unasked: whether their event loop turns, and what runs there for nobody.
//!
//! A hung replica (its loop has not turned for a second, see `eagleray_replica::liveness`) is the routers' business
//! at first: they send elsewhere what they can. Here it is shown, and ended after `hang_timeout_s`. Its silence fails
//! no health check meanwhile: one rule, with one time, decides how long a loop may be blocked.

use std::time::Duration;

use eagleray_types::control::{self, DeploymentOptions};

use super::{
    Core, Level,
    failures::{IN_MESSAGE, clip},
    model::Deployment,
    reconcile::stop_command,
    replica::Replica,
};

/// What is added to the time must be far from what overflows.
const MOST_SECONDS: f64 = 1e9;
/// Characters of a stack in a status.
const SHOWN_STACK: usize = 4 * 1024;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Condition {
    hung_since: Option<Duration>,
    stacks: String,
    /// Requests that run although nobody waits for their answer.
    pub(crate) abandoned: u32,
    /// It was told to end for it, after so long.
    ended_after: Option<Duration>,
}

impl Condition {
    pub(crate) const fn is_hung(&self) -> bool {
        self.hung_since.is_some()
    }

    /// When a hung replica is ended.
    pub(crate) fn end_at(&self, options: &DeploymentOptions) -> Option<Duration> {
        let limit = options.hang_timeout_s;
        if limit <= 0.0 || self.ended_after.is_some() {
            return None;
        }
        Some(self.hung_since? + Duration::try_from_secs_f64(limit.min(MOST_SECONDS)).ok()?)
    }

    pub(crate) fn hung_milliseconds(&self, now: Duration) -> u64 {
        self.hung_since.map_or(0, |since| {
            u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(u64::MAX)
        })
    }

    pub(crate) fn stacks(&self) -> &str {
        &self.stacks
    }

    /// Why the replica died, if it was ended for its hanging.
    pub(crate) fn reason(&self) -> Option<String> {
        self.ended_after.map(|time| {
            format!(
                "its event loop had not turned for {:.1} s, so it was ended: hang_timeout_s",
                time.as_secs_f64()
            )
        })
    }
}

impl Core {
    pub(super) fn on_condition(
        &mut self,
        deployment: &mut Deployment,
        id: &str,
        said: &control::Condition,
        now: Duration,
    ) {
        let spread = self.random.f64();
        let Some(replica) = deployment.replicas.get_mut(id) else {
            return;
        };
        let was_hung = replica.condition.is_hung();
        let condition = &mut replica.condition;
        condition.abandoned = said.abandoned_requests;
        if !said.stacks.is_empty() || said.hung_milliseconds == 0 {
            condition.stacks = clip(&said.stacks, IN_MESSAGE).into_owned();
        }
        if said.hung_milliseconds == 0 {
            condition.hung_since = None;
            if was_hung {
                replica.health.excuse(now, spread);
                let message = format!(
                    "{}: the event loop of replica {id} turns again",
                    deployment.key
                );
                self.log(Level::Info, message);
            }
            return;
        }
        let since = now.saturating_sub(Duration::from_millis(said.hung_milliseconds));
        // The first word counts: the replica's clock and ours may differ by the way of the message.
        condition.hung_since.get_or_insert(since);
        if !was_hung {
            let text = hung_text(replica, now).unwrap_or_default();
            self.log(Level::Warning, format!("{}: {text}", deployment.key));
        }
    }

    /// Ends a replica that has been hung for too long. Its death is reported as any other.
    pub(super) fn end_hung(&mut self, deployment: &mut Deployment, id: &str, now: Duration) {
        let Some(replica) = deployment.replicas.get_mut(id) else {
            return;
        };
        let Some(since) = replica.condition.hung_since else {
            return;
        };
        replica.condition.ended_after = Some(now.saturating_sub(since));
        self.stops.push(stop_command(id, replica.epoch, 0));
    }
}

/// For people; `None`: its loop turns.
pub(crate) fn hung_text(replica: &Replica, now: Duration) -> Option<String> {
    let since = replica.condition.hung_since?;
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
