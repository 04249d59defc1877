"""FastAPI under test, for uvicorn: BENCH_ROW says which row. The handler runs in the HTTP process itself."""

import os

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from iris_model import CHUNKS

ROW = os.environ["BENCH_ROW"]
app = FastAPI()

if ROW in ("noop_async", "two_replicas"):

    @app.post("/")
    async def noop(request: Request):
        return PlainTextResponse("ok")

elif ROW == "noop_sync":

    @app.post("/")
    def noop_sync(request: Request):
        return PlainTextResponse("ok")

elif ROW == "stream":

    async def chunks():
        for chunk in CHUNKS:
            yield chunk

    @app.post("/")
    async def stream(request: Request):
        return StreamingResponse(chunks(), media_type="text/plain")

else:
    from iris_model import Iris

    iris = Iris()

    @app.post("/")
    async def predict(request: Request):
        return iris.answer(await request.json())
