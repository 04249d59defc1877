"""`/metrics` of a node: what it counts, who has to live for that, and what it does not say."""

import contextlib
import gzip
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from control import Control
from machine import Machine, Script, eventually, request
from scrape import parse, scrape

APP = """
from eagleray import serve
from starlette.responses import PlainTextResponse

@serve.deployment
class App:
    async def __call__(self, request):
        path = request.url.path
        if path.endswith("/raise"):
            raise KeyError("no such thing")
        return PlainTextResponse("made", status_code=404 if path.endswith("/missing") else 200)

app = App.bind()
"""
OK = {"route": "/shop", "application": "shop", "status_code": "200"}


@pytest.fixture
def script(machine: Machine) -> Script:
    return machine.serve(APP, run='serve.run(app, name="shop", route_prefix="/shop")')


@pytest.fixture
def address(machine: Machine, script: Script) -> str:
    return Control(machine, owner=script.pid).address


@pytest.mark.contract("9.1/serve_num_http_requests")
@pytest.mark.contract("9.1/serve_num_http_error_requests")
@pytest.mark.contract("9.1/serve_num_deployment_http_error_requests")
@pytest.mark.contract("9.1/serve_http_request_latency_ms")
@pytest.mark.contract("9.1/serve_num_ongoing_http_requests")
def test_requests_count_by_route_method_and_status(script: Script, address: str) -> None:
    for path in ("/shop", "/shop/a", "/shop/b?c=1", "/shop/missing", "/shop/raise", "/nowhere"):
        script.get(path)
    script.post("/shop/a")
    request("FROBNICATE", script.address + "/shop")
    found = scrape(address)
    assert found.sum("serve_num_http_requests_total", method="GET", **OK) == 3
    assert found.sum("serve_num_http_requests_total", method="POST", **OK) == 1
    assert found.sum("serve_num_http_requests_total", method="_OTHER", **OK) == 1
    assert found.sum("serve_num_http_requests_total", status_code="500", application="shop") == 1
    (nowhere,) = (
        found.of("serve_num_http_requests_total", status_code="404", method="GET").keys()
        - found.of("serve_num_http_requests_total", application="shop").keys()
    )
    assert dict(nowhere) == {"status_code": "404", "method": "GET"}, "no path of a client is a label"
    errors = {"route": "/shop", "method": "GET", "application": "shop"}
    for code in ("404", "500"):
        assert found.sum("serve_num_http_error_requests_total", error_code=code, **errors) == 1
        name = "serve_num_deployment_http_error_requests_total"
        assert found.sum(name, error_code=code, deployment="App", **errors) == 1
    buckets = found.of("serve_http_request_latency_ms_bucket", method="GET", **OK)
    assert [float(dict(labels)["le"]) for labels in buckets][:5] == [1, 2, 5, 10, 20]
    assert len(buckets) == 20
    assert found.sum("serve_http_request_latency_ms_count", method="GET", **OK) == 3
    assert found.sum("serve_num_ongoing_http_requests") == 0
    assert found.types["serve_http_request_latency_ms"] == "histogram"
    assert "/shop/a" not in found.text


def test_what_asks_for_health_or_metrics_counts_nowhere(script: Script, address: str) -> None:
    script.get("/shop")
    for _ in range(3):
        request("GET", script.address + "/-/healthz")
        scrape(address)
    assert scrape(address).sum("serve_num_http_requests_total") == 1


def test_totals_outlive_the_proxy_and_need_no_controller(machine: Machine, script: Script, address: str) -> None:
    for _ in range(5):
        script.get("/shop")
    controller = machine.one("eagleray: controller")
    os.kill(controller, signal.SIGSTOP)
    try:
        for proxies in range(1, 3):
            victim = machine.one("eagleray: proxy")
            os.kill(victim, signal.SIGKILL)
            eventually(lambda gone=victim: machine.pids("eagleray: proxy") - {gone}, "there is another proxy")
            assert script.get("/shop").status == 200
            assert scrape(address).sum("serve_num_http_requests_total", **OK) == 5 + proxies
            assert scrape(address).sum("serve_num_ongoing_http_requests") == 0
    finally:
        os.kill(controller, signal.SIGCONT)


