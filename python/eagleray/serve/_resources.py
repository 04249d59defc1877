"""`ray_actor_options` and placement groups: what a replica asks of a machine, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eagleray.serve import _validate

if TYPE_CHECKING:
    from eagleray.serve._options import DeploymentConfig

ACTOR_OPTIONS = (
    "accelerator_type", "fallback_strategy", "label_selector", "memory", "num_cpus", "num_gpus", "resources",
    "runtime_env",
)  # fmt: skip
RUNTIME_ENV_KEYS = (
    "conda", "config", "container", "eager_install", "env_vars", "excludes", "image_uri", "java_jars", "mpi", "nsight",
    "pip", "py_executable", "py_modules", "rocprof_sys", "uv", "worker_process_setup_hook", "working_dir",
)  # fmt: skip
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


def ray_actor_options(value: Any) -> dict[str, Any]:
    """Checks resources, labels and `runtime_env`; None is nothing stated."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"ray_actor_options must be a dict, got {type(value).__name__}")
    _validate.unknown_keys("ray_actor_options", value, ACTOR_OPTIONS)
    for key in ("num_cpus", "num_gpus", "memory"):
        if value.get(key) is not None:
            _validate.quantity(f"ray_actor_options.{key}", value[key])
    _gpus(value)
    resources = value.get("resources") or {}
    if not isinstance(resources, dict):
        raise TypeError(f"ray_actor_options.resources must be a dict, got {type(resources).__name__}")
    for key, number in resources.items():
        if key in ("CPU", "GPU", "memory"):
            option = {"CPU": "num_cpus", "GPU": "num_gpus"}.get(key, key)
            raise ValueError(f"ray_actor_options.resources cannot hold {key!r}: write {option}={number!r} beside it")
        _validate.quantity(f"ray_actor_options.resources[{key!r}]", number)
    accelerator = value.get("accelerator_type")
    if accelerator is not None and not isinstance(accelerator, str):
        raise TypeError(f"ray_actor_options.accelerator_type must be a string, got {accelerator!r}")
    labels = value.get("label_selector")
    if labels is not None:
        _labels("ray_actor_options.label_selector", labels)
    fallback = value.get("fallback_strategy")
    if fallback is not None and not isinstance(fallback, list):
        raise TypeError(f"ray_actor_options.fallback_strategy must be a list, got {fallback!r}")
    _runtime_env(value.get("runtime_env") or {})
    return dict(value)


def _gpus(value: dict[str, Any]) -> None:
    gpus = value.get("num_gpus") or 0
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(
            f"ray_actor_options.num_gpus must be whole above 1, since a replica gets whole devices or a part of one, "
            f"got {gpus!r}"
        )
    variables = (value.get("runtime_env") or {}).get("env_vars") if isinstance(value.get("runtime_env"), dict) else None
    if gpus and isinstance(variables, dict) and "CUDA_VISIBLE_DEVICES" in variables:
        raise ValueError(
            "ray_actor_options.num_gpus sets CUDA_VISIBLE_DEVICES, so it cannot stand in runtime_env['env_vars'] too; "
            "leave one of them out"
        )


def _labels(name: str, value: Any) -> None:
    texts = isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)
    if not texts:
        raise TypeError(f"{name} must be a dict of strings, got {value!r}")


def _runtime_env(value: Any) -> None:
    if not isinstance(value, dict):
        raise TypeError(f"ray_actor_options.runtime_env must be a dict, got {type(value).__name__}")
    _validate.unknown_keys("ray_actor_options.runtime_env", value, RUNTIME_ENV_KEYS)
    variables = value.get("env_vars") or {}
    if not isinstance(variables, dict):
        raise TypeError(f"ray_actor_options.runtime_env['env_vars'] must be a dict, got {type(variables).__name__}")
    for key, text in variables.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"ray_actor_options.runtime_env['env_vars'] takes strings only, got {key!r}: {text!r}")
        if not key or "=" in key or "\0" in key + text or key.startswith("EAGLERAY_"):
            raise ValueError(f"ray_actor_options.runtime_env['env_vars'] cannot set {key!r}")


