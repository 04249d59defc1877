"""Whether a layer of middleware is one of Starlette's that compiled routes know, and has nothing put into its place."""

from __future__ import annotations

from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from eagleray._user_code.compiled.framework import functions

# What a layer has of its own when its constructor has returned.
_HELD: dict[Any, frozenset[str]] = {
    CORSMiddleware: frozenset(
        (
            *("app", "allow_origins", "allow_methods", "allow_headers", "allow_all_origins", "allow_all_headers"),
            *("allow_credentials", "preflight_explicit_allow_origin", "allow_origin_regex", "allow_private_network"),
            *("simple_headers", "preflight_headers"),
        )
    ),
    TrustedHostMiddleware: frozenset(("app", "allowed_hosts", "allow_any", "www_redirect")),
}
# A collection of the user's own may do anything when it is asked for an origin.
_COLLECTIONS = (list, tuple, set, frozenset)


def is_known(layer: Any) -> bool:
    """Whether it does what the tests have passed with."""
    held = _HELD.get(type(layer))
    if held is None or vars(layer).keys() != held or functions.differences(functions.MIDDLEWARE):
        return False
    return type(layer) is not CORSMiddleware or type(layer.allow_origins) in _COLLECTIONS
