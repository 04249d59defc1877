//! What a replica said last of itself unasked: whether its event loop turns, and what runs there for nobody.

use std::time::Duration;

use eagleray_types::control::{self, DeploymentOptions};

/// What is added to the time must be far from what overflows.
const MOST_SECONDS: f64 = 1e9;

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
    /// Takes what the replica says. `stacks` cuts what it sent of them.
    pub(crate) fn hear(
        &mut self,
        said: &control::Condition,
        stacks: impl FnOnce() -> String,
        now: Duration,
    ) {
        self.abandoned = said.abandoned_requests;
        if !said.stacks.is_empty() || said.hung_milliseconds == 0 {
            self.stacks = stacks();
        }
        if said.hung_milliseconds == 0 {
            self.hung_since = None;
        } else {
            let since = now.saturating_sub(Duration::from_millis(said.hung_milliseconds));
            // The first word counts: the replica's clock and ours may differ by the way of the message.
            self.hung_since.get_or_insert(since);
        }
    }

    /// It is told to end for its hanging. False: it does not hang.
    pub(crate) fn end(&mut self, now: Duration) -> bool {
        let hung = self.hung_since.map(|since| now.saturating_sub(since));
        self.ended_after = hung.or(self.ended_after);
        hung.is_some()
    }

    pub(crate) const fn hung_since(&self) -> Option<Duration> {
        self.hung_since
    }

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
