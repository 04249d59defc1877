"""A chat over WebSocket and a streaming endpoint: a FastAPI service in front of a language model.

`python examples/chat/app.py` serves it until Ctrl-C, once `train.py` has run. Open http://127.0.0.1:8000/ in a browser.
"""

import json
import pickle
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel, Field

from eagleray import serve
from eagleray.serve.handle import DeploymentHandle
from language_model import LanguageModel

HERE = Path(__file__).resolve().parent
LONGEST_MESSAGE = 500  # characters
MOST_WORDS = 40
api = FastAPI(title="Chat", description="Goes on with what you say, in the words of Python's documentation.")


class Prompt(BaseModel):
    """What to go on with, and how."""

    prompt: str = Field(min_length=1, max_length=LONGEST_MESSAGE)
    most_words: int = Field(default=MOST_WORDS, ge=1, le=500)
    temperature: float = Field(default=0.7, ge=0, le=2)
    seed: int | None = None


@serve.deployment(max_ongoing_requests=16)
class LLMModel:
    """The model: one generator a request."""

    def __init__(self) -> None:
        self._model: LanguageModel = pickle.loads((HERE / "model" / "model.pkl").read_bytes())

    def generate(self, prompt: str, most_words: int, temperature: float, seed: int | None) -> Iterator[str]:
        """Yields words; see LanguageModel.generate."""
        yield from self._model.generate(prompt, most_words, temperature, seed)


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(api)
class Chat:
    """What clients meet. A chat holds its slot for as long as it lasts."""

    def __init__(self, llm: DeploymentHandle) -> None:
        self._llm = llm.options(stream=True)

    @api.get("/", include_in_schema=False)
    async def page(self) -> HTMLResponse:
        """The chat in a browser."""
        return HTMLResponse((HERE / "page.html").read_text(encoding="utf-8"))

    @api.post("/generate")
    async def generate(self, asked: Prompt) -> StreamingResponse:
        """Words as they are made, each with a space after it."""
        words = self._llm.generate.remote(asked.prompt, asked.most_words, asked.temperature, asked.seed)
        return StreamingResponse(spaced(words), media_type="text/plain")

    @api.websocket("/chat")
    async def chat(self, socket: WebSocket) -> None:
        """Text in, `{"word": ...}` for each word out, then `{"end": true}`; what was said before is remembered."""
        await socket.accept()
        said: list[str] = []
        try:
            while True:
                message = await socket.receive_text()
                if not message.strip() or len(message) > LONGEST_MESSAGE:
                    await socket.send_json({"error": f"say something of at most {LONGEST_MESSAGE} characters"})
                    continue
                said += message.split()
                async for word in self._llm.generate.remote(" ".join(said[-50:]), MOST_WORDS, 0.7, None):
                    said.append(word)
                    await socket.send_text(json.dumps({"word": word}))
                await socket.send_json({"end": True})
        except WebSocketDisconnect:
            return


async def spaced(words: AsyncIterator[str]) -> AsyncIterator[str]:
    """Each word with a space after it."""
    async for word in words:
        yield word + " "


def check_trained() -> None:
    """Ends the script, with what to do, if `train.py` has not run."""
    needed = HERE / "model" / "model.pkl"
    if not needed.exists():
        sys.exit(f"{needed} is missing; {sys.executable} {Path(__file__).resolve().with_name('train.py')} makes it")


app = Chat.bind(LLMModel.bind())

if __name__ == "__main__":
    check_trained()
    serve.run(app, blocking=True)
