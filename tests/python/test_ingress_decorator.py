"""`@serve.ingress` where it is written: what it refuses, and what it makes."""

import dataclasses
import functools
import inspect
import pickle
import subprocess
import sys
import threading
import weakref
from contextvars import ContextVar
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette

from eagleray import serve
from eagleray._code import pickling
from eagleray._code.identity import identify
from eagleray._driver.build import build
from eagleray.serve import _views
from eagleray.serve.exceptions import RayServeException


class Plain:
    """A class."""


@pytest.mark.contract("1.2/not-a-class")
@pytest.mark.parametrize("wrong", [lambda: None, 3, Plain()])
def test_what_is_decorated_is_a_class(wrong: Any) -> None:
    with pytest.raises(ValueError, match="goes on a class"):
        serve.ingress(FastAPI())(wrong)


def test_the_decorators_in_the_wrong_order_say_so() -> None:
    with pytest.raises(ValueError, match=r"@serve\.deployment goes above"):
        serve.ingress(FastAPI())(serve.deployment(Plain))


@pytest.mark.contract("1.2/call")
def test_a_class_with_a_call_of_its_own_is_refused() -> None:
    class Calls:
        async def __call__(self, request: Any) -> None: ...

    class Inherits(Calls):
        pass

    for cls in (Calls, Inherits):
        with pytest.raises(ValueError, match=f"{cls.__name__} has a __call__"):
            serve.ingress(FastAPI())(cls)


@pytest.mark.parametrize("wrong", [3, "app", object(), lambda one: None, lambda one, two: None])
def test_what_is_no_application_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"serve\.ingress takes"):
        serve.ingress(wrong)


@pytest.mark.contract("1.2/fastapi-no-self")
def test_an_endpoint_in_a_class_needs_self() -> None:
    app = FastAPI()
    for number, write in enumerate((_without_self, _with_another_in_its_place)):
        cls = write(app, f"/{number}")
        with pytest.raises(RayServeException, match="must be self"):
            serve.ingress(app)(cls)


def _without_self(app: FastAPI, path: str) -> type:
    class View:
        @app.get(path)
        def endpoint() -> str:  # type: ignore[misc]
            return ""

    return View


def _with_another_in_its_place(app: FastAPI, path: str) -> type:
    class View:
        @app.get(path)
        def endpoint(name: str) -> str:  # type: ignore[misc]
            return name

    return View


@pytest.mark.contract("1.2/subclass-init")
def test_a_subclass_with_a_sync_constructor_is_refused_where_it_is_written() -> None:
    base: Any = serve.ingress(FastAPI())(Plain)
    with pytest.raises(TypeError, match="async def __init__"):

        class Sync(base):
            def __init__(self) -> None: ...

    class Async(base):
        async def __init__(self) -> None:
            await super().__init__()

    class Neither(base):
        pass

    assert issubclass(Neither, Plain)
    assert inspect.iscoroutinefunction(Async.__init__)


@pytest.mark.contract("1.2/build-method")
def test_without_an_application_the_class_makes_one() -> None:
    with pytest.raises(ValueError, match="__serve_build_asgi_app__"):
        serve.ingress()(Plain)
    with pytest.raises(ValueError, match="__serve_build_asgi_app__"):
        serve.ingress()()

    class Builds:
        def __serve_build_asgi_app__(self) -> Any: ...

    assert issubclass(serve.ingress()(Builds), Builds)


@pytest.mark.contract("1.2/unpicklable")
@pytest.mark.parametrize("kind", [FastAPI, Starlette])
def test_an_application_that_cannot_be_pickled_raises_where_it_is_decorated(kind: Any) -> None:
    app = kind()
    app.state.words = (word for word in ("a",))
    with pytest.raises(TypeError, match="function without parameters"):
        serve.ingress(app)(Plain)


