//! What replicas import, as the node is told: it forks those that import the same from one process, which is to end with the
//! revision.

use eagleray_types::control::{ForgetImports, node_command};

use super::outbox::Outbox;
use crate::books::{application::Application, deployment::Deployment, revision::VersionSpec};

/// The same for two replicas only if their imports are the same.
pub(super) fn of(spec: &VersionSpec) -> String {
    let (application, deployment) = (spec.application(), spec.deployment());
    let (code, callable) = (&application.code_blob, &deployment.callable_blob);
    let names = (&application.name, &deployment.name, &deployment.version);
    format!("{:?}", (names, code, callable, &application.sys_path))
}

/// Tells the node what no replica of these deployments will import any more. To be called before those that are gone are
/// forgotten.
pub(super) fn forget(application: &mut Application, out: &mut Outbox) {
    for deployment in application.deployments.values_mut() {
        forget_of(deployment, out);
    }
}

fn forget_of(deployment: &mut Deployment, out: &mut Outbox) {
    if deployment.imports.is_empty() {
        return;
    }
    let specs = [
        deployment.target.as_ref(),
        deployment.serving.as_ref(),
        deployment.aim(),
    ];
    let wanted: Vec<String> = specs.into_iter().flatten().map(of).collect();
    let node = out.options.node.clone();
    deployment.imports.retain(|imports| {
        let stays = wanted.contains(imports);
        if !stays {
            let imports = imports.clone();
            let forget = node_command::Body::ForgetImports(ForgetImports { imports });
            out.node(&node, forget);
        }
        stays
    });
}
