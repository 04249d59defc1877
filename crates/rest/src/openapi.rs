//! The `OpenAPI` description, made of the handlers and the types that they send.

use utoipa::OpenApi;

use crate::{
    applications, autoscaling, contract, deploys, events, logs, node, replicas, resources, series,
    status,
};

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
        applications::diff,
        applications::rollback,
        applications::delete,
        autoscaling::autoscaling,
        events::events,
        logs::logs,
        replicas::list,
        replicas::one,
        replicas::stack,
        series::series,
        resources::resources,
        node::shutdown,
    ),
    modifiers(&Token, &Always),
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

/// What every path may answer, whatever it is asked.
struct Always;

const ALWAYS: &[(&str, &str)] = &[
    ("400", "The request is wrong, and nothing was changed"),
    ("401", "No token, or a wrong one"),
    ("403", "`Host` or `Origin` is not this node"),
    ("503", "The controller is away; ask again in a moment"),
];

impl utoipa::Modify for Always {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::{Ref, RefOr, content::ContentBuilder, response::ResponseBuilder};
        for path in openapi.paths.paths.values_mut() {
            let operations = [
                &mut path.get,
                &mut path.put,
                &mut path.post,
                &mut path.delete,
            ];
            for operation in operations.into_iter().flatten() {
                for (status, description) in ALWAYS {
                    let object = ContentBuilder::new()
                        .schema(Some(Ref::from_schema_name("Refusal")))
                        .build();
                    let response = ResponseBuilder::new()
                        .description(*description)
                        .content("application/json", object)
                        .build();
                    let responses = &mut operation.responses.responses;
                    responses
                        .entry((*status).to_owned())
                        .or_insert(RefOr::T(response));
                }
            }
        }
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
