"""What most people write: a FastAPI application that answers a GET with a dict, and a POST of a model with a model.

A third route has a session that is left with `yield`, a security header and a response model.

One application for every system that serves it, and for `asgi_alone.py`, which calls it with nothing around it.
"""

from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import APIKeyHeader
from pydantic import BaseModel

app = FastAPI()


class Order(BaseModel):
    name: str
    amount: int
    price: float
    tags: list[str] = []


class User(BaseModel):
    name: str
    age: int = 3


async def session():
    yield {"name": "bolt", "secret": "not in the answer"}


@app.get("/user", response_model=User)
async def get_user(
    row: Annotated[dict, Depends(session)], key: Annotated[str, Depends(APIKeyHeader(name="authorization"))]
):
    return row


@app.get("/dict")
async def get_dict():
    return {"name": "bolt", "amount": 12, "price": 0.35, "tags": ["steel", "m8"]}


@app.post("/model")
async def post_model(order: Order) -> Order:
    return order
