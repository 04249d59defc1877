//! The answers to requests that are not answered by user code, and what is noted of them.

use eagleray_router::service::Failure;
use eagleray_types::ErrorCode;
use http::Response;

use super::{body::Body, record::Record};
use crate::{answer, tally::Outcome};

/// The answer to a request that failed. `path`: as the client sent it, for who finds no application there.
pub(super) fn answer_failure(record: &mut Record, failure: &Failure, path: &str) -> Response<Body> {
    if failure.code == ErrorCode::Internal {
        tracing::error!(id = ?record.request_id, failure = %failure.message, "a request failed in the proxy");
    }
    record.count(failure.code);
    record.settle(Outcome::of(failure.code));
    let mut response =
        answer::failure(failure, record.ingress.as_deref(), path, &record.request_id);
    if record.connection.is_last.get() {
        answer::close_after(&mut response);
    }
    record.status = response.status().as_u16();
    response
}

/// User code said what cannot be sent.
pub(super) fn unsendable() -> Failure {
    Failure {
        code: ErrorCode::UserCode,
        message: "it answered with a status or a header that HTTP does not allow".into(),
    }
}

/// A fault of Eagleray.
pub(super) fn internal(message: &'static str) -> Failure {
    Failure {
        code: ErrorCode::Internal,
        message: message.into(),
    }
}
