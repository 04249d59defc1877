"""Images as clients send them: 8 by 8 pixels of 0 (paper) to 16 (ink), as JSON or as a greyscale bitmap."""

import json
import re
from typing import Any

import numpy as np

SIDE = 8
INK = 16.0
# A binary portable greymap: its sides, its white, then one byte a pixel.
GREYMAP = re.compile(rb"P5\s+(?:#.*\n\s*)*(\d{1,5})\s+(\d{1,5})\s+(\d{1,5})\s")


class ImageError(ValueError):
    """The client's fault, said in words for the client."""


def image(body: bytes) -> np.ndarray:
    """The 64 numbers of an image. Raises ImageError that says what is wrong."""
    return greymap(body) if body.startswith(b"P5") else pixels(body)


def pixels(body: bytes) -> np.ndarray:
    """From `{"pixels": [64 numbers]}`."""
    try:
        payload: Any = json.loads(body)
    except ValueError as error:
        raise ImageError(f"the body is neither a greymap (P5) nor JSON: {error}") from None
    values = payload.get("pixels") if isinstance(payload, dict) else None
    if not isinstance(values, list) or len(values) != SIDE * SIDE:
        raise ImageError(f'the body must be a JSON object with {SIDE * SIDE} numbers under "pixels"')
    for place, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= INK:
            raise ImageError(f"pixel {place} is not a number from 0 to {INK:g}")
    return np.array(values, dtype=np.float64)


def greymap(body: bytes) -> np.ndarray:
    """From a bitmap with dark ink on light paper, whose sides are multiples of 8: each pixel is the mean of a block."""
    head = GREYMAP.match(body)
    if head is None:
        raise ImageError("the greymap has no head of width, height and white")
    width, height, white = (int(part) for part in head.groups())
    if not 0 < white < 256 or width % SIDE or height % SIDE or not width * height:
        raise ImageError(f"the greymap must have one byte a pixel and sides that are multiples of {SIDE}")
    data = body[head.end() :]
    if len(data) != width * height:
        raise ImageError(f"the greymap has {len(data)} pixels where {width} x {height} are announced")
    grey = np.frombuffer(data, dtype=np.uint8).reshape(SIDE, height // SIDE, SIDE, width // SIDE)
    return (INK * (1.0 - np.minimum(grey / white, 1.0))).mean(axis=(1, 3)).reshape(-1)