def test_who_asks_says_in_which_form(script: Script, address: str) -> None:
    script.get("/shop")
    packed = request("GET", address + "/metrics", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    text = gzip.decompress(packed.body).decode()
    assert parse(text, packed.headers["content-type"]).sum("serve_num_http_requests_total", **OK) == 1
    assert packed.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert request("HEAD", address + "/metrics").body == b""
    assert request("POST", address + "/metrics", b"").status == 405
    refused = request("GET", address + "/metrics", headers={"Host": "shop.example"})
    assert refused.status == 403, "no page of another origin reads them"
    assert "--metrics-port" in refused.text


COUNTING = """
import os, threading
from eagleray import serve
from eagleray.serve.metrics import Counter, Gauge, Histogram

MADE_BY_A_MODULE = Counter("module_calls", "Calls.", tag_keys=("kind", "route"))

@serve.deployment
class App:
    def __init__(self):
        self.loaded = Gauge("models_loaded")
        self.sizes = Histogram("answer_size", "Bytes.", boundaries=[10, 100])
        self.users = Counter("users", tag_keys=("user",))

    async def __call__(self, request):
        what = request.query_params["what"]
        if what == "kill":
            os._exit(1)
        MADE_BY_A_MODULE.inc(2, {"kind": what})
        self.loaded.set(3.5)
        self.sizes.observe(50)
        if what == "users":
            for user in range(3000):
                self.users.inc(tags={"user": str(user)})
        if what == "fork":
            child = os.fork()
            if child == 0:
                MADE_BY_A_MODULE.inc(2, {"kind": what})
                MADE_BY_A_MODULE.inc(2, {"kind": "child"})
                os._exit(0)
            os.waitpid(child, 0)
        if what == "raise":
            raise KeyError("no such thing")
        return "made"

app = App.bind()
"""
MINE = {"deployment": "App", "application": "shop"}


@pytest.fixture
def counting(machine: Machine) -> Script:
    return machine.serve(COUNTING, run='serve.run(app, name="shop", route_prefix="/shop")')


@pytest.mark.contract("9.6/counter")
@pytest.mark.contract("9.6/gauge")
@pytest.mark.contract("9.6/histogram")
@pytest.mark.contract("9.6/tags")
def test_metrics_of_user_code_have_the_tags_of_their_replica(machine: Machine, counting: Script) -> None:
    address = Control(machine, owner=counting.pid).address
    for what in ("a", "a", "b"):
        assert counting.get(f"/shop?what={what}").status == 200
    found = scrape(address)
    assert found.sum("module_calls_total", kind="a", route="/shop", **MINE) == 4
    assert found.sum("module_calls_total", kind="b", route="/shop", **MINE) == 2
    (labels,) = found.of("models_loaded")
    assert found.samples["models_loaded", labels] == 3.5
    assert set(dict(labels)) == {"deployment", "replica", "application"}
    assert found.sum("answer_size_bucket", le="10.0") == 0
    assert found.sum("answer_size_bucket", le="100.0") == 3
    assert found.sum("answer_size_sum") == 150


def test_a_metric_with_too_many_values_counts_the_rest_together(machine: Machine, counting: Script) -> None:
    address = Control(machine, owner=counting.pid).address
    for _ in range(2):
        counting.get("/shop?what=users")
    users = scrape(address).of("users_total")
    assert len(users) == 2001
    assert sum(users.values()) == 6000
    assert users[frozenset({("overflow", "true")})] == 2000


def test_a_forked_child_counts_too(machine: Machine, counting: Script) -> None:
    address = Control(machine, owner=counting.pid).address
    assert counting.get("/shop?what=fork").status == 200
    found = scrape(address)
    assert found.sum("module_calls_total", kind="fork", **MINE) == 4
    assert found.sum("module_calls_total", kind="child", **MINE) == 2


@pytest.mark.contract("9.3/serve_deployment_request_counter")
@pytest.mark.contract("9.3/serve_deployment_error_counter")
@pytest.mark.contract("9.3/serve_deployment_processing_latency_ms")
@pytest.mark.contract("9.3/serve_replica_processing_queries")
@pytest.mark.contract("9.3/serve_deployment_replica_starts")
def test_replicas_count_what_user_code_ran(machine: Machine, counting: Script) -> None:
    address = Control(machine, owner=counting.pid).address
    for what in ("a", "a", "raise"):
        counting.get(f"/shop?what={what}")
    found = scrape(address)
    assert found.sum("serve_deployment_request_counter_total", route="/shop", **MINE) == 2
    assert found.sum("serve_deployment_error_counter_total", exception_type="KeyError", route="/shop", **MINE) == 1
    assert found.sum("serve_deployment_processing_latency_ms_count", route="/shop", **MINE) == 3
    assert found.sum("serve_replica_processing_queries", **MINE) == 0
    assert found.sum("serve_deployment_replica_starts_total", **MINE) == 1
    counting.get("/shop?what=kill")
    eventually(
        lambda: scrape(address).sum("serve_deployment_replica_starts_total", **MINE) >= 2,
        "the next replica has started, and the start of the first is still counted",
    )
    assert scrape(address).sum("serve_deployment_processing_latency_ms_count", **MINE) >= 3


WELL = """
import asyncio, os
from eagleray import serve

@serve.deployment(num_replicas=2, max_ongoing_requests=1, health_check_period_s=0.2)
class Slow:
    async def check_health(self):
        if os.path.exists("sick"):
            raise RuntimeError("sick")

    async def __call__(self, request):
        while not os.path.exists("open"):
            await asyncio.sleep(0.01)
        return "made"

app = Slow.bind()
"""
SLOW = {"deployment": "Slow", "application": "shop"}


@pytest.mark.contract("8/gauges")
@pytest.mark.contract("9.5/serve_application_status")
@pytest.mark.contract("9.5/serve_deployment_status")
@pytest.mark.contract("9.5/serve_deployment_replica_healthy")
@pytest.mark.contract("9.5/serve_replica_initialization_latency_ms")
@pytest.mark.contract("9.2/serve_deployment_queued_queries")
@pytest.mark.contract("9.2/serve_num_ongoing_requests_at_replicas")
def test_what_should_run_what_does_and_what_waits(machine: Machine) -> None:
    script = machine.serve(WELL, run='serve.run(app, name="shop", route_prefix="/shop")')
    address = Control(machine, owner=script.pid).address
    name = "eagleray_deployment_replicas"
    eventually(lambda: scrape(address).sum(name, state="RUNNING", **SLOW) == 2, "two replicas run")
    found = scrape(address)
    assert found.sum("eagleray_deployment_replicas_wanted", **SLOW) == 2
    assert found.sum("serve_application_status", application="shop") == 6
    assert found.sum("serve_deployment_status", **SLOW) == 6
    assert sorted(found.of("serve_deployment_replica_healthy", **SLOW).values()) == [1, 1]
    assert found.sum("serve_replica_initialization_latency_ms_count", **SLOW) == 2
    assert found.sum("eagleray_events_total", kind="deploy") >= 1
    assert found.sum("eagleray_process_starts_total", process="proxy") == 1
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(script.get, "/shop") for _ in range(5)]
        eventually(
            lambda: (
                (
                    scrape(address).sum("serve_deployment_queued_queries", **SLOW),
                    scrape(address).sum("serve_num_ongoing_requests_at_replicas", **SLOW),
                    scrape(address).sum("serve_replica_processing_queries", **SLOW),
                    scrape(address).sum("serve_num_ongoing_http_requests"),
                )
                == (3, 2, 2, 5)
            ),
            "three wait and two run",
        )
        (machine.work / "open").touch()
        assert {one.result().status for one in waiting} == {200}
    eventually(lambda: scrape(address).sum("serve_deployment_queued_queries", **SLOW) == 0, "nothing waits any more")