def node_resources(**stated: Any) -> dict[str, Any]:
    """What a node is said to have: `num_cpus`, `num_gpus`, `memory` and `resources`, without those that are None."""
    has = {name: value for name, value in stated.items() if value is not None}
    for name, value in has.items():
        if name == "resources":
            if not isinstance(value, dict):
                raise TypeError(f"resources must be a dict such as {{'lidar': 1}}, got {value!r}")
            for key, amount in value.items():
                _validate.quantity(f"resources[{key!r}]", amount)
        elif _validate.quantity(name, value) != int(value) and name == "num_gpus":
            raise ValueError(f"num_gpus of a node must be whole, got {value!r}")
    return {**has, **({"num_gpus": int(has["num_gpus"])} if "num_gpus" in has else {})}


def placement_group_bundles(value: Any) -> list[dict[str, float]]:
    """Checks that each bundle names resources and asks for some of one at least."""
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"placement_group_bundles must be a list of dicts such as {{'CPU': 1}}, got {value!r}")
    bundles = []
    for index, bundle in enumerate(value):
        name = f"placement_group_bundles[{index}]"
        if not isinstance(bundle, dict) or not all(isinstance(key, str) for key in bundle):
            raise ValueError(f"{name} must be a dict such as {{'CPU': 1}}, got {bundle!r}")
        checked = {key: _validate.quantity(f"{name}[{key!r}]", amount) for key, amount in bundle.items()}
        if not any(checked.values()):
            raise ValueError(f"{name} must ask for some of one resource at least, got {bundle!r}")
        bundles.append(checked)
    return bundles


def placement_group_strategy(value: Any) -> str:
    """Checks for one of the four."""
    if value not in STRATEGIES:
        raise ValueError(f"placement_group_strategy must be one of {', '.join(STRATEGIES)}, got {value!r}")
    return str(value)


def check_placement(config: DeploymentConfig) -> None:
    """Placement groups with what else is stated."""
    bundles, selector = config.placement_group_bundles, config.placement_group_bundle_label_selector
    if bundles is None:
        if config.placement_group_strategy is not None:
            raise ValueError("placement_group_strategy needs placement_group_bundles")
        if selector is not None:
            raise ValueError("placement_group_bundle_label_selector needs placement_group_bundles")
        return
    if config.max_replicas_per_node is not None:
        raise ValueError(
            "placement_group_bundles and max_replicas_per_node exclude each other; with bundles, write "
            "placement_group_strategy='SPREAD' for replicas that are apart"
        )
    _check_selector(selector, len(bundles))
    options = config.ray_actor_options
    wanted = {"CPU": options.get("num_cpus") or 0, "GPU": options.get("num_gpus") or 0}
    wanted.update(options.get("resources") or {})
    for key, amount in wanted.items():
        there = bundles[0].get(key, 0)
        if amount > there:
            raise ValueError(
                f"a replica runs in the first bundle, which has {there:g} of {key}, and ray_actor_options asks for "
                f"{amount:g}; put {{{key!r}: {amount:g}}} or more into placement_group_bundles[0]"
            )


def _check_selector(selector: Any, bundles: int) -> None:
    if selector is None:
        return
    if not isinstance(selector, (list, tuple)):
        raise TypeError(f"placement_group_bundle_label_selector must be a list of dicts, got {selector!r}")
    for index, labels in enumerate(selector):
        _labels(f"placement_group_bundle_label_selector[{index}]", labels)
    if len(selector) not in (1, bundles):
        raise ValueError(
            f"placement_group_bundle_label_selector has {len(selector)} entries for {bundles} placement_group_bundles; "
            "give one for all of them, or one for each"
        )
