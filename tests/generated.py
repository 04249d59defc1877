"""FastAPI applications and requests as hypothesis draws them: what `test_compiled_generated.py` sends both ways.

An application is drawn as data, and made from it anew for each path. A request is drawn for the application: its
parameters are mostly there and mostly valid, so that most requests get to the endpoint; some are not, and some are
nothing that a decent client sends.
"""

import datetime
import decimal
import enum
import inspect
import json
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, Body, Cookie, Depends, FastAPI, Form, Header, HTTPException, Path, Query
from fastapi import Request as FastAPIRequest
from fastapi import Response as FastAPIResponse
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from both_paths import Sent


class Broken(Exception):
    """It has a handler."""


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Filter(BaseModel):
    model_config = {"extra": "forbid"}
    limit: int = Field(3, le=10)
    words: list[str] = []


class Inner(BaseModel):
    n: int
    s: str = Field("s", max_length=4)


class Checked(BaseModel):
    """Its validator fails in each way that a validator can."""

    word: str = "fine"
    other: float | None = Field(None, alias="the-other")

    @field_validator("word")
    @classmethod
    def _check(cls, value: str) -> str:
        if value == "bad":
            raise ValueError("a bad word")
        if value == "http":
            raise HTTPException(418, "in a validator")
        if value == "broken":
            raise Broken("in a validator")
        return value


# Each type with texts that it takes.
TEXTS: dict[Any, tuple[str, ...]] = {
    int: ("1", "-3", "0", " 7 ", "1_000"),
    Annotated[int, Field(ge=1, lt=5)]: ("1", "4", "5"),
    str: ("a", "", "é", "long " * 9, "%00"),
    Annotated[str, Field(min_length=2, pattern="^[a-z]+$")]: ("ab", "zzz", "A"),
    float: ("1.5", "1e3", "nan", "inf"),
    bool: ("true", "0", "off", "YES"),
    int | None: ("1", "2"),
    Literal["a", "b"]: ("a", "b"),
    Color: ("red", "blue"),
    datetime.datetime: ("2020-01-02T03:04:05Z", "1577934245"),
    datetime.date: ("2020-01-02",),
    uuid.UUID: ("0b7e1a4c-8f6a-4a9e-9d35-000000000001",),
    decimal.Decimal: ("1.50", "3"),
    int | str: ("1", "x"),
}
LISTS: dict[Any, tuple[str, ...]] = {list[int]: ("1", "2", "x"), list[str]: ("a", "b"), set[int]: ("3", "3")}
ODD = ("", "null", "[1]", "9" * 30, "\x7f", "é", "1,2", "true ", "{}", "0x10", "-", "\u0661".encode().decode("latin-1"))
# Bodies, each with values that it takes.
VALUES: dict[Any, tuple[Any, ...]] = {
    Inner: ({"n": 1}, {"n": 2, "s": "abc"}, {"n": "3"}, {"n": 1, "s": "too long"}),
    Checked: ({}, {"word": "x", "the-other": 2}, {"word": "bad"}, {"word": "http"}, {"word": "broken"}),
    list[Inner]: ([], [{"n": 1}, {"n": 2}], [{"n": "x"}]),
    dict[str, int]: ({}, {"a": 1}, {"a": "x"}),
    int: (1, "2", 1.5),
    str: ("text", ""),
    Color: ("red", "blue"),
    datetime.datetime: ("2020-01-02T03:04:05", 1),
    Any: (None, [1, {"x": None}], {"a": [True, 1.5e300, "é\u2028"]}),
    Inner | None: (None, {"n": 1}),
}
HOSTILE = (
    *(b"", b"{", b"\xff\xfe", b"\x00", b'{"n":NaN}', b'{"n":1e400}', b'{"n":1,"n":"x"}', b"[" * 2000, b'"\\ud800"'),
    *(b"{}{}", b" ", b"null", b'{"first":null,"second":[]}', b"9" * 5000, b"\xef\xbb\xbf{}", b'{"__proto__":{}}'),
)
CONTENT_TYPES = (
    *("application/json", "application/json", "application/json", "application/vnd.api+json", "text/plain", ""),
    *("application/json; charset=latin-1", "a", "application/x-www-form-urlencoded", "multipart/form-data"),
)
PLACES = {"path": Path, "query": Query, "header": Header, "cookie": Cookie}
FAILS = ("",) * 20 + ("http", "broken", "unhandled", "value")
KINDS = ("async", "sync", "async yield", "sync yield", "instance")


