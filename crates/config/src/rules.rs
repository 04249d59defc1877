//! Rules across keys. What a config leaves to the code of an application is judged when both are merged.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use crate::together::Together;

pub(crate) fn none(_: &mut Together<'_>) {}

pub(crate) fn config(seen: &mut Together<'_>) {
    unique(seen, "applications", "name", "name");
    unique(seen, "applications", "route_prefix", "route prefix");
}

pub(crate) fn application(seen: &mut Together<'_>) {
    unique(seen, "deployments", "name", "name");
    if seen.map.get("external_scaler_enabled") != Some(&Json::Bool(true)) {
        return;
    }
    for (index, deployment) in objects(seen.map.get("deployments")) {
        let scales = deployment.get("num_replicas") == Some(&Json::from("auto"))
            || deployment
                .get("autoscaling_config")
                .is_some_and(|value| !value.is_null());
        if scales {
            let message = "an external scaler and autoscaling exclude each other".to_owned();
            let help = "leave external_scaler_enabled out, or this deployment's autoscaling";
            let key = if deployment.contains_key("autoscaling_config") {
                "autoscaling_config"
            } else {
                "num_replicas"
            };
            seen.wrong_at(&[("deployments", index)], key, message, help);
        }
    }
}

pub(crate) fn deployment(seen: &mut Together<'_>) {
    let number = seen.number("num_replicas");
    if number.is_some() && seen.has("autoscaling_config") {
        seen.wrong(
            "num_replicas",
            "a number of replicas and autoscaling_config exclude each other".to_owned(),
            "leave num_replicas out, or write \"auto\"; or leave autoscaling_config out",
        );
    }
    if seen.has("max_replicas_per_node") {
        for other in ["placement_group_bundles", "gang_scheduling_config"] {
            if seen.has(other) {
                let message = format!("max_replicas_per_node and {other} exclude each other");
                seen.wrong("max_replicas_per_node", message, "leave one of them out");
            }
        }
    }
    if seen.has("placement_group_strategy") && seen.has("gang_scheduling_config") {
        let message =
            "placement_group_strategy and gang_scheduling_config exclude each other".to_owned();
        seen.wrong(
            "placement_group_strategy",
            message,
            "write gang_placement_strategy",
        );
    }
    unique(seen, "deployment_actors", "name", "name");
}

pub(crate) fn autoscaling(seen: &mut Together<'_>) {
    let (least, first, most) = (
        seen.number("min_replicas"),
        seen.number("initial_replicas"),
        seen.number("max_replicas"),
    );
    if let (Some(least), Some(most)) = (least, most)
        && least > most
    {
        let message = format!("must be at most max_replicas ({most}), got {least}");
        seen.wrong("min_replicas", message, "raise max_replicas");
    }
    let Some(first) = first else {
        return;
    };
    if let Some(least) = least.filter(|least| first < *least) {
        let message = format!("must be at least min_replicas ({least}), got {first}");
        seen.wrong("initial_replicas", message, "");
    }
    if let Some(most) = most.filter(|most| first > *most) {
        let message = format!("must be at most max_replicas ({most}), got {first}");
        seen.wrong("initial_replicas", message, "");
    }
}

pub(crate) fn actor(seen: &mut Together<'_>) {
    if let Some(gpus) = seen.number("num_gpus")
        && gpus > 1.0
        && gpus.fract() != 0.0
    {
        let message = format!("must be whole above 1, got {gpus}");
        let help = "a replica gets whole devices, or a part of one";
        seen.wrong("num_gpus", message, help);
    }
}

pub(crate) fn http(seen: &mut Together<'_>) {
    if seen.number("request_timeout_s") == Some(0.0) {
        let message = "0 would end every request at once".to_owned();
        seen.wrong("request_timeout_s", message, "leave it out for no limit");
    }
    let (certificate, key) = (seen.has("ssl_certfile"), seen.has("ssl_keyfile"));
    if certificate != key {
        let there = if certificate {
            "ssl_certfile"
        } else {
            "ssl_keyfile"
        };
        let message = "ssl_certfile and ssl_keyfile go together".to_owned();
        seen.wrong(there, message, "name both, or neither");
    }
    if seen.has("ssl_ca_certs") && !certificate {
        let message = "asks clients for certificates over TLS, which needs ssl_certfile".to_owned();
        seen.wrong(
            "ssl_ca_certs",
            message,
            "name ssl_certfile and ssl_keyfile too",
        );
    }
}

/// No two objects of a list have the same in `key`; null is no value.
fn unique(seen: &mut Together<'_>, list: &str, key: &str, called: &str) {
    let mut first: HashMap<String, usize> = HashMap::new();
    for (index, object) in objects(seen.map.get(list)) {
        let value = match object.get(key) {
            Some(Json::String(text)) => text.clone(),
            Some(_) => continue,
            // The defaults of applications, which are two as soon as two leave them out.
            None if list == "applications" && key == "name" => "default".to_owned(),
            None if list == "applications" && key == "route_prefix" => "/".to_owned(),
            None => continue,
        };
        if let Some(before) = first.get(&value) {
            let message = format!("the {called} {value:?} is that of {list}[{before}] too");
            seen.wrong_at(&[(list, index)], key, message, "give each one of its own");
        } else {
            first.insert(value, index);
        }
    }
}

/// The objects of a list, each with its index there.
fn objects(list: Option<&Json>) -> Vec<(usize, &Map<String, Json>)> {
    let list = list.and_then(Json::as_array);
    let items = list.into_iter().flatten().enumerate();
    items
        .filter_map(|(index, item)| Some((index, item.as_object()?)))
        .collect()
}
