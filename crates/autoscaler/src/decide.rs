//! The decision. Its rules are in the crate's documentation.

use std::time::Duration;

use crate::{
    config::{Aggregation, Bounds, Config},
    decision::{Decision, Hold, Reason},
    window::Window,
    wishes::Wishes,
};

/// What is known of a deployment at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Requests that wait in routers.
    pub queued: u64,
    /// Requests that were sent to replicas and have not ended.
    pub running: u64,
    /// Replicas that serve.
    pub ready: u32,
    /// Replicas that shall run, as the last decision had it.
    pub wanted: u32,
    /// Every router has said what it has. Until then there may be more than is measured.
    pub heard_all: bool,
    pub wish: Wish,
}

/// Who says how many replicas are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Wish {
    /// The load, by `target_ongoing_requests`.
    #[default]
    OfLoad,
    /// A policy, which has said so last; `None`: nothing yet, or nothing that can be meant.
    OfPolicy(Option<f64>),
}

/// What is kept of one deployment between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The load over the look-back period, and over the moment that is the present.
    look_back: Window,
    present: Window,
    /// What of it waits in routers, over the look-back period.
    queued: Window,
    wishes: Wishes,
    /// Since when more were wished for all the time.
    more_since: Option<Duration>,
    /// Since when one replica is the last.
    last_since: Option<Duration>,
}

/// The longest moment that is the present.
const PRESENT: Duration = Duration::from_secs(3);
/// Looks while the load is being smoothed.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Sums of fractions of seconds are not exact: less than this is nothing.
const NOTHING: f64 = 1e-9;
/// Far beyond all bounds, and far from what cannot be counted with.
const BEYOND: f64 = 1e9;

/// How many replicas shall run from `now` on.
pub fn decide(
    config: &Config,
    bounds: Bounds,
    state: &mut State,
    measured: Measured,
    now: Duration,
) -> Decision {
    let load = state.measure(config, measured, now);
    let asked = if load.more >= measured.wanted {
        load.more
    } else {
        // What is smoothed may still be high when the load is not.
        load.fewer.min(measured.wanted)
    };
    let (replicas, reason, hold) = number(config, bounds, state, measured, &load, now);
    if replicas != measured.wanted {
        state.more_since = None;
    }
    if replicas > measured.wanted {
        // The smoothed wish comes after: until it does, this one counts.
        state.wishes.set(replicas, now, span(config));
    }
    if replicas == 1 {
        state.last_since.get_or_insert(now);
    } else {
        state.last_since = None;
    }
    Decision {
        next_look: if replicas == measured.wanted {
            next_look(config, bounds, state, &load, replicas, now)
        } else {
            Some(now + LOOK.0)
        },
        replicas,
        asked,
        reason,
        hold,
    }
}

/// The load as numbers of replicas.
struct Load {
    ongoing: u64,
    /// Requests now, and over the look-back period.
    present: f64,
    smoothed: f64,
    /// Replicas that are wished for by the one and by the other.
    more: u32,
    fewer: u32,
    /// What a policy asks for, where that counts.
    policy: Option<f64>,
}

impl State {
    /// Requests over the look-back period, and what of them waited in routers.
    pub fn aggregated(&self, config: &Config) -> (f64, f64) {
        let all = self.look_back.aggregate(config.aggregation);
        (all, self.queued.aggregate(config.aggregation))
    }

    fn measure(&mut self, config: &Config, measured: Measured, now: Duration) -> Load {
        let ongoing = measured.queued.saturating_add(measured.running);
        if !measured.heard_all {
            self.look_back.clear();
            self.wishes.clear();
        }
        self.look_back.set(ongoing, now, config.look_back);
        self.present.set(ongoing, now, present(config));
        self.queued.set(measured.queued, now, config.look_back);
        let smoothed = self.look_back.aggregate(config.aggregation);
        let present = if config.smooths_up {
            smoothed
        } else {
            self.present.aggregate(Aggregation::Mean)
        };
        let load = Load {
            ongoing,
            present,
            smoothed,
            more: wish(config, measured, present),
            fewer: wish(config, measured, smoothed),
            policy: match measured.wish {
                Wish::OfLoad => None,
                Wish::OfPolicy(asked) => Some(asked.unwrap_or(f64::from(measured.wanted))),
            },
        };
        self.wishes.set(load.fewer, now, span(config));
        load
    }

