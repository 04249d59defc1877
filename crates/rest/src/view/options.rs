//! The options of a deployment under the keys that a config has for them.

use eagleray_types::{
    control::DeploymentOptions,
    options::{DeploymentOption, Value as OptionValue},
};
use serde_json::{Map, Value, json};

use super::{json, masked};

/// What names several options is one object, as in a config. No limit is null.
pub(crate) fn config_keys(options: &DeploymentOptions) -> Map<String, Value> {
    let mut keys = Map::new();
    for option in DeploymentOption::ALL {
        let value = match (option.key, option.of(options)) {
            // Part of an object below.
            (
                "resources"
                | "environment"
                | "access_log"
                | "logging"
                | "backpressure_status"
                | "backpressure_retry_after_s",
                _,
            ) => continue,
            ("user_config", _) => json(&options.user_config),
            ("hang_timeout_s" | "max_body_bytes" | "max_requests_per_replica", value) => {
                limit(value)
            }
            (_, value) => plain(value),
        };
        keys.insert(option.key.to_owned(), value);
    }
    keys.insert("ray_actor_options".to_owned(), actor(options));
    keys.insert("logging_config".to_owned(), logging(options));
    keys.insert(
        "backpressure_config".to_owned(),
        json!({
            "status_code": if options.backpressure_status == 0 { 503 } else { options.backpressure_status },
            "retry_after_s": positive(options.backpressure_retry_after_s),
        }),
    );
    keys
}

fn actor(options: &DeploymentOptions) -> Value {
    let (named, custom): (Map<_, _>, Map<_, _>) = options
        .resources
        .iter()
        .map(|(name, amount)| (name.clone(), Value::from(*amount)))
        .partition(|(name, _)| matches!(name.as_str(), "num_cpus" | "num_gpus" | "memory"));
    let mut actor = named;
    if !custom.is_empty() {
        actor.insert("resources".to_owned(), custom.into());
    }
    if !options.environment.is_empty() {
        let environment = json!({"env_vars": options.environment});
        actor.insert("runtime_env".to_owned(), environment);
    }
    masked(actor.into())
}

fn logging(options: &DeploymentOptions) -> Value {
    let mut logging = match json(&options.logging) {
        Value::Object(stated) => stated,
        _ => Map::new(),
    };
    logging.insert("enable_access_log".to_owned(), options.access_log.into());
    logging.into()
}

fn plain(value: OptionValue) -> Value {
    match value {
        OptionValue::Whole(whole) => {
            i64::try_from(whole).map_or_else(|_| json!(whole as f64), Value::from)
        }
        OptionValue::Number(number) => number.into(),
        OptionValue::Flag(flag) => flag.into(),
        OptionValue::Text(text) => text.into(),
        OptionValue::Numbers(numbers) => json!(numbers),
        OptionValue::Texts(texts) => json!(texts),
    }
}

/// Zero is no limit.
fn limit(value: OptionValue) -> Value {
    match value {
        OptionValue::Whole(0) => Value::Null,
        OptionValue::Number(number) => positive(number),
        other => plain(other),
    }
}

fn positive(number: f64) -> Value {
    if number > 0.0 {
        number.into()
    } else {
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_the_keys_of_a_config_and_no_secret() {
        let options = DeploymentOptions {
            user_config: r#"{"a": 1}"#.to_owned(),
            resources: [("num_cpus".to_owned(), 0.5), ("lidar".to_owned(), 1.0)].into(),
            environment: [("TOKEN".to_owned(), "secret".to_owned())].into(),
            logging: r#"{"encoding": "JSON"}"#.to_owned(),
            hang_timeout_s: 0.0,
            ..DeploymentOptions::standard()
        };
        let keys = config_keys(&options);
        for (key, value) in [
            ("num_replicas", json!(1)),
            ("max_queued_requests", json!(-1)),
            ("user_config", json!({"a": 1})),
            ("hang_timeout_s", Value::Null),
            (
                "ray_actor_options",
                json!({"num_cpus": 0.5, "resources": {"lidar": 1.0}, "runtime_env": {"env_vars": {"TOKEN": "****"}}}),
            ),
            (
                "logging_config",
                json!({"encoding": "JSON", "enable_access_log": true}),
            ),
            (
                "backpressure_config",
                json!({"status_code": 503, "retry_after_s": null}),
            ),
        ] {
            assert_eq!(keys[key], value, "{key}");
        }
        let known: Vec<&str> = eagleray_config::table::DEPLOYMENT
            .keys
            .iter()
            .map(|key| key.name)
            .collect();
        for key in keys.keys() {
            assert!(known.contains(&key.as_str()), "{key} is no key of a config");
        }
    }
}
