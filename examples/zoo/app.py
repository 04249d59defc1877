"""Many small models behind one deployment: each replica holds the few that it is asked for.

`python examples/zoo/app.py` serves it until Ctrl-C, once `train.py` has run. The header `serve_multiplexed_model_id`
says which model a request is for; it goes to a replica that holds it already, if one does.
"""

import asyncio
import json
import math
import os
import pickle
import sys
from pathlib import Path
from typing import Any

from sklearn.pipeline import Pipeline
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from eagleray import serve

MODEL_DIRECTORY = Path(__file__).resolve().parent / "model"
MODEL_IDS = sorted(path.stem for path in MODEL_DIRECTORY.glob("*.pkl"))


class InputError(ValueError):
    """The client's fault, said in words for the client."""


@serve.deployment(num_replicas=2, max_ongoing_requests=16)
class Zoo:
    """Answers POST / with the class that the named model gives a row of numbers."""

    def __init__(self) -> None:
        self._loads = 0

    @serve.multiplexed(max_num_models_per_replica=4)
    async def load(self, model_id: str) -> tuple[Pipeline, list[str]]:
        """A model and the names of its classes. Runs once for a model that is not held; the oldest idle one goes."""
        self._loads += 1
        data = await asyncio.to_thread((MODEL_DIRECTORY / f"{model_id}.pkl").read_bytes)
        return pickle.loads(data)

    async def __call__(self, request: Request) -> Response:
        model_id = serve.get_multiplexed_model_id()
        if request.method != "POST":
            return JSONResponse({"error": "use POST", "models": MODEL_IDS}, status_code=405, headers={"allow": "POST"})
        if model_id not in MODEL_IDS:
            known = ", ".join(MODEL_IDS)
            error = f"the header serve_multiplexed_model_id must name one of {known}"
            return JSONResponse({"error": error}, status_code=404 if model_id else 400)
        model, names = await self.load(model_id)
        try:
            features = row(await request.body(), model.n_features_in_)
        except InputError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        result = names[int(model.predict([features])[0])]
        return JSONResponse({"result": result, "model": model_id, "replica": os.getpid(), "loads": self._loads})


def row(body: bytes, width: int) -> list[float]:
    """The numbers of `{"features": [...]}`. Raises InputError that says what is wrong."""
    try:
        payload: Any = json.loads(body)
    except ValueError as error:
        raise InputError(f"the body is not JSON: {error}") from None
    values = payload.get("features") if isinstance(payload, dict) else None
    if not isinstance(values, list) or len(values) != width:
        raise InputError(f'the body must be a JSON object with {width} numbers under "features"')
    for place, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"feature {place} is not a finite number")
    return [float(value) for value in values]


def check_trained() -> None:
    """Ends the script, with what to do, if `train.py` has not run."""
    needed = MODEL_DIRECTORY / "accuracies.json"  # written last
    if not needed.exists():
        sys.exit(f"{needed} is missing; {sys.executable} {Path(__file__).resolve().with_name('train.py')} makes it")


app = Zoo.bind()

if __name__ == "__main__":
    check_trained()
    serve.run(app, blocking=True)
