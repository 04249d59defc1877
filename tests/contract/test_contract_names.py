"""Chapter 1: the names of the module."""

import pytest

from eagleray import serve

NAMES = (
    "batch", "start", "ControllerOptions", "HTTPOptions", "TracingConfig", "get_replica_context",
    "get_deployment_actor", "get_deployment_actor_context", "get_trace_context", "shutdown", "shutdown_async",
    "ingress", "deployment", "run", "run_many", "RunTarget", "delete", "Application", "Deployment", "multiplexed",
    "get_multiplexed_model_id", "status", "get_app_handle", "get_deployment_handle",
)  # fmt: skip


@pytest.mark.contract("1/names")
@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(serve, name) is not None
    assert name in serve.__all__
