"""`make fastapi-suite`: FastAPI's own tests, with each request answered by a compiled route and, beside it, as ASGI.

The source package of FastAPI carries its tests and the examples of its documentation. It is fetched from the package
index into build/fastapi-suite, never into the repository, with what the tests import. The tests run as ASGI, and
compiled. What was sent for each request of each test is then compared, and so is which tests pass. The tests that
differ run once more both ways, one after the other. One that ASGI then answers otherwise too is named and left out. One
that had failed by the clock, on a busy machine, counts by this second run; the table says how many there were.

FASTAPI_VERSION says which FastAPI, one or more; without it, those that the compiled path knows. FASTAPI_TESTS are the
tests, by default all; FASTAPI_SHARE=8 takes every eighth file of them; FASTAPI_WORKERS how many run at once. With
FASTAPI_OPTIONAL=1 it is skipped where the package index cannot be reached.

With FASTAPI_TRUST=1 a version is tried whose functions are not known yet; when there is no difference, what
`framework.hashes()` says with it may be added to `_hashes.py`.

It prints how many tests and requests there were, how many requests a compiled route answered, why the others were not,
and each difference; at the end a table of all versions. It ends with an error if there is a difference.
"""

import collections
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

from project import BUILD, ROOT, Step, fail, run, say

WORK = BUILD / "fastapi-suite"
# The newest, and the last of the two minor versions before it.
VERSIONS = ("0.165.0", "0.164.0", "0.163.2")
# What the tests import.
NEEDS = (
    *("pytest<9.2", "pytest-timeout", "pytest-xdist", "httpx", "httpx2", "dirty-equals", "inline-snapshot"),
    *("anyio[trio]", "sqlmodel", "flask<4", "a2wsgi", "pyjwt", "pwdlib[argon2]", "pydantic-settings", "jinja2"),
    *("orjson", "ujson", "itsdangerous", "email-validator", "python-slugify", "pyyaml", "python-multipart"),
    *("strawberry-graphql", "uvicorn", "cloudpickle", "setproctitle"),
    *("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "opentelemetry-instrumentation-fastapi"),
    *("logfire[fastapi]", "sentry-sdk"),
)
# Answers that no two runs have in common: for the rest of these tests only whether they pass is compared.
BY_CHANCE = {
    "tests/test_tutorial/test_sql_databases/": "SQLModel orders columns by their addresses",
    "tests/test_sse.py::test_keepalive_ping": "how many pings there are depends on the clock",
}
# What differs from run to run: times, what is hashed from them, names by chance, folders of a run.
CHANGING = re.compile(
    r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT|[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f-]{27}|pytest-\d+|popen-gw\d+"
    r"|[\d-]{10}[T ][\d:.]+|eyJ[\w.-]+"
)
# What the plugin says of a request that a compiled route answered.
WHOLE, BELOW = "compiled", "compiled below middleware"
SKIPPED = ("tests/benchmarks", "tests/memory_benchmarks", "tests/test_fastapi_cli.py", "tests/test_prepare_release.py")
# What pytest ends with when all tests ran: they passed, or some did not.
WHOLE_RUN = (0, 1)


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
    wanted = "\n".join(NEEDS)
    if not done.exists() or done.read_text() != wanted:
        run(sys.executable, "-m", "venv", home)
        run(python, "-m", "pip", "install", "--quiet", "fastapi==" + version, *NEEDS)
        done.write_text(wanted)
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    ours, theirs = (
        subprocess.run([one, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        for one in (sys.executable, python)
    )
    link = Path(theirs) / "eagleray"
    if not link.is_symlink():
        link.symlink_to(Path(ours) / "eagleray")
    return python


def chosen(source):
    """The tests, as files or folders, in the same order always."""
    names, share = os.environ.get("FASTAPI_TESTS", "tests").split(), int(os.environ.get("FASTAPI_SHARE", "1"))
    if share == 1:
        return names
    found = sorted(str(file.relative_to(source)) for name in names for file in (source / name).rglob("test_*.py"))
    return [file for file in found if not file.startswith(SKIPPED)][::share]


def record(version, path, tests, again=False):
    """Runs tests on one path; returns what they did, by the name of the test. `again`: one after the other."""
    workers = "0" if again else os.environ.get("FASTAPI_WORKERS", "2")
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
    command += ["-p", "fastapi_suite_plugin", "-n", workers]
    command += ["--ignore=" + one for one in SKIPPED]
    command += tests
    name = WORK / ("%s-%s%s.log" % (version, path, "-again" if again else ""))
    with open(name, "w", encoding="utf-8") as log:
        done = subprocess.run(command, cwd=str(source_of(version)), env=env, stdout=log, stderr=log, check=False)
    if done.returncode not in WHOLE_RUN:
        fail("FastAPI's tests did not run to their end (pytest ended with %d), see %s" % (done.returncode, name))
    with open(file, encoding="utf-8") as lines:
        return {line["test"]: line for line in map(json.loads, lines)}


def unsteady(version, asgi, found):
    """Of the tests that differ, those that do so whatever the path and those that failed by the clock, with reasons."""
    tests = sorted(found.keys() & asgi.keys())
    if not tests:
        return {}, {}
    with Step("FastAPI %s: %d tests that differ, once more both ways" % (version, len(tests))):
        again, compiled = (record(version, path, tests, again=True) for path in ("asgi", "compiled"))
    reasons, alone = {}, {}
    for test in again.keys() & compiled.keys() & set(tests):
        if answers(asgi[test]) != answers(again[test]):
            reasons[test] = "two runs as ASGI differ"
        elif not found[test].answers and same(again[test], compiled[test]):
            # Tests of programs that export something give up when the machine is busy.
            alone[test] = "%s, and not once more" % found[test].texts[0]
    return reasons, alone


def same(line, other):
    """Whether two runs of a test ended alike and sent the same."""
    return line["outcome"] == other["outcome"] and answers(line) == answers(other)


def answers(line):
    """What was sent in a test, whatever the order."""
    return sorted(seen(request) for request in line["requests"])


class Difference:
    """How a test differs: as texts, and whether answers do."""

    def __init__(self):
        self.texts = []
        self.answers = False


def compare(asgi, compiled):
    """The tests that differ, by name."""
    found = collections.defaultdict(Difference)
    for test in asgi.keys() ^ compiled.keys():
        found[test].texts.append("ran on one path only")
    for test in asgi.keys() & compiled.keys():
        first, second = asgi[test], compiled[test]
        if first["outcome"] != second["outcome"]:
            found[test].texts.append("%s as ASGI, %s compiled" % (first["outcome"], second["outcome"]))
        if test.startswith(tuple(BY_CHANCE)):
            continue
        # Some tests send several at once, in whatever order these run.
        pairs = list(zip(*(sorted(each["requests"], key=seen) for each in (first, second))))  # noqa: B905  # see below
        texts = [
            "%s\n  as ASGI:  %s\n  compiled: %s" % (one["request"], brief(one), brief(other))
            for one, other in pairs
            if seen(one) != seen(other)
        ]
        if len(first["requests"]) != len(second["requests"]) and first["outcome"] == second["outcome"]:
            texts.append("another number of requests")
        if texts:
            found[test].answers = True
            found[test].texts += texts
    return found


def seen(line):
    """What the two paths must have in common, as something that can be sorted."""
    return CHANGING.sub("*", json.dumps([line["request"], line["sent"], line["raised"]]))


def brief(line):
    """What was sent, in few words."""
    text = "%s %s" % (line["sent"], line["raised"] or "")
    return text if len(text) < 600 else text[:600] + "..."


def suite(version):
    """Runs the suite for one version; returns its row of the table."""
    python_of(version)
    tests = chosen(source_of(version))
    with Step("FastAPI %s: its tests, as ASGI" % version):
        asgi = record(version, "asgi", tests)
    with Step("FastAPI %s: its tests, compiled" % version):
        compiled = record(version, "compiled", tests)
    found = compare(asgi, compiled)
    changing, alone = unsteady(version, asgi, found)
    for test in (*changing, *alone):
        del found[test]
    for start, why in BY_CHANCE.items():
        changing.update(dict.fromkeys((test for test in compiled if test.startswith(start)), why))
    paths = collections.Counter(request["path"] for line in compiled.values() for request in line["requests"])
    outcomes = collections.Counter(line["outcome"] for line in compiled.values())
    say("FastAPI %s: %d tests (%s)" % (version, len(compiled), counts(outcomes)))
    say("why requests were not answered by a compiled route:")
    for reason, number in paths.most_common():
        if reason not in (WHOLE, BELOW):
            say("  %5d  %s" % (number, reason))
    say("answers not compared: %d tests" % len(changing))
    for test, why in sorted(changing.items()):
        say("  %s: %s" % (test, why))
    say("compared in a second run only: %d tests" % len(alone))
    for test, why in sorted(alone.items()):
        say("  %s: %s" % (test, why))
    for test in sorted(found):
        for text in found[test].texts:
            say("DIFFERENCE %s: %s" % (test, text))
    return {
        "FastAPI": version,
        "tests": len(compiled),
        "not compared": len(changing),
        "by a second run": len(alone),
        "requests": sum(paths.values()),
        "compiled": paths[WHOLE],
        "compiled below middleware": paths[BELOW],
        "as ASGI": sum(paths.values()) - paths[WHOLE] - paths[BELOW],
        "differences": sum(len(one.texts) for one in found.values()),
    }


def counts(counter):
    """As text."""
    return ", ".join("%d %s" % (number, what) for what, number in counter.items())


def is_reached(version):
    """Whether the package index can be asked for it."""
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1", "fastapi==" + version)
    done = subprocess.run((*map(str, pip), "--dest", str(WORK)), capture_output=True, check=False)
    return done.returncode == 0


def main():
    """Runs the suite for each version that was asked for."""
    WORK.mkdir(parents=True, exist_ok=True)
    versions = os.environ.get("FASTAPI_VERSION", " ".join(VERSIONS)).split()
    if os.environ.get("FASTAPI_OPTIONAL") and not is_reached(versions[0]):
        say("skipped: FastAPI's own tests, the package index cannot be reached")
        return
    rows = [suite(version) for version in versions]
    names = list(rows[0])
    for line in ([names], [["---"] * len(names)], [[str(value) for value in row.values()] for row in rows]):
        for cells in line:
            say("| " + " | ".join(cells) + " |")
    if any(row["differences"] or not row["compiled"] for row in rows):
        fail("the compiled path and FastAPI's differ")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError:
        sys.exit(1)
