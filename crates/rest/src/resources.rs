//! `GET /api/v1/resources`: who has what of each node, and who waits for it.

use std::sync::Arc;

use axum::{Json, extract::State};

use crate::{errors::Refusal, state, view};

/// What each node has, which replicas hold it, and which wait for it.
#[utoipa::path(get, path = "/api/v1/resources", tag = "node", responses(
    (status = 200, body = view::Resources),
))]
pub(crate) async fn resources(
    State(state): State<Arc<state::State>>,
) -> Result<Json<view::Resources>, Refusal> {
    let status = state.status().await?;
    Ok(Json(status.resources.into()))
}
