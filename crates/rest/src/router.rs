//! Which handler has which path.

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, middleware, routing::get};
use http::{Method, StatusCode, Uri};

use crate::{contract, errors::Refusal, guard, state::State, status};

/// Longest body of a request.
const MOST_BODY_BYTES: usize = 4 << 20;
pub(crate) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/api/ray/version", get(contract::version))
        .route("/api/v1/status", get(status::status))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MOST_BODY_BYTES))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&state),
            guard::check,
        ))
        .with_state(state)
}

async fn unknown(uri: Uri) -> Refusal {
    Refusal::not_found(
        format!("there is nothing at {}", uri.path()),
        "GET /api/v1/openapi.json lists what there is",
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{method} is no method of {}", uri.path()),
        "GET /api/v1/openapi.json lists what there is",
    )
}
