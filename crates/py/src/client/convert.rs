//! Control messages as Python dicts and back: names are those of the fields.

use std::collections::BTreeMap;

use eagleray_types::control::{
    ApiError, ApplicationSpec, ApplicationStatus, CodeFile, Deployed, DeploymentSpec,
    DeploymentStatus, EventRecord, NodeInfo, Output, RevisionRecord, Why,
};
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::{PyDict, PyList},
};

use crate::options::{self, field};

pub(super) fn application_spec(dict: &Bound<'_, PyDict>) -> PyResult<ApplicationSpec> {
    let deployments: Vec<Bound<'_, PyDict>> = field(dict, "deployments")?;
    let code_files: Vec<Bound<'_, PyDict>> = field(dict, "code_files")?;
    Ok(ApplicationSpec {
        name: field(dict, "name")?,
        route_prefix: field(dict, "route_prefix")?,
        revision: field(dict, "revision")?,
        ingress: field(dict, "ingress")?,
        deployments: deployments
            .iter()
            .map(deployment_spec)
            .collect::<PyResult<_>>()?,
        code_blob: field(dict, "code_blob")?,
        code_files: code_files
            .iter()
            .map(|file| {
                Ok(CodeFile {
                    path: field(file, "path")?,
                    sha256: field(file, "sha256")?,
                })
            })
            .collect::<PyResult<_>>()?,
        python: field(dict, "python")?,
        working_directory: field(dict, "working_directory")?,
        sys_path: field(dict, "sys_path")?,
        environment: field::<BTreeMap<_, _>>(dict, "environment")?,
        bootstrap: field(dict, "bootstrap")?,
        autoscaling_policy: field(dict, "autoscaling_policy")?,
        external_scaler_enabled: field(dict, "external_scaler_enabled")?,
    })
}

fn deployment_spec(dict: &Bound<'_, PyDict>) -> PyResult<DeploymentSpec> {
    Ok(DeploymentSpec {
        name: field(dict, "name")?,
        version: field(dict, "version")?,
        callable_blob: field(dict, "callable_blob")?,
        options: options::from_dict(&field(dict, "options")?)?,
        version_note: field(dict, "version_note")?,
        calls: field(dict, "calls")?,
        packages: field::<BTreeMap<_, _>>(dict, "packages")?,
        autoscaling_config: field(dict, "autoscaling_config")?,
        policy_blob: field(dict, "policy_blob")?,
    })
}

pub(super) fn deployed<'py>(py: Python<'py>, message: &Deployed) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("revision", &message.revision)?;
    dict.set_item("notes", &message.notes)?;
    dict.set_item("number", message.number)?;
    dict.set_item("rollback_of", message.rollback_of)?;
    Ok(dict)
}

pub(super) fn revision<'py>(
    py: Python<'py>,
    message: &RevisionRecord,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("application", &message.application)?;
    dict.set_item("number", message.number)?;
    dict.set_item("revision", &message.revision)?;
    dict.set_item("deployed_at_s", message.deployed_at_s)?;
    dict.set_item("author", &message.author)?;
    dict.set_item("message", &message.message)?;
    dict.set_item("result", &message.result)?;
    dict.set_item("changed", &message.changed)?;
    dict.set_item("source", &message.source)?;
    dict.set_item("rollback_of", message.rollback_of)?;
    dict.set_item("current", message.current)?;
    Ok(dict)
}

pub(super) fn event<'py>(py: Python<'py>, message: &EventRecord) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("number", message.number)?;
    dict.set_item("at_s", message.at_s)?;
    dict.set_item("kind", &message.kind)?;
    dict.set_item("level", &message.level)?;
    dict.set_item("application", &message.application)?;
    dict.set_item("deployment", &message.deployment)?;
    dict.set_item("replica_id", &message.replica_id)?;
    dict.set_item("message", &message.message)?;
    Ok(dict)
}

