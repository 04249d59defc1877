//! What a config says of HTTP, beside what the node runs with: it takes that when it starts, and not from a config.
//!
//! Nothing is passed over in silence: what differs is said, with the command that has it.

use eagleray_config::table::HTTP_OPTIONS;
use serde_json::{Map, Value};

/// What to say of stated `http_options`; `None`: the node runs as they say.
///
/// # Arguments
/// `stated`: as a config has them. `runs`: the same keys, as the node has them; a limit that is not there has its default.
pub(super) fn warning(stated: &Map<String, Value>, runs: &Map<String, Value>) -> Option<String> {
    let complete = HTTP_OPTIONS.with_defaults(runs);
    let (mut differs, mut flags) = (Vec::new(), Vec::new());
    for (key, wanted) in stated {
        let has = complete.get(key).unwrap_or(&Value::Null);
        if let (Value::Object(limits), "limits") = (wanted, key.as_str()) {
            for (limit, number) in limits {
                let has = has.get(limit).unwrap_or(&Value::Null);
                if !is_same("limits", number, has) {
                    differs.push(format!("limits.{limit} {number}"));
                    flags.push(format!("--http-limit {limit}={number}"));
                }
            }
        } else if !is_same(key, wanted, has) {
            differs.push(format!("{key} {wanted} (the node has {has})"));
            flags.extend(flags_of(key, wanted));
        }
    }
    (!differs.is_empty()).then(|| {
        format!(
            "http_options: {} has no effect on a node that runs; to have it, start the node with it: `eagleray stop`, \
             then `eagleray start {}`. Applications that are deployed come back by themselves",
            differs.join(", "),
            flags.join(" ")
        )
    })
}

fn is_same(key: &str, wanted: &Value, has: &Value) -> bool {
    match (key, wanted) {
        // Whichever the node has.
        ("port", wanted) if wanted.as_u64() == Some(0) => true,
        ("request_timeout_s", wanted) => limit(wanted) == limit(has),
        ("limits" | "keep_alive_timeout_s" | "port", wanted) => wanted.as_f64() == has.as_f64(),
        // The node has the whole path.
        ("ssl_certfile" | "ssl_keyfile" | "ssl_ca_certs", Value::String(file)) => {
            let has = has.as_str().unwrap_or_default();
            has == file || has.ends_with(&format!("/{}", file.trim_start_matches("./")))
        }
        ("root_path", Value::String(path)) => has.as_str() == Some(path.trim_end_matches('/')),
        _ => wanted == has,
    }
}

/// Seconds; `None`: no limit.
fn limit(value: &Value) -> Option<f64> {
    value.as_f64().filter(|seconds| *seconds >= 0.0)
}

/// How `eagleray start` is told so.
fn flags_of(key: &str, wanted: &Value) -> Vec<String> {
    let flag = match key {
        "trusted_proxies" => "--http-trusted-proxy".to_owned(),
        "allowed_hosts" => "--http-allowed-host".to_owned(),
        key => format!("--http-{}", key.replace('_', "-")),
    };
    match wanted {
        Value::Null if key == "host" => vec!["--no-http".to_owned()],
        Value::Null => Vec::new(),
        Value::String(text) => vec![format!("{flag} {text}")],
        Value::Array(items) => items
            .iter()
            .filter_map(Value::as_str)
            .map(|item| format!("{flag} {item}"))
            .collect(),
        other => vec![format!("{flag} {other}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(stated: &Value) -> Option<String> {
        let runs = json!({
            "host": "127.0.0.1",
            "port": 8000,
            "limits": {"header_count": 200.0},
            "ssl_certfile": "/etc/shop/cert.pem",
        });
        warning(stated.as_object().unwrap(), runs.as_object().unwrap())
    }

    #[test]
    fn what_the_node_runs_with_needs_no_word() {
        for same in [
            json!({}),
            json!({"host": "127.0.0.1", "port": 8000}),
            json!({"port": 0, "request_timeout_s": -1, "keep_alive_timeout_s": 90}),
            json!({"limits": {"header_count": 200}, "root_path": ""}),
            json!({"ssl_certfile": "./cert.pem", "trusted_proxies": []}),
        ] {
            assert_eq!(said(&same), None, "{same}");
        }
    }

    #[test]
    fn what_differs_is_named_with_the_command_that_has_it() {
        let said = said(&json!({
            "host": "0.0.0.0",
            "port": 9000,
            "request_timeout_s": 5,
            "limits": {"header_count": 200, "connections": 9},
            "allowed_hosts": ["a.example", "b.example"],
        }))
        .unwrap();
        for part in [
            "port 9000 (the node has 8000)",
            "eagleray start",
            "--http-host 0.0.0.0",
            "--http-port 9000",
            "--http-request-timeout-s 5",
            "--http-limit connections=9",
            "--http-allowed-host a.example --http-allowed-host b.example",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
        assert!(!said.contains("header_count"), "{said}");
    }

    #[test]
    fn every_key_is_compared() {
        for key in HTTP_OPTIONS.keys {
            let odd = match key.name {
                "limits" => json!({"x": 1}),
                "request_timeout_s" => json!(7),
                _ => json!("odd"),
            };
            assert!(said(&json!({key.name: odd})).is_some(), "{}", key.name);
        }
    }
}
