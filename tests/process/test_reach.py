"""Replicas that nobody can connect to, and a proxy that stands still: said in the status, and mended."""

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from machine import Machine, Script, eventually

# Uses up the descriptors of the process.
LEAK = """
    import asyncio, os
    from eagleray import serve

    held = []

    def leak():
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            return str(error)
"""
APP = (
    LEAK
    + """
    @serve.deployment
    class Model:
        async def __call__(self, request):
            return leak() if "leak" in request.query_params else str(os.getpid())

    app = Model.bind()
"""
)


def leak(script: Script) -> None:
    assert "Too many open files" in script.get("/?leak").text


def message(script: Script, deployment: str) -> str:
    expression = f'serve.status().applications["default"].deployments["{deployment}"].message'
    return str(script.do(expression))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_replica_without_descriptors_says_so_and_does_not_spin(machine: Machine) -> None:
    script = machine.serve(APP)
    (pid,) = machine.replicas()
    leak(script)
    (path,) = machine.runtime.glob("*/r/*.sock")
    with socket.socket(socket.AF_UNIX) as waits:
        waits.connect(str(path))
        script.wait_for_line("cannot accept connections.*ulimit -n")
        before, end = cpu_s(pid), time.monotonic() + 1
        eventually(lambda: time.monotonic() > end, "a second passes")
        assert cpu_s(pid) - before < 0.5
        assert script.get("/").text == str(pid), "who is connected is served"
    assert script.output.count("cannot accept connections") == 1, "once, and not at each try"


def test_a_replica_that_a_new_proxy_cannot_reach_is_named_and_replaced(machine: Machine) -> None:
    script = machine.serve(APP)
    (pid,) = machine.replicas()
    leak(script)
    os.kill(machine.one("eagleray: proxy$"), signal.SIGKILL)
    eventually(lambda: machine.replicas() - {pid}, "another one is there")
    assert script.get("/").text != str(pid)
    eventually(lambda: machine.replicas() and pid not in machine.replicas(), "the old one is gone")
    # The status names it too, for as long as the other one takes to start.
    log = machine.logs("controller.log")
    assert "a router cannot connect to replica" in log
    assert "nobody can connect to replica" in log


def test_a_replica_that_a_handle_cannot_reach_is_replaced(machine: Machine) -> None:
    script = machine.serve(
        LEAK
        + """
    @serve.deployment
    class Model:
        async def leak(self):
            # What an ingress that goes gives back, it takes too.
            self.task = asyncio.create_task(self.keep())
            return leak()

        async def keep(self):
            while True:
                leak()
                await asyncio.sleep(0.01)

        def pid(self):
            return os.getpid()

    @serve.deployment
    class Ingress:
        def __init__(self, model):
            self.model = model

        async def __call__(self, request):
            if "leak" in request.query_params:
                return await self.model.leak.remote()
            return str(await self.model.pid.remote())

    app = Ingress.bind(Model.bind())
"""
    )
    model = script.get("/").text
    leak(script)
    (ingress,) = machine.replicas("default/Ingress")
    os.kill(ingress, signal.SIGKILL)
    eventually(lambda: machine.replicas("default/Ingress") - {ingress}, "another ingress is there")
    assert script.get("/").text != model


def test_a_version_that_nobody_can_reach_does_not_take_over(machine: Machine) -> None:
    script = machine.serve("""
        import glob, os
        from eagleray import serve

        @serve.deployment
        class Model:
            def __init__(self, hides):
                self.hides = hides
                if hides:
                    replica = serve.get_replica_context().replica_id.unique_id
                    (path,) = glob.glob(os.environ["EAGLERAY_RUNTIME_DIR"] + f"/*/r/{replica}.sock")
                    os.unlink(path)

            async def __call__(self, request):
                return f"{self.hides}"

        app = Model.bind(False)
    """)
    answer = script.ask("serve.run(Model.bind(True))")
    assert answer["error"] == "RuntimeError"
    assert "nobody can connect to it" in answer["text"]
    assert script.get("/").text == "False"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_replica_that_drops_its_privileges_is_reached_as_before(machine: Machine) -> None:
    script = machine.serve("""
        import os
        from eagleray import serve

        @serve.deployment
        class Model:
            def __init__(self):
                os.setgid(65534)
                os.setuid(65534)

            async def __call__(self, request):
                return str(os.getuid())

        app = Model.bind()
    """)
    assert script.get("/").text == "65534"


@pytest.mark.contract("8/proxy", better="it is UNHEALTHY with what to do, and is not ended: it may go on")
def test_a_proxy_that_stands_still_shows_in_the_status(machine: Machine) -> None:
    machine.start_resident()
    script = machine.serve(APP)
    proxy = machine.one("eagleray: proxy$")
    proxies = "[one.value for one in serve.status().proxies.values()]"
    assert script.do(proxies) == ["HEALTHY"]
    os.kill(proxy, signal.SIGSTOP)
    try:
        eventually(lambda: script.do(proxies) == ["UNHEALTHY"], "it shows", seconds=20)
        status = machine.cli("status")
        shown = status.stdout + status.stderr
        assert f"The proxy (pid {proxy}) has not answered" in shown
        assert f"kill -CONT {proxy}" in shown
        # Seconds pass between two answers, so what is compared is all but them.
        code, sentence, help_line = script.do("[(w.code, w.sentence, w.help) for w in serve.status().why][0]")
        assert (code, help_line in shown) == ("proxy_silent", True)
        explained = machine.cli("explain")
        assert explained.returncode == 1
        assert "node [proxy_silent]" in explained.stdout
        for text in (shown, explained.stdout.replace("\n  ", " ")):
            assert re.sub(r"\d+ s", "N s", sentence) in re.sub(r"\d+ s", "N s", text)
    finally:
        os.kill(proxy, signal.SIGCONT)
    eventually(lambda: script.do(proxies) == ["HEALTHY"], "it is over")
    assert "has not answered" not in machine.cli("status").stderr