@pytest.mark.contract("9.5/serve_health_check_failures_total")
def test_failed_health_checks_are_counted_also_of_a_replica_that_is_gone(machine: Machine) -> None:
    script = machine.serve(WELL, run='serve.run(app, name="shop", route_prefix="/shop")')
    address = Control(machine, owner=script.pid).address
    sick = machine.work / "sick"
    sick.touch()
    eventually(lambda: scrape(address).sum("serve_health_check_failures_total", **SLOW) >= 2, "checks fail")
    sick.unlink()


def test_the_port_for_metrics_answers_them_and_health_and_nothing_else(machine: Machine) -> None:
    started = machine.cli("start", "--http-port", "0", "--metrics-port", "0", "--metrics-prefix", "ray_")
    assert started.returncode == 0, started.stdout + started.stderr
    (node,) = machine.nodes()
    address = node["metrics_address"]
    assert f"metrics: {address}/metrics\n" in started.stdout
    eventually(lambda: scrape(address).sum("ray_eagleray_process_starts_total") >= 2, "proxy and controller count")
    assert request("GET", address + "/-/healthz").text == "success"
    for path in ("/", "/api/v1/status", "/api/serve/applications/", "/metrics/", "/token"):
        assert request("GET", address + path).status == 404, path
    assert request("PUT", address + "/api/serve/applications/", {}).status == 404
    refused = machine.cli(
        "start", "--name", "other", "--http-port", "0", "--metrics-port", "0", "--metrics-prefix", "7-"
    )
    assert refused.returncode != 0
    assert "cannot stand before the names of metrics" in refused.stderr


