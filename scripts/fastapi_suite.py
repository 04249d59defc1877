"""`make fastapi-suite`: FastAPI's own tests, with each request answered by a compiled route and, beside it, as ASGI.

The source package of FastAPI carries its tests and the examples of its documentation. It is fetched from the package
index into build/fastapi-suite, never into the repository, with what the tests import. The tests run as ASGI, once more
as ASGI, and compiled. What was sent for each request of each test is then compared, and so is which tests pass; a test
that two runs as ASGI answer differently is named and left out. FASTAPI_VERSION says which FastAPI, one or more;
without it, the one that is installed. FASTAPI_TESTS are the tests, by default all; FASTAPI_WORKERS how many run at
once.

With FASTAPI_TRUST=1 a version is tried whose functions are not known yet; when there is no difference, what
`framework.hashes()` says with it may be added to `_hashes.py`.

It prints how many tests and requests there were, how many requests a compiled route answered, why the others were not,
and each difference. It ends with an error if there is one.
"""

import collections
import json
import os
import re
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

from project import BUILD, ROOT, Step, fail, run, say

WORK = BUILD / "fastapi-suite"
# What the tests import. Those of integrations that are absent fail alike on both paths.
NEEDS = (
    *("pytest<9.2", "pytest-timeout", "pytest-xdist", "httpx", "httpx2", "dirty-equals", "inline-snapshot"),
    *("anyio[trio]", "sqlmodel", "flask<4", "a2wsgi", "pyjwt", "pwdlib[argon2]", "pydantic-settings", "jinja2"),
    *("orjson", "ujson", "itsdangerous", "email-validator", "python-slugify", "pyyaml", "python-multipart"),
    *("opentelemetry-sdk", "cloudpickle", "setproctitle", "strawberry-graphql"),
)
# What differs from run to run: times, what is hashed from them, names by chance, folders of a run.
CHANGING = re.compile(
    r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT|[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f-]{27}|pytest-\d+|popen-gw\d+"
    r"|[\d-]{10}[T ][\d:.]+|eyJ[\w.-]+"
)
SKIPPED = ("tests/benchmarks", "tests/memory_benchmarks", "tests/test_fastapi_cli.py")


def source_of(version):
    """The unpacked source package."""
    found = WORK / ("fastapi-" + version)
    if not found.is_dir():
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "fastapi")
        run(*pip, "fastapi==" + version, "--dest", WORK)
        with tarfile.open(WORK / ("fastapi-%s.tar.gz" % version)) as archive:
            archive.extractall(WORK, filter="data")
    return found


def python_of(version):
    """An interpreter with this FastAPI, what its tests import, and Eagleray as it is installed here."""
    home = WORK / ("venv-" + version)
    python = home / "bin" / "python"
    done = home / "done"
    if not done.exists():
        run(sys.executable, "-m", "venv", home)
        run(python, "-m", "pip", "install", "--quiet", "fastapi==" + version, *NEEDS)
        done.touch()
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    ours, theirs = (
        subprocess.run([one, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        for one in (sys.executable, python)
    )
    link = Path(theirs) / "eagleray"
    if not link.is_symlink():
        link.symlink_to(Path(ours) / "eagleray")
    return python


def record(version, path):
    """Runs the tests on one path; returns what they did, by the name of the test."""
    file = WORK / ("%s-%s.jsonl" % (version, path))
    file.unlink(missing_ok=True)
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "scripts"),
        # The order of sets gets into some answers.
        "PYTHONHASHSEED": "0",
        "EAGLERAY_SUITE_PATH": path,
        "EAGLERAY_SUITE_RECORD": str(file),
    }
    command = [python_of(version), "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    command += ["-p", "fastapi_suite_plugin", "-n", os.environ.get("FASTAPI_WORKERS", "2")]
    command += ["--ignore=" + one for one in SKIPPED]
    command += os.environ.get("FASTAPI_TESTS", "tests").split()
    with open(WORK / ("%s-%s.log" % (version, path)), "w", encoding="utf-8") as log:
        subprocess.run(command, cwd=str(source_of(version)), env=env, stdout=log, stderr=log, check=False)
    with open(file, encoding="utf-8") as lines:
        return {line["test"]: line for line in map(json.loads, lines)}


def unsteady(asgi, again):
    """Tests whose requests are answered otherwise each time, whatever the path: by chance, or by addresses."""
    both = asgi.keys() & again.keys()
    return {test for test in both if answers(asgi[test]) != answers(again[test])}


def answers(line):
    """What was sent in a test, whatever the order."""
    return sorted(seen(request) for request in line["requests"])


def compare(asgi, compiled):
    """Texts, one for each difference."""
    found = ["%s: ran on one path only" % test for test in sorted(asgi.keys() ^ compiled.keys())]
    for test in sorted(asgi.keys() & compiled.keys()):
        first, second = asgi[test], compiled[test]
        if first["outcome"] != second["outcome"]:
            found.append("%s: %s as ASGI, %s compiled" % (test, first["outcome"], second["outcome"]))
        # Some tests send several at once, in whatever order these run.
        pairs = list(zip(*(sorted(each["requests"], key=seen) for each in (first, second))))  # noqa: B905  # see below
        if len(first["requests"]) != len(second["requests"]):
            found.append("%s: another number of requests" % test)
        for one, other in pairs:
            if seen(one) != seen(other):
                found.append(
                    "%s: %s\n  as ASGI:  %s\n  compiled: %s" % (test, one["request"], brief(one), brief(other))
                )
    return found


def seen(line):
    """What the two paths must have in common, as something that can be sorted."""
    return CHANGING.sub("*", json.dumps([line["request"], line["sent"], line["raised"]]))


def brief(line):
    """What was sent, in few words."""
    text = "%s %s" % (line["sent"], line["raised"] or "")
    return text if len(text) < 600 else text[:600] + "..."


def suite(version):
    """Runs the suite for one version; True: there is no difference."""
    with Step("FastAPI %s: its tests, as ASGI" % version):
        asgi = record(version, "asgi")
    with Step("FastAPI %s: its tests, as ASGI once more" % version):
        again = record(version, "asgi")
    with Step("FastAPI %s: its tests, compiled" % version):
        compiled = record(version, "compiled")
    paths = collections.Counter(request["path"] for line in compiled.values() for request in line["requests"])
    outcomes = collections.Counter(line["outcome"] for line in compiled.values())
    say(
        "FastAPI %s: %d tests (%s)" % (version, len(compiled), ", ".join("%d %s" % (n, o) for o, n in outcomes.items()))
    )
    say(
        "%d requests; compiled routes answered %d of them, and %d below middleware; the others:"
        % (sum(paths.values()), paths["compiled"], paths["compiled below middleware"])
    )
    for reason, number in paths.most_common():
        if reason not in ("compiled", "compiled below middleware"):
            say("  %5d  %s" % (number, reason))
    changing = unsteady(asgi, again)
    say("not compared, since two runs as ASGI differ too: %d tests" % len(changing))
    for test in sorted(changing):
        say("  " + test)
        asgi.pop(test)
        compiled.pop(test, None)
    found = compare(asgi, compiled)
    for text in found:
        say("DIFFERENCE " + text)
    say("%d differences" % len(found))
    return not found and paths["compiled"] > 0


def main():
    """Runs the suite for each version that was asked for."""
    WORK.mkdir(parents=True, exist_ok=True)
    versions = os.environ.get("FASTAPI_VERSION", metadata.version("fastapi")).split()
    failed = [version for version in versions if not suite(version)]
    if failed:
        fail("the compiled path and FastAPI's differ")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError:
        sys.exit(1)
