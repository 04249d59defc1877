"""The digits service: images come one by one and are classified together.

`python examples/digits/app.py` serves it until Ctrl-C, once `train.py` has run.
"""

import pickle
import sys
from pathlib import Path

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from eagleray import serve
from images import ImageError, image

MODEL_DIRECTORY = Path(__file__).resolve().parent / "model"
LARGEST_BODY = 1 << 20


@serve.deployment(max_ongoing_requests=128)
class DigitClassifier:
    """Answers POST / with the digit that an image shows."""

    def __init__(self) -> None:
        self._model = pickle.loads((MODEL_DIRECTORY / "model.pkl").read_bytes())

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def classify(self, images: list[np.ndarray]) -> list[tuple[int, float, int]]:
        """For each image its digit, the probability of that, and how many images were classified with it."""
        chances = self._model.predict_proba(np.stack(images))
        return [(int(one.argmax()), float(one.max()), len(images)) for one in chances]

    async def __call__(self, request: Request) -> Response:
        if request.method != "POST":
            return JSONResponse({"error": "use POST"}, status_code=405, headers={"allow": "POST"})
        try:
            one = image(await body(request))
        except ImageError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        digit, probability, together = await self.classify(one)
        return JSONResponse({"digit": digit, "probability": round(probability, 3), "batch": together})


async def body(request: Request) -> bytes:
    """The whole body, as long as no image needs more."""
    read = b""
    async for chunk in request.stream():
        read += chunk
        if len(read) > LARGEST_BODY:
            raise ImageError(f"the image is larger than {LARGEST_BODY >> 20} MiB")
    return read


def check_trained() -> None:
    """Ends the script, with what to do, if `train.py` has not run."""
    needed = MODEL_DIRECTORY / "model.pkl"
    if not needed.exists():
        sys.exit(f"{needed} is missing; {sys.executable} {Path(__file__).resolve().with_name('train.py')} makes it")


app = DigitClassifier.bind()

if __name__ == "__main__":
    check_trained()
    serve.run(app, blocking=True)
