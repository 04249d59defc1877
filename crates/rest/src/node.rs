//! The node itself: its end.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use eagleray_types::control::{Empty, node_request, node_response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{errors::Refusal, extract::accepted, state};

/// The node that ends.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ending {
    ending: bool,
}

/// Ends the node in order, and with it everything that it serves.
#[utoipa::path(post, path = "/api/v1/shutdown", tag = "node", responses(
    (status = 202, body = Ending),
))]
pub(crate) async fn shutdown(State(state): State<Arc<state::State>>) -> Result<Response, Refusal> {
    match state.node(node_request::Body::Shutdown(Empty {})).await? {
        node_response::Body::Done(_) => Ok(accepted(Ending { ending: true })),
        _ => Err(Refusal::unexpected("done")),
    }
}
