"""`make fuzz`: the fuzz targets under libFuzzer, each for FUZZ_SECONDS.

The targets are plain functions that `make test` runs too; this finds inputs that generated ones do not reach. Inputs
found on the way stay under build/fuzz for the next run; the kept seeds in fuzz/seeds are read, never written.
"""

import os
import shutil
import subprocess
import sys

from project import BUILD, ROOT, Step, fail, run


def main():
    """Runs every target in turn and stops at the first finding."""
    if shutil.which("cargo-fuzz") is None:
        fail("cargo-fuzz is missing: cargo install cargo-fuzz")
    if subprocess.run(["cargo", "+nightly", "--version"], stdout=subprocess.DEVNULL, check=False).returncode != 0:
        fail("the fuzzer needs a nightly compiler: rustup toolchain install nightly")
    seconds = os.environ.get("FUZZ_SECONDS", "60")
    for target in sorted(path.stem for path in (ROOT / "fuzz" / "fuzz_targets").glob("*.rs")):
        corpus = BUILD / "fuzz" / target
        corpus.mkdir(parents=True, exist_ok=True)
        with Step("fuzzing %s for %s s" % (target, seconds)):
            run(
                *("cargo", "+nightly", "fuzz", "run", target, corpus, ROOT / "fuzz" / "seeds" / target),
                *("--", "-max_total_time=" + seconds),
            )


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError:
        sys.exit(1)
