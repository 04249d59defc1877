"""Schemathesis draws requests from an application's own schema, right and wrong ones: both paths answer the same."""

from typing import Annotated, Any, Literal
from urllib.parse import unquote

import pytest
import requests
import schemathesis
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, HTTPException, Query, Response
from fastapi.security import APIKeyHeader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from schemathesis import GenerationMode

from both_paths import Sent, both_of_all

EXAMPLES = 15


class Line(BaseModel):
    sku: str = Field(pattern="^[A-Z]{2,4}$")
    count: int = Field(ge=1, le=9)


class Order(BaseModel):
    lines: list[Line] = Field(min_length=1, max_length=3)
    note: str | None = None
    kind: Literal["now", "later"] = "now"


class Receipt(BaseModel):
    number: int
    lines: list[Line]
    note: str | None = None


def shop(calls: list[Any]) -> FastAPI:
    """An application of some size: routers, a session that is left, a key, models both ways."""
    app, orders = FastAPI(), APIRouter(prefix="/orders", tags=["orders"])
    known: dict[int, Order] = {}

    async def session() -> Any:
        calls.append("entered")
        yield known
        calls.append("left")

    Session = Annotated[dict[int, Order], Depends(session)]  # a type
    Key = Annotated[str, Depends(APIKeyHeader(name="x-key"))]  # a type

    @orders.post("", status_code=201, response_model=Receipt, response_model_exclude_none=True)
    async def create(order: Order, session: Session, key: Key, response: Response) -> Any:
        number = len(session) + 1
        session[number] = order
        response.headers["location"] = f"/orders/{number}"
        return {"number": number, **order.model_dump()}

    @orders.get("/{number}", response_model=Receipt)
    async def read(number: Annotated[int, Field(ge=0, le=50)], session: Session) -> Any:
        if number not in session:
            raise HTTPException(404, f"there is no order {number}")
        return {"number": number, **session[number].model_dump()}

    @orders.get("")
    def search(
        session: Session,
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        kinds: Annotated[list[Literal["now", "later"]], Query()] = ["now"],  # noqa: B006  # as users write it
        x_trace: Annotated[int | None, Header()] = None,
        seen: Annotated[bool, Cookie()] = False,
    ) -> dict[str, Any]:
        return {"limit": limit, "kinds": kinds, "trace": x_trace, "seen": seen, "found": len(session)}

    @orders.put("/{number}/lines/{at}")
    async def change(number: int, at: int, line: Line, session: Session) -> Line:
        if number not in session or not 0 <= at < len(session[number].lines):
            raise HTTPException(404)
        session[number].lines[at] = line
        return line

    @orders.delete("/{number}", status_code=204)
    async def delete(number: int, session: Session, key: Key) -> None:
        session.pop(number, None)

    app.include_router(orders)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def sent(case: Any) -> Sent:
    """The request of a case, as a client would send it."""
    made = requests.Request(**case.as_transport_kwargs(base_url="http://here")).prepare()
    path, _, query = str(made.path_url).partition("?")
    body = made.body or b""
    headers = [(name, v.decode("latin-1") if isinstance(v, bytes) else v) for name, v in made.headers.items()]
    return Sent(str(made.method), unquote(path), query, headers, body.encode() if isinstance(body, str) else body)


SCHEMA = schemathesis.openapi.from_dict(shop([]).openapi())
OPERATIONS = [operation.ok() for operation in SCHEMA.get_all_operations()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.label)
def test_an_operation_of_the_schema(operation):
    count, compiled_count = 0, 0

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        nonlocal count, compiled_count
        mode = data.draw(st.sampled_from(list(GenerationMode)))
        cases = [data.draw(operation.as_strategy(generation_mode=mode)) for _ in range(3)]
        for asgi, compiled in both_of_all(shop, [sent(case) for case in cases]):
            assert compiled[:3] == asgi[:3]
            count += 1
            compiled_count += compiled.compiled

    run()
    assert count >= 3
    assert compiled_count >= count / 3, "wrong methods and paths are for the router"