@dataclass
class Parameter:
    """Of an endpoint or a dependency."""

    name: str
    place: str
    kind: Any
    optional: bool
    alias: str

    @property
    def sent_as(self) -> str:
        """What a request calls it."""
        return self.alias or (self.name.replace("_", "-") if self.place == "header" else self.name)

    def annotation(self) -> Any:
        options = {"alias": self.alias} if self.alias else {}
        kind = self.kind | None if self.optional else self.kind
        return Annotated[kind, PLACES[self.place](**options)]


@dataclass
class Dependency:
    """With what it needs, and where it fails."""

    number: int
    kind: str
    early: bool
    cached: bool
    injects: str
    parameters: list[Parameter]
    below: list["Dependency"]
    fails: str
    fails_leaving: str
    swallows: bool


@dataclass
class Route:
    """The one route of an application."""

    is_async: bool
    parameters: list[Parameter]
    needed: list[Dependency]
    bodies: list[Any]
    embed: bool
    form: bool
    injects: str
    returns: str
    fails: str
    options: dict[str, Any]


@dataclass
class Application:
    """All that is needed to make it."""

    route: Route
    of_the_app: list[Dependency]
    of_the_router: list[Dependency]
    included: bool
    layers: tuple[str, ...]
    cors: dict[str, Any]


@st.composite
def parameters(draw: Any, prefix: str, most: int) -> list[Parameter]:
    found = []
    for number in range(draw(st.integers(0, most))):
        place = draw(st.sampled_from(("query", "query", "header", "cookie")))
        kinds = list(TEXTS) if place == "cookie" else [*TEXTS, *LISTS]
        kind = draw(st.sampled_from(kinds))
        alias = f"x-{prefix}{number}" if draw(st.integers(0, 3)) == 0 else ""
        found.append(Parameter(f"{prefix}_{number}", place, kind, draw(st.booleans()), alias))
    return found


@st.composite
def dependencies(draw: Any, prefix: str, most: int, depth: int = 0) -> list[Dependency]:
    found = []
    for number in range(draw(st.integers(0, most))):
        kind = draw(st.sampled_from(KINDS))
        name = f"{prefix}{number}"
        below = draw(dependencies(name + "b", 2, depth + 1)) if depth < 2 else []
        found.append(
            Dependency(
                number=int(name.encode().hex(), 16),
                kind=kind,
                # A dependency that is left late cannot need one that is left early.
                early="yield" in kind and depth == 0 and draw(st.booleans()),
                cached=draw(st.booleans()),
                injects=draw(st.sampled_from(("", "", "", "request", "response", "background"))),
                parameters=draw(parameters(name, 2)),
                below=below,
                fails=draw(st.sampled_from(FAILS)),
                fails_leaving=draw(st.sampled_from(FAILS)),
                swallows=draw(st.integers(0, 5)) == 0,
            )
        )
    return found


