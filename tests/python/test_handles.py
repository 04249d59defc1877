"""The caller's end of a handle, against a router that knows no deployment: waiting, cancelling, refusing."""

import asyncio
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eagleray import _core
from eagleray.serve import handle as handle_module
from eagleray.serve.exceptions import RayServeException, RequestCancelledError
from eagleray.serve.handle import DeploymentHandle, DeploymentResponse, RemoteTraceback


@pytest.fixture
def handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeploymentHandle]:
    """A handle whose calls wait: the controller is not there, and the deployment may yet come."""
    router = _core.Router(str(tmp_path / "controller.sock"))
    monkeypatch.setattr(handle_module, "_router", lambda: router)
    yield DeploymentHandle("Model", "app")
    router.close()


@pytest.mark.contract("3.1/remote", "3.1/waits", "3.3/result", "3.3/result-timeout")
def test_remote_returns_at_once_and_result_times_out(handle: DeploymentHandle) -> None:
    response = handle.remote(1, key=2)
    assert len(response.request_id) == 36
    with pytest.raises(TimeoutError, match="app/Model"):
        response.result(timeout_s=0.01)
    with pytest.raises(TypeError):
        response.result(1)  # type: ignore[misc]


@pytest.mark.contract("3.3/cancel", "3.3/cancelled")
def test_a_cancelled_call_says_so_everywhere(handle: DeploymentHandle) -> None:
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
    response: DeploymentResponse = remote()  # type: ignore[operator]
    if cancel:
        response.cancel()
    return await response


@pytest.mark.contract("3.3/cancel-await")
def test_cancelling_the_task_that_awaits_cancels_the_call(handle: DeploymentHandle) -> None:
    async def main() -> DeploymentResponse:
        response = handle.remote()
        task = asyncio.ensure_future(_once(response))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return response

    async def _once(response: DeploymentResponse) -> object:
        return await response

    response = asyncio.run(main())
    assert response._call.wait(10.0)
    assert response._call.failure() == ("Cancelled", "")


@pytest.mark.contract("3.3/result-loop")
def test_result_inside_a_running_loop_is_refused(handle: DeploymentHandle) -> None:
    async def main() -> None:
        handle.remote().result()

    with pytest.raises(RuntimeError, match="await"):
        asyncio.run(main())


def test_many_awaits_on_several_loops_end_with_the_router(handle: DeploymentHandle) -> None:
    outcomes: list[BaseException] = []

    async def main() -> None:
        found = await asyncio.gather(*(_await(handle.remote, cancel=False) for _ in range(100)), return_exceptions=True)
        outcomes.extend(error for error in found if isinstance(error, BaseException))

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(3)]
    for thread in threads:
        thread.start()
    handle_module._router().close()
    for thread in threads:
        thread.join(10.0)
    assert len(outcomes) == 300
    assert all(isinstance(error, RayServeException) for error in outcomes)


@pytest.mark.contract("3.1/unpicklable")
def test_an_argument_that_cannot_be_pickled_is_named(handle: DeploymentHandle) -> None:
    with pytest.raises(TypeError, match=r"app/Model.predict: argument 2 \(lock\)"):
        handle.predict.remote(1, threading.Lock())
    with pytest.raises(TypeError, match="argument 'x'"):
        handle.remote(x=threading.Lock())


@pytest.mark.contract("3.3/pickle", "3.2/response-nested")
def test_a_response_is_neither_pickled_nor_passed_on(handle: DeploymentHandle) -> None:
    response = handle.remote()
    with pytest.raises(RayServeException, match="await"):
        pickle.dumps(response)
    with pytest.raises(RayServeException, match="await"):
        handle.remote(response)
    with pytest.raises(RayServeException, match="await"):
        handle.remote([response])


def test_arguments_from_main_travel_by_value_and_others_by_name(handle: DeploymentHandle) -> None:
    (value,), keywords = pickle.loads(handle._pickle((Path("/x"),), {"k": [1]}))
    assert (value, keywords) == (Path("/x"), {"k": [1]})
    function = pickle.loads(handle._pickle((lambda x: x + 1,), {}))[0][0]
    assert function(1) == 2


@pytest.mark.contract("3.3/exception")
def test_a_remote_error_keeps_its_type_and_shows_where_it_was_raised() -> None:
    error = ValueError("wrong number")
    error.__dict__[handle_module.REMOTE_TRACEBACK] = "Traceback ...\nValueError: wrong number"
    raised = handle_module._with_remote_traceback(pickle.loads(pickle.dumps(error)))
    assert isinstance(raised, ValueError)
    assert isinstance(raised.__cause__, RemoteTraceback)
    assert "Traceback ..." in str(raised.__cause__)
    assert isinstance(handle_module._with_remote_traceback(SystemExit(3)), RayServeException)
