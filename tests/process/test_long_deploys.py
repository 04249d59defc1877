"""What a `serve.run` that takes long says, and what it costs to deploy a large application."""

import pytest

from machine import Machine

SLOW = """
import pathlib, threading
from eagleray import serve
from eagleray._driver import progress

progress.QUIET_S, progress.REPEAT_S = 0.2, 0.2
SAID = threading.Event()

class Watch(__import__("logging").Handler):
    def emit(self, record):
        if WORDS in record.getMessage():
            pathlib.Path("said").touch()
            SAID.set()

import logging
logging.getLogger("eagleray.serve").addHandler(Watch())
"""
PICKLED = """
WORDS = "pickling deployment 'Model'"

class Large:
    def __reduce__(self):
        assert SAID.wait(30)
        return str, ()

@serve.deployment
class Model:
    def __init__(self, argument=None):
        pass

app = Model.bind(Large())
"""
CONSTRUCTED = """
WORDS = "waiting for application 'default': Model has 1 STARTING"

@serve.deployment
class Model:
    def __init__(self):
        while not pathlib.Path("said").exists():
            threading.Event().wait(0.01)

app = Model.bind()
"""


@pytest.mark.parametrize("program", [PICKLED, CONSTRUCTED])
def test_what_takes_long_is_said_while_it_lasts(machine: Machine, program: str) -> None:
    # It ends only when it was said.
    script = machine.serve(SLOW + program)
    assert "s so far)" in script.output


def test_what_is_quick_says_nothing(machine: Machine) -> None:
    script = machine.serve(SLOW.replace("0.2, 0.2", "60, 60") + CONSTRUCTED.replace("while not", "while False and not"))
    assert "so far" not in script.output


ROUTES = """
import time
from fastapi import Depends, FastAPI
from eagleray import serve

app = FastAPI()
hits = []

def counted():
    hits.append(1)
    return len(hits)

def add(number):
    @app.get(f"/items/{number}/{{item}}")
    def item(item: int, query: str | None = None, count: int = Depends(counted)):
        return {"route": number, "item": item, "query": query}

for number in range(COUNT):
    add(number)

@serve.deployment
@serve.ingress(app)
class Api:
    pass

app = Api.bind()

def cost():
    "Bytes of the pickle, and objects that are looked at for the version, a route."
    from eagleray._code import identity, pickling
    callable = Api.func_or_class
    with pickling.as_decorated(callable):
        size = len(pickling.dumps((callable, (), {})))
        walker = identity._Walker()
        walker.feed((callable, (), {}))
    return size / COUNT, len(walker.seen) / COUNT

def version():
    from eagleray._driver.build import build
    return build(app, name="a", route_prefix="/", logging_config=None).spec["deployments"][0]["version"]
"""


def test_a_thousand_routes_are_served_and_small(machine: Machine) -> None:
    script = machine.serve("COUNT = 1000\n" + ROUTES)
    for number in (0, 500, 999):
        answer = script.get(f"/items/{number}/7?query=q")
        assert answer.json() == {"route": number, "item": 7, "query": "q"}
    size, looked_at = script.do("cost()")
    assert size < 4000, "no code and no globals of FastAPI for each route"
    assert looked_at < 150
    assert script.do("version()") == script.do("version()")
    script.end()


def test_the_version_of_a_large_application_tells_its_routes_apart(machine: Machine) -> None:
    def version(program: str) -> str:
        script = machine.script(program + "\nprint('VERSION', version())\n")
        found = script.wait_for_line("^VERSION (.*)").group(1)
        assert script.wait() == 0
        return found

    program = "COUNT = 20\n" + ROUTES
    assert version(program) == version(program), "the same in every process"
    assert version(program) != version(program.replace('"route": number', '"route": -number'))
    assert version(program) != version(program.replace("query: str | None", "query: int | None"))
    assert version(program) != version(program.replace("hits.append(1)", "hits.append(2)"))
    assert version(program) != version(program.replace("/items/{number}/", "/things/{number}/"))
