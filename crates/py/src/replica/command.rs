//! Commands of the controller as Python dicts: names are those of the fields, `kind` says which.

use eagleray_types::control::{ReplicaCommand, ReplicaConfig, replica_command::Body};
use pyo3::{prelude::*, types::PyDict};

use crate::options;

/// `None`: a command that this release does not know.
pub(super) fn to_dict<'py>(
    py: Python<'py>,
    command: &ReplicaCommand,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let Some(body) = &command.body else {
        return Ok(None);
    };
    let dict = PyDict::new(py);
    let kind = match body {
        Body::Start(config) => {
            start(&dict, config)?;
            "start"
        }
        Body::Reconfigure(command) => {
            dict.set_item("id", command.id)?;
            dict.set_item("options", options::of_replica(py, &command.options)?)?;
            dict.set_item("world_size", command.world_size)?;
            dict.set_item("revision", &command.revision)?;
            dict.set_item("rank", command.rank)?;
            dict.set_item("replaced", command.replaced)?;
            dict.set_item("keep_user_config", command.keep_user_config)?;
            "reconfigure"
        }
        Body::CheckHealth(command) => {
            dict.set_item("id", command.id)?;
            "check_health"
        }
        Body::Drain(_) => "drain",
        Body::Stop(command) => {
            dict.set_item("grace_milliseconds", command.grace_milliseconds)?;
            "stop"
        }
        // The I/O thread has answered it.
        Body::ShowStacks(_) => return Ok(None),
    };
    dict.set_item("kind", kind)?;
    Ok(Some(dict))
}

fn start(dict: &Bound<'_, PyDict>, config: &ReplicaConfig) -> PyResult<()> {
    dict.set_item("application", &config.deployment.application)?;
    dict.set_item("deployment", &config.deployment.deployment)?;
    dict.set_item("replica_id", &config.replica_id)?;
    dict.set_item("version", &config.version)?;
    dict.set_item("revision", &config.revision)?;
    dict.set_item("callable_path", &config.callable_path)?;
    dict.set_item("code_path", &config.code_path)?;
    dict.set_item("sys_path", &config.sys_path)?;
    dict.set_item("options", options::of_replica(dict.py(), &config.options)?)?;
    dict.set_item("rank", config.rank)?;
    dict.set_item("world_size", config.world_size)?;
    dict.set_item("route_prefix", &config.route_prefix)?;
    dict.set_item("controller_socket_path", &config.controller_socket_path)?;
    Ok(())
}
