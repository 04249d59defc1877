//! Configs for Python, as JSON: what a file states, and what that makes of the options in an application's code
//! ([`eagleray_config::Application::over`]).

use std::{collections::BTreeMap, path::PathBuf};

use eagleray_config::{Config, Merged, Options, Problems};
use pyo3::{exceptions::PyValueError, prelude::*};
use serde_json::{Value, json};

/// What the config of one application makes of the options in its code.
///
/// `application`: JSON of an application as a config states it. `code_options`: JSON of what the code states, by
/// deployment. Returns JSON: `deployments`, by name the options that either states; `warnings`, a line each.
///
/// Raises `ValueError` with all that is wrong, a line each with what to do below it: names that the code does not have,
/// and what contradicts itself once it is merged.
#[pyfunction]
pub(crate) fn merge_config(application: &str, code_options: &str) -> PyResult<String> {
    let wrong = |problems: Problems| PyValueError::new_err(problems.to_string());
    let stated = read("application", application)?;
    let code: BTreeMap<String, Options> =
        serde_json::from_value(read("code_options", code_options)?)
            .map_err(|error| PyValueError::new_err(format!("code_options: {error}")))?;
    let config = Config::of_json(&json!({"applications": [stated]})).map_err(wrong)?;
    let merged = match config.applications.first() {
        Some(application) => application.over(&code).map_err(wrong)?,
        None => BTreeMap::new(),
    };
    let warnings: Vec<String> = merged
        .values()
        .flat_map(|one| one.warnings.iter())
        .map(ToString::to_string)
        .collect();
    let stated = |(name, one): (String, Merged)| (name, Value::from(one.stated));
    let deployments: serde_json::Map<String, Value> = merged.into_iter().map(stated).collect();
    Ok(json!({"deployments": deployments, "warnings": warnings}).to_string())
}

/// What a config file states. Returns JSON: `applications`, of each its `name`, `route_prefix`, `import_path` and `args`
/// with their defaults, and all that is `stated`; `node`, what stands beside them; `warnings`, a text of lines.
///
/// Raises `ValueError` with all that is wrong, with line and column, as `eagleray config check` says it.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "made for the call")]
pub(crate) fn read_config(path: PathBuf) -> PyResult<String> {
    let file = path.display().to_string();
    let config = Config::read(&path)
        .map_err(|problems| PyValueError::new_err(problems.render(&file).trim_end().to_owned()))?;
    let applications: Vec<Value> = config
        .applications
        .iter()
        .map(|one| {
            json!({
                "name": one.name,
                "route_prefix": one.route_prefix,
                "import_path": one.import_path,
                "args": one.args,
                "stated": one.stated,
            })
        })
        .collect();
    let warnings = config.warnings.render_warnings(&file);
    Ok(
        json!({"applications": applications, "node": config.node, "warnings": warnings.trim_end()})
            .to_string(),
    )
}

fn read(what: &str, text: &str) -> PyResult<Value> {
    serde_json::from_str(text).map_err(|error| PyValueError::new_err(format!("{what}: {error}")))
}
