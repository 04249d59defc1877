"""The pages of files and of environment variables list what there is: no more, and no less."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from eagleray import _core
from machine import ROOT, Machine, eventually, request

PAGE = (ROOT / "docs" / "files-and-environment.md").read_text()
REFERENCE = ROOT / "docs" / "reference"
#: The first column of a table.
ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
#: A name as a string in the source; those of Eagleray's own tests are for contributors.
VARIABLE = re.compile(r"\"((?:EAGLERAY|RAY|XDG|FORWARDED|SPT)_(?!TEST_|WRITE_)[A-Z_]*[A-Z])\"")
#: Names that would be mistaken for others' without the call around them.
READ = re.compile(r"(?:env::var(?:_os)?|::set|environ\.get|environ\.pop|getenv)\(\s*\"([A-Z_]+)\"")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def sources() -> list[Path]:
    return [*ROOT.glob("crates/*/src/**/*.rs"), *ROOT.glob("python/eagleray/**/*.py")]


def test_the_pages_are_what_their_tables_make() -> None:
    made = subprocess.run(
        [sys.executable, "scripts/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout


def test_every_variable_that_the_code_names_is_on_the_page() -> None:
    table = tomllib.loads((REFERENCE / "environment-variables.toml").read_text())
    told = {one["name"] for kind in ("variable", "own") for one in table[kind]}
    texts = [path.read_text() for path in sources()]
    named = {name for text in texts for pattern in (VARIABLE, READ) for name in pattern.findall(text)}
    named = {name for name in named if not name.startswith(("EAGLERAY_TEST_", "EAGLERAY_WRITE_"))}
    assert named == told


def declare(machine: Machine, import_path: str) -> None:
    """Declares an application, and waits until its build is over."""
    (socket,) = machine.runtime.glob("default/controller.sock")
    controller = _core.Client(str(socket))
    place = {"app_directory": str(machine.work), "python_path": [], "python": "", "environment": {}}
    config = json.dumps({"name": "declared", "route_prefix": "/declared", "import_path": import_path})
    controller.apply({
        "applications": [{"name": "declared", "config": config}], "node_options": "", "place": place,
        "author": "", "message": "", "rebuild": False, "plan": "", "whole": False,
    })  # fmt: skip

    def is_over() -> bool:
        (status,) = (one for one in controller.status() if one["name"] == "declared")
        return bool(status["status"] == "RUNNING")

    eventually(is_over, "what is declared runs")
    eventually(lambda: not machine.pids("eagleray: build"), "its build has ended")


def test_every_file_that_a_node_writes_is_on_the_page(machine: Machine) -> None:
    logs = tomllib.loads((REFERENCE / "log-files.toml").read_text())["file"]
    # In the run directory `logs` is a link, in the state directory it has these.
    rows = [*ROW.findall(section("Files")), *(f"logs/{one['name']}" for one in logs)]
    patterns = {
        row: re.compile(
            re.escape(row)
            .replace("APP_DEPLOYMENT_ID", r"\w+")
            .replace("APP_ID", r"\w+")
            .replace("KEY", "[0-9a-f]{32}")
            .replace("REPLICA", "[a-z0-9]+")
            .replace("ROLE", "[a-z]+")
            .replace("SHA256", "[0-9a-f]{64}")
            .replace("FILE", r"[\w.]+")
            .replace("N", r"\d+")
        )
        for row in rows
    }
    # Two files to set aside, and a failure by which the logs of a script stay.
    machine.environment |= {"EAGLERAY_ROTATION_MAX_BYTES": "65536"}
    address = machine.start_resident()
    app = """
        from eagleray import serve

        @serve.deployment
        def loud(request):
            print("x" * 60_000)
            return "fine"

        app = loud.bind()
        """
    script = machine.serve(app)
    for _ in range(3):
        assert request("GET", address + "/").text == "fine"
    declare(machine, "app:app")
    own = machine.serve(app, name="own.py", environment={"EAGLERAY_NODE_NAME": "none"})
    found = {
        str(path.relative_to(directory))
        for root in (machine.runtime, machine.runtime / "state" / "eagleray")
        for directory in root.iterdir()
        if directory.name != "state"
        for path in directory.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    unknown = {name for name in found if not any(pattern.fullmatch(name) for pattern in patterns.values())}
    assert not unknown
    missing = {row for row, pattern in patterns.items() if not any(map(pattern.fullmatch, found))}
    assert not missing
    script.end()
    own.end()
