"""`make lock`: resolves requirements/*.in into lock files with hashes, and without the address of any index.

The lock names versions and hashes only, so it installs from whichever index or mirror pip is set up with. Resolve with
the oldest Python that Eagleray supports: what fits it fits later ones.
"""

import sys

from project import BUILD, ROOT, Step, fail, run

TOOLS = BUILD / "lock-tools"
LISTS = ("lock", "dev")


def main():
    """Makes the tool's own environment when it is missing, then writes every lock."""
    if sys.version_info[:2] != (3, 11):
        fail("resolve with Python 3.11: make lock PYTHON=python3.11")
    python = TOOLS / "bin" / "python"
    if not python.exists():
        with Step("installing requirements/lock.txt"):
            run(sys.executable, "-m", "venv", TOOLS)
            run(python, "-m", "pip", "--quiet", "install", "--require-hashes", "-r", "requirements/lock.txt")
    for name in LISTS:
        with Step("resolving requirements/%s.in" % name):
            run(
                *(python, "-m", "piptools", "compile", "--quiet", "--upgrade", "--generate-hashes"),
                *("--allow-unsafe", "--strip-extras", "--no-emit-options", "--no-emit-index-url"),
                *("--no-emit-find-links", "--no-emit-trusted-host"),
                *("--output-file", "requirements/%s.txt" % name, "requirements/%s.in" % name),
                environment={"CUSTOM_COMPILE_COMMAND": "make lock"},
            )
    for lock in (ROOT / "requirements").glob("*.txt"):
        if "://" in lock.read_text():
            fail("%s names an address; a lock holds versions and hashes only" % lock.name)


if __name__ == "__main__":
    main()
