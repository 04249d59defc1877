"""Trains what is not there yet, serves the pipeline, asks it over HTTP, and prints the answers."""

import json
import os
import sys
import urllib.request
from collections.abc import Iterator

from minilm import WeightsMissingError
from train import trained

PORT = int(os.environ.get("EAGLERAY_SERVE_DEFAULT_HTTP_PORT", "8000"))
ADDRESS = f"http://127.0.0.1:{PORT}/"
QUESTIONS = {
    "Where does the wine data come from?": "wine data",
    "Who took the face images at AT&T?": "olivetti faces",
    "How were the features of the breast cancer data computed?": "breast cancer",
}


def main() -> int:
    """0 if every answer is made from the right description."""
    try:
        facts = trained()
    except WeightsMissingError as error:
        print(error)
        return 1
    print(f"right passage first, for questions that training has not seen: {facts['unseen_first']:.0%}\n")

    from app import app
    from eagleray import serve

    # A node of the demo's own, also where a resident one runs: the demo changes nothing of yours.
    os.environ["EAGLERAY_NODE_NAME"] = "retrieval-demo"
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(app, name="retrieval")
    wrong = 0
    for asked, source in QUESTIONS.items():
        print(asked, end="\n ", flush=True)
        sources: list[str] = []
        words = 0
        for event in ask(asked):
            if "word" in event:
                words += 1
                print("", event["word"], end="", flush=True)
            else:
                sources = event["sources"]
        print(f"\n  ({', '.join(sources)})\n")
        wrong += source not in sources or not words
    print("Go on: examples/retrieval/README.md walks through the pipeline.")
    return 1 if wrong else 0


def ask(asked: str) -> Iterator[dict]:
    """The events of one streamed answer."""
    body = json.dumps({"question": asked}).encode()
    headers = {"accept": "text/event-stream", "content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(ADDRESS, body, headers), timeout=30) as answer:
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))


if __name__ == "__main__":
    sys.exit(main())
