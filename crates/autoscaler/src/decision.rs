//! What was decided, why, and what holds more or fewer back, as values and as words for people.

use std::{fmt, time::Duration};

#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// So many shall run from now on.
    pub replicas: u32,
    /// So many the load asks for now, before delays and bounds.
    pub asked: u32,
    pub reason: Reason,
    /// Why it is not what the load asks for; `None`: it is.
    pub hold: Option<Hold>,
    /// When to look again though nothing new is measured; `None`: nothing would be decided then.
    pub next_look: Option<Duration>,
}

/// Why so many run.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// The number stays.
    Kept,
    /// The load has asked for more all the delay.
    More { ongoing: f64, delay: Duration },
    /// Fewer have sufficed all the delay.
    Fewer { ongoing: f64, delay: Duration },
    /// Its policy has asked for that, and for as many or for more all the delay.
    Policy { asked: f64, delay: Duration },
    /// The first request after none.
    FromZero,
    /// The number lay outside the bounds.
    Bounds { low: u32, high: u32 },
}

/// What keeps the number from what the load asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    UpscaleDelay {
        until: Duration,
    },
    DownscaleDelay {
        until: Duration,
    },
    ToZeroDelay {
        until: Duration,
    },
    MaxReplicas {
        most: u32,
    },
    MinReplicas {
        least: u32,
    },
    /// Some routers have not said what they have.
    Unheard,
    /// An update is under way.
    Update,
    /// Its policy does not say what can be meant: why.
    Policy(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => f.write_str("as many as before"),
            Self::More { ongoing, delay } if delay.is_zero() => {
                write!(f, "{} ongoing requests", Number(*ongoing))
            }
            Self::More { ongoing, delay } => write!(
                f,
                "{} ongoing requests, and more were needed for {}",
                Number(*ongoing),
                Seconds(*delay)
            ),
            Self::Fewer { ongoing, delay } => write!(
                f,
                "{} ongoing requests, and fewer were enough for {}",
                Number(*ongoing),
                Seconds(*delay)
            ),
            Self::Policy { asked, delay } if delay.is_zero() => {
                write!(f, "its policy asks for {}", Number(*asked))
            }
            Self::Policy { asked, delay } => write!(
                f,
                "its policy asks for {}, and that way for {}",
                Number(*asked),
                Seconds(*delay)
            ),
            Self::FromZero => f.write_str("the first request after none"),
            Self::Bounds { low, high } => {
                write!(f, "min_replicas is {low} and max_replicas {high}")
            }
        }
    }
}

impl Hold {
    /// In words; delays by what is left of them at `now`.
    pub fn words(&self, now: Duration) -> String {
        let held = |by, until: Duration| {
            // Whole seconds, and never none while there is some time.
            let left = until.saturating_sub(now).as_secs_f64().ceil();
            format!("held by {by}, {left} s left")
        };
        match self {
            Self::UpscaleDelay { until } => held("upscale_delay_s", *until),
            Self::DownscaleDelay { until } => held("downscale_delay_s", *until),
            Self::ToZeroDelay { until } => held("downscale_to_zero_delay_s", *until),
            Self::Policy(error) => format!("its policy has failed, so the number stays: {error}"),
            Self::MaxReplicas { most } => format!("at max_replicas {most}"),
            Self::MinReplicas { least } => format!("at min_replicas {least}"),
            Self::Unheard => "waits until every router has said what it has".to_owned(),
            Self::Update => "waits until the update is over".to_owned(),
        }
    }
}

/// A number of requests, with one place behind the point where it has any.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = (self.0 * 10.0).round() / 10.0;
        write!(f, "{rounded}")
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}
