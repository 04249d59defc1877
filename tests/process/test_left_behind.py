"""What replicas and scripts leave behind at the node: zombies, daemons, descriptors, a process that is no replica."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from machine import EXECUTABLE, Machine, eventually, processes, request

DAEMONS = """
import os, subprocess
from eagleray import serve

def daemon(*program):
    "Left to another parent, in a session and with an environment of its own."
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(say, str(os.getpid()).encode())
            for number in range(3): os.dup2(os.open("/dev/null", os.O_RDWR), number)
            os.execve(program[0], program, {})
        os._exit(0)
    os.waitpid(child, 0)
    os.close(say)
    with open(said) as file: return int(file.read())

@serve.deployment
class Daemons:
    async def __call__(self, request):
        if "x" in request.query_params: os.execv("/bin/sleep", ["sleep", "3600"])
        if "stays" in request.query_params: return daemon("/bin/sleep", "3600")
        return [daemon("/bin/true") for _ in range(5)]
app = Daemons.bind()
"""


def zombies(parent: int) -> list[object]:
    return [process for process in processes() if process.state == "Z" and process.parent == parent]


def test_what_user_code_has_left_to_other_parents_does_not_stay_a_zombie(machine: Machine) -> None:
    script = machine.serve(DAEMONS)
    left = script.get().json()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), "all of them are waited for")
    node = machine.one("eagleray: node")
    eventually(lambda: not zombies(node), "nothing else that the node was left is a zombie")


def test_a_node_that_is_process_1_waits_for_orphans(machine: Machine) -> None:
    unshare, nsenter = shutil.which("unshare"), shutil.which("nsenter")
    inside = ["--pid", "--fork", "--mount-proc", "--kill-child"]
    if not unshare or not nsenter or subprocess.run([unshare, *inside, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs unshare(1), nsenter(1) and the right to make a namespace of processes")
    node = machine.start([unshare, *inside, str(EXECUTABLE), "start", "--foreground", "--http-port", "0"])
    eventually(lambda: [one for one in machine.nodes() if one.get("pid") == 1], "the node is up, as process 1")
    machine.write("app.py", DAEMONS + "\nserve.run(app)\n")
    inner = machine.one("eagleray: node")
    enter = [nsenter, "--target", str(inner), "--pid", "--mount"]
    assert machine.start([*enter, sys.executable, str(machine.work / "app.py")]).wait() == 0
    for _ in range(3):
        assert len(request("GET", machine.address(name="default")).json()) == 5
    eventually(lambda: not zombies(inner), "no zombie is left")
    assert node.interrupt() == 0


def test_a_daemon_of_user_code_ends_with_its_replica(machine: Machine) -> None:
    script = machine.serve(DAEMONS)
    pid = script.get("/?stays=1").json()
    assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert os.getsid(pid) not in {os.getsid(replica) for replica in machine.replicas()}
    assert script.do("serve.delete('default')") is None
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the daemon is ended and waited for")


def test_a_daemon_of_user_code_ends_when_its_node_is_killed(machine: Machine) -> None:
    script = machine.serve(DAEMONS)
    pid = script.get("/?stays=1").json()
    os.kill(machine.one("eagleray: node"), 9)
    eventually(lambda: not Path(f"/proc/{pid}").exists() or state(pid) == "Z", "the reaper finds the daemon")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_replica_that_becomes_another_program_is_replaced_at_once(machine: Machine) -> None:
    script = machine.serve(DAEMONS)
    (before,) = machine.replicas()
    assert request("POST", script.address + "/?x=1").status == 502
    eventually(lambda: script.get().status == 200, "another replica serves", seconds=20)
    assert before not in machine.replicas()
    assert "as exec does" in machine.logs("node.log")


def test_a_script_that_has_joined_and_left_leaves_no_descriptor_at_the_node(machine: Machine) -> None:
    machine.start_resident()
    folder = Path(f"/proc/{machine.one('eagleray: node')}/fd")
    text = "from eagleray import serve\n@serve.deployment\ndef app(request): return 'ok'\nserve.run(app.bind())\n"

    def joined() -> None:
        assert machine.script(text).wait() == 0

    joined()
    most = len(list(folder.iterdir()))
    for _ in range(4):
        joined()
    eventually(lambda: len(list(folder.iterdir())) <= most, "as many descriptors as after the first script")
    assert machine.cli("stop").returncode == 0


def test_a_caller_that_is_killed_is_gone_although_a_child_of_it_lives(machine: Machine) -> None:
    machine.start_resident()
    mark = machine.work / "cancelled"
    text = f"""
    import asyncio, os, signal, time
    from eagleray import serve
    @serve.deployment
    class Slow:
        async def __call__(self, what):
            if what == "wait": open({str(mark) + "-began"!r}, "w").close()
            try: await asyncio.sleep(600 if what == "wait" else 0)
            except asyncio.CancelledError:
                open({str(mark)!r}, "w").close()
                raise
            return what
    handle = serve.run(Slow.bind())
    assert handle.remote("x").result() == "x"
    waiting = handle.remote("wait")
    while not os.path.exists({str(mark) + "-began"!r}): time.sleep(0.01)
    child = os.fork()
    if child == 0:
        while True: time.sleep(60)
    print("CHILD", child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    script = machine.script(text)
    child = int(script.wait_for_line("CHILD (.*)")[1])
    try:
        eventually(mark.exists, "the call of the caller that was killed is cancelled", seconds=15)
        assert state(child) != "Z"
    finally:
        os.kill(child, 9)
    script.wait()
    assert machine.cli("stop").returncode == 0
