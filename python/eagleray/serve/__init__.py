"""Deploy classes and functions behind HTTP; mirrors `ray.serve`.

from eagleray import serve

@serve.deployment
class Hello:
    async def __call__(self, request):
        return "hello"

serve.run(Hello.bind())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eagleray.serve import _log, _old_names, _starlette
from eagleray.serve import deployment as _deployment_module  # the module first: the decorator takes its name below
from eagleray.serve._run import RunTarget, run, run_many
from eagleray.serve.api import (
    delete,
    get_app_handle,
    get_deployment_actor,
    get_deployment_actor_context,
    get_deployment_handle,
    get_replica_context,
    get_trace_context,
    shutdown,
    shutdown_async,
    start,
    status,
)
from eagleray.serve.config import ControllerOptions, HTTPOptions
from eagleray.serve.deployment import Application, Deployment, deployment
from eagleray.serve.schema import TracingConfig

_log.logger()

if TYPE_CHECKING:
    from eagleray.serve.asgi import ingress
    from eagleray.serve.batching import batch
    from eagleray.serve.multiplex import get_multiplexed_model_id, multiplexed

__all__ = [
    "Application",
    "ControllerOptions",
    "Deployment",
    "HTTPOptions",
    "RunTarget",
    "TracingConfig",
    "batch",
    "delete",
    "deployment",
    "get_app_handle",
    "get_deployment_actor",
    "get_deployment_actor_context",
    "get_deployment_handle",
    "get_multiplexed_model_id",
    "get_replica_context",
    "get_trace_context",
    "ingress",
    "multiplexed",
    "run",
    "run_many",
    "shutdown",
    "shutdown_async",
    "start",
    "status",
]

del _deployment_module

_starlette.import_later()

# Imported when they are first used: they need asyncio, which would double the time of this import.
_LATER = {"batch": "batching", "ingress": "asgi", "get_multiplexed_model_id": "multiplex", "multiplexed": "multiplex"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        import importlib

        value = getattr(importlib.import_module(f"eagleray.serve.{_LATER[name]}"), name)
        globals()[name] = value
        return value
    raise _old_names.gone("eagleray.serve", name)
