"""The Ray cluster that this process is connected to, for replicas whose code uses Ray.

A replica that used Ray without knowing of the cluster would start one of its own. So it gets what Ray reads when it
connects, in its environment, and connects before anything of the user's is loaded: a handle of an actor can only be
unpickled in a process that is connected.
"""

from __future__ import annotations

import sys
from typing import Any

#: Read by `eagleray._replica.lifecycle`, which connects.
JOIN = "EAGLERAY_JOIN_RAY"


def environment(imports: frozenset[str]) -> dict[str, str]:
    """Variables for the replicas of a deployment whose code names these modules; none where Ray plays no part."""
    ray = sys.modules.get("ray")
    if ray is None or "ray" not in imports:
        return {}
    try:
        address, namespace = _where(ray)
    except Exception:  # another package of that name, or a connection that is ending
        return {}
    if not address:
        return {}
    # `ray.init` reads the first of them; of the others the replica makes its arguments.
    return {"RAY_ADDRESS": address, "RAY_NAMESPACE": namespace, JOIN: "1"}


def _where(ray: Any) -> tuple[str, str]:
    if not ray.is_initialized():
        return "", ""
    context = ray.get_runtime_context()
    client = sys.modules.get("ray.util.client")
    if client is not None and client.ray.is_connected():
        return f"ray://{client.ray.worker._conn_str}", str(context.namespace)
    return str(context.gcs_address), str(context.namespace)