@pytest.mark.contract("1.2/constructors")
def test_the_class_keeps_its_name_and_its_signature() -> None:
    class Named:
        """What it is."""

        def __init__(self, path: str, *, size: int = 3) -> None: ...

    made = serve.ingress(FastAPI())(Named)
    assert (made.__name__, made.__qualname__, made.__module__) == (Named.__name__, Named.__qualname__, Named.__module__)
    assert made.__doc__ == "What it is."
    assert list(inspect.signature(made).parameters) == ["path", "size"]
    assert inspect.iscoroutinefunction(made.__init__)
    assert inspect.iscoroutinefunction(made.__del__)  # type: ignore[attr-defined]
    assert serve.deployment(made).name == "Named"


@pytest.mark.contract("1.2/empty-class")
def test_without_a_class_an_empty_one_is_made() -> None:
    made = serve.ingress(FastAPI())()
    assert inspect.isclass(made)
    assert serve.deployment(made).bind() is not None


@pytest.mark.contract("G/28", better="a function is a builder or an application by what it can be called with")
def test_a_function_is_a_builder_or_an_application_by_its_parameters() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None: ...

    async def anything(*args: Any) -> None: ...

    def builder() -> Any: ...

    async def slow_builder(size: int = 3) -> Any: ...

    for function, builds in ((application, False), (anything, False), (builder, True), (slow_builder, True)):
        made: Any = serve.ingress(function)(Plain)
        assert (made._eagleray_ingress.builder is not None) == builds, function


@pytest.mark.contract("1.2/frozen")
def test_what_happens_to_the_application_later_is_not_seen() -> None:
    app = FastAPI(title="before")
    made: Any = serve.ingress(app)(Plain)
    app.title = "after"
    app.get("/late")(lambda: None)
    made.__module__ = made._eagleray_ingress.user_class.__module__ = "__main__"
    for served in (_copy(made), _sent(made)._eagleray_ingress.app):
        assert served.title == "before"
        assert "/late" not in [route.path for route in served.routes]
        assert "/openapi.json" in [route.path for route in served.routes]
    assert app.title == "after"
    assert "/late" in [route.path for route in app.routes], "where it was decorated it stays as it is"


def _sent(made: type) -> Any:
    """The class as it arrives in a replica."""
    with pickling.as_decorated(made):
        return pickle.loads(pickling.dumps(made))


def test_an_application_may_hold_what_a_script_may() -> None:
    app = FastAPI()
    word: ContextVar[str] = ContextVar("word", default="none")

    @functools.cache
    def double(number: int) -> int:
        return 2 * number

    double.__module__ = "__main__"
    app.state.word, app.state.double, app.state.known = word, double, weakref.WeakKeyDictionary()
    app.state.missing = dataclasses.MISSING
    made: Any = serve.ingress(app)(type("Holds", (), {"__module__": "__main__"}))
    copied = _copy(made).state
    assert (copied.word, copied.double) == (word, double), "in one process they are the same"
    for state in (copied, _sent(made)._eagleray_ingress.app.state):
        assert (state.word.get(), state.double(4), len(state.known)) == ("none", 8, 0)
        assert state.missing is dataclasses.MISSING


@pytest.mark.contract("1.2/locks")
def test_locks_of_an_application_arrive_new_and_open() -> None:
    app = FastAPI()
    app.state.held, app.state.again, app.state.ready = threading.Lock(), threading.RLock(), threading.Condition()
    app.state.held.acquire()
    held = app.state.held

    class Uses:
        __module__ = "__main__"

        @app.get("/")
        def root(self) -> bool:
            return held.locked()

    made: Any = serve.ingress(app)(Uses)
    first = identify(made)
    held.release()
    assert identify(made) == first, "it can be compared with the one before, whoever holds a lock of it"
    held.acquire()
    copied, sent = _copy(made), _sent(made)
    for state in (copied.state, sent._eagleray_ingress.app.state):
        assert not state.held.locked()
        assert state.again.acquire(blocking=False)
        with state.ready:
            state.ready.notify_all()
    assert sent.root.__closure__[0].cell_contents is sent._eagleray_ingress.app.state.held, "one lock stays one"
    with pytest.raises(TypeError, match="lock"):
        pickle.loads(pickling.dumps(Uses))


