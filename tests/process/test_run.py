"""`serve.run` and its kin where nothing runs yet: what starts a node, what does not, and how they end."""

import os
import signal

import pytest

from machine import Machine, eventually, request


def test_what_the_engine_cannot_do_is_refused_and_leaves_no_node(machine: Machine) -> None:
    script = machine.script(
        """
        from eagleray import serve

        @serve.deployment(gang_scheduling_config={"gang_size": 1})
        class Gang:
            pass

        serve.run(Gang.bind())
        """
    )
    assert script.wait() == 1
    assert "ValueError: nothing was deployed" in script.output
    assert "deployment 'Gang': gang_scheduling_config" in script.output
    assert not machine.pids("eagleray: ")


@pytest.mark.contract("1.5/delete-nothing", "1.5/status", "1.5/shutdown")
def test_without_a_node_there_is_nothing_to_see_or_delete(machine: Machine) -> None:
    script = machine.script(
        """
        import asyncio
        from eagleray import serve
        from eagleray.serve.exceptions import RayServeException

        print(serve.status() == serve.schema.ServeStatus())
        for call in (serve.delete, serve.get_app_handle):
            try:
                call("x")
            except RayServeException as error:
                print("raised", "nothing is running" in str(error))
        serve.shutdown()
        asyncio.run(serve.shutdown_async())
        """
    )
    assert script.wait() == 0, script.output
    assert script.output.count("True") == 3, script.output
    assert not machine.pids("eagleray: "), "asking starts nothing"


@pytest.mark.contract("1.5/start", "G/8", "G/33")
def test_start_starts_and_a_second_one_changes_nothing(machine: Machine) -> None:
    script = machine.serve(
        "from eagleray import serve\nserve.start(http_options={'port': 0, 'request_timeout_s': 5})",
        run="serve.start(http_options={'port': 1, 'request_timeout_s': 7, 'allowed_hosts': ['a.test']})",
    )
    assert "limits and time limits and allowed_hosts of http_options have no effect" in script.output
    assert request("GET", script.address + "/-/healthz").status == 200
    assert len(machine.pids("eagleray: node")) == 1
    script.do("serve.start(grpc_options={}, tracing_config={'enabled': False}, logging_config={})")


@pytest.mark.contract("1.5/run-blocking")
def test_ctrl_c_in_a_blocking_run_many_is_keyboard_interrupt(machine: Machine) -> None:
    script = machine.script(
        """
        from eagleray import serve

        @serve.deployment
        def hello():
            return "hello"

        try:
            serve.run_many([serve.RunTarget(hello.bind())], blocking=True)
        except KeyboardInterrupt:
            print("INTERRUPTED")
        """
    )
    script.wait_for_line("is running at")
    assert script.get("/").text == "hello"
    assert script.interrupt() == 0
    assert "INTERRUPTED" in script.output


@pytest.mark.contract("1.5/run-blocking")
def test_ctrl_c_shows_the_line_of_the_script_and_a_second_one_does_not_wait(machine: Machine) -> None:
    script = machine.script(
        """
        import time
        from pathlib import Path
        from eagleray import serve

        @serve.deployment
        def slow():
            print("IT RUNS")
            while not Path("done").exists():
                time.sleep(0.01)

        serve.run(slow.bind()).remote()
        serve.run(slow.bind(), blocking=True)
        """
    )
    script.wait_for_line("IT RUNS")
    os.killpg(script.pid, signal.SIGINT)
    script.wait_for_line("waiting for requests that run still")
    assert script.interrupt() == -signal.SIGINT
    assert "Exception ignored" not in script.output
    assert "session.py" not in script.output
    machine.write("done", "")
    eventually(lambda: not machine.pids("eagleray: "), "the node ends by itself")


def test_a_handle_reaches_the_node_that_comes_after_one_that_was_killed(machine: Machine) -> None:
    script = machine.serve(
        """
        from eagleray import serve

        @serve.deployment
        def hello():
            return "hello"

        app = hello.bind()
        """
    )
    assert script.do("handle.remote().result(timeout_s=60)") == "hello"
    (node,) = machine.nodes()
    os.kill(node["pid"], signal.SIGKILL)
    eventually(lambda: not machine.pids("eagleray: "), "nothing is left of it")
    assert script.do("serve.run(app).remote().result(timeout_s=60)") == "hello"
    assert script.do("handle.remote().result(timeout_s=60)") == "hello", "handles from before too"