@st.composite
def routes(draw: Any) -> Route:
    form = draw(st.integers(0, 5)) == 0
    kinds = [int, str, Color] if form else list(VALUES)
    options: dict[str, Any] = {
        "status_code": draw(st.sampled_from((None, None, 201, 204, 304))),
        "response_model_exclude_unset": draw(st.booleans()),
        "response_model_exclude_none": draw(st.booleans()),
        "response_model_by_alias": draw(st.booleans()),
    }
    model = draw(st.sampled_from((None, None, Inner, Checked, dict[str, Any], list[Any], int)))
    if options["status_code"] not in (204, 304):
        options["response_model"] = model
    if draw(st.integers(0, 4)) == 0:
        options["response_class"] = draw(st.sampled_from((JSONResponse, PlainTextResponse, HTMLResponse)))
    if draw(st.integers(0, 3)) == 0:
        options["response_model_include"] = draw(st.sampled_from(({"n"}, {"word", "s"})))
    path = [Parameter("p_path", "path", draw(st.sampled_from(list(TEXTS))), False, "")] if draw(st.booleans()) else []
    return Route(
        is_async=draw(st.integers(0, 2)) > 0,
        parameters=path + draw(parameters("p", 4)),
        needed=draw(dependencies("d", 2)),
        bodies=[draw(st.sampled_from(kinds)) for _ in range(draw(st.integers(0, 2)))],
        embed=draw(st.booleans()),
        form=form,
        injects=draw(st.sampled_from(("", "", "", "request", "response", "background"))),
        returns=draw(st.sampled_from(("body", "body", "values", "plain", "response", "nothing"))),
        fails=draw(st.sampled_from((*FAILS, "gone"))),
        options=options,
    )


@st.composite
def cors(draw: Any) -> dict[str, Any]:
    """Options of CORS."""
    return {
        "allow_origins": draw(st.sampled_from(([], ["*"], ["http://o"], ("http://o", "http://other")))),
        "allow_origin_regex": draw(st.sampled_from((None, None, "http://.*"))),
        "allow_credentials": draw(st.booleans()),
        "allow_headers": draw(st.sampled_from(([], ["*"], ["x-a"]))),
        "expose_headers": draw(st.sampled_from(([], ["x-a", "x-b"]))),
    }


@st.composite
def applications(draw: Any) -> Application:
    kinds = ((), (), (), ("cors",), ("cors",), ("cors", "hosts"), ("gzip",), ("function",), ("function", "cors"))
    included = draw(st.booleans())
    return Application(
        route=draw(routes()),
        of_the_app=draw(dependencies("a", 1)),
        of_the_router=draw(dependencies("r", 1)) if included else [],
        included=included,
        layers=draw(st.sampled_from(kinds)),
        cors=draw(cors()),
    )


# --- from data to an application --------------------------------------------------------------------------------------


def fail(how: str, where: str) -> None:
    if how == "http":
        raise HTTPException(409, {"at": where}, {"x-at": where.replace(" ", "-")})
    if how == "gone":
        raise HTTPException(410)
    if how == "broken":
        raise Broken(where)
    if how == "unhandled":
        raise ZeroDivisionError(where)
    if how == "value":
        raise ValueError(where)


INJECTED = {"request": FastAPIRequest, "response": FastAPIResponse, "background": BackgroundTasks}


