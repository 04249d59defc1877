"""Constructors: what they return, and what becomes of what they took when they never end."""

from pathlib import Path

import pytest

from machine import Machine, eventually

RETURNS = """
from eagleray import serve

@serve.deployment
class Value:
    def __init__(self, word):
        self.word = word
        return 3

    def __call__(self):
        return self.word

@serve.deployment
class Coroutine:
    def __init__(self, word):
        async def later():
            self.word = word

        return later()

    async def __call__(self):
        return self.word

@serve.deployment
class AsyncValue(Value.func_or_class):
    async def __init__(self, word):
        super().__init__(word)
        return self

class Counting(type):
    def __call__(cls, word):
        made = super().__call__(word)
        made.word += " of its metaclass"
        return made

@serve.deployment
class Made(Value.func_or_class, metaclass=Counting):
    def __init__(self, word):
        self.word = word

def answer(deployment):
    return serve.run(deployment.bind("word"), name=deployment.name, route_prefix=None).remote().result()
"""


@pytest.mark.contract("4.1/constructor-value")
def test_what_a_constructor_returns_is_of_no_interest(machine: Machine) -> None:
    script = machine.serve(RETURNS, run="answer(Value)")
    for name in ("Value", "Coroutine", "AsyncValue"):
        assert script.do(f"answer({name})") == "word", name
    assert script.do("answer(Made)") == "word of its metaclass"


ENDLESS = """
import asyncio
from pathlib import Path
from eagleray import serve

class Loader:
    async def __init__(self, folder):
        self.folder = Path(folder)
        self.note("began")
        try:
            await self.load()
        finally:
            self.note("cleaned up")

    async def load(self):
        await asyncio.sleep(1000)

    def note(self, word):
        with (self.folder / type(self).__name__).open("a") as file:
            file.write(word + "\\n")

    def __del__(self):
        self.note("destroyed")

class Stubborn(Loader):
    async def load(self):
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                pass

class Async(Loader):
    async def __del__(self):
        await asyncio.sleep(0)
        self.note("destroyed")

class Web(Loader):
    pass

async def web(scope, receive, send): ...

def run(folder):
    made = [Loader, Stubborn, Async, serve.ingress(web)(Web)]
    serve.run_many(
        [
            serve.RunTarget(
                serve.deployment(one, graceful_shutdown_timeout_s=2).bind(folder), one.__name__, f"/{one.__name__}"
            )
            for one in made
        ],
        wait_for_applications_running=False,
    )
"""


@pytest.mark.contract("4.1/constructor-stopped")
def test_what_an_endless_constructor_took_is_given_back_when_it_is_stopped(machine: Machine, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    script = machine.serve(ENDLESS, run=f"run({str(notes)!r})")
    expected = {
        "Loader": ["began", "cleaned up", "destroyed"],
        "Stubborn": ["began", "destroyed"],
        "Async": ["began", "cleaned up", "destroyed"],
        "Web": ["began", "cleaned up", "destroyed"],
    }

    def noted() -> dict[str, list[str]]:
        return {path.name: path.read_text().split("\n")[:-1] for path in notes.iterdir()}

    eventually(lambda: noted() == {name: ["began"] for name in expected}, "all constructors run")
    for name in expected:
        script.do(f"serve.delete({name!r})")
    assert noted() == expected
    assert not machine.replicas()


FAILS = """
import sys
from eagleray import serve

@serve.deployment(num_replicas=4)
class Model:
    def __init__(self, path):
        if path == "no standard error":
            sys.stderr = None
        open(path)

app = Model.bind(sys.argv[1])
serve.run(app)
"""


@pytest.mark.parametrize("path", ["weights-that-are-missing", "no standard error"])
def test_a_constructor_that_raises_is_in_the_log_that_the_error_names(machine: Machine, path: str) -> None:
    machine.start_resident()
    script = machine.script(FAILS, path)
    assert script.wait() == 1
    assert f"No such file or directory: '{path}'" in script.output
    if path != "no standard error":
        # Each of them, however soon the controller ends a replica that has failed.
        failed = machine.logs("controller.log").count("time(s) in a row")
        assert failed >= 4

        def told() -> int:
            logs = machine.runtime.glob("state/eagleray/default/logs/replica_default_Model_*.log")
            return sum("FileNotFoundError" in log.read_text() for log in logs)

        eventually(lambda: told() >= failed, f"the logs of {failed} replicas")
