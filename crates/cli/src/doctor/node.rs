//! Whether the node that runs is well; if none does, whether one could start.

use std::net::{SocketAddr, TcpListener};

use eagleray_supervisor::environment::set;

use super::Check;
use crate::{answers::Status, api::Api, exit::Exit, find::Where, status, trouble::Trouble};

const HTTP_PORT: &str = "EAGLERAY_SERVE_DEFAULT_HTTP_PORT";
const CONTROL_PORT: &str = "EAGLERAY_CONTROL_PORT";

pub(super) fn checks(place: &Where) -> Vec<Check> {
    let api = match Api::of(place) {
        Ok(api) => api,
        Err(trouble) if trouble.exit == Exit::Missing && place.node.is_none() => return ports(),
        Err(trouble) => return vec![failed("node", &trouble)],
    };
    match status::of(&api, None) {
        Ok(status) => well(&status),
        Err(trouble) => vec![failed("node", &trouble)],
    }
}

fn failed(name: &'static str, trouble: &Trouble) -> Check {
    Check::failed(name, trouble.message.clone(), trouble.help.join("\n"))
}

/// Whether somebody else has what a node would listen at.
fn ports() -> Vec<Check> {
    let port = |variable: &str, usual: u16| {
        set(variable)
            .and_then(|text| text.parse().ok())
            .unwrap_or(usual)
    };
    let mut checks = vec![Check::passed("node", "none runs")];
    for (name, port, option) in [
        ("http_port", port(HTTP_PORT, 8000), "--http-port"),
        ("control_port", port(CONTROL_PORT, 8265), "--control-port"),
    ] {
        checks.push(
            match TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))) {
                Ok(_) => Check::passed(name, format!("{port} is free")),
                Err(error) => Check::failed(
                    name,
                    format!("{port} cannot be listened at: {error}"),
                    format!("eagleray start {option} {}", port.saturating_add(1)),
                ),
            },
        );
    }
    checks
}

fn well(status: &Status) -> Vec<Check> {
    let node = &status.node;
    let own = env!("CARGO_PKG_VERSION");
    let mut checks = vec![Check::passed(
        "node",
        format!("{} runs (process {})", node.name, node.pid),
    )];
    checks.push(if node.version == own || node.version.is_empty() {
        Check::passed("release", own)
    } else {
        let text = format!(
            "the node is of release {}, this command of {own}",
            node.version
        );
        Check::warning(
            "release",
            text,
            "use the command of the node's environment, or start the node anew",
        )
    });
    checks.push(match node.proxy_status.as_str() {
        _ if node.http_address.is_empty() => Check::passed("proxy", "the node is without HTTP"),
        "HEALTHY" => Check::passed("proxy", node.http_address.clone()),
        other => Check::failed(
            "proxy",
            format!("{other} at {}", node.http_address),
            logs(&node.log_directory, "proxy"),
        ),
    });
    checks.push(if node.why.is_empty() {
        Check::passed("troubles", "none")
    } else {
        let texts: Vec<&str> = node.why.iter().map(|one| one.sentence.as_str()).collect();
        Check::warning(
            "troubles",
            texts.join(" "),
            logs(&node.log_directory, "node"),
        )
    });
    let unwell: Vec<&str> = status
        .applications
        .iter()
        .filter(|one| status::is_unwell(one))
        .map(|one| one.name.as_str())
        .collect();
    checks.push(if unwell.is_empty() {
        Check::passed(
            "applications",
            format!("{} deployed", status.applications.len()),
        )
    } else {
        Check::failed(
            "applications",
            format!("not well: {}", unwell.join(", ")),
            format!("eagleray explain {}", unwell[0]),
        )
    });
    checks
}

fn logs(directory: &str, process: &str) -> String {
    if directory.is_empty() {
        String::new()
    } else {
        format!("see {directory}/{process}.log")
    }
}
