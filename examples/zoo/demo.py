"""Trains the zoo if it is not there, serves it, and asks every model in turn, twice."""

import json
import os
import sys
import urllib.request

from train import DATASETS, trained

PORT = int(os.environ.get("EAGLERAY_SERVE_DEFAULT_HTTP_PORT", "8000"))
ADDRESS = f"http://127.0.0.1:{PORT}/"


def main() -> int:
    """0 if every model answers, most of them rightly."""
    accuracies = trained()

    from app import app
    from eagleray import serve

    # A node of the demo's own, also where a resident one runs: the demo changes nothing of yours.
    os.environ["EAGLERAY_NODE_NAME"] = "zoo-demo"
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(app, name="zoo")
    right = asked = 0
    for model_id, accuracy in accuracies.items():
        data = DATASETS[model_id.rpartition("-")[0]]()
        answers = [ask(model_id, data.data[number].tolist()) for number in (0, len(data.data) - 1)]
        expected = [str(data.target_names[data.target[number]]) for number in (0, -1)]
        right += sum(answer["result"] == name for answer, name in zip(answers, expected, strict=True))
        asked += len(answers)
        print(f"{model_id:26} accuracy {accuracy:.3f}   answers {[answer['result'] for answer in answers]}")
    print(f"{right} of {asked} right, from {len(accuracies)} models in two replicas that hold at most four each")
    return 0 if right > 0.8 * asked else 1


def ask(model_id: str, features: list[float]) -> dict:
    """The answer of one model to one row."""
    body = json.dumps({"features": features}).encode()
    request = urllib.request.Request(ADDRESS, body, {"serve_multiplexed_model_id": model_id})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main())