class Maker:
    """Makes one application; what user code sees goes to `calls`."""

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls
        self._made: dict[int, Any] = {}

    def application(self, drawn: Application) -> FastAPI:
        app = FastAPI(dependencies=[self._depends(one) for one in drawn.of_the_app])
        self._handlers(app)
        for layer in drawn.layers:
            self._layer(app, layer, drawn.cors)
        router = APIRouter(prefix="/under", dependencies=[self._depends(one) for one in drawn.of_the_router])
        target: Any = router if drawn.included else app
        path = "/it/{p_path}" if any(one.place == "path" for one in drawn.route.parameters) else "/it"
        target.post(path, **drawn.route.options)(self._endpoint(drawn.route))
        if drawn.included:
            app.include_router(router)
        return app

    def _handlers(self, app: FastAPI) -> None:
        calls = self._calls

        @app.exception_handler(Broken)
        async def on_broken(request: FastAPIRequest, error: Broken) -> Any:
            calls.append(("handled", str(error), request.url.path, sorted(request.path_params)))
            return JSONResponse({"broken": str(error)}, 599)

        @app.exception_handler(410)
        def on_gone(request: FastAPIRequest, error: HTTPException) -> Any:
            raise Broken("in a handler")

    def _layer(self, app: FastAPI, layer: str, cors: dict[str, Any]) -> None:
        if layer == "cors":
            app.add_middleware(CORSMiddleware, **cors)
        elif layer == "hosts":
            app.add_middleware(TrustedHostMiddleware, allowed_hosts=["here", "*.o"])
        elif layer == "gzip":
            app.add_middleware(GZipMiddleware, minimum_size=10)
        else:

            @app.middleware("http")
            async def through(request: FastAPIRequest, call_next: Any) -> Any:
                self._calls.append("before")
                response = await call_next(request)
                self._calls.append(("after", response.status_code))
                return response

    def _depends(self, drawn: Dependency) -> Any:
        function = self._made.get(drawn.number)
        if function is None:
            function = self._made[drawn.number] = self._dependency(drawn)
        return Depends(function, use_cache=drawn.cached, **({"scope": "function"} if drawn.early else {}))

    def _dependency(self, drawn: Dependency) -> Any:
        calls, where = self._calls, f"dependency {drawn.number}"

        def note(values: dict[str, Any]) -> Any:
            calls.append((where, self._seen(values)))
            fail(drawn.fails, where)
            return where

        def left(error: BaseException | None) -> None:
            calls.append(("left", where, type(error).__name__))
            fail(drawn.fails_leaving, "leaving " + where)

        async def in_loop(**values: Any) -> Any:
            return note(values)

        def in_thread(**values: Any) -> Any:
            return note(values)

        async def entered(**values: Any) -> Any:
            noted = note(values)
            try:
                yield noted
            except Exception as error:
                left(error)
                if not drawn.swallows:
                    raise
            else:
                left(None)

        def entered_in_thread(**values: Any) -> Any:
            noted = note(values)
            try:
                yield noted
            except Exception as error:
                left(error)
                if not drawn.swallows:
                    raise
            else:
                left(None)

        class Instance:
            def __call__(self, **values: Any) -> Any:
                return note(values)

        kinds = (in_loop, in_thread, entered, entered_in_thread, Instance())
        made: Any = kinds[KINDS.index(drawn.kind)]
        made.__signature__ = self._signature(drawn.parameters, drawn.below, drawn.injects, {})
        return made

    def _seen(self, values: dict[str, Any]) -> list[str]:
        """What user code got, as text; what is injected is looked at and used."""
        found = []
        for name, value in sorted(values.items()):
            if isinstance(value, FastAPIRequest):
                found.append(f"{name}={value.method} {value.url} {value.path_params} {sorted(value.scope)}")
            elif isinstance(value, FastAPIResponse):
                value.headers["x-seen"] = "yes"
                value.set_cookie("seen", "1")
            elif isinstance(value, BackgroundTasks):
                value.add_task(self._calls.append, "background")
            else:
                found.append(f"{name}={value!r}")
        return found

    def _signature(
        self, drawn: list[Parameter], below: list[Dependency], injects: str, bodies: dict[str, Any]
    ) -> inspect.Signature:
        made = []

        def add(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> None:
            made.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default))

        for one in drawn:
            add(one.name, one.annotation(), None if one.optional else inspect.Parameter.empty)
        for number, one in enumerate(below):
            add(f"needed_{number}", Annotated[Any, self._depends(one)])
        for name, annotation in bodies.items():
            add(name, annotation)
        if injects:
            add("injected", INJECTED[injects])
        return inspect.Signature(made)

    def _endpoint(self, drawn: Route) -> Any:
        calls = self._calls
        place = Form if drawn.form else Body
        options = {} if drawn.form else {"embed": drawn.embed}
        bodies = {
            name: Annotated[kind, place(**options)]
            for name, kind in zip(("first", "second"), drawn.bodies, strict=False)
        }

        def answer(values: dict[str, Any]) -> Any:
            calls.append(self._seen(values))
            fail(drawn.fails, "endpoint")
            return {
                "body": values.get("first"),
                "values": {name: repr(value) for name, value in values.items() if name != "injected"},
                "plain": {"n": 1, "s": "é\x00\u2028", "word": None, "list": [1, 2.5, ()]},
                "response": PlainTextResponse("as is", 206, {"x-mine": "1"}),
                "nothing": None,
            }[drawn.returns]

        async def in_loop(**values: Any) -> Any:
            return answer(values)

        def in_thread(**values: Any) -> Any:
            return answer(values)

        made: Any = in_loop if drawn.is_async else in_thread
        made.__signature__ = self._signature(drawn.parameters, drawn.needed, drawn.injects, bodies)
        return made


