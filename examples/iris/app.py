"""The iris service: two replicas, each with its own copy of the model.

python examples/iris/app.py serves it until Ctrl-C.
"""

import json
import math
import pickle
import sys
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from eagleray import serve

MODEL_DIRECTORY = Path(__file__).resolve().parent / "model"
FEATURES = ("sepal length", "sepal width", "petal length", "petal width")


class InputError(ValueError):
    """The client's fault, said in words for the client."""


def features(body: bytes) -> list[float]:
    """The four measurements of a JSON body, in the model's order. Raises InputError that names what is wrong."""
    try:
        payload: Any = json.loads(body)
    except ValueError as error:
        raise InputError(f"the body is not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise InputError("the body must be a JSON object with the keys " + ", ".join(FEATURES))
    return [number(payload, feature) for feature in FEATURES]


def number(payload: dict[str, Any], feature: str) -> float:
    """One measurement: a finite JSON number. `true` and `"1.2"` are not numbers."""
    if feature not in payload:
        raise InputError(f"missing feature: {feature}")
    value = payload[feature]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"feature is not a number: {feature}")
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise InputError(f"feature is not a finite number: {feature}")
    return value


@serve.deployment(num_replicas=2)
class IrisClassifier:
    """Answers POST / (and GET / with a body) with the kind of flower."""

    def __init__(self) -> None:
        self.model = pickle.loads((MODEL_DIRECTORY / "model.pkl").read_bytes())
        self.labels = json.loads((MODEL_DIRECTORY / "labels.json").read_text())["labels"]

    async def __call__(self, request: Request) -> Response:
        if request.method not in ("GET", "POST"):
            return JSONResponse({"error": "use POST"}, status_code=405, headers={"allow": "GET, POST"})
        try:
            row = features(await request.body())
        except InputError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse({"result": self.labels[int(self.model.predict([row])[0])]})


def check_trained() -> None:
    """Ends the script, with what to do, if `train.py` has not run."""
    for needed in ("model.pkl", "labels.json"):
        if not (MODEL_DIRECTORY / needed).exists():
            train = Path(__file__).resolve().with_name("train.py")
            sys.exit(f"{MODEL_DIRECTORY / needed} is missing; {sys.executable} {train} makes it")


app = IrisClassifier.bind()

if __name__ == "__main__":
    check_trained()
    serve.run(app, blocking=True)
