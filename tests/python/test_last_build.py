"""When a build need not be done again: only if nothing that it has read has changed."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eagleray._bootstrap import Paths
from eagleray._code import capture
from eagleray._driver.build import Built
from eagleray._driver.last_build import LastBuild


class Place:
    """A directory of code, and one of a node."""

    def __init__(self, directory: Path) -> None:
        self.code = directory / "code"
        self.code.mkdir()
        (self.code / "shop.py").write_text("app = 1\n")
        self.blobs = directory / "state" / "blobs"
        self.blobs.mkdir(parents=True)
        for name in ("c" * 64, "d" * 64):
            (self.blobs / name).write_bytes(b"")
        self.asked: dict[str, Any] = {
            "application": "shop",
            "config": '{"import_path": "shop:app"}',
            "app_directory": str(self.code),
            "environment": {},
            "blobs": str(self.blobs),
        }

    @property
    def built(self) -> Built:
        file = self.code / "shop.py"
        files = [{"path": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}]
        spec = {"code_blob": "c" * 64, "code_files": files, "deployments": [{"callable_blob": "d" * 64}]}
        return Built(spec, {}, ["a warning"])

    def keep(self) -> None:
        LastBuild(self.asked).keep(self.built)

    def find(self, **asked: Any) -> Any:
        return LastBuild(self.asked | asked).find()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_has_not_changed_is_found_with_its_warnings(place: Place) -> None:
    assert place.find() is None
    place.keep()
    assert place.find() == (place.built.spec, ["a warning"])
    assert place.find(application="other") is None


@pytest.mark.parametrize(
    "changed",
    [{"config": "{}"}, {"app_directory": "/"}, {"environment": {"A": "1"}}],
    ids=lambda changed: str(next(iter(changed))),
)
def test_another_config_place_or_environment_is_another_build(place: Place, changed: dict[str, Any]) -> None:
    place.keep()
    assert place.find(**changed) is None


def _edit(place: Place) -> None:
    (place.code / "shop.py").write_text("app = 2\n")


def _remove(place: Place) -> None:
    (place.code / "shop.py").unlink()


def _add(place: Place) -> None:
    (place.code / "beside.py").write_text("")


def _add_package(place: Place) -> None:
    (place.code / "inner").mkdir()


def _lose_blob(place: Place) -> None:
    (place.blobs / ("d" * 64)).unlink()


@pytest.mark.parametrize("change", [_edit, _remove, _add, _add_package, _lose_blob])
def test_a_change_on_disk_is_seen(place: Place, change: Callable[[Place], None]) -> None:
    place.keep()
    change(place)
    assert place.find() is None


def test_what_is_no_code_is_not_looked_at(place: Place) -> None:
    place.keep()
    (place.code / "data.csv").write_text("1")
    (place.code / "__pycache__").mkdir()
    assert place.find() is not None


def test_the_environment_and_the_packages_count(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place.keep()
    with monkeypatch.context() as patch:
        patch.setenv("COLOUR", "blue")
        assert place.find() is None
    with monkeypatch.context() as patch:
        patch.setenv("EAGLERAY_REPLICA", "one")
        assert place.find() is not None, "ours differ from build to build"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(tmp_path)])
        assert place.find() is None
    (tmp_path / "model-1.dist-info").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(capture, "installed_distributions", lambda _path: {"model": "2"})
        assert place.find() is None


def test_a_record_that_cannot_be_read_is_none(place: Place) -> None:
    place.keep()
    (record,) = (place.blobs.parent / "builds").iterdir()
    assert record.stat().st_mode & 0o077 == 0
    for text in ("", "{", "[]", "null", json.dumps({"format": 0}), json.dumps({"format": 1, "key": 1})):
        record.write_text(text)
        assert place.find() is None


def test_code_that_was_not_captured_is_built_each_time(place: Place) -> None:
    built = place.built
    built.spec["code_blob"] = ""
    LastBuild(place.asked).keep(built)
    assert place.find() is None


def test_records_of_64_applications_are_kept(place: Place) -> None:
    directory = place.blobs.parent / "builds"
    directory.mkdir()
    for number in range(70):
        old = directory / f"{number:032}.json"
        old.write_text("{}")
        os.utime(old, (number, number))
    place.keep()
    names = sorted(path.name for path in directory.iterdir())
    assert len(names) == 64
    assert f"{6:032}.json" not in names
    assert place.find() is not None


def test_a_package_that_was_installed_anew_in_the_same_version_is_another(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "site-packages"
    (packages / "library-1.0.dist-info").mkdir(parents=True)
    os.utime(packages, (1, 1))
    monkeypatch.syspath_prepend(str(packages))
    place.keep()
    assert place.find() is not None
    (packages / "library-1.0.dist-info").rmdir()
    (packages / "library-1.0.dist-info").mkdir()
    assert place.find() is None


def test_it_is_found_before_path_and_environment_are_those_of_the_build(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, environment = [str(tmp_path), *sys.path], {**os.environ, "COLOUR": "blue"}
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", path)
        patch.setenv("COLOUR", "blue")
        place.keep()
    assert place.find() is None
    assert LastBuild(place.asked, path).find() is None, "without the environment"
    assert LastBuild(place.asked, path, environment).find() == (place.built.spec, ["a warning"])


def test_what_the_path_will_be_is_what_it_becomes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    paths = Paths(f"relative{os.pathsep}{tmp_path}")
    assert paths.has_tools()
    assert not Paths(None).has_tools()
    paths.close()
    expected = paths.opened(["/first"])
    paths.open(["/first"])
    assert sys.path == expected
    assert expected[0] == "/first"
    assert str(tmp_path) in expected
