"""`make test`: everything that can fail without a second machine, then one line of counts.

Rust tests of the default members, among them the claim page under loom, which tries every interleaving, and the fuzz
targets on kept seeds and on ten seconds of generated input; then Python tests, most of them with real processes. A
part that does not build or dies counts as one failure, so the last line never says 0 failed when something is wrong.
"""

import os
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

from project import BUILD, ROOT, Step, say

CARGO_RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed;")
FUZZ_SECONDS = "10"


def rust_tests():
    """Runs `cargo test`, showing its output, and returns (passed, failed)."""
    with Step("Rust tests, and fuzz targets for %s s" % FUZZ_SECONDS):
        process = subprocess.Popen(
            ["cargo", "test", "--locked", "--quiet", "--no-fail-fast"],
            cwd=str(ROOT),
            env=dict(os.environ, EAGLERAY_FUZZ_SECONDS=FUZZ_SECONDS),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        passed = failed = 0
        for line in process.stdout:
            result = CARGO_RESULT.match(line)
            if result:
                passed += int(result.group(1))
                failed += int(result.group(2))
            # Crates without tests would fill the screen with nothing.
            if line.strip() and line != "running 0 tests\n" and " 0 passed; 0 failed" not in line:
                sys.stdout.write(line)
        if process.wait() != 0 and failed == 0:
            failed = 1
        say("    %d passed, %d failed" % (passed, failed))
    return passed, failed


def python_tests():
    """Runs pytest, process tests side by side, and returns (passed, failed)."""
    report = BUILD / "pytest.xml"
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    with Step("Python tests"):
        status = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "2", "--junitxml", str(report)], cwd=str(ROOT), check=False
        ).returncode
        if not report.exists():
            return 0, 1
        suites = ElementTree.parse(report).getroot().findall("testsuite")
        total, failures, errors, skipped = (
            sum(int(suite.get(name)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
        )
        failed = failures + errors
        passed = total - failed - skipped
        if skipped:
            say("    %d skipped: the lines above say why" % skipped)
        if status != 0 and failed == 0:
            failed = 1
    return passed, failed


def main():
    """Runs all parts, whatever the earlier ones said."""
    # What scenarios counted in an earlier run says nothing of this one.
    shutil.rmtree(str(BUILD / "scenarios"), ignore_errors=True)
    counts = [rust_tests(), python_tests()]
    passed = sum(count[0] for count in counts)
    failed = sum(count[1] for count in counts)
    say("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
