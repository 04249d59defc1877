"""Gradio behind an ingress: importable, not available yet."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = ["GradioIngress", "GradioServer"]

_INSTEAD = "mount the Gradio app in FastAPI with gradio.mount_gradio_app, and give that to serve.ingress"

GradioIngress = _later.class_(__name__, "GradioIngress", _INSTEAD)
GradioServer = _later.class_(__name__, "GradioServer", _INSTEAD)
