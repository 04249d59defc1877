//! `GET /api/v1/status`: the node, and what it serves.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{errors::Refusal, extract::Parameters, state, view};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Selection {
    /// This one only.
    application: Option<String>,
}

/// The node, and what it serves.
#[utoipa::path(get, path = "/api/v1/status", tag = "applications", params(Selection), responses(
    (status = 200, body = view::Status),
    (status = 404, body = Refusal),
))]
pub(crate) async fn status(
    State(state): State<Arc<state::State>>,
    Parameters(selection): Parameters<Selection>,
) -> Result<Json<view::Status>, Refusal> {
    let (node, mut status) = tokio::try_join!(state.node_info(), state.status())?;
    if let Some(name) = selection.application {
        status.applications.retain(|one| one.name == name);
        if status.applications.is_empty() {
            return Err(Refusal::not_found(
                format!("no application {name:?} is deployed"),
                "GET /api/v1/status lists those that are",
            ));
        }
    }
    Ok(Json(view::Status::new(node, state.version, status)))
}
