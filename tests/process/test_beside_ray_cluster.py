"""A script that is connected to a Ray cluster: replicas whose code uses Ray connect to it before they load anything.

A small `ray` stands for the real one here; what is asked of it was tried with Ray 2.60.
"""

import importlib.util

import pytest

from machine import Machine

STAND_IN = """
import os
from types import SimpleNamespace

connected = None

def init(address=None, namespace=None):
    global connected
    connected = (address or os.environ.get("RAY_ADDRESS") or "a cluster of its own", namespace)

def is_initialized():
    return connected is not None

def get_runtime_context():
    return SimpleNamespace(gcs_address=connected[0], namespace=connected[1])

class ActorHandle:
    def __reduce__(self):
        return load, ()

def load():
    assert connected is not None, "an actor's handle is loaded by a process that is connected"
    return ActorHandle()
"""
APP = """
import os
import ray
from eagleray import serve

ray.init(os.environ["CLUSTER"], "mine")

@serve.deployment
class Uses:
    def __init__(self, actor):
        self.actor = actor

    async def __call__(self, request=None):
        return [*ray.connected, os.getpid(), "EAGLERAY_JOIN_RAY" in os.environ]

app = Uses.bind(ray.ActorHandle())
"""


@pytest.mark.contract("1/ray-cluster", better="they connect to the cluster of the script, as its workers would")
def test_replicas_join_the_cluster_of_the_script(machine: Machine) -> None:
    machine.write("ray.py", STAND_IN)
    machine.start_resident()

    def served(cluster: str) -> list[object]:
        script = machine.serve(APP, environment={"CLUSTER": cluster})
        answer = script.do("handle.remote().result()")
        script.end()
        return list(answer)

    first = served("10.0.0.1:6379")
    assert first[:2] == ["10.0.0.1:6379", "mine"]
    assert first[3] is False, "what user code starts is not told to join"
    assert served("10.0.0.1:6379") == first, "the same cluster, the same replica"
    other = served("10.0.0.2:6379")
    assert other[0] == "10.0.0.2:6379"
    assert other[2] != first[2], "another cluster, another replica"


def test_code_that_does_not_use_ray_joins_nothing(machine: Machine) -> None:
    script = machine.script(
        """
        import sys, types
        from eagleray import serve

        class Ray(types.ModuleType):
            def is_initialized(self): return True
            def get_runtime_context(self): return types.SimpleNamespace(gcs_address="10.0.0.1:6379", namespace="mine")

        sys.modules["ray"] = Ray("ray")

        @serve.deployment
        class Plain:
            async def __call__(self, request=None):
                import os
                return os.environ.get("RAY_ADDRESS")

        print("ANSWER", serve.run(Plain.bind()).remote().result(), flush=True)
        """
    )
    assert script.wait_for_line("^ANSWER (.*)").group(1) == "None"
    assert script.wait() == 0


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_a_real_cluster(machine: Machine) -> None:
    script = machine.script(
        """
        import ray
        from eagleray import serve

        ray.init(num_cpus=1, include_dashboard=False, namespace="mine", log_to_driver=False)

        @ray.remote(num_cpus=0)
        class Counter:
            def __init__(self):
                self.count = 0

            def add(self):
                self.count += 1
                return self.count

        counter = Counter.options(name="counter").remote()

        @serve.deployment
        class Adds:
            def __init__(self, counter):
                self.counter = counter

            async def __call__(self, request=None):
                return [await self.counter.add.remote(), ray.get(ray.get_actor("counter").add.remote())]

        print("ANSWER", serve.run(Adds.bind(counter)).remote().result(), ray.get(counter.add.remote()), flush=True)
        serve.shutdown()
        ray.shutdown()
        """
    )
    assert script.wait_for_line("^ANSWER (.*)", 120).group(1) == "[1, 2] 3"
    assert script.wait() == 0
