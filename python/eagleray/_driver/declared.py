"""What a config declares over the options in code: read from a file, and merged for the deployments of an application.

The model of configs is native (`crates/config`); here its answers become options, checked as those in code are.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any

from eagleray import _core
from eagleray.serve._model import Model
from eagleray.serve._options import CHECKS, DeploymentConfig, configure

if TYPE_CHECKING:
    from collections.abc import Mapping


def stated(config: DeploymentConfig) -> dict[str, Any]:
    """The options that the code of a deployment states, as a config writes them, in the order in which it has them."""
    found = {key: _plain(getattr(config, key)) for key in CHECKS if key in config.given}
    if config.autoscaling_config is not None:
        found["autoscaling_config"] = _plain(config.autoscaling_config)
        found.pop("num_replicas", None)
    elif "autoscaling_config" in found:
        del found["autoscaling_config"]  # a number of replicas took its place
    return found


def merged(
    application: Mapping[str, Any], code: Mapping[str, DeploymentConfig]
) -> tuple[dict[str, DeploymentConfig], list[str]]:
    """The options of every deployment in `code` with those of a config over them, and warnings.

    Args:
        application: An application as a config states it.
        code: What the code states of each deployment.

    Raises:
        ValueError: all that is wrong: deployments that the code does not have, options that contradict each other.
    """
    options = {name: stated(config) for name, config in code.items()}
    # One value, of which JSON does not keep everything; where the config has none, it stays as it was written.
    own = {
        name: code[name].user_config for name, found in options.items() if found.pop("user_config", None) is not None
    }
    answer = json.loads(_core.merge_config(json.dumps(application), json.dumps(options)))
    for name, value in own.items():
        answer["deployments"][name].setdefault("user_config", value)
    over = {name: configure(DeploymentConfig(), answer["deployments"][name]) for name in code}
    return over, answer["warnings"]


def _plain(value: Any) -> Any:
    """A value as JSON has it. A class or function is named by where it is."""
    if isinstance(value, Model):
        value = value.model_dump(exclude_unset=True)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    return value
