"""`/metrics`: what handles and routers count, what exemplars name, and which metrics say their replica."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from control import Control
from machine import Machine, Script, eventually, request
from scrape import OPEN_METRICS, parse, scrape

CALLS = """
import asyncio, os
from eagleray import serve

@serve.deployment(max_ongoing_requests=2)
class Inner:
    async def __call__(self, value):
        while value == "wait" and not os.path.exists("open"):
            await asyncio.sleep(0.01)
        return value

@serve.deployment(max_ongoing_requests=20)
class Outer:
    def __init__(self, inner):
        self.inner = inner

    async def __call__(self, request):
        what = request.query_params.get("what", "")
        if what == "compose":
            return await self.inner.remote(self.inner.remote("a"))
        if what == "reserve":
            async with self.inner.choose_replica() as chosen:
                while not os.path.exists("open"):
                    await asyncio.sleep(0.01)
                return await self.inner.dispatch(chosen, "b")
        return await self.inner.remote(what)

app = Outer.bind(Inner.bind())
"""
INNER = {"deployment": "Inner", "application": "shop"}


@pytest.fixture
def script(machine: Machine) -> Script:
    return machine.serve(
        CALLS,
        run="""handle = serve.run(app, name="shop", route_prefix="/shop")
own = serve.get_deployment_handle("Inner", "shop")
print("answered", [own.remote(number).result() for number in range(3)], flush=True)""",
    )


@pytest.fixture
def pool(machine: Machine) -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that wait until the file `open` is there, which it is at the end at the latest."""
    with ThreadPoolExecutor(8) as pool:
        yield pool
        (machine.work / "open").touch()


@pytest.mark.contract("9.2/counters")
@pytest.mark.contract("9.2/handles")
def test_calls_of_a_replica_and_of_a_script_are_counted(machine: Machine, script: Script) -> None:
    address = Control(machine, owner=script.pid).address
    for what in ("one", "two", "compose"):
        assert script.get(f"/shop?what={what}").status == 200
    found = scrape(address)
    from_replica = {"handle": "replica", "route": "/shop", **INNER}
    assert found.sum("serve_handle_request_counter_total", **from_replica) == 4
    assert found.sum("serve_num_router_requests_total", **from_replica) == 4
    (labels,) = found.of("serve_num_router_requests_total", **from_replica)
    (replica,) = {dict(one)["replica"] for one in found.of("serve_replica_processing_queries", deployment="Outer")}
    assert dict(labels)["actor_id"] == replica, "it is the replica that calls"
    from_script = {"handle": "driver", "actor_id": "DRIVER", **INNER}
    assert found.sum("serve_num_router_requests_total", **from_script) == 3
    from_proxy = {"handle": "http", "route": "/shop", "deployment": "Outer", "application": "shop"}
    assert found.sum("serve_num_router_requests_total", **from_proxy) == 3
    name = "serve_router_args_resolution_latency_ms"
    assert found.sum(f"{name}_count", handle="replica", **INNER) == 1, "one call had another as its argument"
    assert all("actor_id" not in dict(one) for one in found.of(f"{name}_count"))
    name = "serve_request_router_fulfillment_time_ms_count"
    eventually(lambda: scrape(address).sum(name, handle_source="REPLICA", **INNER) == 4, "all were sent")
    assert scrape(address).sum(name, handle_source="UNKNOWN", **INNER) == 3
    assert scrape(address).sum(name, handle_source="PROXY", deployment="Outer") == 3


def test_what_waits_in_a_replica_that_calls_is_shown(
    machine: Machine, script: Script, pool: ThreadPoolExecutor
) -> None:
    address = Control(machine, owner=script.pid).address
    from_replica = {"handle": "replica", **INNER}
    waiting = [pool.submit(script.get, "/shop?what=wait") for _ in range(5)]
    eventually(
        lambda: (
            (
                scrape(address).sum("serve_deployment_queued_queries", **from_replica),
                scrape(address).sum("serve_num_ongoing_requests_at_replicas", **from_replica),
            )
            == (3, 2)
        ),
        "three wait and two run",
    )
    (machine.work / "open").touch()
    assert {one.result().status for one in waiting} == {200}
    eventually(
        lambda: (
            scrape(address).sum("serve_deployment_queued_queries", **from_replica)
            + scrape(address).sum("serve_num_ongoing_requests_at_replicas", **from_replica)
            == 0
        ),
        "nothing waits or runs",
    )
    name = "serve_request_router_fulfillment_time_ms"
    found = scrape(address)
    slow = found.sum(f"{name}_count", handle_source="REPLICA", **INNER)
    quick = found.sum(f"{name}_bucket", handle_source="REPLICA", le="1.0", **INNER)
    assert slow - quick >= 3, "three have waited"


def test_reserved_slots_are_counted(machine: Machine, script: Script, pool: ThreadPoolExecutor) -> None:
    address = Control(machine, owner=script.pid).address
    name = "serve_reserved_slots_active"
    reserved = pool.submit(script.get, "/shop?what=reserve")
    eventually(lambda: scrape(address).sum(name, handle="replica", **INNER) == 1, "one is reserved")
    (machine.work / "open").touch()
    assert reserved.result().text == "b"
    eventually(lambda: scrape(address).sum(name, **INNER) == 0, "it is given back")


