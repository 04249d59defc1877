//! Deploys and plans: a config becomes what the controller is asked for.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use axum::{Json, extract::State, response::Response};
use eagleray_config::{Config, Format, Problem, Problems, Stage};
use eagleray_types::control::{Apply, BuildPlace, DeclaredApplication, api_request, api_response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    errors::Refusal,
    extract::{self, accepted},
    state, view,
};

/// A plan is answered when everything is built that must be.
const PLANNED_WITHIN: Duration = Duration::from_secs(600);

/// What shall be declared: `config` or `text`, and how it is to be done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deploy {
    /// A config as an object (docs/config.md).
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
    /// Or as text, so that problems have a line and a column.
    text: Option<String>,
    /// Of the text.
    #[serde(default)]
    format: TextFormat,
    /// How messages call the text.
    #[serde(default)]
    file: String,
    /// The config is all that shall be declared: what was declared before and is not named is deleted.
    #[serde(default = "yes")]
    whole: bool,
    /// Where code is imported; left out, the node's own.
    #[serde(default)]
    place: Place,
    /// Who asks, for the history.
    #[serde(default)]
    author: String,
    /// Why, for the history.
    #[serde(default)]
    message: String,
    /// Import the code although nothing that the last build has read has changed.
    #[serde(default)]
    rebuild: bool,
    /// Refuse unless what would happen is what this plan showed.
    #[serde(default)]
    plan: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TextFormat {
    #[default]
    Yaml,
    Json,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Place {
    /// First on the path, and the working directory of replicas.
    app_directory: String,
    /// After it on the path.
    python_path: Vec<String>,
    /// The interpreter.
    python: String,
    /// Variables that replicas shall see, over the node's own.
    environment: BTreeMap<String, String>,
}

const fn yes() -> bool {
    true
}

/// Declares a config. Answers once that is durable, before anything is built.
#[utoipa::path(post, path = "/api/v1/deploys", tag = "deploys", request_body = Deploy, responses(
    (status = 202, body = view::Applied),
    (status = 400, description = "All that is wrong with the config", body = Refusal),
    (status = 409, description = "The plan is stale", body = Refusal),
))]
pub(crate) async fn deploy(
    State(state): State<Arc<state::State>>,
    extract::Json(deploy): extract::Json<Deploy>,
) -> Result<Response, Refusal> {
    let apply = deploy.apply(&state)?;
    let applied = declare(&state, apply).await?;
    Ok(accepted(applied))
}

/// Says what a deploy would do, and changes nothing. Answers once everything is built that must be.
#[utoipa::path(post, path = "/api/v1/plans", tag = "deploys", request_body = Deploy, responses(
    (status = 200, body = view::Planned),
    (status = 400, description = "All that is wrong with the config", body = Refusal),
))]
pub(crate) async fn plan(
    State(state): State<Arc<state::State>>,
    extract::Json(deploy): extract::Json<Deploy>,
) -> Result<Json<view::Planned>, Refusal> {
    let request = api_request::Body::Plan(deploy.apply(&state)?);
    match state.call_within(request, PLANNED_WITHIN).await? {
        api_response::Body::Planned(planned) => Ok(Json(planned.into())),
        _ => Err(Refusal::unexpected("planned")),
    }
}

/// Asks for what was checked.
pub(crate) async fn declare(state: &state::State, apply: Apply) -> Result<view::Applied, Refusal> {
    match state.call(api_request::Body::Apply(apply)).await? {
        api_response::Body::Applied(applied) => Ok(applied.into()),
        _ => Err(Refusal::unexpected("applied")),
    }
}

impl Deploy {
    fn apply(self, state: &state::State) -> Result<Apply, Refusal> {
        let file = if self.file.is_empty() {
            "config"
        } else {
            &self.file
        };
        let refused = |problems: Problems| Refusal::config(&problems, file);
        let mut config = match (&self.config, &self.text) {
            (Some(config), None) => Config::of_json(config).map_err(refused)?,
            (None, Some(text)) => {
                let format = match self.format {
                    TextFormat::Yaml => Format::Yaml,
                    TextFormat::Json => Format::Json,
                };
                Config::parse(text, format).map_err(refused)?
            }
            _ => return Err(Refusal::invalid("either `config` or `text` is needed")),
        };
        find_files(&mut config, &self.place.app_directory);
        let declared = declared(state, &config).map_err(refused)?;
        Ok(Apply {
            applications: declared,
            node_options: Value::Object(config.node).to_string(),
            place: BuildPlace {
                app_directory: self.place.app_directory,
                python_path: self.place.python_path,
                python: self.place.python,
                environment: self.place.environment,
            },
            author: self.author,
            message: self.message,
            rebuild: self.rebuild,
            plan: self.plan,
            whole: self.whole,
        })
    }
}

/// Files that are named by half their path are looked for where the code is.
fn find_files(config: &mut Config, directory: &str) {
    if directory.is_empty() {
        return;
    }
    let options = config.node.get_mut("http_options");
    let Some(options) = options.and_then(Value::as_object_mut) else {
        return;
    };
    for key in ["ssl_certfile", "ssl_keyfile", "ssl_ca_certs"] {
        if let Some(Value::String(file)) = options.get_mut(key) {
            let joined = Path::new(directory).join(&*file);
            // Without `./`. The directory is whole.
            *file = std::path::absolute(&joined)
                .unwrap_or(joined)
                .display()
                .to_string();
        }
    }
}

/// The applications of a config that nothing is wrong with.
///
/// # Errors
/// What only the proxy knows to be wrong, and what was taken from an answer and lacks its secrets.
pub(crate) fn declared(
    state: &state::State,
    config: &Config,
) -> Result<Vec<DeclaredApplication>, Problems> {
    let mut problems = (state.judge)(config);
    for application in &config.applications {
        let stated = Value::Object(application.stated.clone());
        if has_mask(&stated, false) {
            problems.push(Problem {
                stage: Stage::Schema,
                path: application.path.clone(),
                place: application.place,
                message: format!(
                    "a value of env_vars is {:?}: this config was printed by a node, which shows no secrets",
                    view::MASK
                ),
                help: "write the value, or deploy the file that the config came from".to_owned(),
            });
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let declared = config.applications.iter().map(|one| DeclaredApplication {
        name: one.name.clone(),
        config: one.canonical(),
    });
    Ok(declared.collect())
}

/// Whether a value of `env_vars` is what stands for one.
fn has_mask(value: &Value, secret: bool) -> bool {
    match value {
        Value::Object(map) => map
            .iter()
            .any(|(key, inner)| has_mask(inner, secret || key == "env_vars")),
        Value::Array(list) => list.iter().any(|inner| has_mask(inner, secret)),
        Value::String(text) => secret && text == view::MASK,
        _ => false,
    }
}
