"""`from __future__ import annotations` in a script: dependencies keep the types that their annotations name."""

from pathlib import Path

import pytest
from machine_of_one import as_json, code, serving

APP = """
from __future__ import annotations
from typing import Annotated
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, Query, Request, Response
from pydantic import BaseModel
from eagleray import serve

class Page(BaseModel):
    offset: int

notes = []

def offset(number: Annotated[int, Query(alias="offset")] = 0) -> Page:
    return Page(offset=number)

async def session(request: Request, page: Annotated[Page, Depends(offset)], response: Response):
    response.headers["x-session"] = request.url.path
    yield page.offset

def later(tasks: BackgroundTasks):
    tasks.add_task(notes.append, "later")

def noted(request: Request):
    notes.append(request.url.path)

def checked(key: Annotated[str, Header(alias="x-key")]):
    notes.append(key)

app = FastAPI(dependencies=[Depends(noted)])
router = APIRouter(dependencies=[Depends(later)])
sub = FastAPI()

class Service:
    @app.get("/session")
    async def annotated(self, found: Annotated[int, Depends(session)]) -> int:
        return found

    @app.get("/default")
    async def default(self, found: int = Depends(session)) -> int:
        return found

    @router.get("/routed")
    async def routed(self) -> list[str]:
        return notes

    @sub.post("/item", dependencies=[Depends(checked)])
    async def item(self, item: Page, found: Annotated[int, Depends(session)]) -> list[int]:
        return [item.offset, found]

@router.get("/plain")
async def plain(found: Annotated[int, Depends(session)]) -> int:
    return found

app.include_router(router, prefix="/router", dependencies=[Depends(checked)])
app.mount("/sub", sub)
Service = serve.ingress(app)(Service)
"""


@pytest.mark.contract("1.2/fastapi")
def test_dependencies_keep_the_types_of_their_annotations(tmp_path: Path) -> None:
    with serving(tmp_path, code(APP)["Service"]) as (_, router):
        key = (("x-key", "k"),)
        for path in ("/session", "/default", "/router/plain"):
            answer = router.get(f"{path}?offset=3", headers=key)
            assert (answer.status, as_json(answer)) == (200, 3), answer.body
            assert answer.headers["x-session"] == path
        routed = router.get("/router/routed", headers=key)
        assert routed.status == 200, routed.body
        assert {"/session", "/router/plain", "k", "later"} <= set(as_json(routed))
        assert router.get("/router/plain").status == 422, "without its key"
        posted = router.get(
            "/sub/item?offset=4", method="POST", body=b'{"offset":2}',
            headers=(("content-type", "application/json"), *key),
        )  # fmt: skip
        assert (posted.status, as_json(posted)) == (200, [2, 4]), posted.body
