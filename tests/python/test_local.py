"""Local testing mode: what programs can rely on when an application runs in this process."""

import asyncio
import contextvars
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eagleray import _runtime, serve
from eagleray.serve.context import get_request_context
from eagleray.serve.exceptions import RayServeException, RequestCancelledError
from eagleray.serve.handle import DeploymentHandle, DeploymentResponse, RemoteTraceback
from eagleray.serve.schema import ApplicationStatus

GONE: list[str] = []


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    # No node of the user is joined by accident.
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    GONE.clear()
    yield
    serve.shutdown()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("eagleray local ")]


def run(application: Any, **options: Any) -> DeploymentHandle:
    return serve.run(application, _local_testing_mode=True, **options)


class Mutable:
    def __init__(self) -> None:
        self.values: list[int] = []


@serve.deployment(user_config={"word": "configured"})
class Child:
    def __init__(self, base: int = 0, seen: Mutable | None = None) -> None:
        self.base, self.seen = base, seen
        self.notes: list[str] = []
        if seen is not None:
            seen.values.append(base)

    def reconfigure(self, user_config: dict[str, str]) -> None:
        self.word = user_config["word"]

    def add(self, number: int) -> int:
        return self.base + number

    async def change(self, values: list[int]) -> list[int]:
        values.append(self.base)
        return values

    def raises(self) -> None:
        raise LookupError("not here")

    async def closes(self) -> None:
        raise GeneratorExit("by mistake")

    async def waits(self) -> None:
        self.notes.append("began")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.notes.append("cancelled")
            raise

    def get(self, name: str) -> Any:
        return getattr(self, name)

    async def where(self) -> list[Any]:
        replica, request = serve.get_replica_context(), get_request_context()
        assert request is not None
        return [replica.app_name, replica.deployment, replica.servable_object is self, request.multiplexed_model_id]

    def where_in_thread(self) -> list[Any]:
        request = get_request_context()
        assert request is not None
        return [serve.get_replica_context().deployment, request.multiplexed_model_id, len(request.request_id)]

    def __del__(self) -> None:
        GONE.append(f"Child {self.base}")


@serve.deployment
class Parent:
    def __init__(self, first: DeploymentHandle, more: dict[str, list[DeploymentHandle]]) -> None:
        self.first, self.more = first, more["inside"][0]

    async def __call__(self, number: int) -> list[int]:
        return [await self.first.add.remote(number), await self.more.add.remote(number)]

    def in_thread(self, number: int) -> int:
        return int(self.first.add.remote(number).result())

    async def waits(self) -> Any:
        return await self.first.waits.remote()

    async def names(self) -> list[str]:
        return [self.first.deployment_name, self.more.deployment_name]


def application() -> serve.Application:
    return Parent.bind(Child.bind(10), {"inside": [Child.bind(100)]})


@pytest.mark.contract("1.5/local-run", "2/nested", "2/renamed", "3.3/result-sync-method")
def test_deployments_call_each_other_in_this_process() -> None:
    handle = run(application())
    assert handle.remote(1).result() == [11, 101]
    assert handle.in_thread.remote(2).result() == 12
    assert handle.names.remote().result() == ["Child", "Child_1"]
    assert serve.get_app_handle("default").remote(1).result() == [11, 101]
    assert serve.get_deployment_handle("Child_1", "default").add.remote(1).result() == 101

    async def many() -> list[Any]:
        return await asyncio.gather(*(handle.remote(number) for number in range(20)))

    assert asyncio.run(many()) == [[10 + number, 100 + number] for number in range(20)]


def test_all_of_it_is_one_process_and_classes_are_the_users_own() -> None:
    @serve.deployment
    def process() -> int:
        return os.getpid()

    assert run(process.bind()).remote().result() == os.getpid()
    run(Child.bind(1), name="other")
    replica = _runtime.local_applications["other"].replica("Child")
    assert type(replica.user_code.target) is Child.func_or_class  # type: ignore[union-attr]


def test_the_same_application_twice_is_one_deployment() -> None:
    shared = Child.bind(5)
    handle = run(Parent.bind(shared, {"inside": [shared]}))
    assert handle.names.remote().result() == ["Child", "Child"]


