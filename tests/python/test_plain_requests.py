"""Requests of plain handlers leave out starlette's constructor; they must be what it would have made of them."""

import asyncio
import json

import pytest
from starlette.requests import Request

from eagleray._user_code import requests
from eagleray._user_code.requests import AsyncRequest, SyncRequest


class Native:
    """What they take of the native request."""

    def __init__(self, body=None, pieces=()):
        self.looks = 0
        self.cancelled = False
        self._body = body
        self._pieces = list(pieces)

    def scope(self):
        self.looks += 1
        return {"type": "http", "method": "PUT", "path": "/p", "query_string": b"a=1", "headers": [(b"x-mine", b"1")]}

    def body(self):
        return self._body

    async def receive(self):
        body = self._pieces.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self._pieces)}


@pytest.fixture(params=[True, False], ids=["shared", "own"])
def _both_ways(request, monkeypatch):
    """With and without starlette's constructor."""
    monkeypatch.setattr(requests, "_CAN_BE_SHARED", request.param)


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("kind", [AsyncRequest, SyncRequest])
def test_they_have_what_starlettes_constructor_sets(kind):
    made, plain = kind(Native(b"")), Request({"type": "http"})
    for name, value in vars(plain).items():
        if name not in ("scope", "_receive"):
            assert getattr(made, name) == value, name


def test_the_installed_starlette_takes_the_cheap_way():
    assert requests._CAN_BE_SHARED
    assert set(vars(AsyncRequest(Native()))) == {"_native"}


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("kind", [AsyncRequest, SyncRequest])
def test_the_scope_is_made_once_at_the_first_look(kind):
    native = Native(b"{}")
    made = kind(native)
    assert native.looks == 0
    assert (made.method, made.headers["x-mine"], made.query_params["a"], made["path"]) == ("PUT", "1", "1", "/p")
    made.state.mine = 1
    assert made.scope["state"] == {"mine": 1}
    assert native.looks == 1


@pytest.mark.usefixtures("_both_ways")
def test_what_one_request_keeps_is_not_anothers():
    async def stream():
        first, second = AsyncRequest(Native(None, [b"a", b"b"])), AsyncRequest(Native(None, [b"c"]))
        assert [piece async for piece in first.stream()] == [b"a", b"b", b""]
        with pytest.raises(RuntimeError, match="consumed"):
            await first.body()
        return await second.body()

    assert asyncio.run(stream()) == b"c"


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("came", [(b'{"a":1}', ()), (None, (b'{"a"', b":1}"))], ids=["whole", "pieces"])
def test_a_body_is_read_whole_or_in_pieces_and_stays(came):
    async def read():
        made = AsyncRequest(Native(*came))
        return [await made.json(), await made.json(), await made.body(), [piece async for piece in made.stream()]]

    assert asyncio.run(read()) == [{"a": 1}, {"a": 1}, b'{"a":1}', [b'{"a":1}', b""]]


FORM = b"name=Ann&name=Bo"


class FormNative(Native):
    def scope(self):
        return super().scope() | {"headers": [(b"content-type", b"application/x-www-form-urlencoded")]}


@pytest.mark.parametrize("text", ['{"a":1}', "[1,2]", '"text"', "3", "2.5", "true", "null"])
def test_a_sync_request_gives_values_of_the_very_type_and_awaitables_in_a_coroutine(text):
    made = SyncRequest(Native(text.encode()))
    value = made.json()
    assert type(value) is type(json.loads(text))
    assert value == json.loads(text)
    assert type(made.body()) is bytes
    assert list(made.stream()) == [text.encode(), b""]

    async def helper(request):
        pieces = [piece async for piece in request.stream()]
        return await request.json(), await request.body(), pieces, await request.is_disconnected()

    for request in (made, SyncRequest(Native(text.encode()))):
        assert asyncio.run(helper(request)) == (value, text.encode(), [text.encode(), b""], False)


def test_the_form_of_a_sync_request_is_a_value_and_in_a_coroutine_what_starlette_gives():
    assert SyncRequest(FormNative(FORM)).form().getlist("name") == ["Ann", "Bo"]

    async def helper(request):
        async with request.form(max_fields=5) as form:
            return (await request.form()) is form, form.getlist("name")

    assert asyncio.run(helper(SyncRequest(FormNative(FORM)))) == (True, ["Ann", "Bo"])


def test_receive_of_a_sync_request_gives_the_body_then_waits_for_the_client_to_leave():
    native = Native(b"abc")
    made = SyncRequest(native)

    async def helper():
        wrapped = Request(made.scope, made.receive)
        body = await wrapped.body()
        waits = asyncio.ensure_future(made.receive())
        done, _ = await asyncio.wait([waits], timeout=0.01)
        native.cancelled = True
        return body, done, (await asyncio.wait_for(waits, 10))["type"], await made.is_disconnected()

    assert asyncio.run(helper()) == (b"abc", set(), "http.disconnect", True)
