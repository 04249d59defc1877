"""`make lint`: every check that needs no running service. All of them run; the last line names those that failed."""

import shutil
import subprocess
import sys
import time

from project import ROOT, fail, say

PYTHON = sys.executable
CHECKS = (
    ("rustfmt", ("cargo", "fmt", "--all", "--check")),
    ("clippy", ("cargo", "clippy", "--locked", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings")),
    ("ruff check", (PYTHON, "-m", "ruff", "check", "--quiet", ".")),
    ("ruff format", (PYTHON, "-m", "ruff", "format", "--quiet", "--diff", ".")),
    ("mypy", (PYTHON, "-m", "mypy", "--no-error-summary")),
    ("stubs of eagleray._core", (PYTHON, "-m", "mypy.stubtest", "--concise", "eagleray._core")),
    ("page of compatibility", (PYTHON, "scripts/compatibility.py", "--check")),
    ("pages of reference", (PYTHON, "scripts/reference.py", "--check")),
    ("tree and documents", (PYTHON, "scripts/check_tree.py")),
    ("arrows and circles", (PYTHON, "scripts/check_arrows.py")),
)


def main():
    """Runs the checks in order; 1 if any failed."""
    for tool in ("cargo-clippy", "cargo-fmt"):
        if shutil.which(tool) is None:
            fail("%s is missing: rustup component add clippy rustfmt" % tool)
    failed = []
    for name, command in CHECKS:
        start = time.monotonic()
        status = subprocess.run(command, cwd=str(ROOT), check=False).returncode
        say("%-6s %s (%.1f s)" % ("ok" if status == 0 else "FAILED", name, time.monotonic() - start))
        if status != 0:
            failed.append(name)
    say("lint: " + ("failed: " + ", ".join(failed) if failed else "clean"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