@pytest.mark.contract("10.1/local-testing", better="its name is `EAGLERAY_SERVE_FORCE_LOCAL_TESTING_MODE`")
@pytest.mark.contract("1.5/local-run")
def test_the_environment_makes_every_run_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAGLERAY_SERVE_FORCE_LOCAL_TESTING_MODE", "1")
    serve.start()
    assert serve.run(Child.bind(1)).add.remote(1).result() == 2
    assert serve.run(Child.bind(2), name="more", local_testing_mode=False).add.remote(1).result() == 3
    assert set(serve.status().applications) == {"default", "more"}


@pytest.mark.contract("1.5/local-constructors")
def test_constructors_run_at_once_and_their_exceptions_come_out() -> None:
    class Wrong(Exception):
        pass

    @serve.deployment
    class Fails:
        def __init__(self, other: DeploymentHandle) -> None:
            raise Wrong("in the constructor")

    @serve.deployment
    class Later:
        async def __init__(self) -> None:
            await asyncio.sleep(0)
            raise SystemExit(3)

    with pytest.raises(Wrong, match="in the constructor"):
        run(Fails.bind(Child.bind(7)))
    assert GONE == ["Child 7"], "what had been constructed is ended"
    with pytest.raises(SystemExit):
        run(Later.bind())
    assert serve.status().applications == {}


def test_an_application_that_fails_leaves_the_one_before() -> None:
    handle = run(Child.bind(1))
    with pytest.raises(KeyError, match="word"):
        run(Child.options(user_config={}).bind(9))
    assert GONE == ["Child 9"]
    assert handle.add.remote(1).result() == 2
    assert run(Child.bind(2)).add.remote(1).result() == 3
    assert GONE == ["Child 9", "Child 1"]


def test_reconfigure_and_health_checks_run_at_the_start() -> None:
    @serve.deployment
    class Ill:
        def check_health(self) -> None:
            raise RuntimeError("unwell")

    @serve.deployment(user_config={"a": 1})
    class Unready:
        pass

    assert run(Child.bind()).get.remote("word").result() == "configured"
    with pytest.raises(RuntimeError, match="unwell"):
        run(Ill.bind())
    with pytest.raises(RayServeException, match="reconfigure"):
        run(Unready.bind())


@pytest.mark.contract("1.5/local-pickled")
def test_arguments_and_results_are_copies() -> None:
    seen = Mutable()
    handle = run(Child.bind(3, seen))
    assert seen.values == [], "the constructor's argument is a copy"
    values = [1]
    assert handle.change.remote(values).result() == [1, 3]
    assert values == [1]
    with pytest.raises(TypeError, match="lock"):
        handle.add.remote(threading.Lock())
    with pytest.raises(TypeError, match="lock"):
        run(Child.bind(threading.Lock()))


@pytest.mark.contract(
    "1.5/local-context",
    better="the request's context, models and batches are as in production",
)
def test_the_context_of_replica_and_request_is_set() -> None:
    handle = run(Child.bind(), name="app").options(multiplexed_model_id="m1")
    assert handle.where.remote().result() == ["app", "Child", True, "m1"]
    assert handle.where_in_thread.remote().result() == ["Child", "m1", 36]
    with pytest.raises(RayServeException):
        serve.get_replica_context()
    assert get_request_context() is None


@pytest.mark.contract("3.3/exception", "3.1/attributes-unknown")
def test_errors_are_those_of_production() -> None:
    handle = run(application())
    child = serve.get_deployment_handle("Child", "default")
    with pytest.raises(LookupError, match="not here") as raised:
        child.raises.remote().result()
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    with pytest.raises(RayServeException, match=r"raised builtins\.GeneratorExit: by mistake"):
        child.closes.remote().result()
    with pytest.raises(RayServeException, match="add, change"):
        child.nothing.remote().result()
    with pytest.raises(KeyError):
        serve.get_deployment_handle("Nobody", "default")

    async def blocks() -> None:
        handle.remote(1).result()

    with pytest.raises(RuntimeError, match="await"):
        asyncio.run(blocks())
    response = child.waits.remote()
    with pytest.raises(TimeoutError):
        response.result(timeout_s=0.01)
    response.cancel()


