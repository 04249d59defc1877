"""`/metrics` of a node: what it counts, who has to live for that, and what it does not say."""

import gzip
import os
import signal

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
