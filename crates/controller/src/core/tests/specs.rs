//! Small applications for the world to run.

use eagleray_types::control::{ApplicationSpec, DeploymentOptions, DeploymentSpec};
use prost::Message as _;

use crate::store::sha256_hex;

pub(super) fn options(num_replicas: u32) -> DeploymentOptions {
    DeploymentOptions {
        num_replicas,
        hang_timeout_s: 0.0,
        rolling_update_percentage: 0.0,
        ..DeploymentOptions::standard()
    }
}

pub(super) fn deployment(name: &str, version: &str, num_replicas: u32) -> DeploymentSpec {
    DeploymentSpec {
        name: name.to_owned(),
        version: version.to_owned(),
        callable_blob: sha256_hex(version.as_bytes()),
        options: options(num_replicas),
        ..Default::default()
    }
}

/// An application at `/name` whose first deployment is the ingress. The revision is a hash over all of it.
pub(super) fn application(name: &str, deployments: Vec<DeploymentSpec>) -> ApplicationSpec {
    let spec = ApplicationSpec {
        name: name.to_owned(),
        route_prefix: format!("/{name}"),
        ingress: deployments[0].name.clone(),
        deployments,
        ..Default::default()
    };
    with_revision(spec)
}

pub(super) fn with_revision(mut spec: ApplicationSpec) -> ApplicationSpec {
    spec.revision = String::new();
    spec.revision = sha256_hex(&spec.encode_to_vec());
    spec
}

/// Application `a` with one deployment `d`.
pub(super) fn simple(version: &str, num_replicas: u32) -> ApplicationSpec {
    application("a", vec![deployment("d", version, num_replicas)])
}
