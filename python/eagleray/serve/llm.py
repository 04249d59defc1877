"""Serving of language models by vLLM: importable, not available yet."""

from __future__ import annotations

from typing import Any

from eagleray.serve import _later

_CLASSES = (
    "CloudMirrorConfig", "DPServer", "KVAwareRouter", "LLMConfig", "LLMServer", "LLMServingArgs", "LoraConfig",
    "ModelLoadingConfig", "OpenAiIngress", "PDDecodeServer", "PDPrefillServer", "PrefixCacheAffinityRouter",
)  # fmt: skip
_FUNCTIONS = (
    "build_dp_deployment", "build_dp_openai_app", "build_llm_deployment", "build_openai_app", "build_pd_openai_app",
    "make_fastapi_ingress",
)  # fmt: skip
_INSTEAD = "put the engine into a deployment of your own and stream its tokens"

__all__ = [*_CLASSES, *_FUNCTIONS]  # noqa: PLE0604 - all of them are strings


def _make() -> dict[str, Any]:
    made = {name: _later.class_(__name__, name, _INSTEAD) for name in _CLASSES}
    return made | {name: _later.function(__name__, name, _INSTEAD) for name in _FUNCTIONS}


globals().update(_make())
