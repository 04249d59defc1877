"""The wheel, as a user gets it: into an empty environment, and nothing else needed."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from machine import ROOT, Machine, eventually

HELLO = """
from eagleray import serve

@serve.deployment
def hello():
    import eagleray, sys
    return [eagleray.__file__, sys.prefix]

app = hello.bind()
"""


@pytest.fixture(scope="module")
def wheel() -> Path:
    wheels = list((ROOT / "dist").glob("eagleray-*.whl"))
    assert len(wheels) == 1, "make setup leaves one wheel in dist/"
    return wheels[0]


def test_it_holds_everything_once(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
        executable = [name for name in names if name.endswith(".data/scripts/eagleray")]
        assert len(executable) == 1
        assert archive.read(executable[0])[:4] == b"\x7fELF"
    for wanted in ("eagleray/__init__.py", "eagleray/py.typed", "eagleray/_core.pyi", "eagleray/serve/__init__.py"):
        assert wanted in names
    assert len([name for name in names if name.startswith("eagleray/_core.") and name.endswith(".so")]) == 1
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]
    assert any(name.endswith("LICENSE") for name in names)
    assert "Requires-Python: >=3.11" in metadata
    for dependency in ("starlette", "cloudpickle", "setproctitle"):
        assert f"Requires-Dist: {dependency}" in metadata
    assert wheel.stat().st_size < 20 * 2**20


@pytest.mark.timeout(180)
def test_it_installs_into_an_empty_environment_and_serves(machine: Machine, wheel: Path) -> None:
    environment = machine.work / "empty"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [
            *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"),
            *("--find-links", ROOT / "build" / "wheelhouse", wheel),
        ],
        check=True,
        cwd=machine.work,
    )
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    names = {line.partition("==")[0] for line in listed.stdout.split()}
    assert not names & {"fastapi", "uvloop", "ray", "numpy", "uvicorn", "pydantic"}, "nothing but what it needs"

    shown = subprocess.run([environment / "bin" / "eagleray", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("eagleray ")
    # Without the environment's bin on PATH: the executable is found beside the interpreter.
    script = machine.serve(HELLO, python=str(python), environment={"PATH": "/usr/bin:/bin"})
    file, prefix = script.get("/").json()
    assert prefix == str(environment)
    assert Path(file).is_relative_to(environment)
    assert script.end() == 0

    # And a resident node, started by that executable, runs replicas with the script's interpreter.
    subprocess.run(
        [environment / "bin" / "eagleray", "start", "--http-port", "0"],
        env=machine.environment,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    script = machine.serve(HELLO, python=str(python))
    (node,) = machine.nodes()
    assert node["owner_pid"] == 0
    script.end()
    subprocess.run([environment / "bin" / "eagleray", "stop"], env=machine.environment, check=True)
    eventually(lambda: not machine.left(), "nothing runs after stop")
