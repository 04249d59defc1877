"""A program that looks at how user code is run: chapter 4 of the contract, and what a running application shows."""

import asyncio
import contextvars
import gc
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from starlette.responses import PlainTextResponse, StreamingResponse

from eagleray import serve
from eagleray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)

NOTES = Path("notes").absolute()
# Set by the test that runs it.
ADDRESS = ""


def note(text):
    with NOTES.open("a") as file:
        file.write(text + "\n")


def notes():
    return NOTES.read_text().splitlines() if NOTES.exists() else []


def eventually(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "not within 30 s"
        time.sleep(0.02)


@serve.deployment(max_ongoing_requests=20, ray_actor_options={"num_cpus": 1})
class Looks:
    def __init__(self):
        self.variable = contextvars.ContextVar("variable", default="unset")
        self.inherited = contextvars.ContextVar("inherited", default="unset")
        self.inherited.set("by the constructor")
        self.constructor_thread = threading.get_ident()
        self.constructor_loop = id(asyncio.get_running_loop())

    async def threads(self):
        here = threading.get_ident()
        return [self.constructor_thread == here, self.constructor_loop == id(asyncio.get_running_loop())]

    def thread(self):
        return threading.get_ident() == self.constructor_thread

    def thread_of_generator(self):
        yield threading.get_ident() == self.constructor_thread

    def meet(self, barrier):
        """Returns when so many run at a time."""
        note(f"met {barrier}")
        eventually(lambda: notes().count(f"met {barrier}") == 5)
        return True

    async def variables(self):
        self.variable.set("set")
        return [await asyncio.to_thread(self.variable.get), self.variable.get()]

    def variable_here(self):
        found = self.variable.get()
        self.variable.set("changed")
        return found

    async def inherited_on_loop(self):
        return self._change_inherited()

    def inherited_in_thread(self):
        return self._change_inherited()

    async def inherited_by_items(self):
        yield self._change_inherited()

    def _change_inherited(self):
        found = self.inherited.get()
        self.inherited.set("by a request")
        return found

    async def model_in_thread(self):
        return await asyncio.to_thread(serve.get_multiplexed_model_id)

    async def frozen(self):
        return gc.get_freeze_count()

    async def directory(self):
        return str(Path.cwd())

    async def servable(self):
        context = serve.get_replica_context()
        return [context.servable_object is self, context.app_name, context.deployment, context.replica_tag]

    async def sibling(self):
        return await serve.get_deployment_handle("Sibling").remote()


@serve.deployment
class Sibling:
    async def __call__(self):
        return "of the same application"


@serve.deployment
class Root:
    """Its ingress answers HTTP; `Looks` and `Sibling` do not."""

    def __init__(self, looks, again, sibling):
        self.same = looks.deployment_name == again[0].deployment_name

    async def __call__(self, request):
        kind = request.query_params.get("kind", "")
        if kind == "back":
            raise BackPressureError(5, 4, status_code=429, retry_after_s=1.2)
        if kind == "unavailable":
            raise DeploymentUnavailableError("x")
        if kind == "replica":
            raise ReplicaUnavailableError("x")
        if kind == "serve":
            raise RayServeException("a detail")
        if kind == "stream":
            return StreamingResponse(self.chunks(), media_type="text/plain", headers={"x-own": "1"})
        if kind == "response":
            return PlainTextResponse("mine", status_code=202)
        return f"root {request.url.path}"

    async def predict(self, request):
        return "not reached over HTTP"

    async def shared(self):
        return self.same

    async def chunks(self):
        yield "first\n"
        await asyncio.to_thread(eventually, lambda: "go" in notes())
        yield "second\n"


looks = Looks.bind()
app = Root.bind(looks, [looks], Sibling.bind())


def call(method, deployment="Looks", **options):
    return serve.get_deployment_handle(deployment, "default").options(method_name=method, **options)


def get(path):
    """Status, headers, and text."""
    try:
        with urllib.request.urlopen(ADDRESS + path, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, answer.read().decode()


def raises(error, function, *args, **kwargs):
    try:
        value = function(*args, **kwargs)
    except error as found:
        return found
    raise AssertionError(f"{error} expected, got the value {value!r}")


def case_async_code_runs_on_the_loop_of_the_constructor():
    assert call("threads").remote().result() == [True, True]


def case_sync_methods_run_in_threads():
    assert call("thread").remote().result() is False
    responses = [call("meet").remote("threads") for _ in range(5)]
    assert all(response.result(timeout_s=60) for response in responses)


def case_sync_generators_run_in_threads():
    assert list(call("thread_of_generator", stream=True).remote()) == [False]


def case_context_variables():
    assert call("variables").remote().result() == ["set", "set"]
    assert call("variable_here").remote().result() == "unset"
    assert call("variable_here").remote().result() == "unset", "changes stay with their request"
    for _ in range(2):
        assert call("inherited_in_thread").remote().result() == "by the constructor"
        assert call("inherited_on_loop").remote().result() == "by the constructor", "on the loop as in threads"
        assert list(call("inherited_by_items", stream=True).remote()) == ["by the constructor"]
    assert call("model_in_thread", multiplexed_model_id="m").remote().result() == "m"


def case_garbage():
    assert call("frozen").remote().result() > 0


def case_directory():
    assert call("directory").remote().result() == str(Path.cwd())


def case_replica_context():
    servable, app_name, deployment, tag = call("servable").remote().result()
    assert (servable, app_name, deployment) == (True, "default", "Looks")
    assert tag
    assert call("sibling").remote().result() == "of the same application"
    raises(RayServeException, serve.get_replica_context)
    raises(RayServeException, serve.get_deployment_handle, "Looks")
    missing = raises(KeyError, serve.get_deployment_handle, "Nobody", "default")
    assert isinstance(missing, RayServeException)
    raises(RayServeException, serve.get_app_handle, "nobody")
    assert serve.get_multiplexed_model_id() == ""


def case_shared():
    assert call("shared", "Root").remote().result() is True


def case_http_calls_the_root_only():
    assert get("/")[2] == "root /"
    assert get("/predict")[2] == "root /predict"
    assert get("/Sibling")[2] == "root /Sibling"


def case_errors_over_http():
    status, headers, text = get("/?kind=back")
    assert (status, headers["retry-after"]) == (429, "2"), (status, text)
    assert get("/?kind=unavailable")[0] == 503
    assert get("/?kind=replica")[0] == 500
    status, _, text = get("/?kind=serve")
    assert status == 500
    assert "detail" not in text


def case_streaming():
    with urllib.request.urlopen(ADDRESS + "/?kind=stream", timeout=30) as answer:
        assert (answer.status, answer.headers["x-own"]) == (200, "1")
        assert answer.readline() == b"first\n", "before the second is made"
        note("go")
        assert answer.read() == b"second\n"
    assert get("/?kind=response")[::2] == (202, "mine")


def case_delete():
    serve.delete("nobody")
    serve.start()
    assert "default" in serve.status().applications


@serve.deployment(graceful_shutdown_wait_loop_s=100, graceful_shutdown_timeout_s=200)
class Idle:
    def __init__(self, name):
        self.name = name

    async def __call__(self):
        return os.getpid()

    def __del__(self):
        note(f"{self.name} deleted")


def case_an_idle_replica_stops_at_once():
    serve.run(Idle.bind("idle"), name="idle", route_prefix=None)
    began = time.monotonic()
    serve.delete("idle")
    assert time.monotonic() - began < 50, "graceful_shutdown_wait_loop_s is 100"
    eventually(lambda: "idle deleted" in notes())


def case_a_killed_replica_is_not_deleted():
    idle = serve.run(Idle.bind("killed"), name="killed", route_prefix=None)
    first = idle.remote().result()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: idle.remote().result(timeout_s=30) != first)
    assert "killed deleted" not in notes()
    serve.delete("killed")
    eventually(lambda: notes().count("killed deleted") == 1)


@serve.deployment(user_config={"number": 1})
class Configured:
    def __init__(self):
        self.seen = []

    async def reconfigure(self, user_config):
        self.seen.append(user_config)

    async def get(self):
        return [self.seen, os.getpid()]


def case_reconfigure():
    first = serve.run(Configured.bind(), name="configured", route_prefix=None)
    seen, pid = first.get.remote().result()
    assert seen == [{"number": 1}], "an async one, before the first request"
    again = serve.run(Configured.options(user_config={"number": 2}).bind(), name="configured", route_prefix=None)
    eventually(lambda: again.get.remote().result() == [[{"number": 1}, {"number": 2}], pid])
    last = serve.run(Configured.options(user_config=None).bind(), name="configured", route_prefix=None)
    assert last.get.remote().result() == [[{"number": 1}, {"number": 2}], pid], "None calls nothing"
    serve.delete("configured")


@serve.deployment
class Gives:
    def __init__(self):
        raise OSError("no such model")


def case_starts_that_fail_are_given_up():
    error = raises(RuntimeError, serve.run, Gives.bind(), name="gives", route_prefix=None)
    assert "no such model" in str(error)
    assert "3" in str(error), f"it says after how many: {error}"
    assert serve.status().applications["gives"].status == "DEPLOY_FAILED"
    serve.delete("gives")