def test_latencies_name_a_request_of_each_bucket(machine: Machine, script: Script) -> None:
    address = Control(machine, owner=script.pid).address
    trace = "0af7651916cd43dd8448eb211c80319c"
    traced = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert request("POST", script.address + "/shop?what=a", b"", headers=traced).status == 200
    named = request("GET", script.address + "/shop?what=b", headers={"x-request-id": "mine-4711"})
    assert named.status == 200
    answer = request("GET", address + "/metrics", headers={"Accept": OPEN_METRICS})
    parse(answer.text, answer.headers["content-type"])
    exemplar = re.compile(r'^(\w+)_bucket\{(.*)\} \d+ # \{(\w+)="(.*)"\} [0-9.]+ [0-9]+\.[0-9]{3}$', re.MULTILINE)
    found = {(name, label, value) for name, _, label, value in exemplar.findall(answer.text)}
    assert ("serve_http_request_latency_ms", "trace_id", trace) in found, answer.text
    assert ("serve_http_request_latency_ms", "request_id", "mine-4711") in found
    assert any(name == "serve_deployment_processing_latency_ms" for name, _, _ in found)
    plain = request("GET", address + "/metrics", headers={"Accept": "text/plain"})
    assert " # {" not in plain.text, "the plain format has none"


@pytest.mark.parametrize(("which", "histograms", "counters"), [("all", True, True), ("none", False, False)])
def test_which_metrics_say_their_replica_is_an_option(
    machine: Machine, which: str, histograms: bool, counters: bool
) -> None:
    started = machine.cli("start", "--http-port", "0", "--metrics-port", "0", "--metrics-replica-labels", which)
    assert started.returncode == 0, started.stdout + started.stderr
    machine.write("shop.py", CALLS)
    deployed = machine.cli("deploy", "shop:app")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    assert request("GET", machine.address(name="default") + "/?what=a").status == 200
    (node,) = machine.nodes()
    found = scrape(node["metrics_address"])

    def says(name: str, label: str) -> bool:
        labels = [dict(one) for one in found.of(name, application="default")]
        assert labels, found.text
        return any(label in one for one in labels)

    assert says("serve_deployment_processing_latency_ms_bucket", "replica") is histograms
    assert says("serve_deployment_request_counter_total", "replica") is counters
    assert says("serve_num_router_requests_total", "actor_id") is counters
    refused = machine.cli("start", "--name", "other", "--http-port", "0", "--metrics-replica-labels", "some")
    assert refused.returncode != 0
    assert "--metrics-replica-labels" in refused.stderr


LIFE = """
from eagleray import serve

@serve.deployment(
    autoscaling_config={"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 2.5},
    health_check_period_s=0.2,
    user_config={"a": 1},
)
class App:
    def reconfigure(self, config):
        self.config = config

    async def __call__(self, request):
        return "made"

app = App.bind()
"""
MINE = {"deployment": "App", "application": "shop"}


@pytest.mark.contract("9.5/autoscaling")
@pytest.mark.contract("9.5/lives")
@pytest.mark.contract("9.5/loops")
def test_the_life_of_replicas_is_counted(machine: Machine) -> None:
    script = machine.serve(
        LIFE,
        run="""serve.run(app, name="shop", route_prefix="/shop")
serve.run(App.options(user_config={"a": 2}).bind(), name="shop", route_prefix="/shop")
""",
    )
    address = Control(machine, owner=script.pid).address
    assert script.get("/shop").status == 200
    eventually(lambda: scrape(address).sum("serve_health_check_latency_ms_count", **MINE) >= 2, "health is looked at")
    found = scrape(address)
    assert found.sum("serve_replica_startup_latency_ms_count", **MINE) == 1
    assert found.sum("serve_replica_startup_latency_ms_sum", **MINE) > 0
    assert found.sum("serve_replica_reconfigure_latency_ms_count", **MINE) == 1
    assert found.sum("serve_autoscaling_target_replicas", **MINE) == 1
    assert found.sum("serve_autoscaling_desired_replicas", **MINE) <= 1
    assert found.sum("serve_autoscaling_total_requests", **MINE) <= 1
    assert found.sum("serve_autoscaling_target_ongoing_requests", **MINE) == 2.5
    of_loop = {"component": "replica", "loop_type": "user_code", **MINE}
    eventually(
        lambda: scrape(address).sum("serve_event_loop_monitoring_iterations_total", **of_loop) >= 1,
        "the event loop was looked at",
    )
    found = scrape(address)
    assert found.sum("serve_event_loop_scheduling_latency_ms_count", **of_loop) >= 1
    assert found.sum("serve_event_loop_tasks", **of_loop) >= 0
    script.do("serve.delete('shop')")
    eventually(lambda: scrape(address).sum("serve_replica_shutdown_duration_ms_count", **MINE) == 1, "it has stopped")
    eventually(lambda: not scrape(address).of("serve_autoscaling_target_replicas", **MINE), "nothing scales any more")