def wait_until(child: DeploymentHandle, notes: list[str]) -> None:
    found: list[str] = []
    for _ in range(1000):
        found = child.get.remote("notes").result()
        if found == notes:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{notes} expected, there is {found}")


@pytest.mark.contract("3.3/cancel", "3.3/cancel-children", "3.3/cancelled", "4.3/cancel-response")
def test_cancellation_reaches_user_code_and_the_calls_that_it_makes() -> None:
    handle = run(application())
    child = serve.get_deployment_handle("Child", "default")
    response: DeploymentResponse = handle.waits.remote()
    wait_until(child, ["began"])
    response.cancel()
    with pytest.raises(RequestCancelledError):
        response.result()
    assert response.cancelled()
    wait_until(child, ["began", "cancelled"])

    async def leaves() -> None:
        task = asyncio.ensure_future(_once(child.waits.remote()))
        await asyncio.to_thread(wait_until, child, ["began", "cancelled", "began"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leaves())
    wait_until(child, ["began", "cancelled"] * 2)


async def _once(response: DeploymentResponse) -> Any:
    return await response


@pytest.mark.contract("1.5/status", "1.5/delete", "1.5/shutdown", "4.2/del")
def test_status_delete_and_shutdown_know_it() -> None:
    run(Child.bind(1), name="one", route_prefix="/one")
    run(Child.bind(2), name="two", route_prefix=None)
    status = serve.status().applications["one"]
    assert status.status == ApplicationStatus.RUNNING
    assert status.deployments["Child"].status == "HEALTHY"
    serve.delete("one")
    assert GONE == ["Child 1"]
    assert list(serve.status().applications) == ["two"]
    serve.shutdown()
    assert GONE == ["Child 1", "Child 2"]
    assert serve.status().applications == {}


@pytest.mark.contract("1.5/local-no-http")
def test_nothing_listens_and_limits_are_off() -> None:
    handle = run(Child.options(max_ongoing_requests=1, max_queued_requests=1, health_check_period_s=0.1).bind())
    responses = [handle.waits.remote() for _ in range(10)]
    wait_until(handle, ["began"] * 10)
    assert not [line for line in listening() if line not in BEFORE]
    for response in responses:
        response.cancel()


def listening() -> list[str]:
    """Sockets of this process that listen."""
    own = {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                found.append(fields[1])
    return found


BEFORE = listening()


class Workers:
    async def __call__(self) -> int:
        gate = threading.Event()
        waiting = [asyncio.get_running_loop().run_in_executor(None, gate.wait) for _ in range(40)]
        count = sum(thread.name.startswith("eagleray-local-Workers") for thread in threading.enumerate())
        gate.set()
        await asyncio.gather(*waiting)
        return count


@pytest.mark.contract("4.3/default-executor")
def test_variables_of_the_constructor_are_seen_by_every_method() -> None:
    word = contextvars.ContextVar("word", default="unset")

    @serve.deployment
    class Reads:
        async def __init__(self) -> None:
            word.set("by the constructor")

        def in_thread(self) -> str:
            return word.get()

        async def on_loop(self) -> str:
            found = word.get()
            word.set("by a request")
            return found

    reads = run(Reads.bind())
    for _ in range(2):
        assert reads.on_loop.remote().result() == "by the constructor"
        assert reads.in_thread.remote().result() == "by the constructor"
    assert word.get() == "unset", "nor does it come out"


def test_the_default_executor_is_sized_as_when_served() -> None:
    deployment = serve.deployment(Workers, ray_actor_options={"num_cpus": 2})
    assert run(deployment.bind()).remote().result() == 6


class Described:
    def record_replica_metadata(self) -> dict[str, str]:
        return {"zone": "a"}


@pytest.mark.contract("4.2/record_replica_metadata")
def test_metadata_of_a_replica_is_shown_by_its_selection() -> None:
    async def shown() -> dict[str, Any]:
        async with run(serve.deployment(Described).bind()).choose_replica() as selection:
            return selection.replica_metadata

    assert asyncio.run(shown()) == {"zone": "a"}
