//! JSON that a message carries as text, fit to be shown: no value of an environment variable leaves the controller.

use serde_json::Value;

/// What stands for each value of `env_vars`.
pub(crate) const MASK: &str = "****";

/// The JSON that a text is; null for an empty one, and for what is none.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).map_or(Value::Null, masked)
}

/// With each value of `env_vars` masked, wherever that is.
pub(crate) fn masked(mut value: Value) -> Value {
    mask(&mut value, false);
    value
}

fn mask(value: &mut Value, secret: bool) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                mask(inner, secret || key == "env_vars");
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| mask(inner, secret)),
        Value::Null => {}
        other if secret => *other = MASK.into(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_env_vars_are_masked_wherever_they_are() {
        let shown = masked(json!({
            "runtime_env": {"env_vars": {"A": "secret", "B": {"C": ["deep", 7]}}, "pip": ["x"]},
            "deployments": [{"ray_actor_options": {"runtime_env": {"env_vars": {"D": "secret"}}}}],
        }));
        assert_eq!(
            shown,
            json!({
                "runtime_env": {"env_vars": {"A": "****", "B": {"C": ["****", "****"]}}, "pip": ["x"]},
                "deployments": [{"ray_actor_options": {"runtime_env": {"env_vars": {"D": "****"}}}}],
            })
        );
        assert_eq!(json(""), Value::Null);
        assert_eq!(json("{"), Value::Null);
    }
}
