"""Models while their deployment changes under load: nothing fails, nothing is loaded or unloaded twice."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import models_program
import pytest

from machine import Load, Machine, Script, eventually

APP = (
    models_program.MODEL
    + """
class AsyncModel:
    def __init__(self, name):
        self.name = name
        note("load", name)

    async def __del__(self):
        note("begin-unload", self.name)
        await asyncio.sleep(0.01)
        note("unload", self.name)

@serve.deployment(num_replicas=2, max_ongoing_requests=50, user_config={"word": "first"})
class Many:
    def __init__(self, version):
        self.version = version

    def reconfigure(self, config):
        self.word = config["word"]

    @serve.multiplexed(max_num_models_per_replica=10)
    async def load(self, model_id):
        await asyncio.sleep(0.01)
        return (Model if int(model_id[1:]) % 2 else AsyncModel)(model_id)

    async def __call__(self, request):
        return await self.answer()

    async def answer(self):
        model = await self.load(serve.get_multiplexed_model_id())
        await asyncio.sleep(0.005)
        note("served", model.name)
        return {"model": model.name, "pid": os.getpid(), "version": self.version, "word": self.word}

    def __del__(self):
        note("destroy", self.version)

app = Many.bind("one")
"""
)

MODELS = [f"m{number}" for number in range(8)]


def header(model_id: str) -> dict[str, str]:
    return {"serve_multiplexed_model_id": model_id}


def answers(script: Script) -> Iterator[dict[str, str | int]]:
    """What each model answers, over HTTP."""
    for model_id in MODELS:
        got = script.get("/", headers=header(model_id))
        assert got.status == 200, got.text
        assert got.json()["model"] == model_id
        yield got.json()


def notes(machine: Machine) -> dict[int, list[tuple[str, str]]]:
    """What each process noted, in its order."""
    found: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for what, name, pid in models_program.notes(machine):
        found[pid].append((what, name))
    return found


def names(noted: list[tuple[str, str]], what: str) -> list[str]:
    return [name for kind, name in noted if kind == what]


def check_end(noted: list[tuple[str, str]]) -> None:
    """What a replica that has ended did: its last request, then its destructor, then each model unloaded once."""
    loaded = names(noted, "load")
    kinds = [what for what, _ in noted]
    assert len(set(loaded)) == len(loaded), "each once"
    destroyed = kinds.index("destroy")
    assert "served" not in kinds[destroyed:]
    assert "unload" not in kinds[:destroyed]
    assert kinds.count("destroy") == 1
    unloaded = names(noted, "unload")
    assert sorted(unloaded) == sorted(loaded)
    # One after the other: an async hook is awaited before the next begins.
    for at, (what, name) in enumerate(noted):
        if what == "begin-unload":
            assert noted[at + 1] == ("unload", name)


@pytest.mark.contract("1.4/routers", "1.4/shutdown", "1.4/cached", "4.1/reconfigure-later")
def test_a_redeploy_under_load_loses_no_request_and_unloads_each_model_once(machine: Machine) -> None:
    script = machine.serve(APP)
    before = {str(answer["model"]): answer["pid"] for answer in answers(script)}
    old = set(before.values())
    assert len(old) == 2
    turns = [(header(model_id), f'"model":"{model_id}"'.encode()) for model_id in MODELS]
    with Load(script.address, turns=turns) as load:
        load.wait_for_more(100)

        # Reconfigured in place: the same processes keep their models, and stay routable.
        script.do('serve.run(Many.options(user_config={"word": "second"}).bind("one")) and None')
        load.wait_for_more(100)
        for answer in answers(script):
            assert (answer["word"], answer["pid"]) == ("second", before[str(answer["model"])])
        assert all(Counter(names(noted, "load")).most_common(1)[0][1] == 1 for noted in notes(machine).values())

        # A new version takes over: routers forget what the old replicas held.
        script.do('serve.run(Many.options(user_config={"word": "second"}).bind("two")) and None')
        eventually(lambda: not machine.replicas("default/Many") & old, "the old replicas have ended")
        load.wait_for_more(100)
        after = {str(answer["model"]): answer["pid"] for answer in answers(script) if answer["version"] == "two"}
        assert set(after) == set(MODELS)
        new = set(after.values())
        assert not new & old
        for model_id in MODELS:
            by_handle = f"handle.options(multiplexed_model_id={model_id!r}).answer.remote().result()"
            answer = script.do(by_handle)
            assert (answer["model"], answer["version"]) == (model_id, "two")

        # Fewer replicas: what the one that goes held is loaded by the one that stays.
        script.do('serve.run(Many.options(num_replicas=1, user_config={"word": "second"}).bind("two")) and None')
        eventually(lambda: len(machine.replicas("default/Many")) == 1, "one replica is left")
        load.wait_for_more(100)
        assert len({answer["pid"] for answer in answers(script)}) == 1
    assert set(load.outcomes) == {"200"}, load.outcomes
    (left,) = machine.replicas("default/Many")
    noted = notes(machine)
    for pid in noted.keys() - {left}:
        check_end(noted[pid])
    assert sorted(names(noted[left], "load")) == MODELS
    assert names(noted[left], "unload") == []
    assert script.end() == 0
    check_end(notes(machine)[left])


@pytest.mark.contract("1.4/shutdown")
def test_models_are_unloaded_least_recently_used_first(machine: Machine) -> None:
    script = machine.serve(APP.replace("num_replicas=2", "num_replicas=1"))
    for model_id in ("m0", "m1", "m2", "m3", "m0", "m2"):
        assert script.get("/", headers=header(model_id)).status == 200
    (pid,) = machine.replicas("default/Many")
    script.do('serve.run(Many.options(num_replicas=1).bind("two")) and None')
    eventually(lambda: pid not in machine.replicas("default/Many"), "the old replica has ended")
    noted = notes(machine)[pid]
    check_end(noted)
    assert names(noted, "unload") == ["m1", "m3", "m0", "m2"]
