"""What one driver asks for takes effect in the order in which it asked, also from several threads."""

import pytest

from machine import Machine

APP = """
import threading
from eagleray import serve

class Slow:
    # Takes its time to be pickled, which is before anything is sent.
    def __reduce__(self):
        pickling.set()
        assert go_on.wait(30)
        return str, ("slow",)

pickling, go_on = threading.Event(), threading.Event()

@serve.deployment
class Echo:
    def __init__(self, value="quick"):
        self.value = value

    async def __call__(self, request=None):
        return self.value

def names():
    return sorted(serve.status().applications)

def delete_then_run(name):
    gone = []
    for _ in range(6):
        serve.delete(name, _blocking=False)
        handle = serve.run(Echo.bind(), name=name)
        gone.append((names(), handle.remote().result()))
    return gone

def run_then(act):
    "`act` is called in another thread while the first call is still being prepared."
    pickling.clear(), go_on.clear()
    first = threading.Thread(target=lambda: serve.run(Echo.bind(Slow()), name="app"))
    first.start()
    assert pickling.wait(30)
    second = threading.Thread(target=act)
    second.start()
    from eagleray import _driver
    while not _driver._order._waiting and second.is_alive():
        second.join(0.01)
    go_on.set()
    first.join(30), second.join(30)
    return names()

app = Echo.bind()
"""


@pytest.mark.contract("1.5/delete-order")
@pytest.mark.parametrize("resident", [False, True])
def test_a_delete_that_is_not_waited_for_is_not_overtaken_by_a_run(machine: Machine, resident: bool) -> None:
    if resident:
        machine.start_resident()
    script = machine.serve(APP, run='serve.run(app, name="app")')
    assert script.do("delete_then_run('app')") == [[["app"], "quick"]] * 6
    assert script.do("serve.delete('app', _blocking=False), serve.delete('app')")
    assert script.do("names()") == []
    assert script.do("serve.delete('never')") is None
    script.end()


@pytest.mark.contract("1.5/delete-order")
def test_calls_of_other_threads_come_after_what_was_begun_before(machine: Machine) -> None:
    script = machine.serve(APP, run='serve.run(app, name="app")')
    assert script.do("run_then(lambda: serve.delete('app'))") == []
    assert script.do("run_then(lambda: serve.delete('app', _blocking=False)) in ([], ['app'])")
    script.do("serve.delete('app')")
    assert script.do("run_then(lambda: serve.run(Echo.bind(), name='app'))") == ["app"]
    assert script.do("serve.get_app_handle('app').remote().result()") == "quick", "the later one runs"
    assert script.do("run_then(lambda: serve.run(Echo.bind(), name='b', route_prefix='/b'))") == ["app", "b"]
    assert script.do("run_then(serve.shutdown)") == []


def test_two_threads_that_run_first_share_one_node(machine: Machine) -> None:
    script = machine.script(
        APP
        + """
threads = [
    threading.Thread(target=serve.run, args=(Echo.bind(),), kwargs={"name": f"a{n}", "route_prefix": f"/{n}"})
    for n in range(4)
]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("NAMES", *names(), flush=True)
"""
    )
    assert script.wait_for_line("^NAMES (.*)").group(1) == "a0 a1 a2 a3"
    assert script.wait() == 0
