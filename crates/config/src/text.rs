//! The rules for single texts: names, paths, import paths.

use crate::{node::quoted, shape::Rule};

const REMOTE: [&str; 9] = [
    "gcs", "http", "https", "s3", "gs", "azure", "abfss", "file", "local",
];

impl Rule {
    /// # Errors
    /// The text breaks the rule: how the message goes on after "must", and what to do.
    pub(crate) fn check(self, text: &str) -> Result<(), (String, &'static str)> {
        let wrong = |must: &str, help| Err((format!("{must}, got {}", quoted(text)), help));
        match self {
            Self::Any => Ok(()),
            Self::NotEmpty if text.is_empty() => wrong("not be empty", ""),
            Self::NotEmpty => Ok(()),
            Self::Name if text.is_empty() => wrong("not be empty", ""),
            Self::Name if text.contains(['#', '/', '\0']) || !printable(text) => {
                wrong("be printable, without '#' and '/'", "")
            }
            Self::Name => Ok(()),
            Self::RoutePrefix => route_prefix(text),
            Self::RootPath if text.is_empty() || text.starts_with('/') => Ok(()),
            Self::RootPath => wrong("be empty or begin with '/'", ""),
            Self::ImportPath => import_path(text),
            Self::RemoteUri => match text.split_once("://") {
                Some((scheme, _)) if REMOTE.contains(&scheme) => Ok(()),
                _ => wrong(
                    "be a remote URI, such as https://host/app.zip",
                    "a path of this machine is written local:///path",
                ),
            },
            Self::EnvironmentVariable if text.is_empty() || text.contains(['=', '\0']) => {
                wrong("be the name of an environment variable", "")
            }
            Self::EnvironmentVariable if text.starts_with("EAGLERAY_") => wrong(
                "be of the user's own: EAGLERAY_ is kept for the system's",
                "",
            ),
            Self::EnvironmentVariable => Ok(()),
            Self::Resource => match text {
                "" => wrong("not be empty", ""),
                "CPU" => wrong("be a custom resource", "write num_cpus beside resources"),
                "GPU" => wrong("be a custom resource", "write num_gpus beside resources"),
                "memory" => wrong("be a custom resource", "write memory beside resources"),
                _ => Ok(()),
            },
        }
    }
}

fn printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn route_prefix(text: &str) -> Result<(), (String, &'static str)> {
    let must = if !text.starts_with('/') {
        "begin with '/'"
    } else if text != "/" && text.ends_with('/') {
        "not end with '/'"
    } else if text.contains(['{', '}', '?', '#']) || !printable(text) {
        "be a plain path without wildcards"
    } else {
        return Ok(());
    };
    let help = "null is for an application that no proxy shows";
    Err((format!("{must}, got {}", quoted(text)), help))
}

fn import_path(text: &str) -> Result<(), (String, &'static str)> {
    let parts = match text.split_once(':') {
        Some(parts) => Some(parts),
        None => text.rsplit_once('.'),
    };
    let right = parts.is_some_and(|(module, attribute)| {
        !module.is_empty() && !attribute.is_empty() && !attribute.contains(':')
    });
    if right && !text.contains('\0') {
        return Ok(());
    }
    Err((
        format!("be an import path `module:attribute`, got {}", quoted(text)),
        "such as `shop.main:app` for `app` of the module `shop.main`",
    ))
}
