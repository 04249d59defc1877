"""Long forms, with times to be met, run in `make chaos` only: the machine that runs `make test` may be busy."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "EAGLERAY_CHAOS_SECONDS" in os.environ:
        return
    long = [item for item in items if item.get_closest_marker("chaos") and HERE in item.path.parents]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
