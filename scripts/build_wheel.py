"""Builds the wheel into dist/, with the maturin of the environment that runs this script.

    .venv/bin/python scripts/build_wheel.py

The wheel is tagged for Linux with this machine's C library. One for every machine is built in a manylinux container
with the same command and EAGLERAY_WHEEL_COMPATIBILITY=manylinux_2_28.
"""

import os
import shutil
import sys

from build_backend import SCRIPTS, build_executable
from project import ROOT, run, say

DIST = ROOT / "dist"


def main():
    """Builds, and leaves exactly one wheel in dist/."""
    shutil.rmtree(str(DIST), ignore_errors=True)
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    build_executable()
    run(
        sys.executable,
        *("-m", "maturin", "build", "--release", "--locked", "--quiet", "--out", DIST),
        *("--interpreter", sys.executable),
        *("--compatibility", os.environ.get("EAGLERAY_WHEEL_COMPATIBILITY", "linux")),
    )
    (wheel,) = DIST.glob("eagleray-*.whl")
    say("    %s, %.1f MiB" % (wheel.relative_to(ROOT), wheel.stat().st_size / 2**20))
    return wheel


if __name__ == "__main__":
    main()
