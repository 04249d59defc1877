"""Code without a file: cells of a notebook, `python -`, `python -c`."""

import json
import sys

import pytest

from machine import Machine, eventually

# Runs cells as a notebook's kernel does: compiled one by one under made-up file names that linecache knows, in one
# namespace that is `__main__`.
KERNEL = r"""
import json, linecache, sys
for number, line in enumerate(sys.stdin):
    source = json.loads(line)
    name = f"/tmp/ipykernel_1/{number}.py"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    try:
        exec(compile(source, name, "exec"), globals())
        print("DONE", flush=True)
    except BaseException as error:
        print("FAILED", repr(error), flush=True)
"""

DEFINE = """
import helper
from eagleray import serve

WORD = "first"

def local(text):
    return text + "!"

@serve.deployment
class Cell:
    async def __call__(self, request):
        return local(WORD) + helper.text()

handle = serve.run(Cell.bind())
"""


@pytest.mark.contract("2/main", "2/tracebacks")
def test_cells_are_deployed_by_value_and_again_after_an_edit(machine: Machine) -> None:
    machine.write("helper.py", "def text():\n    return ' from a file'\n")
    kernel = machine.start([sys.executable, "-c", KERNEL])

    def cell(source: str) -> None:
        assert kernel.process.stdin is not None
        kernel.process.stdin.write(json.dumps(source) + "\n")
        kernel.process.stdin.flush()
        assert kernel.wait_for_line("^(DONE|FAILED.*)$").group(1) == "DONE"

    cell(DEFINE)
    assert kernel.get("/").text == "first! from a file"
    before = machine.replicas()
    cell(DEFINE)
    assert machine.replicas() == before, "the same cell again restarts nothing"
    cell('WORD = "second"\nserve.run(Cell.bind())')
    assert kernel.get("/").text == "second! from a file"
    cell("""
@serve.deployment
def fails(request):
    raise LookupError("of a cell")  # this line

serve.run(fails.bind(), name="fails", route_prefix="/fails")
""")
    assert kernel.get("/fails").status == 500
    assert kernel.wait_for_line(r'File "(/tmp/ipykernel_1/\d+\.py)", line 4, in fails').group(1)
    assert kernel.wait_for_line(r'raise LookupError\("of a cell"\)  # this line')
    cell("serve.shutdown()")
    eventually(lambda: not machine.pids("eagleray: "), "shutdown ends the node of the notebook")
    cell(DEFINE)
    assert kernel.get("/").text == "first! from a file", "and a new one starts"
    kernel.end()


def test_a_script_from_standard_input_serves(machine: Machine) -> None:
    script = machine.start([sys.executable, "-"])
    assert script.process.stdin is not None
    script.process.stdin.write(
        "from eagleray import serve\n\n@serve.deployment\ndef piped():\n    return 'piped'\n\n"
        "serve.run(piped.bind(), blocking=True)\n"
    )
    script.process.stdin.close()
    script.wait_for_line("is running at")
    assert script.get("/").text == "piped"
    script.interrupt()


def test_a_module_run_with_dash_m_serves(machine: Machine) -> None:
    machine.write("service/__init__.py", "")
    machine.write("service/word.py", "word = 'relative'\n")
    machine.write(
        "service/__main__.py",
        """
        from eagleray import serve
        from .word import word

        @serve.deployment
        def module():
            from .word import word as again
            return word + again

        serve.run(module.bind(), blocking=True)
        """,
    )
    script = machine.start([sys.executable, "-m", "service"])
    script.wait_for_line("is running at")
    assert script.get("/").text == "relativerelative"
    script.interrupt()


@pytest.mark.contract("3.1/callers")
def test_a_loop_that_runs_already_may_deploy_and_await(machine: Machine) -> None:
    script = machine.script(
        """
        import asyncio
        from eagleray import serve

        @serve.deployment
        class Double:
            async def __call__(self, number):
                return 2 * number

        async def main():
            handle = serve.run(Double.bind(), route_prefix=None)
            print("ANSWERS", await asyncio.gather(*(handle.remote(n) for n in range(5))))

        asyncio.run(main())
        asyncio.run(main())
        """
    )
    for _ in range(2):
        assert script.wait_for_line("ANSWERS (.*)").group(1) == "[0, 2, 4, 6, 8]"
    assert script.wait() == 0
