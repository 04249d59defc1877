//! `ServeInstanceDetails`: what Ray Serve says of all applications, made of our own status.

use eagleray_types::control::{
    ApplicationStatus, DeploymentOptions, DeploymentStatus, NodeInfo, ReplicaStatus, Status,
};
use serde_json::{Map, Value, json};

use crate::view;

/// The options of a deployment that Ray's schema has.
const DEPLOYMENT_KEYS: &[&str] = &[
    "num_replicas",
    "autoscaling_config",
    "max_ongoing_requests",
    "max_queued_requests",
    "user_config",
    "graceful_shutdown_wait_loop_s",
    "graceful_shutdown_timeout_s",
    "health_check_period_s",
    "health_check_timeout_s",
    "ray_actor_options",
    "logging_config",
    "rolling_update_percentage",
];

pub(super) fn instance(node: &NodeInfo, status: &Status) -> Value {
    let applications = status.applications.iter();
    let applications: Map<_, _> = applications
        .map(|one| (one.name.clone(), application(one)))
        .collect();
    let (host, port) = host_and_port(&node.http_address);
    let serves_http = !node.http_address.is_empty();
    let mut instance = json!({
        "controller_info": actor(node, "SERVE_CONTROLLER_ACTOR", "controller.log"),
        "proxy_location": if serves_http { "EveryNode" } else { "Disabled" },
        "proxies": {},
        "applications": applications,
        "target_capacity": status.target_capacity,
        "target_groups": [],
        "restores_unset_config_options": true,
    });
    if serves_http {
        let mut proxy = actor(node, "SERVE_PROXY_ACTOR", "proxy.log");
        proxy["status"] = node.proxy_status.clone().into();
        instance["proxies"][&node.node_id] = proxy;
        instance["http_options"] = json!({"host": host, "port": port});
        instance["target_groups"] = json!([{
            "targets": [{"ip": host, "port": port, "instance_id": "", "name": node.name}],
            "route_prefix": "/",
            "protocol": "HTTP",
        }]);
    }
    instance
}

/// `imperative` or `declarative`.
pub(super) fn source(status: &ApplicationStatus) -> &str {
    match status.source.as_str() {
        "" => "imperative",
        source => source,
    }
}

fn application(status: &ApplicationStatus) -> Value {
    let deployments = status.deployments.iter();
    let deployments: Map<_, _> = deployments
        .map(|one| (one.name.clone(), deployment(one)))
        .collect();
    let config = view::json(&status.config);
    json!({
        "name": status.name,
        "route_prefix": some(&status.route_prefix),
        "docs_path": some(&status.docs_path),
        "status": status.status,
        "message": status.message,
        "last_deployed_time_s": status.last_deployed_time_s,
        "external_scaler_enabled": status.external_scaler_enabled,
        "deployed_app_config": config,
        "source": source(status),
        "deployment_topology": topology(status),
        "deployments": deployments,
    })
}

fn topology(status: &ApplicationStatus) -> Value {
    if status.ingress.is_empty() {
        return Value::Null;
    }
    let node = |name: &str| {
        let calls = status.calls.iter().find(|calls| calls.deployment == name);
        let calls = calls.into_iter().flat_map(|calls| &calls.calls);
        let outbound = calls.map(|callee| json!({"name": callee, "app_name": status.name}));
        json!({
            "name": name,
            "app_name": status.name,
            "outbound_deployments": outbound.collect::<Vec<_>>(),
            "is_ingress": name == status.ingress,
        })
    };
    let deployments = status.deployments.iter();
    let nodes: Map<_, _> = deployments
        .map(|one| (one.name.clone(), node(&one.name)))
        .collect();
    json!({
        "app_name": status.name,
        "ingress_deployment": status.ingress,
        "nodes": nodes,
    })
}

fn deployment(status: &DeploymentStatus) -> Value {
    let options = status.options.clone().unwrap_or_default();
    let replicas = |list: &[ReplicaStatus]| list.iter().map(replica).collect::<Vec<_>>();
    json!({
        "name": status.name,
        "status": status.status,
        "status_trigger": status.status_trigger,
        "message": status.message,
        "deployment_config": config(status, &options),
        "target_num_replicas": status.target_replicas,
        "required_resources": resources(&options),
        "replicas": replicas(&status.replicas),
        "recent_dead_replicas": replicas(&status.dead_replicas),
        "autoscaling_detail": status.autoscaling.as_ref().map(view::autoscaling_detail),
    })
}

fn config(status: &DeploymentStatus, options: &DeploymentOptions) -> Value {
    let mut keys = view::config_keys(options);
    if let Some(autoscaling) = &status.autoscaling {
        // Its schema knows either the one or the other.
        keys.remove("num_replicas");
        let stated = view::json(&autoscaling.config);
        keys.insert("autoscaling_config".to_owned(), stated);
    }
    keys.retain(|key, value| DEPLOYMENT_KEYS.contains(&key.as_str()) && !value.is_null());
    if options.max_surge_percent > 0 {
        keys.insert(
            "max_surge_percent".to_owned(),
            options.max_surge_percent.into(),
        );
    }
    keys.insert("name".to_owned(), status.name.as_str().into());
    keys.into()
}

/// By the names that Ray has for them.
fn resources(options: &DeploymentOptions) -> Value {
    let named = options.resources.iter().map(|(name, amount)| {
        let name = match name.as_str() {
            "num_cpus" => "CPU",
            "num_gpus" => "GPU",
            other => other,
        };
        (name.to_owned(), Value::from(*amount))
    });
    named.collect::<Map<_, _>>().into()
}

fn replica(status: &ReplicaStatus) -> Value {
    json!({
        "node_id": some(&status.node_id),
        "node_ip": null,
        "node_instance_id": null,
        "actor_id": null,
        "actor_name": null,
        "worker_id": null,
        "log_file_path": null,
        "replica_id": status.replica_id,
        "state": status.state,
        "pid": Some(status.pid).filter(|pid| *pid > 0),
        "start_time_s": status.started_at_s,
    })
}

/// A process of the node, in the words for an actor.
fn actor(node: &NodeInfo, name: &str, log: &str) -> Value {
    json!({
        "node_id": node.node_id,
        "node_ip": host_and_port(&node.control_address).0,
        "node_instance_id": null,
        "actor_id": null,
        "actor_name": name,
        "worker_id": null,
        "log_file_path": format!("{}/{log}", node.log_directory),
    })
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn host_and_port(address: &str) -> (&str, u16) {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
    (host, port.parse().unwrap_or(0))
}