def test_a_scraper_that_never_reads_holds_nobody_up(machine: Machine, script: Script, address: str) -> None:
    parts = urlsplit(address)
    with contextlib.ExitStack() as opened:
        for _ in range(20):
            idle = opened.enter_context(socket.create_connection((parts.hostname, parts.port)))
            idle.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        script.get("/shop")
        eventually(lambda: answers(address), "others are answered")
        assert script.get("/shop").status == 200


def answers(address: str) -> bool:
    """Whether `/metrics` is answered now."""
    return request("GET", address + "/metrics").status == 200


BATCHES_AND_MODELS = """
import asyncio
from eagleray import serve

@serve.deployment(max_ongoing_requests=20)
class App:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.2)
    async def several(self, items):
        return items

    @serve.multiplexed(max_num_models_per_replica=1)
    async def model(self, name):
        return name

    async def __call__(self, request):
        if model := request.query_params.get("model"):
            return await self.model(model)
        await asyncio.gather(*(self.several(number) for number in range(8)))
        return "made"

app = App.bind()
"""


@pytest.fixture
def several(machine: Machine) -> Script:
    return machine.serve(BATCHES_AND_MODELS, run='serve.run(app, name="shop", route_prefix="/shop")')


@pytest.mark.contract("9.4/batches")
def test_batches_are_counted(machine: Machine, several: Script) -> None:
    assert several.get("/shop").status == 200
    address = Control(machine, owner=several.pid).address
    labels = {"function_name": "several", **MINE}
    found = scrape(address)
    assert found.sum("serve_batches_processed_total", **labels) == 2
    assert found.sum("serve_actual_batch_size_sum", **labels) == 8
    assert found.sum("serve_actual_batch_size_bucket", le="4.0", **labels) == 2
    assert found.sum("serve_actual_batch_size_bucket", le="2.0", **labels) == 0
    assert found.sum("serve_batch_utilization_percent_sum", **labels) == 200
    assert found.sum("serve_batch_wait_time_ms_count", **labels) == 2
    assert found.sum("serve_batch_execution_time_ms_count", **labels) == 2
    assert found.sum("serve_batch_queue_length", **labels) == 0


@pytest.mark.contract("9.4/models")
def test_multiplexed_models_are_counted(machine: Machine, several: Script) -> None:
    for model in ("a", "a", "b"):
        assert several.get(f"/shop?model={model}").text == model
    found = scrape(Control(machine, owner=several.pid).address)
    assert found.sum("serve_multiplexed_get_model_requests_counter_total", **MINE) == 3
    assert found.sum("serve_multiplexed_models_load_counter_total", **MINE) == 2
    assert found.sum("serve_multiplexed_models_unload_counter_total", **MINE) == 1
    assert found.sum("serve_multiplexed_model_load_latency_ms_count", **MINE) == 2
    assert found.sum("serve_multiplexed_model_unload_latency_ms_count", **MINE) == 1
    assert found.sum("serve_num_multiplexed_models", **MINE) == 1
