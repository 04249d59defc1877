"""The caller's end of a handle, against a router that knows no deployment: waiting, cancelling, refusing."""

import asyncio
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eagleray import _core, _formats, _values
from eagleray.exceptions import GetTimeoutError, TaskCancelledError
from eagleray.serve import _client
from eagleray.serve import handle as handle_module
from eagleray.serve._log import logger
from eagleray.serve.context import DeploymentID
from eagleray.serve.exceptions import DeploymentUnavailableError, RayServeException, RequestCancelledError
from eagleray.serve.handle import (
    DeploymentBroadcastResponse,
    DeploymentHandle,
    DeploymentResponse,
    DeploymentResponseGenerator,
    RemoteTraceback,
    ReplicaSelection,
)


@pytest.fixture
def handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeploymentHandle[Any]]:
    """A handle whose calls wait: the controller is not there, and the deployment may yet come."""
    router = _core.Router(str(tmp_path / "controller.sock"))
    monkeypatch.setattr(_client, "router", lambda app_name: router)
    yield DeploymentHandle("Model", "app")
    router.close()


@pytest.mark.contract("3.1/remote", "3.1/waits", "3.3/result", "3.3/result-timeout", "3.3/request_id")
def test_remote_returns_at_once_and_result_times_out(handle: DeploymentHandle[Any]) -> None:
    response = handle.remote(1, key=2)
    assert len(response.request_id) == 36
    assert response.by_reference
    with pytest.raises(GetTimeoutError, match="app/Model"):
        response.result(timeout_s=0.01)
    assert issubclass(GetTimeoutError, TimeoutError)
    assert issubclass(RequestCancelledError, TaskCancelledError)
    with pytest.raises(TypeError):
        response.result(1)  # type: ignore[misc]


@pytest.mark.contract("3.3/cancel", "3.3/cancelled")
def test_a_cancelled_call_says_so_everywhere(handle: DeploymentHandle[Any]) -> None:
    response = handle.remote()
    assert not response.cancelled()
    response.cancel()
    response.cancel()
    assert response.cancelled()
    with pytest.raises(RequestCancelledError):
        response.result()
    with pytest.raises(RequestCancelledError):
        asyncio.run(_await(handle.remote, cancel=True))


async def _await(remote: object, *, cancel: bool) -> object:
    response: DeploymentResponse[Any] = remote()  # type: ignore[operator]
    if cancel:
        response.cancel()
    return await response


@pytest.mark.contract("3.3/cancel-await")
def test_cancelling_the_task_that_awaits_cancels_the_call(handle: DeploymentHandle[Any]) -> None:
    async def main() -> DeploymentResponse[Any]:
        response = handle.remote()
        task = asyncio.ensure_future(_once(response))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return response

    async def _once(response: DeploymentResponse[Any]) -> object:
        return await response

    response = asyncio.run(main())
    assert response._call.wait(10.0)
    assert response._call.failure() == ("Cancelled", "", None)


@pytest.mark.contract("3.3/result-loop")
def test_result_inside_a_running_loop_is_refused(handle: DeploymentHandle[Any]) -> None:
    async def main() -> None:
        handle.remote().result()

    with pytest.raises(RuntimeError, match="await"):
        asyncio.run(main())


def test_many_awaits_on_several_loops_end_with_the_router(handle: DeploymentHandle[Any]) -> None:
    outcomes: list[BaseException] = []

    async def main() -> None:
        found = await asyncio.gather(*(_await(handle.remote, cancel=False) for _ in range(100)), return_exceptions=True)
        outcomes.extend(error for error in found if isinstance(error, BaseException))

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(3)]
    for thread in threads:
        thread.start()
    _client.router("app").close()
    for thread in threads:
        thread.join(10.0)
    assert len(outcomes) == 300
    assert all(isinstance(error, RayServeException) for error in outcomes)


