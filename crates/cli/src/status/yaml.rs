//! The YAML that `serve status` prints, to the byte: scripts read it.

use crate::{
    answers::{Application, Deployment, Status},
    tree::Tree,
    words::plain,
};

/// Of a whole node.
pub(super) fn whole(status: &Status) -> Tree {
    // Without HTTP there is no proxy that anybody could reach.
    let proxies = if status.node.http_address.is_empty() {
        Vec::new()
    } else {
        vec![(
            status.node.id.clone(),
            Tree::text(&status.node.proxy_status),
        )]
    };
    let applications = status
        .applications
        .iter()
        .map(|status| (status.name.clone(), application(status)));
    Tree::map([
        ("proxies", Tree::Map(proxies)),
        ("applications", Tree::Map(applications.collect())),
        (
            "target_capacity",
            status.node.target_capacity.map_or(Tree::Null, Tree::Number),
        ),
    ])
}

/// Of one application.
pub(super) fn application(status: &Application) -> Tree {
    let deployments = status
        .deployments
        .iter()
        .map(|status| (status.name.clone(), deployment(status)));
    Tree::map([
        ("status", Tree::text(&status.status)),
        ("message", Tree::text(&plain(&status.message))),
        (
            "last_deployed_time_s",
            Tree::Number(status.last_deployed_time_s),
        ),
        ("deployments", Tree::Map(deployments.collect())),
    ])
}

fn deployment(status: &Deployment) -> Tree {
    let states = status
        .replica_states
        .iter()
        .filter(|(_, count)| **count > 0);
    let mut rows = vec![
        ("status", Tree::text(&status.status)),
        ("status_trigger", Tree::text(&status.status_trigger)),
        (
            "replica_states",
            Tree::Map(
                states
                    .map(|(state, count)| (state.clone(), Tree::Count(u64::from(*count))))
                    .collect(),
            ),
        ),
        ("message", Tree::text(&plain(&status.message))),
    ];
    if status.abandoned_requests > 0 {
        rows.push((
            "abandoned_requests",
            Tree::Count(status.abandoned_requests.into()),
        ));
    }
    Tree::map(rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn served(applications: &serde_json::Value) -> Status {
        let node = json!({"id": "ab12", "http_address": "http://127.0.0.1:8000", "proxy_status": "HEALTHY"});
        let status = json!({"node": node, "applications": applications});
        serde_json::from_value(status).expect("as the node says it")
    }

    #[test]
    fn the_yaml_is_what_users_of_ray_serve_know() {
        let deployment = json!({
            "name": "Model", "status": "HEALTHY", "status_trigger": "CONFIG_UPDATE_COMPLETED",
            "replica_states": {"RUNNING": 1, "STARTING": 0}, "message": "",
        });
        let application = json!({
            "name": "default", "status": "RUNNING", "last_deployed_time_s": 1_700_000_000.0, "deployments": [deployment],
        });
        assert_eq!(
            whole(&served(&json!([application]))).yaml(true),
            "proxies:\n  ab12: HEALTHY\n\napplications:\n  default:\n    status: RUNNING\n    message: ''\n    \
             last_deployed_time_s: 1700000000.0\n    deployments:\n      Model:\n        status: HEALTHY\n        \
             status_trigger: CONFIG_UPDATE_COMPLETED\n        replica_states:\n          RUNNING: 1\n        \
             message: ''\n\ntarget_capacity: null\n"
        );
        assert_eq!(
            whole(&served(&json!([]))).yaml(true),
            "proxies:\n  ab12: HEALTHY\n\napplications: {}\n\ntarget_capacity: null\n"
        );
    }
}
