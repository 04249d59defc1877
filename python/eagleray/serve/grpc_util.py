"""Parts of the gRPC ingress: importable, not available yet."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = ["RayServegRPCContext", "gRPCInputStream"]

RayServegRPCContext = _later.class_(__name__, "RayServegRPCContext", "the gRPC ingress comes later; HTTP is there")
gRPCInputStream = _later.class_(__name__, "gRPCInputStream", "the gRPC ingress comes later; HTTP is there")  # noqa: N816
