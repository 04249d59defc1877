"""Generated routes and requests, valid, invalid and hostile: both paths answer the same.

Each application is made from a number, so that a failure names it and it can be made again.
"""

import random
from typing import Annotated, Any, Literal

import pytest
from fastapi import Body, Cookie, Depends, FastAPI, Header, HTTPException, Query
from pydantic import BaseModel, Field

from both_paths import Sent, check

APPLICATIONS = 25
REQUESTS = 12


class Inner(BaseModel):
    n: int
    s: str = Field("s", max_length=4)


class Outer(BaseModel):
    inner: Inner | None = None
    many: list[Inner] = []
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    alias: float = Field(1.5, alias="the-alias")


TYPES: tuple[Any, ...] = (int, str, float, bool, int | None, Literal["a", "b"], list[int], list[str], str | None)
BODIES: tuple[Any, ...] = (Outer, Inner, list[Inner], dict[str, int], int, Any)
TEXTS = ("", "1", "-3", "a", "b", "true", "1.5", "é", "%00", "null", "9" * 30, "[1]", " ", "1,2")
JSON = (
    b"", b"{}", b"[]", b"null", b"3", b'"x"', b"{", b'{"n":1}', b'{"n":"x"}', b'[{"n":1},{"n":2,"s":"long text"}]',
    b'{"inner":{"n":1},"many":[{"n":2}],"flag":"yes","kind":"b","the-alias":2}', b'{"a":1,"b":"2"}', b"\xff",
    b'{"n":1e400}', b'{"n":NaN}', b'{"first":{"n":1},"second":4}',
)  # fmt: skip


def parameters(chance: random.Random, prefix: str) -> dict[str, Any]:
    """Annotations by name."""
    made: dict[str, Any] = {}
    for number in range(chance.randrange(4)):
        place = chance.choice((Query, Header, Cookie))
        kind = chance.choice(TYPES[:6] if place is Cookie else TYPES)
        options: dict[str, Any] = {"alias": f"x-{number}"} if chance.random() < 0.3 else {}
        if chance.random() < 0.5:
            options["default"] = None
            kind = kind | None
        made[f"{prefix}{number}"] = Annotated[kind, place(**{k: v for k, v in options.items() if k != "default"})]
    return made


def with_signature(function: Any, annotations: dict[str, Any], optional: bool) -> Any:
    """`function`, which takes anything by name, with these parameters."""
    import inspect

    kinds = inspect.Parameter
    default = None if optional else kinds.empty
    function.__signature__ = inspect.Signature(
        [kinds(name, kinds.KEYWORD_ONLY, annotation=one, default=default) for name, one in annotations.items()]
    )
    return function


def application(number: int) -> Any:
    """A function that makes the application of this number."""

    def make(calls: list[Any]) -> FastAPI:
        chance = random.Random(number)
        app = FastAPI()

        def dependency(level: int) -> Any:
            wanted = parameters(chance, f"d{level}_")
            if level < 2 and chance.random() < 0.5:
                wanted["below"] = Annotated[Any, Depends(dependency(level + 1), use_cache=chance.random() < 0.5)]
            kind, fails = chance.randrange(4), chance.random() < 0.15

            def note(values: dict[str, Any]) -> Any:
                calls.append((level, sorted(map(repr, values.items()))))
                if fails:
                    raise HTTPException(400 + level, "generated", {"x-level": str(level)})
                return {"level": level}

            async def on_loop(**values: Any) -> Any:
                return note(values)

            def in_thread(**values: Any) -> Any:
                return note(values)

            async def entered(**values: Any) -> Any:
                yield note(values)
                calls.append(("left", level))

            def entered_sync(**values: Any) -> Any:
                yield note(values)
                calls.append(("left sync", level))

            made = (on_loop, in_thread, entered, entered_sync)[kind]
            return with_signature(made, wanted, chance.random() < 0.5)

        wanted = parameters(chance, "p")
        if chance.random() < 0.7:
            wanted["needed"] = Annotated[Any, Depends(dependency(0))]
        bodies = chance.randrange(3)
        for name in ("first", "second")[:bodies]:
            wanted[name] = Annotated[chance.choice(BODIES), Body()]
        model = chance.choice((None, None, Outer, Inner, dict[str, Any], list[Any]))

        async def endpoint(**values: Any) -> Any:
            calls.append(sorted(map(repr, values.items())))
            return values.get("first", {"values": {key: str(value) for key, value in values.items()}})

        route = with_signature(endpoint, wanted, False)
        app.post(
            "/{p_path}" if "p_path" in wanted else "/it",
            response_model=model,
            status_code=chance.choice((None, 201)),
            response_model_exclude_unset=chance.random() < 0.3,
            response_model_exclude_none=chance.random() < 0.3,
        )(route)
        return app

    return make


def request(chance: random.Random) -> Sent:
    """A request that some application takes."""
    names = [f"{prefix}{n}" for prefix in ("p", "d0_", "d1_", "x-") for n in range(3)]
    query = "&".join(f"{chance.choice(names)}={chance.choice(TEXTS)}" for _ in range(chance.randrange(5)))
    headers = [(chance.choice(names).replace("_", "-"), chance.choice(TEXTS)) for _ in range(chance.randrange(4))]
    cookies = "; ".join(f"{chance.choice(names)}={chance.choice(TEXTS)}" for _ in range(chance.randrange(3)))
    if cookies:
        headers.append(("cookie", cookies))
    if chance.random() < 0.9:
        headers.append(("content-type", chance.choice(("application/json", "application/json", "text/plain", "a"))))
    encoded = query.encode().decode("latin-1")
    return Sent("POST", "/it", encoded, headers, chance.choice(JSON), chance.choice((0, 0, 3)))


@pytest.mark.parametrize("number", range(APPLICATIONS))
@pytest.mark.filterwarnings("ignore")
def test_a_generated_application(number):
    make, chance = application(number), random.Random(1000 + number)
    for _ in range(REQUESTS):
        check(make, request(chance))
