"""`make examples`: runs the `demo.py` of every example; each ends with status 0 when its answers were right."""

import subprocess
import sys

from project import ROOT, Step, say


def main():
    """Runs them one after another; 1 if any failed."""
    failed = []
    for demo in sorted((ROOT / "examples").glob("*/demo.py")):
        with Step(str(demo.relative_to(ROOT))):
            if subprocess.run([sys.executable, str(demo)], cwd=str(ROOT), check=False).returncode != 0:
                failed.append(demo.parent.name)
    say("examples: " + ("failed: " + ", ".join(failed) if failed else "all ran"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
