//! What replicas import, as the node is told: it forks those that import the same from one process, which is to end with the
//! revision.

use std::collections::BTreeSet;

use eagleray_types::{
    NodeId,
    control::{ForgetImports, node_command},
};

use super::outbox::Outbox;
use crate::books::{
    Books, application::Application, deployment::Deployment, revision::VersionSpec,
};

/// The same for two replicas only if their imports are the same.
pub(super) fn of(spec: &VersionSpec) -> String {
    let (application, deployment) = (spec.application(), spec.deployment());
    let (code, callable) = (&application.code_blob, &deployment.callable_blob);
    let names = (&application.name, &deployment.name, &deployment.version);
    format!("{:?}", (names, code, callable, &application.sys_path))
}

/// A node has kept `listed` for a controller that is no more: what a deployment may still import is entered there, and
/// the rest forgotten. So what a deployment at zero is forked from ends with its revision, whoever was told of it.
pub(super) fn adopt(books: &mut Books, node: &NodeId, listed: &[String], out: &mut Outbox) {
    let mut unknown: BTreeSet<&String> = listed.iter().collect();
    for application in books.applications.values_mut() {
        for deployment in application.deployments.values_mut() {
            let entered: Vec<String> = wanted(deployment)
                .into_iter()
                .filter(|imports| unknown.contains(imports))
                .collect();
            deployment.imports.extend(entered);
            for imports in &deployment.imports {
                unknown.remove(imports);
            }
        }
    }
    for imports in unknown {
        forget_one(node, imports.clone(), out);
    }
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
    let wanted = wanted(deployment);
    let node = out.options.node.clone();
    deployment.imports.retain(|imports| {
        let stays = wanted.contains(imports);
        if !stays {
            forget_one(&node, imports.clone(), out);
        }
        stays
    });
}

/// What a replica of this deployment may still be started with.
fn wanted(deployment: &Deployment) -> Vec<String> {
    let specs = [
        deployment.target.as_ref(),
        deployment.serving.as_ref(),
        deployment.aim(),
    ];
    specs.into_iter().flatten().map(of).collect()
}

fn forget_one(node: &NodeId, imports: String, out: &mut Outbox) {
    let forget = node_command::Body::ForgetImports(ForgetImports { imports });
    out.node(node, forget);
}
