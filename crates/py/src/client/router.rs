//! `Router`: the router that all handles of a process share, as Python sees it.

use std::time::{Duration, Instant};

use eagleray_client::Order;
use eagleray_types::{Caller, DeploymentKey};
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
};

use super::call::{Call, arguments_from_python};
use crate::{
    region::{self, Region},
    replica::{Replica, Request},
};

#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct Router {
    router: eagleray_client::Router,
}

#[pymethods]
impl Router {
    /// Follows the targets of the controller behind this socket. Calls made in a batch of `replica`'s loop, that of the
    /// thread that attached it, leave together. `actor`, for metrics: the id of the replica that this process is.
    #[new]
    #[pyo3(signature = (controller_socket_path, replica = None, actor = "DRIVER"))]
    fn new(
        controller_socket_path: String,
        replica: Option<&Bound<'_, Replica>>,
        actor: &str,
    ) -> PyResult<Self> {
        let router = eagleray_client::Router::start(controller_socket_path, actor.to_owned())?;
        if let Some(replica) = replica {
            replica.get().hold(router.orders());
        }
        Ok(Self { router })
    }

    /// Sends a call. Never waits. `arguments` are the body, bytes or a `Region`, or a list of `(kind, bytes, Region or Call)`: the segments
    /// of an envelope, where a call stands for its answer. An empty `method` reserves a slot; `Call.dispatch` says
    /// what runs there. `replica_id`: the only replica that it may go to. `parent` is the request that the calling
    /// code serves: its id and route are the call's, its deadline too, and with it the call is cancelled.
    #[pyo3(signature = (application, deployment, method, multiplexed_model_id, session_id, arguments, parent = None,
                        stream = false, replica_id = ""))]
    #[expect(clippy::too_many_arguments, reason = "a call has these parts")]
    fn call(
        &self,
        application: String,
        deployment: String,
        method: &str,
        multiplexed_model_id: &str,
        session_id: &str,
        arguments: &Bound<'_, PyAny>,
        parent: Option<&Bound<'_, Request>>,
        stream: bool,
        replica_id: &str,
    ) -> PyResult<Call> {
        if self.router.is_forked() {
            return Err(PyRuntimeError::new_err(
                "this router belongs to the process that this one was forked from",
            ));
        }
        let sent = self.router.call(Order {
            key: DeploymentKey::new(application, deployment),
            replica_id,
            method,
            multiplexed_model_id,
            session_id,
            arguments: arguments_from_python(arguments)?,
            stream,
            caller: parent.map(|parent| parent.get().core() as &dyn Caller),
        });
        sent.map(Call::new)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Copies buffers, one after the other, into a region: the body of a call. `None`: there is no room, and they go as
    /// bytes.
    #[expect(clippy::needless_pass_by_value, reason = "a list from Python")]
    fn share(&self, py: Python<'_>, parts: Vec<Bound<'_, PyAny>>) -> PyResult<Option<Region>> {
        region::with_parts(py, &parts, |parts| self.router.share(parts)).map(region::lent)
    }

    /// Ids of the replicas of a deployment. Waits for news of it for `timeout_s`; `None`: it is not known.
    fn replicas(
        &self,
        py: Python<'_>,
        application: String,
        deployment: String,
        timeout_s: f64,
    ) -> Option<Vec<String>> {
        let key = DeploymentKey::new(application, deployment);
        let limit = Duration::try_from_secs_f64(timeout_s).unwrap_or(Duration::ZERO);
        let until = Instant::now() + limit.min(Duration::from_secs(60));
        py.detach(|| self.router.replicas(&key, until))
    }

    /// Ends the thread; calls that go on fail.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.router.close());
    }
}
