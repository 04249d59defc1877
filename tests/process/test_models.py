"""Many models behind a deployment of three replicas: requests find the replica that has theirs."""

import concurrent.futures
import os
import signal
from collections import Counter

import pytest
from models_program import MODEL, notes

from machine import Machine, eventually, request

APP = (
    MODEL
    + """
@serve.deployment(num_replicas=3, max_ongoing_requests=20)
class Many:
    @serve.multiplexed(max_num_models_per_replica=10)
    async def load(self, model_id):
        if model_id == "broken":
            raise OSError("no such file")
        return Model(model_id)

    async def __call__(self, request):
        model = await self.load(serve.get_multiplexed_model_id())
        return {"model": model.name, "pid": os.getpid()}

    async def by_handle(self):
        model_id = serve.get_multiplexed_model_id()
        return [(await self.load(model_id)).name if model_id else "", os.getpid()]

app = Many.bind()
"""
)


def ask(address: str, model_id: str, header: str = "serve_multiplexed_model_id") -> tuple[str, int]:
    got = request("GET", address, headers={header: model_id})
    assert got.status == 200, got.text
    return got.json()["model"], got.json()["pid"]


def counts(machine: Machine, what: str) -> Counter[str]:
    """How often this was noted of each model."""
    return Counter(name for noted, name, _ in notes(machine) if noted == what)


@pytest.mark.contract("1.4/routers", "1.4/cached", "1.4/shutdown", "1.4/failed-load")
@pytest.mark.contract("1.5/get_multiplexed_model_id")
def test_twenty_models_on_three_replicas_are_loaded_once_each(machine: Machine) -> None:
    script = machine.serve(APP)
    address, models = script.address, [f"m{number}" for number in range(20)]
    where = {}
    for model_id in models:
        name, where[model_id] = ask(address, model_id)
        assert name == model_id
    # To the replica with the fewest, so they are spread.
    assert sorted(Counter(where.values()).values()) == [6, 7, 7]

    # Many at a time, the header in any spelling: each goes where its model is.
    spellings = ("serve_multiplexed_model_id", "serve-multiplexed-model-id", "Serve_Multiplexed-Model_ID")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [(model_id, spellings[number % 3]) for number, model_id in enumerate(models * 5)]
        for (model_id, _), answer in zip(asked, pool.map(lambda one: ask(address, *one), asked), strict=True):
            assert answer == (model_id, where[model_id])
    assert set(counts(machine, "load").values()) == {1}

    # The router of a handle learns it as well, once it has met all replicas.
    seen: set[int] = set()
    eventually(lambda: seen.add(script.do("handle.by_handle.remote().result()")[1]) or len(seen) == 3, "all replicas")
    for model_id in models:
        option = f"handle.options(multiplexed_model_id={model_id!r})"
        assert script.do(f"{option}.by_handle.remote().result()") == [model_id, where[model_id]]
    assert set(counts(machine, "load").values()) == {1}

    # A loader that raises costs its request.
    for _ in range(2):
        assert request("GET", address, headers={"serve_multiplexed_model_id": "broken"}).status == 500
    assert ask(address, "m0") == ("m0", where["m0"])

    # What a killed replica had is loaded by others, and what the others have stays there.
    victim = where["m0"]
    os.kill(victim, signal.SIGKILL)
    for model_id in models:
        name, pid = ask(address, model_id)
        assert name == model_id
        if where[model_id] != victim:
            assert pid == where[model_id]
    loads = counts(machine, "load")
    assert {loads[model_id] for model_id in models if where[model_id] != victim} == {1}
    lost = [model_id for model_id in models if where[model_id] == victim]
    assert {loads[model_id] for model_id in lost} == {2}

    eventually(lambda: len(machine.replicas("default/Many")) == 3, "three replicas again")
    before = counts(machine, "unload")
    assert script.end() == 0
    # At the end everything is unloaded, once: what was loaded, less what died.
    eventually(lambda: sum(counts(machine, "unload").values()) == 20 + sum(before.values()), "all are unloaded")