    /// Until when more must be wished for.
    fn more_at(
        &mut self,
        config: &Config,
        load: &Load,
        wanted: u32,
        now: Duration,
    ) -> Option<Duration> {
        if load.more <= wanted {
            self.more_since = None;
        } else {
            self.more_since.get_or_insert(now);
        }
        Some(self.more_since? + config.upscale_delay)
    }
}

/// For so long wishes are kept.
fn span(config: &Config) -> Duration {
    config.downscale_delay.max(config.to_zero_delay)
}

/// The present is a moment, not an instant, unless there is no delay.
fn present(config: &Config) -> Duration {
    (config.upscale_delay / 10).min(PRESENT)
}

/// How many replicas `requests` ask for: their share, with the distance from what runs multiplied by a factor.
fn wish(config: &Config, measured: Measured, requests: f64) -> u32 {
    // While none serves yet, those that start are what there is.
    let there = if measured.ready == 0 {
        measured.wanted
    } else {
        measured.ready
    };
    let base = f64::from(there);
    let plain = match measured.wish {
        Wish::OfLoad => requests / config.target_ongoing_requests,
        // As long as nothing is asked for, what is wanted stays.
        Wish::OfPolicy(None) => return measured.wanted,
        Wish::OfPolicy(Some(asked)) => asked,
    };
    let factor = if plain > base {
        config.upscaling_factor
    } else {
        config.downscaling_factor
    };
    let wished = up(base + factor * (plain - base)) as u32;
    // A factor below 1 must not keep the last one for ever.
    if up(plain) < base && wished == there {
        return there - 1;
    }
    wished
}

/// Rounded up, and not below none.
fn up(replicas: f64) -> f64 {
    let replicas = replicas.min(BEYOND);
    (replicas - NOTHING * replicas.abs().max(1.0))
        .ceil()
        .max(0.0)
}

fn number(
    config: &Config,
    bounds: Bounds,
    state: &mut State,
    measured: Measured,
    load: &Load,
    now: Duration,
) -> (u32, Reason, Option<Hold>) {
    let Bounds { low, high } = bounds;
    let wanted = measured.wanted;
    let kept = |hold| (wanted, Reason::Kept, hold);
    if wanted < low || wanted > high {
        return (wanted.clamp(low, high), Reason::Bounds { low, high }, None);
    }
    if wanted == 0 {
        return from_zero(config, high, load);
    }
    if let Some(at) = state.more_at(config, load, wanted, now) {
        if wanted == high {
            return kept(Some(Hold::MaxReplicas { most: high }));
        }
        if at > now {
            return kept(Some(Hold::UpscaleDelay { until: at }));
        }
        let reason = match load.policy {
            Some(asked) => Reason::Policy {
                asked,
                delay: config.upscale_delay,
            },
            None => Reason::More {
                ongoing: load.present,
                delay: config.upscale_delay,
            },
        };
        let replicas = load.more.min(high);
        let hold = (replicas < load.more).then_some(Hold::MaxReplicas { most: high });
        return (replicas, reason, hold);
    }
    if !measured.heard_all {
        return kept((load.fewer < wanted).then_some(Hold::Unheard));
    }
    fewer(config, low, state, wanted, load, now)
}

