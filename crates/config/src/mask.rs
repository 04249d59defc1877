//! A config for people's eyes: values of environment variables are often secrets, and are shown as [`MASK`].

use serde_json::Value;

/// Stands for a value that is not shown.
pub const MASK: &str = "****";

/// The same config with the values of all `env_vars` hidden. What user code gets (`args`, `user_config`) is shown.
pub fn masked(config: &Value) -> Value {
    match config {
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                let value = match (key.as_str(), value) {
                    ("env_vars", Value::Object(variables)) => {
                        let names = variables.keys().cloned();
                        names.map(|name| (name, Value::from(MASK))).collect()
                    }
                    ("args" | "user_config", value) => value.clone(),
                    (_, value) => masked(value),
                };
                (key.clone(), value)
            };
            map.iter().map(entry).collect()
        }
        Value::Array(items) => items.iter().map(masked).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_environment_variables_are_hidden_and_nothing_else_is() {
        let config = json!({
            "runtime_env": {"env_vars": {"TOKEN": "s3cret"}},
            "args": {"env_vars": {"mine": 1}},
            "deployments": [{"name": "A", "ray_actor_options": {"runtime_env": {"env_vars": {"KEY": "x"}}}}],
        });
        assert_eq!(
            masked(&config),
            json!({
                "runtime_env": {"env_vars": {"TOKEN": "****"}},
                "args": {"env_vars": {"mine": 1}},
                "deployments": [{"name": "A", "ray_actor_options": {"runtime_env": {"env_vars": {"KEY": "****"}}}}],
            })
        );
    }
}
