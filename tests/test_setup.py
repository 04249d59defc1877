"""`make setup` refuses what cannot work, in words; and the lock files hold no address."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run_setup(patch: str) -> subprocess.CompletedProcess[str]:
    """Runs only the checks of scripts/setup.py, with something about the machine changed before."""
    program = f"import sys; sys.path.insert(0, 'scripts'); import setup; {patch}; setup.check_machine()"
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)


def test_this_machine_passes() -> None:
    assert run_setup("pass").returncode == 0


def test_an_old_python_is_told_how_to_name_another() -> None:
    done = run_setup("sys.version_info = (3, 9, 1)")
    assert done.returncode != 0
    assert "Python 3.11 or later" in done.stderr
    assert "make setup PYTHON=" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("tool", "words"), [("cargo", "rustup"), ("cc", "C compiler")])
def test_a_missing_tool_is_named(tool: str, words: str) -> None:
    patch = (
        f"import shutil; which = shutil.which; shutil.which = lambda name: None if name == {tool!r} else which(name)"
    )
    done = run_setup(patch)
    assert done.returncode != 0
    assert words in done.stderr


def test_an_old_compiler_is_named() -> None:
    done = run_setup("setup.numbers = lambda text, real=setup.numbers: (1, 50) if text.count('.') == 2 else real(text)")
    assert done.returncode != 0
    assert "rustup update" in done.stderr


def test_lock_files_hold_versions_and_hashes_only() -> None:
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        text = lock.read_text()
        assert "://" not in text
        for line in text.splitlines():
            if line and not line.startswith((" ", "#")):
                assert "==" in line, line
