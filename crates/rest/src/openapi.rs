//! The `OpenAPI` description, made of the handlers and the types that they send.

use utoipa::OpenApi;

use crate::{applications, contract, deploys, events, logs, node, replicas, status};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Eagleray",
        description = "The control API of a node. Every path needs the node's token: `Authorization: Bearer TOKEN`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        contract::version,
        contract::applications,
        contract::put_applications,
        contract::delete_applications,
        contract::scale,
        status::status,
        deploys::deploy,
        deploys::plan,
        applications::all_revisions,
        applications::revisions,
        applications::revision,
        applications::rollback,
        applications::delete,
        events::events,
        logs::logs,
        replicas::list,
        replicas::one,
        node::shutdown,
    ),
    modifiers(&Token),
    security(("token" = [])),
)]
struct Description;

/// How requests prove that they may.
struct Token;

impl utoipa::Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// As JSON, the same on every call.
pub fn openapi() -> String {
    Description::openapi().to_pretty_json().unwrap_or_default()
}

pub(crate) async fn serve() -> impl axum::response::IntoResponse {
    (
        [(http::header::CONTENT_TYPE, "application/json")],
        openapi(),
    )
}
