"""kill -9, process by process, under load: what may be lost is counted, and nothing else is."""

import os
import random
import signal
import time

import pytest

from machine import Load, Machine, eventually, request

APP = """
import os
from eagleray import serve

@serve.deployment(num_replicas=2, max_ongoing_requests=20)
class App:
    async def __call__(self, request):
        return str(os.getpid())

app = App.bind()
"""
DEPLOYMENT = "default/App"


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def healthy(machine: Machine, gone: set[int], count: int = 2) -> set[int]:
    """Waits until `count` replicas run, none of them in `gone`."""
    return eventually(
        lambda: found if len(found := machine.replicas(DEPLOYMENT)) == count and not found & gone else set(),
        f"{count} replicas, none of {gone}; there are {machine.replicas()}",
    )


@pytest.mark.contract("4.2/check_health-crash")
def test_a_killed_replica_is_replaced_and_safe_requests_go_on(machine: Machine) -> None:
    script = machine.serve(APP)
    before = machine.replicas(DEPLOYMENT)
    assert len(before) == 2
    with Load(script.address, threads=8) as load:
        load.wait_for_more()
        victim = min(before)
        kill(victim)
        after = healthy(machine, {victim})
        assert len(before & after) == 1, "the other replica is not touched"
        eventually(lambda: int(script.get("/").text) in after - before, "the new replica takes requests")
        load.wait_for_more()
    assert set(load.outcomes) == {"200"}, f"a GET may be repeated, so none is lost: {load.outcomes}"


def test_what_may_not_be_repeated_gets_one_502(machine: Machine) -> None:
    calls = machine.work / "calls"
    script = machine.serve(
        f"""
        import asyncio, os
        from eagleray import serve

        @serve.deployment(num_replicas=2)
        class Once:
            async def __call__(self, request):
                with open({str(calls)!r}, "a") as file:
                    file.write(f"{{os.getpid()}}\\n")
                await asyncio.sleep(3600)

        app = Once.bind()
        """
    )
    with Load(script.address, threads=1, method="POST") as load:
        eventually(lambda: calls.exists() and calls.read_text().endswith("\n"), "the request runs")
        kill(int(calls.read_text().split()[0]))
        eventually(lambda: load.count("502") == 1, f"the answer is a 502: {load.outcomes}")
        eventually(lambda: len(calls.read_text().split()) == 2, "the next request runs")
        assert load.outcomes == {"502": 1}, "and the first did not run twice"
        for pid in machine.replicas():
            kill(pid)


@pytest.mark.contract("3.1/waits")
def test_all_replicas_killed_come_back_and_requests_wait_for_them(machine: Machine) -> None:
    script = machine.serve(APP)
    before = machine.replicas(DEPLOYMENT)
    for pid in before:
        kill(pid)
    assert script.get("/").status == 200, "a request that finds no replica waits for one"
    healthy(machine, before)


def test_children_of_a_killed_replica_die_with_it(machine: Machine) -> None:
    script = machine.serve(
        """
        import os, subprocess, sys
        from eagleray import serve

        @serve.deployment
        class Parent:
            def __init__(self):
                self.child = subprocess.Popen(
                    [sys.executable, "-c", "import time; time.sleep(3600)", "orphan-of-replica"]
                )
                self.detached = subprocess.Popen(
                    [sys.executable, "-c", "import time; time.sleep(3600)", "orphan-of-replica"],
                    start_new_session=True,
                )

            async def __call__(self, request):
                return [os.getpid(), self.child.pid, self.detached.pid]

        app = Parent.bind()
        """
    )
    pid, *children = script.get("/").json()
    kill(pid)
    eventually(lambda: not {process.pid for process in machine.left()} & set(children), "its children are gone")
    # Also those of its successor, when everything ends (the fixture looks).
    eventually(lambda: script.get("/").json()[0] != pid, "the next replica serves")


def test_a_killed_controller_adopts_the_same_replicas(machine: Machine) -> None:
    script = machine.serve(APP)
    before = machine.replicas(DEPLOYMENT)
    controller = machine.one("eagleray: controller$")
    with Load(script.address) as load:
        load.wait_for_more()
        kill(controller)
        eventually(lambda: machine.pids("eagleray: controller$") - {controller}, "a new controller runs")
        load.wait_for_more()
        eventually(lambda: script.do('serve.status().applications["default"].status') == "RUNNING", "it is RUNNING")
        load.wait_for_more()
    assert set(load.outcomes) == {"200"}, "the data path does not need the controller"
    assert machine.replicas(DEPLOYMENT) == before, "the same processes"

    victim = min(before)
    kill(victim)
    healthy(machine, {victim})
    script.do('serve.delete("default")')
    eventually(lambda: not machine.replicas(), "the new controller can end what the old one started")


