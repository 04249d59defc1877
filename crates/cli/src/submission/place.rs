//! Where the code of a deploy is imported.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    exit::Exit,
    python::interpreter,
    trouble::{Outcome, Trouble},
};

/// Where the code is imported: here, as a script that was started here would.
pub(super) fn of(app_directory: &Path) -> Outcome<Value> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Trouble::new(
            Exit::Usage,
            "usage",
            format!("--app-dir {}: {error}", app_directory.display()),
        )
    };
    let directory = std::path::absolute(app_directory).map_err(|error| unreadable(&error))?;
    if !directory.is_dir() {
        return Err(unreadable(&"no such directory"));
    }
    let directory = directory.canonicalize().unwrap_or(directory);
    let given = std::env::var_os("PYTHONPATH").unwrap_or_default();
    let python_path: Vec<String> = std::env::split_paths(&given)
        .filter(|path| !path.as_os_str().is_empty())
        .filter_map(|path| std::path::absolute(path).ok())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let python = interpreter()?;
    Ok(json!({
        "app_directory": directory.to_string_lossy(),
        "python_path": python_path,
        "python": python.to_string_lossy(),
    }))
}
