"""The build backend of the wheel: maturin, with the native executable built first.

maturin packs one crate. The executable `eagleray` is another one, so it is built here and laid into the folder
that pyproject.toml names as the wheel's data, from where pip installs it as a script. Being a backend, it works for
`make setup` and for `pip install .` alike.
"""

import json
import shutil
import subprocess

from maturin import build_sdist, get_requires_for_build_sdist, get_requires_for_build_wheel
from maturin import build_wheel as build_python_wheel
from maturin import prepare_metadata_for_build_wheel as prepare_python_metadata

from project import BUILD, ROOT, fail, run

__all__ = [
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_wheel",
]

SCRIPTS = BUILD / "wheel-data" / "scripts"


def build_executable():
    """Builds `eagleray` in the release profile and copies it to where maturin packs it."""
    run("cargo", "build", "--release", "--locked", "-p", "eagleray-node", "--bin", "eagleray")
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--no-deps", "--locked"],
        cwd=str(ROOT),
        check=True,
        stdout=subprocess.PIPE,
    )
    executable = shutil.copy(json.loads(metadata.stdout)["target_directory"] + "/release/eagleray", str(SCRIPTS))
    with open(executable, "rb") as file:
        if file.read(4) != b"\x7fELF":
            fail(executable + " is not a native executable")


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    """Names the data folder before maturin looks for it."""
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    return prepare_python_metadata(metadata_directory, config_settings)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Builds the executable, then the wheel around it."""
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    build_executable()
    return build_python_wheel(wheel_directory, config_settings, metadata_directory)
