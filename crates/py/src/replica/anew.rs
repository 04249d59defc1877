//! For a process that replicas are forked from, and for those replicas: `eagleray._replica.zygote`.

use eagleray_replica::anew;
use eagleray_types::control::ReplicaCommand;
use prost::Message as _;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyDict};

use super::command;

/// The command that an event "command" would bring, of its bytes.
#[pyfunction]
pub(crate) fn read_command<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let command =
        ReplicaCommand::decode(data).map_err(|error| PyValueError::new_err(error.to_string()))?;
    command::to_dict(py, &command)?
        .ok_or_else(|| PyValueError::new_err("this release does not know the command"))
}

/// Makes this process, which `parent` has forked, one of its own, as the node starts them: a session, and the marks of
/// the replica `id`.
#[pyfunction]
pub(crate) fn begin_anew(id: &str, parent: u32) -> PyResult<()> {
    Ok(anew::begin(id, parent)?)
}

/// What `/proc` shows as the replica that this process is.
#[pyfunction]
pub(crate) fn rename_process(id: &str) -> PyResult<()> {
    Ok(anew::rename(id)?)
}
