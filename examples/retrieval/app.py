"""Retrieval-augmented answers: three models, each a deployment of its own, and a pipeline that calls them.

    question -> EmbeddingModel -> nearest passages -> RerankerModel -> best passages -> LLMModel -> words

`python examples/retrieval/app.py` serves it until Ctrl-C, once `train.py` has run. POST {"question": "..."} to / for an
answer in one piece; with `accept: text/event-stream` the words come as they are made.
"""

import json
import pickle
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from corpus import passages
from eagleray import serve
from eagleray.serve.handle import DeploymentHandle
from language_model import LanguageModel
from minilm import MiniLM, WeightsMissingError, model_directory
from reranker import Reranker

MODEL_DIRECTORY = Path(__file__).resolve().parent / "model"
NEAREST = 10  # passages that the reranker looks at
BEST = 2  # passages that the answer is made from
LONGEST_QUESTION = 500  # characters


@serve.deployment(num_replicas=2, max_ongoing_requests=4)
class EmbeddingModel:
    """Texts to unit vectors. Two replicas: this is the stage that costs most."""

    def __init__(self) -> None:
        self._model = MiniLM()

    def encode(self, texts: list[str]) -> np.ndarray:
        """An array (texts, 384) of float32."""
        return self._model.encode(texts)


@serve.deployment(max_ongoing_requests=8)
class RerankerModel:
    """How likely it is that each passage answers the question."""

    def __init__(self) -> None:
        self._model: Reranker = pickle.loads((MODEL_DIRECTORY / "reranker.pkl").read_bytes())

    def score(self, question: str, texts: list[str], similarities: list[float]) -> list[float]:
        """One probability a passage."""
        return self._model.score(question, texts, similarities)


@serve.deployment(max_ongoing_requests=8)
class LLMModel:
    """The answer, word by word."""

    def __init__(self) -> None:
        self._model: LanguageModel = pickle.loads((MODEL_DIRECTORY / "language_model.pkl").read_bytes())

    def generate(self, question: str, texts: list[str]) -> Iterator[str]:
        """Yields the words of an answer made from these passages."""
        yield from self._model.generate(question, texts)


class QuestionError(ValueError):
    """The client's fault, said in words for the client."""


@serve.deployment(max_ongoing_requests=50)
class RAGPipeline:
    """Finds what may answer a question, and has the answer made from it."""

    def __init__(self, embedding: DeploymentHandle, reranker: DeploymentHandle, llm: DeploymentHandle) -> None:
        self._embedding, self._reranker = embedding, reranker
        self._llm = llm.options(stream=True)
        self._passages = passages()
        self._vectors = np.load(MODEL_DIRECTORY / "vectors.npy")

    async def __call__(self, request: Request) -> Response:
        """Answers POST / in one piece, or as server-sent events."""
        if request.method != "POST":
            return JSONResponse({"error": "use POST"}, status_code=405, headers={"allow": "POST"})
        try:
            asked = question(await request.body())
        except QuestionError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        found = await self._retrieve(asked)
        words = self._llm.generate.remote(asked, [text for _, text in found])
        sources = list(dict.fromkeys(source for source, _ in found))
        if "text/event-stream" in request.headers.get("accept", ""):
            return StreamingResponse(events(words, sources), media_type="text/event-stream")
        return JSONResponse({"answer": " ".join([word async for word in words]), "sources": sources})

    async def _retrieve(self, asked: str) -> list[tuple[str, str]]:
        """Source and text of the passages that answer best."""
        vector = (await self._embedding.encode.remote([asked]))[0]
        similarities = self._vectors @ vector
        nearest = [int(number) for number in np.argsort(-similarities)[:NEAREST]]
        texts = [self._passages[number].text for number in nearest]
        close = [float(similarities[number]) for number in nearest]
        scores = await self._reranker.score.remote(asked, texts, close)
        order = sorted(range(len(nearest)), key=lambda place: -scores[place])[:BEST]
        return [(self._passages[nearest[place]].source, texts[place]) for place in order]


async def events(words: AsyncIterator[str], sources: list[str]) -> AsyncIterator[str]:
    """One event a word, then one with the sources."""
    async for word in words:
        yield f"data: {json.dumps({'word': word})}\n\n"
    yield f"data: {json.dumps({'sources': sources})}\n\n"


def question(body: bytes) -> str:
    """The question of a JSON body. Raises QuestionError that says what is wrong."""
    try:
        payload: Any = json.loads(body)
    except ValueError as error:
        raise QuestionError(f"the body is not JSON: {error}") from None
    asked = payload.get("question") if isinstance(payload, dict) else None
    if not isinstance(asked, str) or not asked.strip():
        raise QuestionError('the body must be a JSON object with a text under "question"')
    if len(asked) > LONGEST_QUESTION:
        raise QuestionError(f"the question is longer than {LONGEST_QUESTION} characters")
    return asked


def check_trained() -> None:
    """Ends the script, with what to do, if `train.py` has not run, or has nothing to run with."""
    try:
        model_directory()
    except WeightsMissingError as error:
        sys.exit(str(error))
    for needed in ("vectors.npy", "reranker.pkl", "language_model.pkl"):
        if not (MODEL_DIRECTORY / needed).exists():
            train = Path(__file__).resolve().with_name("train.py")
            sys.exit(f"{MODEL_DIRECTORY / needed} is missing; {sys.executable} {train} makes it")


app = RAGPipeline.bind(EmbeddingModel.bind(), RerankerModel.bind(), LLMModel.bind())

if __name__ == "__main__":
    check_trained()
    serve.run(app, blocking=True)
