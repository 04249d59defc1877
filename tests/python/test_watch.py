"""Which files are no longer as they were loaded."""

import hashlib
import os
from pathlib import Path

from eagleray._driver.watch import LEAST_INTERVAL_S, Watcher


def loaded(*paths: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(watcher: Watcher, directory: Path) -> set[str]:
    return {os.path.relpath(path, directory) for path in watcher.look()}


def test_another_content_is_a_change_and_the_same_is_none(tmp_path: Path) -> None:
    one = write(tmp_path / "one.py", "1")
    watcher = Watcher([str(tmp_path)])
    watcher.follow(loaded(one))
    assert not watcher.look()
    one.write_text("1")
    os.utime(one, (1, 1))
    assert not watcher.look()
    one.write_text("2")
    assert names(watcher, tmp_path) == {"one.py"}
    assert names(watcher, tmp_path) == {"one.py"}, "until it is accepted"
    one.write_text("1")
    assert not watcher.look(), "taken back"


def test_what_was_accepted_is_loaded(tmp_path: Path) -> None:
    one = write(tmp_path / "one.py", "1")
    watcher = Watcher([str(tmp_path)])
    watcher.follow(loaded(one))
    one.write_text("2")
    assert watcher.look()
    watcher.accept()
    assert not watcher.look()
    one.write_text("1")
    assert watcher.look()


def test_a_file_that_changed_while_it_was_loaded_is_seen(tmp_path: Path) -> None:
    one = write(tmp_path / "one.py", "1")
    before = loaded(one)
    one.write_text("2")
    watcher = Watcher([str(tmp_path)])
    watcher.follow(before)
    assert names(watcher, tmp_path) == {"one.py"}


def test_a_file_that_is_gone_and_one_that_comes(tmp_path: Path) -> None:
    one = write(tmp_path / "one.py", "1")
    watcher = Watcher([str(tmp_path)])
    watcher.follow(loaded(one))
    one.unlink()
    assert watcher.look() == {str(one): ""}
    watcher.accept()
    watcher.forget_gone()
    assert not watcher.look()
    write(one, "1")
    assert names(watcher, tmp_path) == {"one.py"}, "new, though it is as it was"


def test_new_modules_beside_and_new_packages_below(tmp_path: Path) -> None:
    write(tmp_path / "there.py", "")
    write(tmp_path / "data/rows.csv", "")
    watcher = Watcher([str(tmp_path)])
    assert not watcher.look()
    write(tmp_path / "there.py", "not loaded, so of no interest")
    write(tmp_path / "notes.txt", "")
    write(tmp_path / "4913", "")
    write(tmp_path / "one.py~", "")
    write(tmp_path / ".one.py", "")
    write(tmp_path / "no-module.py", "")
    write(tmp_path / "inner/part.py", "")
    assert not watcher.look()
    write(tmp_path / "new.py", "")
    write(tmp_path / "inner/__init__.py", "")
    write(tmp_path / "data/__init__.py", "")
    assert names(watcher, tmp_path) == {"new.py", "inner/__init__.py", "data/__init__.py"}
    (tmp_path / "new.py").unlink()
    assert names(watcher, tmp_path) == {"inner/__init__.py", "data/__init__.py"}
    watcher.accept()
    assert not watcher.look()


def test_a_link_is_its_target(tmp_path: Path) -> None:
    one, two = write(tmp_path / "v1/code.txt", "1"), write(tmp_path / "v2/code.txt", "2")
    link = tmp_path / "code/one.py"
    link.parent.mkdir()
    link.symlink_to(one)
    watcher = Watcher([str(link.parent)])
    watcher.follow(loaded(link))
    assert not watcher.look()
    beside = tmp_path / "beside"
    beside.symlink_to(two)
    beside.replace(link)
    assert names(watcher, tmp_path) == {"code/one.py"}
    watcher.accept()
    two.write_text("3")
    assert names(watcher, tmp_path) == {"code/one.py"}


def test_a_directory_that_is_moved_away_and_back(tmp_path: Path) -> None:
    one = write(tmp_path / "code/one.py", "1")
    watcher = Watcher([str(one.parent)])
    watcher.follow(loaded(one))
    one.parent.rename(tmp_path / "away")
    assert watcher.look() == {str(one): ""}
    watcher.accept()
    watcher.forget_gone()
    (tmp_path / "away").rename(one.parent)
    assert names(watcher, tmp_path) == {"code/one.py"}


def test_many_files_are_looked_at_less_often(tmp_path: Path) -> None:
    files = [write(tmp_path / f"m{number}.py", str(number)) for number in range(3000)]
    watcher = Watcher([str(tmp_path)])
    watcher.follow(loaded(*files))
    watcher.look()
    assert watcher.interval_s > LEAST_INTERVAL_S
    files[-1].write_text("changed")
    assert names(watcher, tmp_path) == {"m2999.py"}
