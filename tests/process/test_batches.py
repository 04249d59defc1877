"""Batches in replicas: requests of many connections meet in one call of the function."""

import json
import threading
from collections.abc import Iterator

import pytest

from machine import PATIENCE, Machine, Script, eventually, request

APP = """
import asyncio
from eagleray import serve

@serve.deployment(max_ongoing_requests=40)
class Model:
    def __init__(self):
        self.sizes = []

    def reconfigure(self, config):
        self.answer.set_max_batch_size(config["size"])

    # A request waits for the others, however slow the machine is: the time is only there to catch a hang.
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=30)
    async def answer(self, items):
        self.sizes.append(len(items))
        if "raise" in items:
            raise ValueError("said by the batch")
        if "short" in items:
            return []
        return [item.upper() for item in items]

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0)
    async def count(self, limits):
        for number in range(max(limits)):
            yield [f"{number}," if number < limit else StopIteration for limit in limits]

    async def __call__(self, request):
        from starlette.responses import StreamingResponse
        word = request.query_params.get("word", "")
        if request.url.path == "/stream":
            return StreamingResponse(self.count(int(word)), media_type="text/plain")
        return {"word": await self.answer(word), "sizes": self.sizes}

    def blocking(self, word):
        return asyncio.run(self.answer(word))

    async def of_stream(self, limit):
        async for value in self.count(limit):
            yield value

    def seen(self):
        return self.sizes

@serve.deployment(max_ongoing_requests=3)
class Small:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0)
    async def same(self, items):
        return items

    async def __call__(self, item):
        return await self.same(item)

def errors(responses):
    found = []
    for response in responses:
        try:
            found.append(response.result())
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    return found

app = Model.options(user_config={"size": 4}).bind()
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    machine = Machine(tmp_path_factory.mktemp("batches"))
    try:
        yield machine.serve(APP, run='serve.run(app), serve.run(Small.bind(), name="small", route_prefix="/small")')
    finally:
        assert not machine.close()


def ask(address: str, words: list[str]) -> list[tuple[int, str]]:
    """The answers to requests that are all under way at the same time."""
    answers: list[tuple[int, str]] = [(0, "")] * len(words)

    def one(place: int, word: str) -> None:
        got = request("GET", f"{address}/?word={word}")
        answers[place] = (got.status, got.text)

    threads = [threading.Thread(target=one, args=numbered) for numbered in enumerate(words)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return answers


@pytest.mark.contract("1.3/columns", "1.3/setters")
def test_requests_meet_in_batches_of_the_size_that_reconfigure_set(served: Script) -> None:
    words = [f"w{number}" for number in range(12)]
    answers = ask(served.address, words)
    assert [status for status, _ in answers] == [200] * 12
    assert [json.loads(text)["word"] for _, text in answers] == [word.upper() for word in words]
    assert max(served.do("handle[0].seen.remote().result()")[-3:]) == 4


@pytest.mark.contract("1.3/exception", "1.3/wrong-length")
def test_what_goes_wrong_in_a_batch_fails_all_of_it_and_nothing_else(served: Script) -> None:
    assert [status for status, _ in ask(served.address, ["a", "b", "raise", "c"])] == [500] * 4
    assert [status for status, _ in ask(served.address, ["a", "b", "short", "c"])] == [500] * 4
    assert [status for status, _ in ask(served.address, ["a", "b", "d", "c"])] == [200] * 4
    raised = served.do("errors([handle[0].answer.remote(word) for word in ('raise', 'x', 'y', 'z')])")
    assert raised == ["ValueError: said by the batch"] * 4


@pytest.mark.contract("1.3/functions")
def test_sync_methods_join_the_same_batches(served: Script) -> None:
    assert served.do("[r.result() for r in [handle[0].blocking.remote(w) for w in 'abcd']]") == ["A", "B", "C", "D"]
    assert served.do("handle[0].seen.remote().result()")[-1] == 4


@pytest.mark.contract("1.3/generator")
def test_streams_of_a_batch(served: Script) -> None:
    texts: dict[int, str] = {}

    def one(limit: int) -> None:
        texts[limit] = request("GET", f"{served.address}/stream?word={limit}").text

    threads = [threading.Thread(target=one, args=(limit,)) for limit in (1, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert texts == {1: "0,", 3: "0,1,2,", 5: "0,1,2,3,4,"}


@pytest.mark.contract("1.3/warning")
def test_a_limit_of_requests_that_is_too_low_for_a_batch_is_said(served: Script) -> None:
    assert served.do("handle[1].remote(7).result()") == 7
    eventually(lambda: "set @serve.deployment(max_ongoing_requests=4) or more" in served.output, "the warning")
    assert "answer() cannot fill" not in served.output
