"""Errors that say what a user wrote wrong begin at the user's line."""

import pytest

from machine import Machine

HEAD = """
import asyncio, pickle
from eagleray import serve
from eagleray.serve.config import AutoscalingConfig, HTTPOptions

@serve.deployment
class Model:
    pass

class Stubborn:
    def __reduce__(self):
        raise pickle.PicklingError("no pickle of this")

"""


@pytest.mark.contract("1/traceback", better="it has the user's line and the error; EAGLERAY_FULL_TRACEBACKS=1 has all")
@pytest.mark.parametrize(
    ("line", "last"),
    [
        ("serve.deployment(num_replica=1)", "TypeError: "),
        ("serve.deployment(max_ongoing_requests=0)(Model)", "ValueError: "),
        ("serve.deployment(autoscaling_config={'min_replicas': 3, 'max_replicas': 1})", "ValueError: "),
        ("serve.deployment(3)", "TypeError: "),
        ("Model.options(ray_actor_options={'cpus': 1})", "ValueError: "),
        ("AutoscalingConfig(min_replica=1)", "ValueError: "),
        ("AutoscalingConfig.model_validate({'min_replicas': -1})", "ValueError: "),
        ("HTTPOptions(port=70000)", "ValueError: "),
        ("serve.start(http_options={'port': -1})", "ValueError: "),
        ("serve.start(http_options={'host': '203.0.113.1'})", "RuntimeError: "),
        ("serve.run(Model)", "TypeError: "),
        ("serve.run(Model.bind(), route_prefix='x')", "ValueError: "),
        ("serve.run(Model.options(ray_actor_options={'accelerator_type': 'T4'}).bind())", "ValueError: "),
        ("serve.run(Model.bind(Stubborn()))", "TypeError: "),
        ("serve.delete('x')", "eagleray.serve.exceptions.RayServeException: "),
        ("serve.get_app_handle('x')", "eagleray.serve.exceptions.RayServeException: "),
        ("serve.batch(max_batch_size=0)", "ValueError: "),
        ("serve.batch(max_batch_size=2)(len)", "TypeError: "),
        ("serve.multiplexed(max_num_models_per_replica=2)(len)", "TypeError: "),
        ("serve.ingress(object())", "TypeError: "),
    ],
)
def test_the_traceback_is_the_users_line_and_the_error(machine: Machine, line: str, last: str) -> None:
    script = machine.script(f"{HEAD}{line}\n")
    assert script.wait() == 1
    lines = script.output.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith("in <module>")
    assert lines[2].strip() == line
    error = lines[3] if not lines[3].strip().startswith("^") else lines[4]  # Python marks part of the line
    assert error.startswith(last), script.output
    assert "eagleray/" not in "\n".join(text for text in lines if text.startswith("  File"))


def test_frames_of_user_code_inside_stay_and_so_do_causes(machine: Machine) -> None:
    script = machine.script(
        HEAD
        + """
class Options(dict):
    def items(self):
        return {}["inner"]

def outer():
    try:
        serve.deployment(user_config={1, 2})
    except Exception as error:
        raise RuntimeError("outer") from error

try:
    serve.deployment(ray_actor_options={"resources": Options(a=1)})
except KeyError as error:
    import traceback
    print("INNER", [frame.name for frame in traceback.extract_tb(error.__traceback__)], flush=True)
outer()
"""
    )
    assert script.wait_for_line("^INNER (.*)").group(1) == "['<module>', 'items']"
    assert script.wait() == 1
    assert "user_config must be JSON-serialisable" in script.output
    assert "The above exception was the direct cause" in script.output


def test_all_frames_are_there_on_demand(machine: Machine) -> None:
    script = machine.script(f"{HEAD}serve.run(Model)\n", environment={"EAGLERAY_FULL_TRACEBACKS": "1"})
    assert script.wait() == 1
    assert "_check_target" in script.output


def test_a_failed_constructor_shows_the_remote_traceback_only(machine: Machine) -> None:
    script = machine.script(
        HEAD
        + "@serve.deployment\nclass Failing:\n    def __init__(self):\n        1 / 0\n\nserve.run(Failing.bind())\n"
    )
    assert script.wait() == 1
    assert script.output.count("Traceback (most recent call last):") >= 2
    assert "ZeroDivisionError" in script.output
    assert "_driver/" not in script.output
