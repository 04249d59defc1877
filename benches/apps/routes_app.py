"""What most people write: a FastAPI application that answers a GET with a dict, and a POST of a model with a model.

One application for every system that serves it, and for `asgi_alone.py`, which calls it with nothing around it.
"""

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Order(BaseModel):
    name: str
    amount: int
    price: float
    tags: list[str] = []


@app.get("/dict")
async def get_dict():
    return {"name": "bolt", "amount": 12, "price": 0.35, "tags": ["steel", "m8"]}


@app.post("/model")
async def post_model(order: Order) -> Order:
    return order
