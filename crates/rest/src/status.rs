//! `GET /api/v1/status`: the node, and what it serves.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;

use crate::{errors::Refusal, state, view};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selection {
    /// This one only.
    application: Option<String>,
}

pub(crate) async fn status(
    State(state): State<Arc<state::State>>,
    Query(selection): Query<Selection>,
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
