//! What a deployment's `autoscaling_config` says, with the defaults of what it leaves out.
//!
//! It comes as JSON with the stated keys only: that `look_back_period_s` is stated means something. It was checked where
//! it was written; it is checked again here, since a decision must not rest on a number that is none.

use std::{fmt, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};

/// Thirty years. Times are added to others, so they must be far from what overflows.
const MOST_SECONDS: f64 = 1e9;
/// As of `num_replicas`.
const MOST_REPLICAS: u32 = 10_000;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub min_replicas: u32,
    /// `None`: it begins at `min_replicas`.
    pub initial_replicas: Option<u32>,
    pub max_replicas: u32,
    pub target_ongoing_requests: f64,
    pub look_back: Duration,
    /// `look_back_period_s` is stated, so it smooths the wish for more, too.
    pub smooths_up: bool,
    pub upscale_delay: Duration,
    pub downscale_delay: Duration,
    pub to_zero_delay: Duration,
    pub upscaling_factor: f64,
    pub downscaling_factor: f64,
    pub aggregation: Aggregation,
}

/// How the values of a period become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregation {
    #[default]
    Mean,
    Max,
    Min,
}

/// `target_capacity`: the share of all replicas that shall run, and where it is going.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Capacity {
    /// `None`: all of them.
    pub percent: Option<f64>,
    pub direction: Option<Direction>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

/// The numbers between which a deployment moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub low: u32,
    pub high: u32,
}

/// Which key has a value that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "autoscaling_config.{}", self.0)
    }
}

impl std::error::Error for ConfigError {}

/// The keys as they are written. What else is there is not for the autoscaler.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stated {
    min_replicas: Option<u32>,
    initial_replicas: Option<u32>,
    max_replicas: Option<u32>,
    target_ongoing_requests: Option<f64>,
    look_back_period_s: Option<f64>,
    upscale_delay_s: Option<f64>,
    downscale_delay_s: Option<f64>,
    downscale_to_zero_delay_s: Option<f64>,
    upscaling_factor: Option<f64>,
    downscaling_factor: Option<f64>,
    upscale_smoothing_factor: Option<f64>,
    downscale_smoothing_factor: Option<f64>,
    smoothing_factor: Option<f64>,
    aggregation_function: Option<Aggregation>,
}

