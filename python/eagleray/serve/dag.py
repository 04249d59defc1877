"""Graphs of the old kind: importable, gone from use. Pass applications to `bind` instead."""

from __future__ import annotations

from eagleray.serve import _later

__all__ = ["InputNode"]

InputNode = _later.class_(__name__, "InputNode", "write an ingress deployment that calls the others' handles")
