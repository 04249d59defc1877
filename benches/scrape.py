"""`/metrics` of a node with 1,000 deployments that have traffic and 1,000 replicas, from files as processes write them.

Reading, text and gzip, in the native program `crates/metrics/examples/scrape.rs`, 20 times. No process of a node runs.

    python benches/scrape.py
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main():
    """Builds and runs it; its line of JSON is the report."""
    command = ["cargo", "run", "--release", "--locked", "--quiet", "-p", "eagleray-metrics", "--example", "scrape"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