pub(super) fn application_status<'py>(
    py: Python<'py>,
    message: &ApplicationStatus,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &message.name)?;
    dict.set_item("status", &message.status)?;
    dict.set_item("message", &message.message)?;
    dict.set_item("last_deployed_time_s", message.last_deployed_time_s)?;
    dict.set_item("route_prefix", &message.route_prefix)?;
    dict.set_item("revision", &message.revision)?;
    dict.set_item("ingress", &message.ingress)?;
    dict.set_item("source", &message.source)?;
    dict.set_item("config", &message.config)?;
    if let Some(deploy) = &message.deploy {
        let entry = PyDict::new(py);
        entry.set_item("deploy", deploy.deploy)?;
        entry.set_item("state", &deploy.state)?;
        entry.set_item("printed", &deploy.printed)?;
        let receipt = deploy.receipt.clone().unwrap_or_default();
        entry.set_item("answered", receipt.answered)?;
        entry.set_item("failed", receipt.failed)?;
        dict.set_item("deploy", entry)?;
    }
    let deployments = PyList::empty(py);
    for deployment in &message.deployments {
        deployments.append(deployment_status(py, deployment)?)?;
    }
    dict.set_item("deployments", deployments)?;
    dict.set_item("why", reasons(py, &message.why)?)?;
    Ok(dict)
}

/// What is not fine: code, sentence, since when, what to do, and the replica that it is about.
pub(super) fn reasons<'py>(py: Python<'py>, all: &[Why]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for why in all {
        let entry = PyDict::new(py);
        entry.set_item("code", &why.code)?;
        entry.set_item("sentence", &why.sentence)?;
        entry.set_item("since_s", (why.since_s > 0.0).then_some(why.since_s))?;
        entry.set_item("help", &why.help)?;
        entry.set_item(
            "replica_id",
            (!why.replica_id.is_empty()).then_some(&why.replica_id),
        )?;
        list.append(entry)?;
    }
    Ok(list)
}

fn deployment_status<'py>(
    py: Python<'py>,
    message: &DeploymentStatus,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &message.name)?;
    dict.set_item("status", &message.status)?;
    dict.set_item("status_trigger", &message.status_trigger)?;
    dict.set_item("message", &message.message)?;
    dict.set_item("replica_states", &message.replica_states)?;
    dict.set_item("abandoned_requests", message.abandoned_requests)?;
    let replicas = PyList::empty(py);
    for replica in &message.replicas {
        let entry = PyDict::new(py);
        entry.set_item("replica_id", &replica.replica_id)?;
        entry.set_item("state", &replica.state)?;
        entry.set_item("pid", replica.pid)?;
        entry.set_item("version", &replica.version)?;
        entry.set_item("hung_milliseconds", replica.hung_milliseconds)?;
        entry.set_item("abandoned_requests", replica.abandoned_requests)?;
        replicas.append(entry)?;
    }
    dict.set_item("replicas", replicas)?;
    dict.set_item("why", reasons(py, &message.why)?)?;
    Ok(dict)
}

pub(super) fn node_info<'py>(py: Python<'py>, message: &NodeInfo) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &message.name)?;
    dict.set_item("pid", message.pid)?;
    dict.set_item("http_address", &message.http_address)?;
    dict.set_item("run_directory", &message.run_directory)?;
    dict.set_item("blob_directory", &message.blob_directory)?;
    dict.set_item("controller_socket_path", &message.controller_socket_path)?;
    dict.set_item("owner_pid", message.owner_pid)?;
    dict.set_item("node_id", &message.node_id)?;
    dict.set_item("log_directory", &message.log_directory)?;
    dict.set_item("proxy_status", &message.proxy_status)?;
    dict.set_item("why", reasons(py, &message.why)?)?;
    Ok(dict)
}

pub(super) fn output<'py>(py: Python<'py>, message: &Output) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let key = message.deployment.as_ref();
    dict.set_item("replica_id", &message.replica_id)?;
    dict.set_item("application", key.map_or("", |key| &key.application))?;
    dict.set_item("deployment", key.map_or("", |key| &key.deployment))?;
    dict.set_item("line", &message.line)?;
    dict.set_item("stderr", message.stderr)?;
    dict.set_item("lost", message.lost)?;
    Ok(dict)
}

/// The exception for a call that was refused.
pub(super) fn refused(py: Python<'_>, error: &ApiError) -> PyErr {
    match error.kind.as_str() {
        "invalid" => PyValueError::new_err(error.message.clone()),
        "conflict" | "not_found" => {
            let raised = py
                .import("eagleray.serve.exceptions")
                .and_then(|module| module.getattr("RayServeException"))
                .and_then(|class| class.call1((&error.message,)));
            raised.map_or_else(|error| error, PyErr::from_value)
        }
        _ => PyRuntimeError::new_err(error.message.clone()),
    }
}
