"""From a bound `Application` to the request that deploys it: names, pickles, captured code, identities.

Applications among bound arguments become handles, found by pickling itself, so wherever they hide. The request is a
dict for `_core.Client.deploy`; its blobs are bytes by the hash of their content.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eagleray import _bootstrap, _core, _user_config
from eagleray._driver import engine, progress, ray_cluster
from eagleray._driver.declared import merged
from eagleray._policy import named
from eagleray.serve._autoscaling_config import AutoscalingPolicy
from eagleray.serve._options import DeploymentConfig
from eagleray.serve.deployment import Application, pickled_as
from eagleray.serve.exceptions import RayServeException
from eagleray.serve.handle import DeploymentHandle
from eagleray.serve.schema import LoggingConfig

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class Built:
    """What is sent: the specification, and the blobs that it names."""

    spec: dict[str, Any]
    blobs: dict[str, bytes] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass
class _Node:
    name: str
    config: DeploymentConfig
    pickled: bytes
    identity: str
    imports: frozenset[str]
    note: str
    calls: frozenset[str]


class _UnpicklableError(TypeError):
    """Something of a deployment cannot be pickled, and this says what."""


class _Graph:
    """The deployments of one application, each once, in the order in which their arguments were finished."""

    def __init__(self, app_name: str) -> None:
        self.app_name = app_name
        self.names: dict[int, str] = {}
        self.begun: set[int] = set()
        self.nodes: list[_Node] = []
        # Those that are being pickled, the innermost last, and what they have handles of.
        self.open: list[set[str]] = []
        self.keep: list[Application] = []
        self.warnings: list[str] = []

    def handle(self, application: Application) -> DeploymentHandle:
        if id(application) not in self.begun:
            self.add(application)
        name = self.name(application)
        self.open[-1].add(name)
        return DeploymentHandle(name, self.app_name)

    def name(self, application: Application) -> str:
        if id(application) not in self.names:
            wanted = application._bound_deployment.name
            name, number = wanted, 0
            while name in self.names.values():
                number += 1
                name = f"{wanted}_{number}"
            if number:
                self.warnings.append(
                    f"application {self.app_name!r} binds deployment {wanted!r} more than once; this one is "
                    f"named {name!r}"
                )
            self.names[id(application)] = name
        return self.names[id(application)]

    def add(self, application: Application) -> None:
        self.begun.add(id(application))
        self.keep.append(application)
        deployment = application._bound_deployment
        what = (deployment.func_or_class, application._init_args, application._init_kwargs)
        from eagleray._code import pickling

        self.open.append(set())
        with pickling.as_decorated(deployment.func_or_class):
            progress.now(f"pickling deployment {deployment.name!r} with its arguments")
            pickled = self.pickle(application, what)
            progress.now(f"comparing deployment {deployment.name!r} with its version before")
            identity, imports, note = _identity(what)
        name = self.name(application)
        calls = frozenset(self.open.pop())
        self.nodes.append(_Node(name, deployment._config, pickled, identity, imports, note, calls))

    def pickle(self, application: Application, what: tuple[Any, ...]) -> bytes:
        from eagleray._code import pickling

        try:
            return pickling.dumps(what)
        except _UnpicklableError:
            raise  # of a deployment that is bound into this one
        except Exception as error:
            from eagleray._driver import culprit

            what_it_was, instead = culprit.describe(application)
            raise _UnpicklableError(
                f"{what_it_was} cannot be pickled, and replicas are processes of their own: {error}\n{instead}"
            ) from None


def _identity(what: tuple[Any, ...]) -> tuple[str, frozenset[str], str]:
    """Hash over the callable and its arguments, the modules it names, and why the hash is a fresh one if it is."""
    from eagleray._code.identity import Unhashable, identify

    try:
        identity = identify(what)
    except Unhashable as reason:
        return os.urandom(32).hex(), frozenset(), f"cannot be compared with the version before: {reason}"
    return identity.digest, identity.modules, ""


def build(
    application: Application,
    *,
    name: str,
    route_prefix: str,
    logging_config: LoggingConfig | None,
    declared: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    external_scaler: bool = False,
) -> Built:
    """Pickles, captures and hashes.

    Args:
        application: What is deployed.
        name: Of the application.
        route_prefix: Empty for an application that HTTP does not reach.
        logging_config: For deployments that have none.
        declared: The application as a config states it: its options go over those in code.
        environment: Variables of the replicas, over the node's own.
        external_scaler: Replicas are scaled by who asks for it over REST.

    Raises:
        TypeError: something cannot be pickled.
        RuntimeError: the working directory is gone.
        ValueError: an option that this engine cannot carry out, or a config that does not fit the code.
        RayServeException: more than one deployment has an ASGI application.
    """
    working_directory = _working_directory()
    graph = _graph(application, name)
    if declared is not None:
        over, warnings = merged(declared, {node.name: node.config for node in graph.nodes})
        graph.warnings += warnings
        for node in graph.nodes:
            node.config = over[node.name]
    configured = [(node.name, node.config) for node in graph.nodes]
    engine.refuse(configured, logging_config)
    _check_ingresses(graph)
    built = Built(spec={}, warnings=graph.warnings)
    declared = declared or {}
    external_scaler = external_scaler or bool(declared.get("external_scaler_enabled"))
    if external_scaler:
        _check_scaler(configured)
    # Before the code is captured: what they are in is part of it.
    policies = {node.name: _policy(node.config) for node in graph.nodes}
    for_all = _policy_for_all(declared, policies, built)
    code = {graph.name(one): one._bound_deployment.func_or_class for one in graph.keep}
    built.warnings += engine.warnings(configured, code)
    from eagleray._code import capture

    progress.now("reading the source of the modules that are loaded")
    captured = capture.capture()
    built.warnings += captured.warnings
    code_blob = "" if captured.blob is None else _blob(built, captured.blob)
    # The working directory counts: a relative path in user code means something else elsewhere.
    shared: list[Any] = [bool(code_blob), sys.executable, sys.version, working_directory]
    shared += [dict(environment)] if environment else []
    deployments = []
    for node in graph.nodes:
        files, imports = captured.needed(node.imports)
        packages = capture.package_versions(imports)
        variables = {**ray_cluster.environment(imports), **node.config.env_vars}
        options = _options(node.config, logging_config, variables)
        fixed = [options[row["key"]] for row in _core.deployment_options() if row["scope"] == "version"]
        own = [files, node.identity, packages, *fixed]
        version = _hash([shared, own])[:16]
        deployments.append({
            "name": node.name,
            "version": version,
            "callable_blob": _blob(built, node.pickled),
            "options": options,
            "version_note": node.note,
            "calls": sorted(node.calls),
            "packages": {package: _plain(known) for package, known in packages.items()},
            "autoscaling_config": _autoscaling(node.config, policies[node.name][0]),
            "policy_blob": _blob(built, policies[node.name][1]) if policies[node.name][1] else "",
        })  # fmt: skip
    spec = {
        "name": name,
        "route_prefix": route_prefix,
        "ingress": graph.name(application),
        "deployments": deployments,
        "code_blob": code_blob,
        "code_files": [{"path": file.path, "sha256": file.sha256} for file in captured.files],
        "python": sys.executable,
        "bootstrap": os.path.abspath(_bootstrap.__file__),  # noqa: PTH100
        "working_directory": working_directory,
        "sys_path": [os.path.abspath(entry) for entry in sys.path],  # noqa: PTH100
        "environment": dict(environment or {}),
        "autoscaling_policy": for_all,
        "external_scaler_enabled": external_scaler,
    }
    # Blobs by their versions: a pickle's bytes differ between runs of the same program.
    content = {**spec, "deployments": [{**entry, "callable_blob": "", "policy_blob": ""} for entry in deployments]}
    spec["revision"] = _hash(content)[:16]
    built.spec = spec
    return built


def _plain(version: str) -> str:
    """The version of a package for people; of one that is known by a file only, nothing is."""
    return version if " " not in version else "unknown"


def _policy(config: DeploymentConfig) -> tuple[dict[str, Any], bytes]:
    """What says how many replicas it needs, and its pickle where it has no import path; empty: its load does."""
    scaling = config.autoscaling_config
    return ({}, b"") if scaling is None or scaling.policy.is_default else named.stated(scaling.policy)


def _policy_for_all(
    declared: Mapping[str, Any], policies: dict[str, tuple[dict[str, Any], bytes]], built: Built
) -> str:
    """The policy of the application, as JSON; empty: there is none."""
    policy = AutoscalingPolicy.model_validate(declared.get("autoscaling_policy") or {})
    if policy.is_default:
        return ""
    built.warnings += [
        f"deployment {name!r}: the application's autoscaling_policy goes before the policy of its autoscaling_config"
        for name, (own, _) in policies.items()
        if own
    ]
    return json.dumps(named.stated(policy)[0], sort_keys=True)


def _check_scaler(configured: list[tuple[str, DeploymentConfig]]) -> None:
    for name, config in configured:
        if config.autoscaling_config is not None:
            raise ValueError(
                f"deployment {name!r} has an autoscaling_config, and its application external_scaler_enabled, which "
                "exclude each other; leave one of them out"
            )


def _autoscaling(config: DeploymentConfig, policy: dict[str, Any]) -> str:
    """What scales the deployment, as JSON of what is stated; empty: nothing does."""
    scaling = config.autoscaling_config
    if scaling is None:
        return ""
    stated = scaling.model_dump(exclude_unset=True)
    stated.pop("policy", None)
    if policy:
        stated["policy"] = policy
    if config.max_replicas_per_node is not None:
        # There is one node.
        stated["max_replicas"] = min(scaling.max_replicas, config.max_replicas_per_node)
    return json.dumps(stated, sort_keys=True)


def deployments(application: Application, name: str) -> list[tuple[str, DeploymentConfig]]:
    """Each deployment of an application of this name, what others are bound with first.

    Raises:
        TypeError: something cannot be pickled.
    """
    return [(node.name, node.config) for node in _graph(application, name).nodes]


def _graph(application: Application, name: str) -> _Graph:
    graph = _Graph(name)
    try:
        with pickled_as(graph.handle):
            graph.add(application)
    except _UnpicklableError as error:
        raise TypeError(str(error)) from None
    return graph


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        raise RuntimeError(
            "the working directory does not exist any more, and replicas run in it: change to one that does, and run "
            "the script again"
        ) from None


def _check_ingresses(graph: _Graph) -> None:
    names = [
        graph.name(application)
        for application in graph.keep
        if hasattr(application._bound_deployment.func_or_class, "_eagleray_ingress")
    ]
    if len(names) > 1:
        raise RayServeException(
            f"application {graph.app_name!r} has more than one deployment under @serve.ingress: "
            f"{', '.join(sorted(names))}; HTTP reaches only the one that serve.run gets, so take the decorator off the "
            "others, or run them as applications of their own"
        )


def _options(
    config: DeploymentConfig, of_application: LoggingConfig | None, environment: dict[str, str]
) -> dict[str, Any]:
    """The value of every option of the table: that of the same name, unless it is derived here from others."""
    logging_config = config.logging_config or of_application or LoggingConfig()
    derived = {
        "num_replicas": config.first_replicas,
        "user_config": _user_config.encode(config.user_config),
        "hang_timeout_s": config.hang_timeout_s or 0.0,
        "environment": environment,
        "access_log": logging_config.enable_access_log,
        "logging": _logging(logging_config),
        "backpressure_status": config.backpressure_config.status_code,
        "backpressure_retry_after_s": config.backpressure_config.retry_after_s or 0.0,
    }
    keys = [row["key"] for row in _core.deployment_options()]
    return {key: derived[key] if key in derived else getattr(config, key) for key in keys}


def _logging(config: LoggingConfig) -> str:
    """What a replica obeys of it, as JSON; empty for the defaults."""
    kept = {
        name: value
        for name, value in config.model_dump().items()
        if name in ("encoding", "log_level", "additional_log_standard_attrs")
    }
    usual = LoggingConfig().model_dump()
    return "" if all(usual[name] == value for name, value in kept.items()) else json.dumps(kept, sort_keys=True)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _blob(built: Built, data: bytes) -> str:
    name = hashlib.sha256(data).hexdigest()
    built.blobs[name] = data
    return name
