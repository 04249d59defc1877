"""Replicas that have accepted `max_requests_per_replica` are replaced, and no request notices."""

from machine import Load, Machine, eventually

APP = """
    import os
    from eagleray import serve

    @serve.deployment(num_replicas=2, max_requests_per_replica=200, health_check_period_s=0.1)
    class Leaks:
        async def __call__(self, request):
            return os.getpid()

    app = Leaks.bind()
"""


def test_replicas_are_recycled_under_load_and_every_request_is_answered(machine: Machine) -> None:
    script = machine.serve(APP)
    before = machine.replicas("default/Leaks")
    with Load(script.address, threads=4) as load:
        eventually(lambda: not machine.replicas("default/Leaks") & before, "both have been replaced")
        load.wait_for_more(50)
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert "reach max_requests_per_replica, 200" in machine.logs("controller*.log")