impl Config {
    /// Reads the stated keys.
    ///
    /// # Errors
    ///
    /// It is no such JSON, or a value lies outside what its key takes.
    pub fn of_json(text: &str) -> Result<Self, ConfigError> {
        let read = |error| ConfigError(format!("* cannot be read: {error}"));
        let keys: Map<String, Value> = serde_json::from_str(text).map_err(read)?;
        let stated: Stated = serde_json::from_value(keys.into()).map_err(read)?;
        let usual = stated.smoothing_factor;
        let factor = |key, own: Option<f64>, old: Option<f64>| {
            positive(key, own.or(old).or(usual).unwrap_or(1.0))
        };
        let downscale_delay = seconds("downscale_delay_s", stated.downscale_delay_s, 600.0)?;
        let to_zero = stated.downscale_to_zero_delay_s;
        let config = Self {
            min_replicas: stated.min_replicas.unwrap_or(1),
            initial_replicas: stated.initial_replicas,
            max_replicas: stated.max_replicas.unwrap_or(1),
            target_ongoing_requests: positive(
                "target_ongoing_requests",
                stated.target_ongoing_requests.unwrap_or(2.0),
            )?,
            look_back: seconds("look_back_period_s", stated.look_back_period_s, 30.0)?,
            smooths_up: stated.look_back_period_s.is_some(),
            upscale_delay: seconds("upscale_delay_s", stated.upscale_delay_s, 30.0)?,
            downscale_delay,
            to_zero_delay: seconds(
                "downscale_to_zero_delay_s",
                to_zero,
                downscale_delay.as_secs_f64(),
            )?,
            upscaling_factor: factor(
                "upscaling_factor",
                stated.upscaling_factor,
                stated.upscale_smoothing_factor,
            )?,
            downscaling_factor: factor(
                "downscaling_factor",
                stated.downscaling_factor,
                stated.downscale_smoothing_factor,
            )?,
            aggregation: stated.aggregation_function.unwrap_or_default(),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let (low, high) = (self.min_replicas, self.max_replicas);
        let refuse = |message: String| Err(ConfigError(message));
        if !(1..=MOST_REPLICAS).contains(&high) {
            return refuse(format!(
                "max_replicas must be from 1 to {MOST_REPLICAS}, got {high}"
            ));
        }
        if low > high {
            return refuse(format!(
                "min_replicas must be at most max_replicas ({high}), got {low}"
            ));
        }
        match self.initial_replicas {
            Some(first) if !(low..=high).contains(&first) => refuse(format!(
                "initial_replicas must be from min_replicas ({low}) to max_replicas ({high}), got {first}"
            )),
            _ => Ok(()),
        }
    }

    /// Where a deployment begins that nobody has scaled yet.
    pub fn first(&self, capacity: Capacity) -> u32 {
        capacity.of(self.initial_replicas.unwrap_or(self.min_replicas))
    }

    /// Between which numbers it moves. While the capacity rises, a stated `initial_replicas` is the lower one: it is
    /// what a fresh start begins with.
    pub fn bounds(&self, capacity: Capacity) -> Bounds {
        let rises = capacity.direction == Some(Direction::Up);
        let low = self.initial_replicas.filter(|_| rises);
        let high = capacity.of(self.max_replicas);
        Bounds {
            low: capacity.of(low.unwrap_or(self.min_replicas)).min(high),
            high,
        }
    }
}

impl Capacity {
    /// A number of replicas at this capacity: half up, and none only where there is none of the one or the other.
    pub fn of(self, replicas: u32) -> u32 {
        match self.percent {
            None => replicas,
            Some(percent) if percent <= 0.0 => 0,
            Some(_) if replicas == 0 => 0,
            Some(percent) => ((f64::from(replicas) * percent / 100.0 + 0.5).floor() as u32).max(1),
        }
    }
}

fn seconds(key: &str, stated: Option<f64>, usual: f64) -> Result<Duration, ConfigError> {
    let value = stated.unwrap_or(usual);
    if (0.0..=MOST_SECONDS).contains(&value) {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(ConfigError(format!(
            "{key} must be from 0 to {MOST_SECONDS:e} s, got {value}"
        )))
    }
}

fn positive(key: &str, value: f64) -> Result<f64, ConfigError> {
    if value > 0.0 && value.is_finite() {
        Ok(value)
    } else {
        Err(ConfigError(format!(
            "{key} must be a finite number above 0, got {value}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = Config::of_json("{}").unwrap();
        assert_eq!(
            config.bounds(Capacity::default()),
            Bounds { low: 1, high: 1 }
        );
        assert_eq!(config.first(Capacity::default()), 1);
        let seconds = [
            config.look_back,
            config.upscale_delay,
            config.downscale_delay,
            config.to_zero_delay,
        ];
        assert_eq!(seconds.map(|one| one.as_secs()), [30, 30, 600, 600]);
        assert!(!config.smooths_up);
        let numbers = (
            config.target_ongoing_requests,
            config.upscaling_factor,
            config.downscaling_factor,
        );
        assert_eq!(numbers, (2.0, 1.0, 1.0));
        let config =
            Config::of_json(r#"{"look_back_period_s": 30, "downscale_delay_s": 5}"#).unwrap();
        assert!(config.smooths_up);
        assert_eq!(config.to_zero_delay, Duration::from_secs(5));
    }

    #[test]
    fn old_names_of_factors_count_where_the_new_ones_are_null() {
        let factors = |text| {
            let config = Config::of_json(text).unwrap();
            (config.upscaling_factor, config.downscaling_factor)
        };
        assert_eq!(factors(r#"{"smoothing_factor": 0.5}"#), (0.5, 0.5));
        let text = r#"{"upscale_smoothing_factor": 2, "smoothing_factor": 0.5, "downscaling_factor": 0.2}"#;
        assert_eq!(factors(text), (2.0, 0.2));
        let text =
            r#"{"upscaling_factor": 3, "upscale_smoothing_factor": 2, "downscaling_factor": null}"#;
        assert_eq!(factors(text), (3.0, 1.0));
    }

    #[test]
    fn values_that_cannot_be_meant_name_their_key() {
        for (text, key) in [
            (r#"{"min_replicas": -1}"#, "-1"),
            (r#"{"min_replicas": 2}"#, "min_replicas"),
            (r#"{"max_replicas": 0}"#, "max_replicas"),
            (r#"{"max_replicas": 1000000000}"#, "max_replicas"),
            (r#"{"max_replicas": 99999999999}"#, "99999999999"),
            (
                r#"{"max_replicas": 4, "initial_replicas": 5}"#,
                "initial_replicas",
            ),
            (
                r#"{"min_replicas": 2, "max_replicas": 4, "initial_replicas": 0}"#,
                "initial_replicas",
            ),
            (
                r#"{"target_ongoing_requests": 0}"#,
                "target_ongoing_requests",
            ),
            (
                r#"{"target_ongoing_requests": -3}"#,
                "target_ongoing_requests",
            ),
            (r#"{"target_ongoing_requests": NaN}"#, "read"),
            (r#"{"target_ongoing_requests": 1e999}"#, "read"),
            (r#"{"upscale_delay_s": -1}"#, "upscale_delay_s"),
            (r#"{"upscale_delay_s": 1e10}"#, "upscale_delay_s"),
            (r#"{"downscale_delay_s": -0.5}"#, "downscale_delay_s"),
            (
                r#"{"downscale_to_zero_delay_s": -1}"#,
                "downscale_to_zero_delay_s",
            ),
            (r#"{"look_back_period_s": -1}"#, "look_back_period_s"),
            (r#"{"upscaling_factor": 0}"#, "upscaling_factor"),
            (r#"{"downscaling_factor": -1}"#, "downscaling_factor"),
            (r#"{"aggregation_function": "median"}"#, "median"),
            ("[]", "read"),
            ("", "read"),
        ] {
            let error = Config::of_json(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn a_capacity_scales_every_number_and_rounds_half_up() {
        let config =
            Config::of_json(r#"{"min_replicas": 1, "initial_replicas": 5, "max_replicas": 10}"#)
                .unwrap();
        let at = |percent, direction| Capacity {
            percent: Some(percent),
            direction,
        };
        assert_eq!(config.bounds(at(50.0, None)), Bounds { low: 1, high: 5 });
        assert_eq!(config.first(at(50.0, None)), 3, "2.5 is 3");
        let rising = at(50.0, Some(Direction::Up));
        assert_eq!(config.bounds(rising), Bounds { low: 3, high: 5 });
        let falling = at(50.0, Some(Direction::Down));
        assert_eq!(config.bounds(falling), Bounds { low: 1, high: 5 });
        assert_eq!(config.bounds(at(0.0, None)), Bounds { low: 0, high: 0 });
        assert_eq!(at(1.0, None).of(10), 1, "never below 1");
        assert_eq!(at(50.0, None).of(0), 0);
        assert_eq!(Capacity::default().of(7), 7);
    }
}