@pytest.mark.contract("3.1/unpicklable")
def test_an_argument_that_cannot_be_pickled_is_named(handle: DeploymentHandle[Any]) -> None:
    with pytest.raises(TypeError, match=r"app/Model.predict: argument 2 \(lock\)"):
        handle.predict.remote(1, threading.Lock())
    with pytest.raises(TypeError, match="argument 'x'"):
        handle.remote(x=threading.Lock())


@pytest.mark.contract("3.3/pickle", "3.2/response-nested")
def test_a_response_is_not_pickled_and_not_inside_an_argument(handle: DeploymentHandle[Any]) -> None:
    response = handle.remote()
    with pytest.raises(RayServeException, match="await"):
        pickle.dumps(response)
    for nested in ([response], {"a": response}, (response,)):
        with pytest.raises(RayServeException, match="await"):
            handle.remote(nested)
    with pytest.raises(RayServeException, match="await"):
        handle.remote(key=[response])
    assert len(handle.remote(response, key=response)._upstream) == 2


@pytest.mark.contract("3.2/generator")
def test_a_generator_is_not_an_argument(handle: DeploymentHandle[Any]) -> None:
    items = handle.options(stream=True).remote()
    with pytest.raises(RuntimeError, match="pass the items"):
        handle.remote(items)
    with pytest.raises(RayServeException, match="pass the items"):
        handle.remote([items])


def test_arguments_from_main_travel_by_value_and_others_by_name(handle: DeploymentHandle[Any]) -> None:
    body, upstream = handle._pickle((Path("/x"),), {"k": [1]})
    assert isinstance(body, bytes)
    assert pickle.loads(body) == ((Path("/x"),), {"k": [1]})
    assert upstream == ()
    body, _ = handle._pickle((lambda x: x + 1,), {})
    assert isinstance(body, bytes)
    function = pickle.loads(body)[0][0]
    assert function(1) == 2


@pytest.mark.contract("3.3/exception")
def _raised(error: object) -> BaseException:
    body = _values.dump((_values.dump(error), "Traceback ...\nValueError: wrong number", "builtins.ValueError: wrong"))
    return _client.error_from(body, "app/Model")


def test_a_remote_error_keeps_its_type_and_shows_where_it_was_raised() -> None:
    raised = _raised(ValueError("wrong number"))
    assert type(raised) is ValueError
    assert isinstance(raised.__cause__, RemoteTraceback)
    assert "Traceback ..." in str(raised.__cause__)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), "text"]
)
def test_a_remote_error_that_would_end_the_caller_is_told_instead(error: object) -> None:
    raised = _raised(error)
    assert isinstance(raised, RayServeException)
    assert "app/Model" in str(raised)
    assert "ValueError: wrong" in str(raised)
    assert "Traceback ..." in str(raised.__cause__)


def test_a_remote_error_that_cannot_be_unpickled_is_named() -> None:
    body = _values.dump((b"\x80\x05cmissing_module\nError\n.", "the traceback", "missing_module.Error: its text"))
    raised = _client.error_from(body, "app/Model")
    assert isinstance(raised, RayServeException)
    assert "missing_module.Error: its text" in str(raised)
    assert "the traceback" in str(raised.__cause__)


@pytest.mark.contract("3.1/options")
def test_options_are_checked_and_copied(handle: DeploymentHandle[Any]) -> None:
    with pytest.raises(TypeError, match="did you mean 'method_name'"):
        handle.options(methode_name="x")
    with pytest.raises(TypeError, match="known are method_name"):
        handle.options(zzz=1)
    with pytest.raises(TypeError, match="stream must be of type bool, got str"):
        handle.options(stream="yes")
    with pytest.raises(TypeError, match="session_id must be of type str"):
        handle.options(session_id=None)
    with pytest.raises(TypeError):
        handle.options("x")  # type: ignore[call-arg]
    copied = handle.options(method_name="predict", multiplexed_model_id="m").options(session_id="s")
    assert handle._options == {}
    assert copied._options == {"method_name": "predict", "multiplexed_model_id": "m", "session_id": "s"}
    assert copied.handle_id == handle.handle_id
    assert pickle.loads(pickle.dumps(copied)) == copied
    assert handle.predict == handle.options(method_name="predict") != handle


