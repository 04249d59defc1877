//! A child that user code forked, and that came back into code of ours by `return`, `sys.exit` or an exception.
//!
//! It would go on as a second replica, with the requests of the first. So whatever the code around user code calls next,
//! and it always calls something here, ends it.

use pyo3::{intern, prelude::*};

/// True in such a child, which is only seen by who must not be ended: a coroutine that the collector closes there, and
/// whose call does nothing then.
pub(super) fn came_back(py: Python<'_>) -> PyResult<bool> {
    if !eagleray_replica::in_forked_child() {
        return Ok(false);
    }
    py.import(intern!(py, "eagleray._user_code.children"))?
        .call_method0(intern!(py, "end"))?;
    Ok(true)
}
