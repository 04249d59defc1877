"""No file of the user's is a module of ours in a replica, and user code finds modules as in a script."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import eagleray
from machine import Machine

BOOTSTRAP = Path(eagleray.__file__).parent / "_bootstrap.py"
APP = """
import json, os, subprocess, sys
from eagleray import serve
@serve.deployment(ray_actor_options={options})
class Looks:
    def __call__(self, request):
        child = "import json, os, sys; print(json.dumps([os.environ.get('PYTHONPATH'), sys.path, repr(sys.flags)]))"
        path = os.environ.get("PYTHONPATH")
        names = sorted(name for name in os.environ if name.startswith("EAGLERAY"))
        told = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout
        return {{"path": sys.path, "PYTHONPATH": path, "flags": repr(sys.flags), "names": names,
                 "child": json.loads(told)}}
app = Looks.bind()
print("DRIVER", json.dumps([sys.path, repr(sys.flags)]))
"""


def modules_of_a_replica() -> list[str]:
    """The top level of every name that a replica looks for, found or not, from its start to user code."""
    code = (
        "import sys, runpy\n"
        "class Seen:\n"
        "    def find_spec(self, name, path=None, target=None): print('LOOKED', name.partition('.')[0]); return None\n"
        "import eagleray._bootstrap as boot\n"
        "sys.meta_path.insert(0, Seen())\n"
        "import eagleray._replica.main, eagleray._replica.__main__\n"
        "try: import uvloop, setproctitle\n"
        "except ImportError: pass\n"
        "print('\\n'.join('LOOKED ' + name.partition('.')[0] for name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return sorted(set(re.findall("^LOOKED (.+)$", done.stdout, re.M)) - {"__main__", "builtins", "sys"})


def plant(directory: Path, names: list[str]) -> Path:
    """Files of those names that leave a mark when they are run. Returns where."""
    directory.mkdir(parents=True, exist_ok=True)
    mark = directory / "ran"
    for name in names:
        (directory / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write({name!r} + '\\n')\nX = 1\n")
    return mark


@pytest.mark.contract("4.1/own-modules")
@pytest.mark.parametrize("python_path", [None, "", ".", "planted", f"/nowhere{os.pathsep}", f"{os.pathsep}."])
def test_nothing_of_the_user_s_is_run_while_a_replica_starts(tmp_path: Path, python_path: str | None) -> None:
    names = modules_of_a_replica()
    assert {"asyncio", "queue", "logging", "starlette", "eagleray", "encodings"} <= set(names)
    marks = [plant(tmp_path, names), plant(tmp_path / "planted", names)]
    held = {} if python_path is None else {"EAGLERAY_PYTHONPATH": python_path}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | held
    # Without the descriptors that a node gives, it ends as soon as our own imports are done.
    done = subprocess.run(
        [sys.executable, str(BOOTSTRAP), "eagleray._replica.main", "title"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "is started by a node" in done.stderr
    assert [mark for mark in marks if mark.exists()] == []


def test_what_site_and_pth_files_have_added_is_not_looked_at_either(tmp_path: Path) -> None:
    mark = plant(tmp_path / "mine", modules_of_a_replica())
    # What `usercustomize` may do, before the bootstrap begins.
    code = (
        "import sys, runpy\n"
        f"sys.path.insert(0, {str(tmp_path / 'mine')!r})\n"
        "class Mine:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        open({str(mark)!r}, 'a').write('finder ' + name + '\\n')\n"
        "        return None\n"
        "sys.argv = ['boot', 'eagleray._replica.main', 'title']\n"
        f"source = compile(open({str(BOOTSTRAP)!r}).read(), {str(BOOTSTRAP)!r}, 'exec')\n"
        "sys.meta_path.insert(0, Mine())\n"
        f"exec(source, {{'__name__': '__main__', '__file__': {str(BOOTSTRAP)!r}}})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "is started by a node" in done.stderr
    assert not mark.exists(), mark.read_text()


def test_the_command_imports_no_file_of_the_working_directory_in_the_place_of_its_own(machine: Machine) -> None:
    mark = plant(machine.work, [*modules_of_a_replica(), "linecache", "tokenize", "token", "json"])
    done = machine.cli("run", "missing:app", environment={"PYTHONPATH": "."})
    assert (done.returncode, "there is no module 'missing'" in done.stderr) == (1, True), done.stderr
    assert not mark.exists(), mark.read_text()


@pytest.mark.contract("4.1/own-modules", "4.1/user-path")
@pytest.mark.parametrize("python_path", [None, ".", "", "first:second:"])
def test_a_project_with_files_named_as_modules_is_served_and_its_paths_are_those_of_a_script(
    machine: Machine, python_path: str | None
) -> None:
    mark = plant(machine.work, ["queue", "logging", "token", "asyncio", "starlette", "uvloop", "cloudpickle"])
    options = {} if python_path is None else {"runtime_env": {"env_vars": {"PYTHONPATH": python_path}}}
    script = machine.serve(APP.format(options=options), name="src/app.py")
    path, flags = driver(script.output)
    seen = script.get().json()
    assert seen["path"][: len(path)] == path
    assert seen["path"][0] == str(machine.work / "src")
    later = [] if not python_path else [str(machine.work / entry) for entry in python_path.split(":")]
    assert [entry for entry in seen["path"][len(path) :] if entry not in path] == list(dict.fromkeys(later))
    assert seen["flags"] == flags
    assert seen["PYTHONPATH"] == python_path
    assert not any("PYTHONPATH" in name for name in seen["names"])
    child_python_path, child_path, child_flags = seen["child"]
    assert (child_python_path, child_flags) == (python_path, flags)
    plain = subprocess.run(
        [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path))"],
        cwd=machine.work / "src",
        env={**os.environ, **({} if python_path is None else {"PYTHONPATH": ""})},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [entry for entry in json.loads(plain) if entry] == [
        entry for entry in child_path if entry and entry not in later
    ]
    if not python_path:
        assert not mark.exists(), mark.read_text()


def driver(output: str) -> tuple[list[str], str]:
    found = re.search("^DRIVER (.*)$", output, re.M)
    assert found is not None
    path, flags = json.loads(found[1])
    return path, flags


def test_what_a_tool_puts_on_the_path_to_be_imported_first_is_imported(machine: Machine) -> None:
    machine.write("tool/sitecustomize.py", "import sys\nsys.of_the_tool = 'there'\n")
    text = """
    import sys
    from eagleray import serve
    @serve.deployment
    def app(request):
        return sys.of_the_tool
    app = app.bind()
    """
    environment = {"PYTHONPATH": str(machine.work / "tool")}
    script = machine.serve(text, environment=environment)
    assert script.get().text == "there"


def test_a_colon_too_many_runs_no_customization_of_the_working_directory(machine: Machine) -> None:
    mark = plant(machine.work, ["sitecustomize", "usercustomize"])
    text = """
    from eagleray import serve
    @serve.deployment(ray_actor_options={"runtime_env": {"env_vars": {"PYTHONPATH": "/nowhere:"}}})
    def app(request):
        return "served"
    app = app.bind()
    """
    script = machine.serve(text, name="src/app.py")
    assert script.get().text == "served"
    assert not mark.exists(), mark.read_text()