@pytest.mark.contract("3.1/options-serialization")
def test_serializations_are_checked_at_the_call(handle: DeploymentHandle[Any]) -> None:
    handle.options(request_serialization="pickle").remote()
    with pytest.raises(ValueError, match="cloudpickle, pickle, msgpack, orjson, noop"):
        handle.options(request_serialization="json").remote()
    with pytest.raises(ValueError, match="response_serialization is one of"):
        handle.options(_by_reference=False, response_serialization="xml").remote()


@pytest.fixture
def by_value(handle: DeploymentHandle[Any]) -> DeploymentHandle[Any]:
    return handle.options(_by_reference=False)


@pytest.mark.contract("3.1/serialization-by-value")
@pytest.mark.parametrize(("word", "library"), [("orjson", "orjson"), ("msgpack", "ormsgpack")])
@pytest.mark.parametrize("key", ["request_serialization", "response_serialization"])
def test_a_format_without_its_library_is_an_import_error_that_says_what_to_install(
    by_value: DeploymentHandle[Any], monkeypatch: pytest.MonkeyPatch, word: str, library: str, key: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"{key}='{word}' needs the package {library}: pip install {library}"):
        by_value.options(**{key: word}).remote(1)


@pytest.mark.contract("3.1/serialization-by-value")
@pytest.mark.parametrize(
    ("word", "args", "kwargs", "message"),
    [
        ("orjson", (1, {2}), {}, r"app/Model: argument 2 \(set\) cannot be carried by request_serialization='orjson'"),
        ("orjson", (), {"key": b"x"}, r"argument 'key' \(bytes\) cannot be carried"),
        ("msgpack", (object(),), {}, r"argument 1 \(object\) cannot be carried by request_serialization='msgpack'"),
        ("noop", ("text",), {}, "carries one positional argument of bytes, nothing else"),
        ("noop", (b"a", b"b"), {}, "one positional argument"),
        ("noop", (b"a",), {"b": 1}, "one positional argument"),
    ],
)
def test_what_a_format_cannot_carry_is_a_type_error_of_the_call(
    by_value: DeploymentHandle[Any], word: str, args: Any, kwargs: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        by_value.options(request_serialization=word).remote(*args, **kwargs)


@pytest.mark.contract("3.1/serialization-by-value")
def test_by_value_is_seen_and_arguments_are_checked_as_ever(by_value: DeploymentHandle[Any]) -> None:
    other = by_value.options(response_serialization="orjson")
    assert not other.remote(1).by_reference
    with pytest.raises(TypeError, match=r"argument 2 \(lock\) cannot be pickled"):
        other.remote(1, threading.Lock())
    stream = other.options(stream=True).remote()
    with pytest.raises(RuntimeError, match="DeploymentResponseGenerator cannot be passed"):
        other.remote(stream)
    stream.cancel()


@pytest.mark.contract("3.1/options-serialization")
def test_formats_without_by_value_are_named_in_one_warning(
    handle: DeploymentHandle[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_formats, "_warned", False)
    lines: list[str] = []
    monkeypatch.setattr(logger(), "warning", lambda text, *values: lines.append(text % values))
    for _ in range(3):
        handle.options(request_serialization="orjson").remote({1})  # a set, which JSON cannot hold
    (line,) = lines
    assert "have no effect: values are pickled unless the handle has _by_reference=False" in line


@pytest.mark.contract("3.1/collisions", "3.1/introspection")
def test_private_and_dunder_names(handle: DeploymentHandle[Any]) -> None:
    assert handle._private._options == {"method_name": "_private"}
    with pytest.raises(AttributeError):
        handle.__wrapped__
    assert handle.options(method_name="options")._title() == "app/Model.options"
    assert DeploymentHandle[int]("Model", "app") == handle
    assert (handle.deployment_name, handle.app_name) == ("Model", "app")
    assert handle.deployment_id == DeploymentID("Model", "app")


@pytest.mark.contract("3.1/init", "3.1/introspection")
def test_init_comes_once_and_before_the_first_call(handle: DeploymentHandle[Any]) -> None:
    assert not handle.is_initialized
    handle._init(_prefer_local_routing=True)
    assert handle.is_initialized
    assert handle.other.is_initialized, "copies are the same handle"
    with pytest.raises(RuntimeError, match="once"):
        handle._init()
    used = DeploymentHandle[Any]("Model", "app")
    used.remote()
    with pytest.raises(RuntimeError, match="once"):
        used._init()
    assert not pickle.loads(pickle.dumps(used)).is_initialized


@pytest.mark.contract("3.1/shutdown")
def test_a_handle_that_was_shut_down_says_so(handle: DeploymentHandle[Any]) -> None:
    handle.predict.shutdown()
    with pytest.raises(RayServeException, match=r"get another one"):
        handle.remote()
    other = DeploymentHandle[Any]("Model", "app")
    other.remote()
    asyncio.run(other.shutdown_async())
    with pytest.raises(RayServeException, match="shut down"):
        other.remote()


@pytest.mark.contract("3.4/await", "3.4/result", "3.4/next-loop", "3.4/cancel")
def test_a_generator_is_iterated_and_nothing_else(handle: DeploymentHandle[Any]) -> None:
    items = handle.options(stream=True).remote()
    assert isinstance(items, DeploymentResponseGenerator)
    with pytest.raises(TypeError, match="iterate"):
        items.result()

    async def wait() -> None:
        await items

    async def step() -> None:
        next(items)

    with pytest.raises(TypeError, match="async for"):
        asyncio.run(wait())
    with pytest.raises(RuntimeError, match="async for"):
        asyncio.run(step())
    items.cancel()
    assert items.cancelled()
    with pytest.raises(RequestCancelledError):
        next(items)


@pytest.mark.contract("3.1/broadcast-none", "3.5/loop", "3.5/timeout")
def test_a_broadcast_needs_replicas_and_checks_its_timeouts(
    handle: DeploymentHandle[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle_module, "_NEWS_S", 0.01)
    with pytest.raises(DeploymentUnavailableError, match="no replica"):
        handle.broadcast("reset")
    assert not handle.running_replicas_populated()
    responses = DeploymentBroadcastResponse([handle.remote(), handle.remote()])
    with pytest.raises(ValueError, match="at least 0"):
        responses.results(timeout_s=-1)
    with pytest.raises(TimeoutError, match="2 of 2 replicas"):
        responses.results(timeout_s=0.01)
    with pytest.raises(TimeoutError, match="2 of 2 replicas"):
        asyncio.run(responses.results_async(timeout_s=0.01))
    with pytest.raises(RayServeException, match="results"):
        pickle.dumps(responses)

    async def inside() -> None:
        responses.results()

    with pytest.raises(RuntimeError, match="results_async"):
        asyncio.run(inside())


@pytest.mark.contract("3.2/response-failed")
def test_a_call_with_an_argument_that_fails_fails_with_it_as_its_cause(handle: DeploymentHandle[Any]) -> None:
    first = handle.first.remote()
    second = handle.second.remote(1, first)
    first.cancel()
    with pytest.raises(RayServeException, match=r"app/Model.second was not called.*app/Model.first") as raised:
        second.result(timeout_s=30)
    assert isinstance(raised.value.__cause__, RequestCancelledError)


def test_a_dispatch_needs_a_selection(handle: DeploymentHandle[Any]) -> None:
    with pytest.raises(TypeError, match="choose_replica"):
        handle.dispatch(ReplicaSelection("a"))
    assert ReplicaSelection("a").address == "127.0.0.1:0"
    assert ReplicaSelection("a").to_dict()["replica_id"] == "a"