def all_parameters(drawn: Application) -> list[Parameter]:
    """Of the endpoint and of all dependencies."""
    found = list(drawn.route.parameters)
    left = [*drawn.of_the_app, *drawn.of_the_router, *drawn.route.needed]
    while left:
        one = left.pop()
        found += one.parameters
        left += one.below
    return found


# --- requests ---------------------------------------------------------------------------------------------------------


@st.composite
def requests(draw: Any, application: Application) -> Sent:
    """A request to this application."""
    likely = st.integers(0, 9).map(lambda n: n < 9)

    def text(one: Parameter) -> str:
        known = {**TEXTS, **LISTS}[one.kind]
        return draw(st.sampled_from(known[:2] if draw(likely) else (*known, *ODD)))

    query, headers, cookies, path = [], [], [], ""
    for one in all_parameters(application):
        if one.place != "path" and not draw(likely):
            continue
        value = text(one)
        if one.place == "path":
            path = value.replace("/", "")
        elif one.place == "cookie":
            cookies.append(f"{one.sent_as}={value}")
        elif one.place == "header":
            headers.append((one.sent_as, value.encode().decode("latin-1")))
        else:
            query += [f"{one.sent_as}={value}"] * draw(st.sampled_from((1, 1, 2)))
    if cookies:
        headers.append(("cookie", "; ".join(cookies).encode().decode("latin-1")))
    if draw(st.integers(0, 1)) == 0:
        headers += [
            ("origin", draw(st.sampled_from(("http://o", "http://p", "null", "")))),
            ("accept-encoding", "gzip"),
        ]
    if draw(st.integers(0, 3)) == 0:
        headers += [("access-control-request-method", "POST"), ("access-control-request-headers", "x-a")]
    body, content_type = draw(bodies(application.route, likely))
    if content_type:
        headers.append(("content-type", content_type))
    target = ("/under" if application.included else "") + "/it"
    if any(one.place == "path" for one in application.route.parameters):
        target += "/" + path
    method = draw(st.sampled_from(("POST",) * 12 + ("GET", "HEAD", "OPTIONS", "BREW")))
    target += draw(st.sampled_from(("",) * 16 + ("/", "\n")))
    host = draw(st.sampled_from((True,) * 9 + (False,)))
    return Sent(
        *(method, target, "&".join(query).encode().decode("latin-1"), headers, body),
        *(draw(st.sampled_from((0, 0, 3))), host),
    )


@st.composite
def bodies(draw: Any, route: Route, likely: Any) -> tuple[bytes, str]:
    """A body with its content type."""
    if not draw(likely):
        return draw(st.sampled_from(HOSTILE) | st.binary(max_size=20)), draw(st.sampled_from(CONTENT_TYPES))
    names = dict(zip(("first", "second"), route.bodies, strict=False))
    if route.form:
        sent = "&".join(f"{name}={draw(st.sampled_from(('1', 'red', 'x')))}" for name in names)
        return sent.encode(), "application/x-www-form-urlencoded"
    values = {name: draw(st.sampled_from(VALUES[kind])) for name, kind in names.items()}
    single = len(values) == 1 and not route.embed
    body = json.dumps(values["first"] if single else values).encode() if values else b""
    return body, draw(st.sampled_from(CONTENT_TYPES[:4] if draw(likely) else CONTENT_TYPES))
