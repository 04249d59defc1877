"""Trains the classifier if it is not there, serves it, and sends it images from many threads at once."""

import json
import os
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from sklearn.datasets import load_digits

from app import app
from eagleray import serve
from train import trained

PORT = int(os.environ.get("EAGLERAY_SERVE_DEFAULT_HTTP_PORT", "8000"))
ADDRESS = f"http://127.0.0.1:{PORT}/"
IMAGES, THREADS = 256, 32


def main() -> int:
    """0 if nearly every digit was recognised."""
    print(f"validation accuracy: {trained():.3f}, on images that training has not seen")
    # A node of the demo's own, also where a resident one runs: the demo changes nothing of yours.
    os.environ["EAGLERAY_NODE_NAME"] = "digits-demo"
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(app, name="digits")
    digits = load_digits()
    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(ask, digits.data[:IMAGES].tolist()))
    right = sum(answer["digit"] == int(label) for answer, label in zip(answers, digits.target, strict=False))
    batches = sum(1 / answer["batch"] for answer in answers)
    print(f"{right} of {IMAGES} images recognised; {IMAGES / batches:.1f} images a batch, {THREADS} clients")
    return 0 if right > 0.95 * IMAGES else 1


def ask(pixels: list[float]) -> dict:
    """The answer to one image."""
    request = urllib.request.Request(ADDRESS, json.dumps({"pixels": pixels}).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main())
