//! Which handler has which path.

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use http::{Method, StatusCode, Uri};

use crate::{
    MOST_BODY_BYTES, applications, autoscaling, contract, deploys, errors::Refusal, events, guard,
    logs, node, openapi, replicas, resources, state::State, status,
};

pub(crate) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/api/ray/version", get(contract::version))
        .route(
            "/api/serve/applications/",
            get(contract::applications)
                .put(contract::put_applications)
                .delete(contract::delete_applications),
        )
        .route(
            "/api/v1/applications/{application}/deployments/{deployment}/scale",
            post(contract::scale),
        )
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/deploys", post(deploys::deploy))
        .route("/api/v1/plans", post(deploys::plan))
        .route("/api/v1/revisions", get(applications::all_revisions))
        .route(
            "/api/v1/applications/{application}",
            axum::routing::delete(applications::delete),
        )
        .route(
            "/api/v1/applications/{application}/revisions",
            get(applications::revisions),
        )
        .route(
            "/api/v1/applications/{application}/revisions/{revision}",
            get(applications::revision),
        )
        .route(
            "/api/v1/applications/{application}/diff",
            get(applications::diff),
        )
        .route(
            "/api/v1/applications/{application}/rollback",
            post(applications::rollback),
        )
        .route(
            "/api/v1/autoscaling/{application}/{deployment}",
            get(autoscaling::autoscaling),
        )
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/logs", get(logs::logs))
        .route("/api/v1/replicas", get(replicas::list))
        .route("/api/v1/replicas/{replica}", get(replicas::one))
        .route("/api/v1/replicas/{replica}/stack", post(replicas::stack))
        .route("/api/v1/resources", get(resources::resources))
        .route("/api/v1/shutdown", post(node::shutdown))
        .route("/api/v1/openapi.json", get(openapi::serve))
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
