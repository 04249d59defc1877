//! The paths of Ray Serve, for clients that were written for it. Their answers carry no key beyond Ray's: its own models
//! refuse one that they do not know.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::state;

/// The release of Ray Serve whose API this is: clients compare it.
const RAY_VERSION: &str = "2.60.0";

pub(crate) async fn version(State(state): State<Arc<state::State>>) -> Json<Value> {
    Json(json!({
        "version": "4",
        "ray_version": RAY_VERSION,
        "ray_commit": "",
        "session_name": format!("eagleray-{}", state.version),
    }))
}