def test_a_stopped_controller_stops_no_request(machine: Machine) -> None:
    script = machine.serve(APP)
    controller = machine.one("eagleray: controller$")
    os.kill(controller, signal.SIGSTOP)
    try:
        with Load(script.address) as load:
            load.wait_for_more(500)
        assert set(load.outcomes) == {"200"}
    finally:
        os.kill(controller, signal.SIGCONT)


def test_a_killed_proxy_refuses_no_connection(machine: Machine) -> None:
    script = machine.serve(APP)
    before = machine.replicas(DEPLOYMENT)
    proxy = machine.one("eagleray: proxy$")
    with Load(script.address, threads=4, new=True) as load:
        load.wait_for_more()
        kill(proxy)
        eventually(lambda: machine.pids("eagleray: proxy$") - {proxy}, "a new proxy runs")
        load.wait_for_more()
    assert "ConnectionRefusedError" not in load.outcomes, load.outcomes
    lost = sum(count for outcome, count in load.outcomes.items() if outcome != "200")
    # Each thread had at most one request inside the proxy, and at most one accepted but not yet read.
    assert lost <= 8, load.outcomes
    assert machine.replicas(DEPLOYMENT) == before


def test_a_proxy_started_while_the_controller_is_dead_knows_its_targets(machine: Machine) -> None:
    script = machine.serve(APP)
    os.kill(machine.one("eagleray: controller$"), signal.SIGSTOP)
    controller, proxy = machine.one("eagleray: controller$"), machine.one("eagleray: proxy$")
    try:
        kill(proxy)
        eventually(lambda: machine.pids("eagleray: proxy$") - {proxy}, "a new proxy runs")
        assert script.get("/").status == 200
    finally:
        os.kill(controller, signal.SIGCONT)


def test_scaling_by_a_new_run_ends_no_request_badly(machine: Machine) -> None:
    script = machine.serve(APP)
    with Load(script.address, threads=4) as load:
        load.wait_for_more()
        for count in (3, 1, 2):
            script.do(f"serve.run(App.options(num_replicas={count}).bind()) and None")
            healthy(machine, set(), count)
            load.wait_for_more()
    assert set(load.outcomes) == {"200"}, load.outcomes


@pytest.mark.contract(
    "2/rolling-update", "4.2/drain", better="new replicas start before old ones stop, and no request fails"
)
def test_a_rollout_under_load_fails_no_request_and_ends_with_new_code_only(machine: Machine) -> None:
    script = machine.serve(APP)
    before = machine.replicas(DEPLOYMENT)
    with Load(script.address, threads=4, method="POST") as load:
        load.wait_for_more()
        script.do("serve.run(App.options(ray_actor_options={'runtime_env': {'env_vars': {'X': '1'}}}).bind()) and None")
        healthy(machine, before)
        load.wait_for_more()
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert request("GET", script.address).status == 200


@pytest.mark.chaos
def test_random_kills_under_load_lose_only_what_they_may(machine: Machine) -> None:
    seconds = float(os.environ.get("EAGLERAY_CHAOS_SECONDS", "8"))
    seed = int(os.environ.get("EAGLERAY_CHAOS_SEED", str(time.time_ns() % 1_000_000)))
    print(f"repeat with EAGLERAY_CHAOS_SEED={seed}")
    dice = random.Random(seed)
    script = machine.serve(APP)
    threads, proxies_killed, end = 4, 0, time.monotonic() + seconds
    with Load(script.address, threads=threads, new=True) as load:
        while time.monotonic() < end:
            role = dice.choice(["replica", "replica", "controller", "proxy"])
            if role == "replica":
                kill(dice.choice(sorted(healthy(machine, set()))))
            else:
                pid = machine.one(f"eagleray: {role}$")
                kill(pid)
                proxies_killed += role == "proxy"
                eventually(lambda pid=pid, role=role: machine.pids(f"eagleray: {role}$") - {pid}, f"a new {role}")
            load.wait_for_more(20)
        healthy(machine, set())
        load.wait_for_more(50)
    assert "ConnectionRefusedError" not in load.outcomes, load.outcomes
    broken = sum(count for outcome, count in load.outcomes.items() if not outcome.isdigit())
    assert broken <= proxies_killed * threads * 2, f"{proxies_killed} proxies killed: {load.outcomes}"
    assert {outcome for outcome in load.outcomes if outcome.isdigit()} <= {"200"}, load.outcomes
