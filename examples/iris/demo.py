"""`make demo`: trains the iris model if it is not there, serves it, asks it over HTTP, and says how to go on."""

import json
import os
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from app import MODEL_DIRECTORY, app
from eagleray import serve
from train import train

HOST = "127.0.0.1"
PORT = int(os.environ.get("EAGLERAY_SERVE_DEFAULT_HTTP_PORT", "8000"))
FLOWERS = [
    {"sepal length": 1.2, "sepal width": 1.0, "petal length": 1.1, "petal width": 0.9},
    {"sepal length": 5.9, "sepal width": 2.8, "petal length": 4.3, "petal width": 1.3},
    {"sepal length": 6.7, "sepal width": 3.1, "petal length": 5.6, "petal width": 2.3},
    {"sepal length": 6.7, "petal length": 5.6, "petal width": 2.3},
    {"sepal length": 6.7, "sepal width": "wide", "petal length": 5.6, "petal width": 2.3},
]


def main() -> int:
    """The whole demo; 0 if every answer was as it should be."""
    accuracy = trained()
    # A node of the demo's own, also where a resident one runs: the demo changes nothing of yours.
    os.environ["EAGLERAY_NODE_NAME"] = "iris-demo"
    port = free_port()
    serve.start(http_options={"host": HOST, "port": port})
    serve.run(app, name="iris")

    address = f"http://{HOST}:{port}/"
    print(f"\nTwo replicas of the model answer at {address}\n")
    answers = [ask(address, flower) for flower in FLOWERS]
    for flower, (status, answer) in zip(FLOWERS, answers, strict=True):
        print(f"  POST {json.dumps(flower)}\n    {status} {json.dumps(answer)}")
    print(f"\nvalidation accuracy: {accuracy:.3f}, on flowers that training has not seen\n")

    script = Path(__file__).resolve().parent / "app.py"
    print(f"Go on: {relative(Path(sys.executable))} {relative(script)} serves until Ctrl-C;")
    print("       examples/iris/README.md walks through the service and its training.")
    statuses = [status for status, _ in answers]
    return 0 if answers[0] == (200, {"result": "setosa"}) and statuses == [200, 200, 200, 400, 400] else 1


def trained() -> float:
    """Trains once; later runs read the accuracy that training measured."""
    labels = MODEL_DIRECTORY / "labels.json"
    if not labels.exists():
        print("training on scikit-learn's iris data ...", flush=True)
        return train()
    return float(json.loads(labels.read_text())["validation_accuracy"])


def free_port() -> int:
    """The usual port, or another one when somebody else has it. 0 lets the system choose."""
    for port in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
            if PORT not in (0, found):
                print(f"port {PORT} is taken; the demo uses {found}")
            return found
    raise SystemExit("no free port on " + HOST)


def ask(address: str, flower: dict[str, Any]) -> tuple[int, Any]:
    """Status and JSON of one answer."""
    request = urllib.request.Request(address, data=json.dumps(flower).encode(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def relative(path: Path) -> str:
    """A path as one would type it here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
