//! `Client` and `OutputWatch`: what a driver says to a node and to its controller.

use std::{net::Shutdown, os::unix::net::UnixStream, time::Duration};

use eagleray_client::Conversation;
use eagleray_types::control::{
    ApiRequest, ApiResponse, AwaitApplication, Empty, EventsRequest, NodeRequest, NodeResponse,
    PolicyAnswer, PolicyHost, Rollback, Scale, api_request, api_response, node_request,
    node_response,
};
use parking_lot::Mutex;
use prost::Message;
use pyo3::{
    exceptions::{PyRuntimeError, PyTimeoutError},
    prelude::*,
    types::{PyBytes, PyDict, PyList},
};

use super::{asking, convert, declared};

/// Calls to one socket: a node's or a controller's.
#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct Client {
    path: String,
}

impl Client {
    fn controller(
        &self,
        py: Python<'_>,
        body: api_request::Body,
        timeout_s: Option<f64>,
    ) -> PyResult<api_response::Body> {
        let request = ApiRequest { body: Some(body) }.encode_to_vec();
        let answer = answer_in_time(
            asking::call(py, &self.path, &request, seconds(timeout_s))?,
            timeout_s,
        )?;
        match ApiResponse::decode(answer).map_err(unreadable)?.body {
            Some(api_response::Body::Error(error)) => Err(convert::refused(py, &error)),
            Some(body) => Ok(body),
            None => Err(unexpected()),
        }
    }

    fn node(&self, py: Python<'_>, body: node_request::Body) -> PyResult<node_response::Body> {
        let request = NodeRequest { body: Some(body) }.encode_to_vec();
        let answer = answer_in_time(asking::call(py, &self.path, &request, None)?, None)?;
        match NodeResponse::decode(answer).map_err(unreadable)?.body {
            Some(node_response::Body::Error(error)) => Err(convert::refused(py, &error)),
            Some(body) => Ok(body),
            None => Err(unexpected()),
        }
    }
}

#[pymethods]
impl Client {
    #[new]
    fn new(path: String) -> Self {
        Self { path }
    }

    /// Sends an application; its blobs lie in the blob directory already.
    fn deploy<'py>(
        &self,
        py: Python<'py>,
        spec: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        match self.controller(
            py,
            api_request::Body::Deploy(convert::application_spec(spec)?),
            None,
        )? {
            api_response::Body::Deployed(deployed) => convert::deployed(py, &deployed),
            _ => Err(unexpected()),
        }
    }

    /// Waits until the revision runs, or failed.
    fn await_application<'py>(
        &self,
        py: Python<'py>,
        name: String,
        revision: String,
    ) -> PyResult<Bound<'py, PyDict>> {
        let request = AwaitApplication { name, revision };
        match self.controller(py, api_request::Body::AwaitApplication(request), None)? {
            api_response::Body::Settled(status) => convert::application_status(py, &status),
            _ => Err(unexpected()),
        }
    }

    /// Sends a config, to be built and deployed. Returns when what it declares is durable.
    fn apply<'py>(
        &self,
        py: Python<'py>,
        apply: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let apply = declared::apply(apply)?;
        match self.controller(py, api_request::Body::Apply(apply), None)? {
            api_response::Body::Applied(applied) => declared::applied(py, &applied),
            _ => Err(unexpected()),
        }
    }

    /// Says how a build has ended. Returns when that is durable.
    fn built(&self, py: Python<'_>, built: &Bound<'_, PyDict>) -> PyResult<()> {
        let built = declared::built(built)?;
        self.controller(py, api_request::Body::Built(built), None)
            .map(drop)
    }

    /// Says what the policies of a host have answered, and waits for the next question: its number, what is known of each
    /// deployment, as JSON, and what the host before this kept.
    fn policy<'py>(
        &self,
        py: Python<'py>,
        host: String,
        question: u64,
        answers: Vec<(String, String, String)>,
        kept: Option<Vec<u8>>,
    ) -> PyResult<(u64, String, Option<Bound<'py, PyBytes>>)> {
        let answer = |(deployment, replicas, error)| PolicyAnswer {
            deployment,
            replicas,
            error,
        };
        let said = PolicyHost {
            host,
            question,
            answers: answers.into_iter().map(answer).collect(),
            kept,
        };
        match self.controller(py, api_request::Body::Policy(said), None)? {
            api_response::Body::Policy(asked) => {
                let kept = asked.kept.map(|kept| PyBytes::new(py, &kept));
                Ok((asked.question, asked.contexts, kept))
            }
            _ => Err(unexpected()),
        }
    }

    fn rollback<'py>(
        &self,
        py: Python<'py>,
        application: String,
        revision: String,
    ) -> PyResult<Bound<'py, PyDict>> {
        match self.controller(
            py,
            api_request::Body::Rollback(Rollback {
                application,
                revision,
                ..Rollback::default()
            }),
            None,
        )? {
            api_response::Body::Deployed(deployed) => convert::deployed(py, &deployed),
            _ => Err(unexpected()),
        }
    }

    /// The deploys of one application, or of all (empty), newest first.
    fn history<'py>(&self, py: Python<'py>, application: String) -> PyResult<Bound<'py, PyList>> {
        match self.controller(py, api_request::Body::History(application), None)? {
            api_response::Body::History(history) => {
                let list = PyList::empty(py);
                for record in &history.revisions {
                    list.append(convert::revision(py, record)?)?;
                }
                Ok(list)
            }
            _ => Err(unexpected()),
        }
    }

    /// What happened after the event of that number, oldest first.
    fn events<'py>(&self, py: Python<'py>, since: u64) -> PyResult<Bound<'py, PyList>> {
        let request = EventsRequest { since, limit: 0 };
        match self.controller(py, api_request::Body::Events(request), None)? {
            api_response::Body::Events(events) => {
                let list = PyList::empty(py);
                for event in &events.events {
                    list.append(convert::event(py, event)?)?;
                }
                Ok(list)
            }
            _ => Err(unexpected()),
        }
    }

    /// Another number of replicas; returns when that is durable.
    fn scale(
        &self,
        py: Python<'_>,
        application: String,
        deployment: String,
        replicas: u32,
    ) -> PyResult<()> {
        let scale = Scale {
            application,
            deployment,
            replicas,
        };
        self.controller(py, api_request::Body::Scale(scale), None)
            .map(drop)
    }

    /// Waits until the application is gone.
    #[pyo3(signature = (name, timeout_s=None))]
    fn delete(&self, py: Python<'_>, name: String, timeout_s: Option<f64>) -> PyResult<()> {
        self.controller(py, api_request::Body::Delete(name), timeout_s)
            .map(drop)
    }

    /// Deletes an application; returns when that is durable, and does not wait until it is gone.
    fn begin_delete(&self, py: Python<'_>, name: String) -> PyResult<()> {
        self.controller(py, api_request::Body::BeginDelete(name), None)
            .map(drop)
    }

    /// Waits until the application is gone, or has been deployed again.
    #[pyo3(signature = (name, timeout_s=None))]
    fn await_deleted(&self, py: Python<'_>, name: String, timeout_s: Option<f64>) -> PyResult<()> {
        self.controller(py, api_request::Body::AwaitDeleted(name), timeout_s)
            .map(drop)
    }

    #[pyo3(signature = (timeout_s=None))]
    fn delete_all(&self, py: Python<'_>, timeout_s: Option<f64>) -> PyResult<()> {
        self.controller(py, api_request::Body::DeleteAll(Empty {}), timeout_s)
            .map(drop)
    }

    #[pyo3(signature = (timeout_s=None))]
    fn status<'py>(&self, py: Python<'py>, timeout_s: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        match self.controller(py, api_request::Body::Status(Empty {}), timeout_s)? {
            api_response::Body::Status(status) => {
                let list = PyList::empty(py);
                for application in &status.applications {
                    list.append(convert::application_status(py, application)?)?;
                }
                Ok(list)
            }
            _ => Err(unexpected()),
        }
    }

    /// What is not fine of the controller itself.
    #[pyo3(signature = (timeout_s=None))]
    fn reasons<'py>(
        &self,
        py: Python<'py>,
        timeout_s: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        match self.controller(py, api_request::Body::Status(Empty {}), timeout_s)? {
            api_response::Body::Status(status) => convert::reasons(py, &status.why),
            _ => Err(unexpected()),
        }
    }

    fn node_info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        match self.node(py, node_request::Body::Info(Empty {}))? {
            node_response::Body::Info(info) => convert::node_info(py, &info),
            _ => Err(unexpected()),
        }
    }

    /// Ends the node in order.
    fn shutdown_node(&self, py: Python<'_>) -> PyResult<()> {
        self.node(py, node_request::Body::Shutdown(Empty {}))
            .map(drop)
    }
}

