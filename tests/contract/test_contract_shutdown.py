"""What is left after `serve.shutdown()`. A file of its own: the node of the others goes on for all their tests."""

import pytest
from programs import program, running

from machine import Machine


@pytest.mark.contract("3.1/after-shutdown")
def test_a_handle_after_shutdown(machine: Machine) -> None:
    running(machine.serve(program("handles")))("after_shutdown")
