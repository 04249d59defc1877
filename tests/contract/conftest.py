"""A machine for all tests of a module: each runs a case of a program that one node serves (programs.py)."""

from collections.abc import Iterator

import pytest

from machine import Machine


@pytest.fixture(scope="module")
def module_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One machine for all tests of a module."""
    made = Machine(tmp_path_factory.mktemp("contract"))
    try:
        yield made
    finally:
        survivors = made.close()
    assert not survivors, f"left running: {survivors}"
