"""Where things are, and how the scripts of this folder run commands. Standard library only.

PATH on a fresh machine holds cargo, rustc, cc, python3, make, git, sh and coreutils, so everything beyond those is
done here, in Python.
"""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
BUILD = ROOT / "build"
STAMPS = VENV / ".eagleray-stamps"


def say(text):
    """Prints one line of progress at once."""
    print(text, flush=True)


def fail(text):
    """Ends the script with a message for people."""
    sys.exit("error: " + text)


def run(*command, **options):
    """Runs a command in the repository and raises if it fails. Returns nothing: output goes to the terminal."""
    environment = dict(os.environ, **options.pop("environment", {}))
    subprocess.run([str(part) for part in command], cwd=str(ROOT), env=environment, check=True, **options)


def digest(paths, *texts):
    """A hash over the names and contents of files (folders are walked) and over further texts."""
    total = hashlib.sha256()
    for text in texts:
        total.update(str(text).encode() + b"\0")
    for path in sorted(files(paths)):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def files(paths):
    """Yields the files under some paths of the repository, without what tools leave behind."""
    for path in paths:
        whole = ROOT / path
        if whole.is_file():
            yield whole
        elif whole.is_dir():
            for folder, folders, names in os.walk(str(whole)):
                folders[:] = [name for name in folders if name not in ("__pycache__", "target")]
                for name in names:
                    if not name.endswith((".pyc", ".so")):
                        yield Path(folder) / name


def is_current(name, value):
    """Whether the step `name` was last done for `value`."""
    stamp = STAMPS / name
    return stamp.is_file() and stamp.read_text() == value


def stamp(name, value):
    """Remembers that the step `name` is done for `value`."""
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / name).write_text(value)


class Step:
    """Says what is being done, and how long it took."""

    def __init__(self, title):
        self.title = title

    def __enter__(self):
        say("==> " + self.title)
        self.start = time.monotonic()
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            say("    done in %.1f s" % (time.monotonic() - self.start))
