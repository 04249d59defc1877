"""Handles in processes that are neither the driver nor a replica."""

from machine import Machine

IN_ANOTHER_PROCESS = """
import pickle, subprocess, sys
from eagleray import serve

@serve.deployment
class Double:
    def __call__(self, number):
        return number * 2

CHILD = '''
import pickle, sys
try:
    print("CHILD", pickle.loads(bytes.fromhex(sys.argv[1])).remote(21).result(timeout_s=20))
except Exception as error:
    print("CHILD", type(error).__name__, error)
'''

def elsewhere():
    handle = pickle.dumps(serve.get_app_handle("default")).hex()
    return subprocess.run([sys.executable, "-c", CHILD, handle], capture_output=True, text=True).stdout

app = Double.bind()
"""


def test_a_handle_in_a_process_that_reaches_no_node_says_the_way_out(machine: Machine) -> None:
    script = machine.serve(IN_ANOTHER_PROCESS)
    said = script.do("elsewhere()")
    assert said.startswith("CHILD RayServeException this process reaches no node: it has started none"), said
    assert "run `eagleray start` before the script" in said
    assert script.do("handle.remote(21).result()") == 42
    script.do("serve.shutdown()")
    assert "the node of this handle has ended" in script.ask("handle.remote(21).result()")["text"]


def test_the_way_out_of_a_handle_in_another_process_works(machine: Machine) -> None:
    machine.start_resident()
    script = machine.serve(IN_ANOTHER_PROCESS)
    assert script.do("elsewhere()") == "CHILD 42\n"
    script.end()
