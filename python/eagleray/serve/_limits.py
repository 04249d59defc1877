"""The keys of `http_options.limits`, with what each takes. What they mean is in `docs/limits.md`.

The table is the proxy's (`crates/proxy/src/limits.rs`), repeated so that a mistake is an error where the script has it,
before a node is started. A test compares both with the page.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Limit(NamedTuple):
    """What a key takes: a number from `minimum` to `maximum`, a whole one if `whole`."""

    default: float
    minimum: float
    maximum: float
    whole: bool


LIMITS = {
    "header_bytes": Limit(65_536, 8_192, 1_048_576, whole=True),
    "header_count": Limit(100, 1, 10_000, whole=True),
    "uri_bytes": Limit(8_192, 1, 65_534, whole=True),
    "header_read_s": Limit(10, 0.01, 3_600, whole=False),
    "connections": Limit(10_000, 1, 1_000_000, whole=True),
    "connections_per_source": Limit(1_000, 0, 1_000_000, whole=True),
    "connections_per_loopback_source": Limit(0, 0, 1_000_000, whole=True),
    "body_idle_s": Limit(30, 0.01, 3_600, whole=False),
    "body_bytes_per_s": Limit(1_024, 0, 1_000_000_000, whole=True),
    "answer_idle_s": Limit(30, 0.01, 3_600, whole=False),
    "answer_bytes_per_s": Limit(1_024, 0, 1_000_000_000, whole=True),
    "half_close_s": Limit(0.5, 0, 3_600, whole=False),
    "half_close_within_s": Limit(0.02, 0, 3_600, whole=False),
    "queued_bytes": Limit(268_435_456, 65_536, 1_000_000_000_000, whole=True),
    "abandoned_requests": Limit(1_000, 0, 1_000_000, whole=True),
    "abandoned_requests_per_deployment": Limit(100, 1, 1_000_000, whole=True),
    "abandoned_requests_per_connection": Limit(20, 1, 1_000_000, whole=True),
    "memory_bytes": Limit(0, 0, 1_000_000_000_000_000, whole=True),
    "memory_drain_percent": Limit(85, 0, 100, whole=True),
    "memory_shed_percent": Limit(92, 0, 100, whole=True),
    "memory_refuse_percent": Limit(97, 0, 100, whole=True),
    "websocket_message_bytes": Limit(16_777_216, 1, 1_073_741_824, whole=True),
    "websocket_compress_bytes": Limit(1_024, 0, 1_000_000_000_000, whole=True),
    "websocket_ping_s": Limit(20, 0, 3_600, whole=False),
    "websocket_pong_s": Limit(20, 0.01, 3_600, whole=False),
    "tls_handshake_s": Limit(5, 0.01, 3_600, whole=False),
    "h2_streams": Limit(100, 1, 10_000, whole=True),
    "h2_stream_window_bytes": Limit(16_777_216, 65_535, 1_073_741_824, whole=True),
    "h2_connection_window_bytes": Limit(1_048_576, 65_535, 1_073_741_824, whole=True),
    "h2_windows_bytes": Limit(268_435_456, 0, 1_000_000_000_000, whole=True),
    "h2_frame_bytes": Limit(16_384, 16_384, 16_777_215, whole=True),
    "h2_header_list_bytes": Limit(16_384, 1_024, 1_048_576, whole=True),
    "h2_header_count": Limit(100, 1, 10_000, whole=True),
    "h2_send_buffer_bytes": Limit(65_536, 16_384, 16_777_216, whole=True),
    "h2_stall_s": Limit(10, 0.01, 3_600, whole=False),
    "h2_streaming_stall_s": Limit(60, 0.01, 3_600, whole=False),
    "h2_resets": Limit(100, 1, 1_000_000, whole=True),
    "h2_resets_window_s": Limit(10, 0.01, 3_600, whole=False),
    "h2_pending_resets": Limit(20, 1, 10_000, whole=True),
    "h2_control_frames": Limit(1_000, 100, 1_000_000_000, whole=True),
}


def take(given: Any) -> dict[str, float]:
    """Checks a mapping of limits.

    Raises:
        ValueError: with every problem, one a line.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"http_options.limits must be a mapping of limits to numbers, got {given!r}")
    problems = [problem for key, value in given.items() if (problem := _problem(key, value))]
    if not problems:
        every = {key: limit.default for key, limit in LIMITS.items()} | dict(given)
        percents = [every[f"memory_{name}_percent"] for name in ("drain", "shed", "refuse")]
        if list(filter(None, percents)) != sorted(filter(None, percents)):
            problems.append(
                "memory_drain_percent, memory_shed_percent and memory_refuse_percent must not fall, got "
                + ", ".join(map(str, percents))
            )
    if problems:
        raise ValueError("http_options.limits: " + "\n".join(problems))
    return dict(given)


def _problem(key: Any, value: Any) -> str:
    limit = LIMITS.get(key) if isinstance(key, str) else None
    if limit is None:
        near = difflib.get_close_matches(str(key), LIMITS, n=1, cutoff=0)
        return f"there is no limit {key!r}; did you mean {near[0]!r}?"
    fits = (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and limit.minimum <= value <= limit.maximum
        and (not limit.whole or value == int(value))
    )
    kind = "a whole number" if limit.whole else "a number"
    return "" if fits else f"{key} must be {kind} from {limit.minimum} to {limit.maximum}, got {value!r}"
