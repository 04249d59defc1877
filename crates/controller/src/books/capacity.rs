//! `target_capacity`: which share of all replicas shall run, and where that is going.
//!
//! It is stated beside the applications of a config, so it is durable with what else is. Where it is going follows from what
//! was stated before, as users of Ray Serve know it: whoever moves from one cluster to another raises it there and lowers it
//! here, step by step, and a fresh start is a rise.

use eagleray_autoscaler::{Capacity, Direction};
use serde_json::{Map, Value};

const KEY: &str = "target_capacity";

/// What is stated beside applications, as JSON; `None`: nothing of this.
pub(crate) fn stated(node_options: &str) -> Option<f64> {
    let all: Map<String, Value> = serde_json::from_str(node_options).unwrap_or_default();
    all.get(KEY).and_then(Value::as_f64)
}

/// After `percent` is stated. `same`: the applications are those of the config before.
pub(crate) fn next(before: Capacity, same: bool, percent: Option<f64>) -> Capacity {
    let direction = match (before.percent.filter(|_| same), percent) {
        (_, None) => None,
        (None, Some(_)) if same => Some(Direction::Down),
        (None, Some(_)) => Some(Direction::Up),
        (Some(before), Some(now)) if before < now => Some(Direction::Up),
        (Some(before), Some(now)) if before > now => Some(Direction::Down),
        (Some(_), Some(_)) => before.direction,
    };
    Capacity { percent, direction }
}

/// `options` with the capacity of `present` in the place of its own: to go back to an earlier revision is no word on how
/// much of everything runs.
pub(crate) fn kept(options: &str, present: &str) -> String {
    let (own, now) = (stated(options), stated(present));
    if own == now {
        return options.to_owned();
    }
    let mut all: Map<String, Value> = serde_json::from_str(options).unwrap_or_default();
    match now {
        Some(percent) => drop(all.insert(KEY.to_owned(), percent.into())),
        None => drop(all.remove(KEY)),
    }
    Value::Object(all).to_string()
}

/// As the checkpoint keeps it.
pub(crate) const fn word(direction: Option<Direction>) -> &'static str {
    match direction {
        None => "",
        Some(Direction::Up) => "up",
        Some(Direction::Down) => "down",
    }
}

pub(crate) fn restore(node_options: &str, direction: &str) -> Capacity {
    Capacity {
        percent: stated(node_options),
        direction: match direction {
            "up" => Some(Direction::Up),
            "down" => Some(Direction::Down),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_goes_follows_from_what_was_before() {
        let at = |percent, direction| Capacity { percent, direction };
        let (up, down) = (Some(Direction::Up), Some(Direction::Down));
        let none = Capacity::default();
        for (before, same, percent, direction) in [
            (none, false, Some(10.0), up),
            (none, true, Some(10.0), down),
            (none, true, None, None),
            (at(Some(10.0), up), true, Some(50.0), up),
            (at(Some(10.0), down), true, Some(50.0), up),
            (at(Some(50.0), up), true, Some(10.0), down),
            (at(Some(50.0), up), true, Some(50.0), up),
            (at(Some(50.0), down), true, Some(50.0), down),
            (at(Some(50.0), down), false, Some(20.0), up),
            (at(Some(50.0), down), true, None, None),
            (at(Some(50.0), down), false, None, None),
        ] {
            let after = next(before, same, percent);
            assert_eq!(
                after,
                at(percent, direction),
                "{before:?} {same} {percent:?}"
            );
            let text = serde_json::json!({KEY: percent}).to_string();
            assert_eq!(restore(&text, word(direction)), after);
        }
    }

    #[test]
    fn an_earlier_revision_brings_back_all_but_the_capacity() {
        let then = r#"{"http_options":{"port":1},"target_capacity":20}"#;
        assert_eq!(kept(then, r#"{"target_capacity":20.0}"#), then);
        assert_eq!(kept(then, ""), r#"{"http_options":{"port":1}}"#);
        assert_eq!(stated(&kept("", then)), Some(20.0));
    }
}