def test_the_schema_of_the_copy_is_that_of_its_own_routes() -> None:
    app = FastAPI()
    router = APIRouter()
    app.include_router(router, prefix="/under")

    class View:
        @app.get("/one")
        async def one(self, size: int) -> int:
            return size

        @router.get("/two")
        async def two(self) -> None: ...

    made: Any = serve.ingress(app)(View)
    first, second = View(), View()
    served = [_views.bind(_copy(made), instance, View) for instance in (first, second)]
    for one in served:
        schema: Any = one.openapi()  # type: ignore[attr-defined]
        assert set(schema["paths"]) == {"/one", "/under/two"}
        assert [entry["name"] for entry in schema["paths"]["/one"]["get"]["parameters"]] == ["size"]


def _copy(made: Any) -> Any:
    return made._eagleray_ingress.snapshot.copy()


@pytest.mark.contract("1.2/one-per-application")
def test_an_application_has_at_most_one_ingress() -> None:
    inner = serve.deployment(name="Inner")(serve.ingress(FastAPI())(Plain)).bind()
    outer = serve.deployment(name="Outer")(serve.ingress(FastAPI())(Plain)).bind(inner)
    with pytest.raises(RayServeException, match="Inner, Outer"):
        build(outer, name="app", route_prefix="/", logging_config=None)


SCRIPT = """
import sys
from fastapi import FastAPI, Depends
from pydantic import BaseModel
from eagleray import serve
from eagleray._code import pickling
from eagleray._code.identity import identify
from eagleray._driver.build import build

app = FastAPI()

class Item(BaseModel):
    name: str
    size: int = 3

def page(page: int = 1): return page

@serve.deployment
@serve.ingress(app)
class Service:
    @app.post("/items")
    async def items(self, item: Item, page: int = Depends(page)) -> Item:
        return item

built = build(Service.bind(), name="app", route_prefix="/", logging_config=None)
print(built.spec["deployments"][0]["version"], built.spec["deployments"][0]["version_note"])
"""


def _run(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout


def test_the_same_program_has_the_same_version() -> None:
    found = {_run(SCRIPT) for _ in range(3)}
    assert len(found) == 1, found
    assert len(next(iter(found)).split()) == 1, "it has no note that it cannot be compared"
    changed = SCRIPT.replace("size: int = 3", "size: int = 4")
    assert (
        subprocess.run([sys.executable, "-c", changed], check=True, capture_output=True, text=True).stdout not in found
    )


def test_importing_serve_imports_no_fastapi() -> None:
    check = "import sys, eagleray.serve as s; s.ingress; print('fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=True, capture_output=True).stdout == b"False\n"


@pytest.mark.contract("1.2/starlette")
@pytest.mark.parametrize(
    "order", ["import starlette\nfrom eagleray import serve", "from eagleray import serve\nimport starlette"]
)
def test_importing_starlette_alone_is_enough_for_annotations(order: str) -> None:
    check = f"""
{order}
import sys

@serve.deployment
class Upper:
    async def __call__(self, request: starlette.requests.Request) -> starlette.responses.Response: ...

print(Upper.func_or_class.__call__.__annotations__["request"].__name__)
try:
    starlette.nothing
except AttributeError as error:
    print(error)
"""
    assert _run(check).splitlines() == ["Request", "module 'starlette' has no attribute 'nothing'"]
    assert _run("import sys, eagleray.serve; print('starlette.requests' in sys.modules)") == "False\n"


def test_the_class_pickles_with_its_application() -> None:
    app = FastAPI()
    app.include_router(APIRouter(), prefix="/x")
    made: Any = serve.ingress(app)(type("Made", (), {"__module__": "__main__"}))
    again = pickle.loads(pickling.dumps(made))
    assert len(again._eagleray_ingress.app.routes) == len(app.routes)
