//! Which Python this executable belongs to.

use std::{
    env, io,
    path::{Path, PathBuf},
};

/// The Python that this executable was installed for: beside it, or, where it lies alone, the first on `PATH`.
pub fn interpreter() -> Result<PathBuf, String> {
    let own =
        env::current_exe().map_err(|error| format!("where this is cannot be read: {error}"))?;
    let beside = own.parent().unwrap_or(Path::new("/"));
    let on_path = env::var_os("PATH").unwrap_or_default();
    [beside.join("python3"), beside.join("python")]
        .into_iter()
        .chain(env::split_paths(&on_path).map(|directory| directory.join("python3")))
        .find(|candidate| is_executable(candidate))
        .ok_or_else(|| {
            format!(
                "there is no python3 beside {} nor on PATH; install eagleray with pip into an environment, and run the \
                 eagleray of that",
                own.display()
            )
        })
}

fn is_executable(path: &Path) -> bool {
    let access = rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(io::Error::from);
    path.is_file() && access.is_ok()
}
