"""Capture and finder: what is taken from the disk once, and what replicas import afterwards."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from eagleray._code.archive import Archive, Module, pack

CAPTURE = """
import json, sys
{imports}
from eagleray._code.capture import capture
captured = capture()
with open("blob", "wb") as file:
    file.write(captured.blob or b"")
print(json.dumps([[file.path for file in captured.files], captured.warnings]))
"""

REPLICA = """
import json, sys
from eagleray import _code
_code.install("blob")
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def python(folder: Path, text: str, name: str = "main.py", **environment: str) -> tuple[Any, str]:
    """Runs a script; what it printed last, as JSON, and its stderr."""
    (folder / name).write_text(text)
    done = subprocess.run(
        [sys.executable, name],
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": ":".join(path for path in sys.path if path)} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def captured(folder: Path, imports: str) -> set[str]:
    (paths, _), _ = python(folder, CAPTURE.format(imports=imports))
    return {str(Path(path).relative_to(folder)) for path in paths}


def test_loaded_modules_and_their_surroundings_are_captured(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "beside.py": "",
            "loaded.py": "",
            "package/__init__.py": "",
            "package/one.py": "",
            "package/inner/__init__.py": "",
            "package/inner/two.py": "",
            "package/data/notes.py": "not in a package",
            "package/__pycache__/three.py": "",
            "other_package/__init__.py": "",
            "names/space.py": "",
            ".hidden/x.py": "",
            "venv/lib/site-packages/installed.py": "",
            "with-dash.py": "",
        },
    )
    assert captured(tmp_path, "import loaded, package, names.space") == {
        "beside.py",
        "loaded.py",
        "names/space.py",
        "package/__init__.py",
        "package/one.py",
        "package/inner/__init__.py",
        "package/inner/two.py",
    }


def test_modules_of_an_editable_install_are_the_users(tmp_path: Path) -> None:
    write(tmp_path, {"elsewhere/src/edited/__init__.py": "", "elsewhere/src/edited/late.py": "", "app/x": ""})
    text = "import sys; sys.path.append('../elsewhere/src'); import edited"
    (paths, _), _ = python(tmp_path / "app", CAPTURE.format(imports=text))
    assert {str(Path(path).relative_to(tmp_path)) for path in paths} == {
        "elsewhere/src/edited/__init__.py",
        "elsewhere/src/edited/late.py",
    }


def test_too_much_source_is_deployed_unsealed_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, {"big.py": "#" * 2000})
    text = CAPTURE.format(imports="import big, eagleray._code.capture as c; c.MAX_CODE_BYTES = 1000")
    (paths, warnings), _ = python(tmp_path, text)
    assert paths == []
    assert "unsealed" in warnings[0]


def test_the_replica_gets_what_was_captured_whatever_the_disk_says(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "helper.py": "word = 'captured'\ndef fail():\n    raise ValueError('as captured')\n",
            "late.py": "word = 'late'\n",
            "package/__init__.py": "from . import inner\n",
            "package/inner.py": """
                from pathlib import Path
                data = (Path(__file__).parent / "data.txt").read_text()
                """,
            "package/data.txt": "beside",
        },
    )
    captured(tmp_path, "import helper, package")
    for name in ("helper.py", "late.py", "package/__init__.py", "package/inner.py"):
        (tmp_path / name).write_text("this is not Python\n")
    answer, stderr = python(
        tmp_path,
        REPLICA
        + textwrap.dedent(
            """
            import inspect, traceback
            import helper, package

            def method():
                import late
                return late.word

            try:
                helper.fail()
            except ValueError:
                shown = traceback.format_exc()
            from importlib import resources
            print(json.dumps({
                "word": helper.word, "late": method(), "data": package.inner.data,
                "resource": resources.files("package").joinpath("data.txt").read_text(),
                "files": [helper.__file__, package.__file__, package.__path__[0], helper.__spec__.origin],
                "source": inspect.getsource(helper.fail), "traceback": shown,
            }))
            """
        ),
        name="replica.py",
    )
    assert (answer["word"], answer["late"], answer["data"], answer["resource"]) == (
        "captured",
        "late",
        "beside",
        "beside",
    )
    helper, package = str(tmp_path / "helper.py"), tmp_path / "package"
    assert answer["files"] == [helper, str(package / "__init__.py"), str(package), helper]
    assert "raise ValueError('as captured')" in answer["traceback"]
    assert "as captured" in answer["source"]
    assert stderr == ""


def test_a_module_that_was_not_captured_comes_from_disk_with_one_warning(tmp_path: Path) -> None:
    write(tmp_path, {"helper.py": ""})
    captured(tmp_path, "import helper")
    write(tmp_path, {"new_one.py": "word = 1", "new_two.py": "word = 2"})
    text = REPLICA + "import helper, new_one, new_two, json.decoder, pytest\nprint(new_one.word + new_two.word)"
    answer, stderr = python(tmp_path, text, name="replica.py")
    assert answer == 3
    assert stderr.count("not part of the revision") == 1
    assert str(tmp_path / "new_one.py") in stderr


def test_a_blob_is_the_same_for_the_same_files_and_is_checked_when_read(tmp_path: Path) -> None:
    modules = [Module("b", "/x/b.py", False, b"b = 2\n"), Module("a", "/x/a/__init__.py", True, "ä = 1\n".encode())]
    blob = pack(modules)
    assert blob == pack(modules[::-1])
    path = tmp_path / "blob"
    path.write_bytes(blob)
    archive = Archive(str(path))
    assert {name: archive.source(name) for name in archive.entries} == {m.name: m.source for m in modules}
    assert archive.entries["a"].is_package
    for broken in (blob[:-1], blob[:10], b'{"format": 99, "modules": []}\n'):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="code blob"):
            Archive(str(path))