/// The lines that replicas write from now on.
#[pyclass(frozen, module = "eagleray._core")]
#[derive(Debug)]
pub(crate) struct OutputWatch {
    conversation: Mutex<Conversation>,
    closer: UnixStream,
}

#[pymethods]
impl OutputWatch {
    #[new]
    fn new(py: Python<'_>, path: &str) -> PyResult<Self> {
        let request = NodeRequest {
            body: Some(node_request::Body::WatchOutput(Empty {})),
        }
        .encode_to_vec();
        let conversation = py.detach(|| Conversation::open(path, &request))?;
        let closer = conversation.closer()?;
        // Only a daemon thread of ours reads: it need not look at signals, and a slice would be a wake-up for nothing.
        closer.set_read_timeout(None)?;
        Ok(Self {
            conversation: Mutex::new(conversation),
            closer,
        })
    }

    /// Waits for the next line; `None` when the node has ended or `close` was called.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        loop {
            let step = py.detach(|| self.conversation.lock().read());
            let Ok(payload) = step else { return Ok(None) };
            let Some(payload) = payload else { continue };
            if let Some(node_response::Body::Output(line)) =
                NodeResponse::decode(payload).map_err(unreadable)?.body
            {
                return convert::output(py, &line).map(Some);
            }
        }
    }

    /// Ends `next` on whichever thread waits in it.
    fn close(&self) {
        // An error means that the socket is closed, which is what was wanted.
        drop(self.closer.shutdown(Shutdown::Both));
    }
}

fn seconds(timeout_s: Option<f64>) -> Option<Duration> {
    timeout_s.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO))
}

fn answer_in_time(answer: Option<bytes::Bytes>, timeout_s: Option<f64>) -> PyResult<bytes::Bytes> {
    answer.ok_or_else(|| {
        PyTimeoutError::new_err(format!(
            "no answer within {} s",
            timeout_s.unwrap_or_default()
        ))
    })
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn unreadable(error: prost::DecodeError) -> PyErr {
    PyRuntimeError::new_err(format!(
        "an answer cannot be read, is the node of another release? {error}"
    ))
}

fn unexpected() -> PyErr {
    PyRuntimeError::new_err("an answer of the wrong kind, is the node of another release?")
}
