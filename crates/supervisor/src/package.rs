//! How a Python finds our package, where only it knows where that is: a program for `python -c`, which becomes the
//! bootstrap (`python/eagleray/_bootstrap.py`).
//!
//! By `-c` Python puts its current directory on the path, and imports from it to show errors (3.13). So it begins in `/`,
//! and goes to its directory itself.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the directory waits meanwhile.
const DIRECTORY: &str = "EAGLERAY_DIRECTORY";
/// `sys` and `os` are there before any path is looked at.
const FIND: &str = "import os, sys
here = os.environ.pop('EAGLERAY_DIRECTORY', None)
if here is not None: os.chdir(here)
held = os.environ.get('EAGLERAY_PYTHONPATH', '').split(os.pathsep)
for entry in filter(None, sys.path + held):
    boot = os.path.join(os.path.abspath(entry), 'eagleray', '_bootstrap.py')
    if os.path.isfile(boot):
        os.execv(sys.executable, [sys.executable, boot, *sys.argv[1:]])
sys.exit(f'eagleray: {sys.executable} has no eagleray; install it with pip into that environment')
";

/// The arguments of a Python that runs `main` of `module`, in `directory` if there is one. Further arguments are the
/// module's.
pub fn run_module(command: &mut Command, module: impl AsRef<OsStr>, directory: Option<PathBuf>) {
    command.arg("-c").arg(FIND).arg(module);
    if let Some(directory) = directory {
        command
            .env(DIRECTORY, directory)
            .current_dir(Path::new("/"));
    }
}