/// None are wanted: the first request starts some without delay, and so does a policy.
fn from_zero(config: &Config, high: u32, load: &Load) -> (u32, Reason, Option<Hold>) {
    let (wished, reason) = match load.policy {
        _ if load.ongoing > 0 => (
            config.upscaling_factor.ceil().max(1.0) as u32,
            Reason::FromZero,
        ),
        Some(asked) => (
            up(asked) as u32,
            Reason::Policy {
                asked,
                delay: Duration::ZERO,
            },
        ),
        None => (0, Reason::Kept),
    };
    match wished.min(high) {
        0 if wished > 0 => (0, Reason::Kept, Some(Hold::MaxReplicas { most: high })),
        0 => (0, Reason::Kept, None),
        first => (first, reason, None),
    }
}

/// At most `wanted`, which is not none: more are not wished for.
fn fewer(
    config: &Config,
    low: u32,
    state: &State,
    wanted: u32,
    load: &Load,
    now: Duration,
) -> (u32, Reason, Option<Hold>) {
    let kept = |hold| (wanted, Reason::Kept, hold);
    let fewer = |delay| match load.policy {
        Some(asked) => Reason::Policy { asked, delay },
        None => Reason::Fewer {
            ongoing: load.smoothed,
            delay,
        },
    };
    // What is smoothed may still be low when the load is not: then that keeps it, and no delay.
    if load.fewer >= wanted || load.more >= wanted {
        return kept(None);
    }
    if wanted == low {
        return kept(Some(Hold::MinReplicas { least: low }));
    }
    if wanted == 1 {
        if load.ongoing > 0 {
            return kept(None);
        }
        let until = zero_at(config, state).unwrap_or(now + config.to_zero_delay);
        if until <= now {
            return (0, fewer(config.to_zero_delay), None);
        }
        return kept(Some(Hold::ToZeroDelay { until }));
    }
    // What the present load needs stays, however long it takes until the smoothed one says so too.
    let floor = low.max(1).max(load.more);
    match state.wishes.highest(config.downscale_delay, now) {
        Some(highest) if highest.max(floor) < wanted => {
            let replicas = highest.max(floor);
            let hold = (load.fewer < low).then_some(Hold::MinReplicas { least: low });
            (replicas, fewer(config.downscale_delay), hold)
        }
        _ => {
            let at = state.wishes.below_at(wanted, config.downscale_delay);
            let until = at.map_or(now + config.downscale_delay, |at| at.max(now));
            kept(Some(Hold::DownscaleDelay { until }))
        }
    }
}

/// When the last replica will have been idle for long enough, if it stays so.
fn zero_at(config: &Config, state: &State) -> Option<Duration> {
    let idle = state.wishes.below_at(1, config.to_zero_delay)?;
    Some(idle.max(state.last_since? + config.to_zero_delay))
}

/// The next moment at which time alone may change something.
fn next_look(
    config: &Config,
    bounds: Bounds,
    state: &State,
    load: &Load,
    replicas: u32,
    now: Duration,
) -> Option<Duration> {
    let at_most = replicas >= bounds.high;
    let more = state.more_since.filter(|_| !at_most);
    let more = more.map(|since| since + config.upscale_delay);
    let fewer = match replicas {
        _ if replicas <= bounds.low || load.fewer >= replicas => None,
        1 => zero_at(config, state),
        _ => state.wishes.below_at(replicas, config.downscale_delay),
    };
    let smoothing = |window: &Window, span: Duration| {
        let step = (span / 16).clamp(LOOK.0, LOOK.1);
        (!window.is_settled()).then(|| now + step)
    };
    // A smoothed load goes on to fall, or to rise, while the window moves on. A policy is asked for by others.
    let moves = load.policy.is_none() && (replicas > bounds.low || (config.smooths_up && !at_most));
    let smoothed = smoothing(&state.look_back, config.look_back).filter(|_| moves && replicas > 0);
    let present = smoothing(&state.present, present(config))
        .filter(|_| load.policy.is_none() && !at_most && replicas > 0);
    let due = [more, fewer, smoothed, present].into_iter().flatten().min();
    // What is due already was decided just now; a number that was changed is looked at anew.
    due.map(|at| at.max(now + LOOK.0))
}

#[cfg(test)]
mod tests;
