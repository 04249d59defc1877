//! `eagleray status`: what a node serves, as YAML in the shape that users of Ray Serve know, or as JSON.

use clap::Args;
use eagleray_supervisor::run_directory;
use eagleray_types::control::{
    ApiRequest, ApiResponse, ApplicationStatus, DeploymentStatus, Empty, NodeInfo, NodeRequest,
    NodeResponse, Status, api_request, api_response, node_request, node_response,
};

use crate::{
    exit::Exit,
    output::{complain, say},
    socket,
    tree::Tree,
    trouble::{Outcome, Trouble},
};

#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Show this application only.
    #[arg(short, long, value_name = "APPLICATION")]
    pub(crate) name: Option<String>,
    /// Name of the node [default: `default` or `EAGLERAY_NODE_NAME`, else the only one that runs].
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Show what the proxies have counted: connections, limits that were hit (docs/limits.md).
    #[arg(long, conflicts_with = "name")]
    pub(crate) counters: bool,
    /// Print JSON instead of YAML.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(arguments: &StatusArguments) -> Outcome<()> {
    let node = socket::find(arguments.node.as_deref())?;
    let directory = run_directory::root().join(&node.name);
    let request = NodeRequest {
        body: Some(node_request::Body::Info(Empty {})),
    };
    let info = match socket::call::<NodeResponse>(&directory.join("node.sock"), &request)?.body {
        Some(node_response::Body::Info(info)) => info,
        other => {
            return Err(Trouble::from(format!(
                "the node gave an answer of another kind: {other:?}"
            )));
        }
    };
    for (process, trouble) in &info.troubles {
        if process == "controller" {
            return Err(Trouble::from(format!(
                "no status can be had: {trouble}. Requests are served meanwhile"
            )));
        }
        complain(&format!("warning: {trouble}"));
    }
    let request = ApiRequest {
        body: Some(api_request::Body::Status(Empty {})),
    };
    let status =
        match socket::call::<ApiResponse>(&directory.join("controller.sock"), &request)?.body {
            Some(api_response::Body::Status(status)) => status,
            Some(api_response::Body::Error(error)) => return Err(error.message.into()),
            other => {
                return Err(Trouble::from(format!(
                    "the controller gave an answer of another kind: {other:?}"
                )));
            }
        };
    let value = match &arguments.name {
        None => whole(&info, &status),
        Some(name) => {
            let found = status
                .applications
                .iter()
                .find(|application| application.name == *name);
            let missing = || {
                let message = format!("no application {name:?} is deployed");
                Trouble::new(Exit::Missing, "no_application", message)
            };
            application(found.ok_or_else(missing)?)
        }
    };
    let text = if arguments.json {
        value.json()
    } else {
        value.yaml(arguments.name.is_none())
    };
    say(text.trim_end());
    Ok(())
}

fn whole(info: &NodeInfo, status: &Status) -> Tree {
    // Without HTTP there is no proxy that anybody could reach.
    let proxies = if info.http_address.is_empty() {
        Vec::new()
    } else {
        vec![(info.node_id.clone(), Tree::text(&info.proxy_status))]
    };
    let applications = status
        .applications
        .iter()
        .map(|status| (status.name.clone(), application(status)));
    Tree::map([
        ("proxies", Tree::Map(proxies)),
        ("applications", Tree::Map(applications.collect())),
        ("target_capacity", Tree::Null),
    ])
}

fn application(status: &ApplicationStatus) -> Tree {
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

fn deployment(status: &DeploymentStatus) -> Tree {
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

/// Without the escape sequences that colour a terminal.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\u{1b}' {
            out.push(character);
        } else if rest.next() == Some('[') {
            // Parameters, up to the letter that ends the sequence.
            rest.by_ref().find(char::is_ascii_alphabetic);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use eagleray_types::control::DeploymentStatus;

    use super::*;

    fn served() -> (NodeInfo, Status) {
        let deployment = DeploymentStatus {
            name: "Model".into(),
            status: "HEALTHY".into(),
            status_trigger: "CONFIG_UPDATE_COMPLETED".into(),
            replica_states: [("RUNNING".to_owned(), 1), ("STARTING".to_owned(), 0)].into(),
            ..DeploymentStatus::default()
        };
        let application = ApplicationStatus {
            name: "default".into(),
            status: "RUNNING".into(),
            last_deployed_time_s: 1_700_000_000.0,
            deployments: vec![deployment],
            ..ApplicationStatus::default()
        };
        let info = NodeInfo {
            node_id: "ab12".into(),
            http_address: "http://127.0.0.1:8000".into(),
            proxy_status: "HEALTHY".into(),
            ..NodeInfo::default()
        };
        (
            info,
            Status {
                applications: vec![application],
            },
        )
    }

    #[test]
    fn the_yaml_is_what_users_of_ray_serve_know() {
        let (info, status) = served();
        assert_eq!(
            whole(&info, &status).yaml(true),
            "proxies:\n  ab12: HEALTHY\n\napplications:\n  default:\n    status: RUNNING\n    message: ''\n    \
             last_deployed_time_s: 1700000000.0\n    deployments:\n      Model:\n        status: HEALTHY\n        \
             status_trigger: CONFIG_UPDATE_COMPLETED\n        replica_states:\n          RUNNING: 1\n        \
             message: ''\n\ntarget_capacity: null\n"
        );
        assert_eq!(
            whole(&info, &Status::default()).yaml(true),
            "proxies:\n  ab12: HEALTHY\n\napplications: {}\n\ntarget_capacity: null\n"
        );
    }

    #[test]
    fn json_has_the_same_shape() {
        let (info, status) = served();
        let value: serde_json::Value = serde_json::from_str(&whole(&info, &status).json()).unwrap();
        assert_eq!(
            value["applications"]["default"]["deployments"]["Model"]["replica_states"]["RUNNING"],
            1
        );
        assert!(value["target_capacity"].is_null());
    }

    #[test]
    fn colours_are_taken_out_of_messages() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m text"), "red text");
    }
}
