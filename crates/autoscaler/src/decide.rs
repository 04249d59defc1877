//! The decision. Its rules are in the crate's documentation.

use std::time::Duration;

use crate::{
    config::{Aggregation, Bounds, Config},
    decision::{Decision, Hold, Reason},
    window::Window,
    wishes::Wishes,
};

/// What is known of a deployment at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// What is kept of one deployment between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The load over the look-back period, and over the moment that is the present.
    look_back: Window,
    present: Window,
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
}

impl State {
    fn measure(&mut self, config: &Config, measured: Measured, now: Duration) -> Load {
        let ongoing = measured.queued.saturating_add(measured.running);
        if !measured.heard_all {
            self.look_back.clear();
            self.wishes.clear();
        }
        self.look_back.set(ongoing, now, config.look_back);
        self.present.set(ongoing, now, present(config));
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
    let plain = requests / config.target_ongoing_requests;
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
        if load.ongoing == 0 {
            return kept(None);
        }
        let first = config.upscaling_factor.ceil().max(1.0) as u32;
        return match first.min(high) {
            0 => kept(Some(Hold::MaxReplicas { most: high })),
            first => (first, Reason::FromZero, None),
        };
    }
    if let Some(at) = state.more_at(config, load, wanted, now) {
        if wanted == high {
            return kept(Some(Hold::MaxReplicas { most: high }));
        }
        if at > now {
            return kept(Some(Hold::UpscaleDelay { until: at }));
        }
        let reason = Reason::More {
            ongoing: load.present,
            delay: config.upscale_delay,
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
    let fewer = |delay| Reason::Fewer {
        ongoing: load.smoothed,
        delay,
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
    // A smoothed load goes on to fall, or to rise, while the window moves on.
    let moves = replicas > bounds.low || (config.smooths_up && !at_most);
    let smoothed = smoothing(&state.look_back, config.look_back).filter(|_| moves && replicas > 0);
    let present = smoothing(&state.present, present(config)).filter(|_| !at_most && replicas > 0);
    let due = [more, fewer, smoothed, present].into_iter().flatten().min();
    // What is due already was decided just now; a number that was changed is looked at anew.
    due.map(|at| at.max(now + LOOK.0))
}

#[cfg(test)]
mod tests;
