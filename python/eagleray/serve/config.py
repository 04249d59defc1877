"""Configuration objects of `eagleray.serve`: where it listens, and the objects among a deployment's options."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from eagleray._shortened import shortened
from eagleray.serve import _limits, _old_names, _validate
from eagleray.serve._autoscaling_config import (
    AggregationFunction,
    AutoscalingConfig,
    AutoscalingContext,
    AutoscalingPolicy,
)
from eagleray.serve._deployment_config import (
    BackpressureConfig,
    DeploymentActorConfig,
    GangPlacementStrategy,
    GangRuntimeFailurePolicy,
    GangSchedulingConfig,
    RequestRouterConfig,
)
from eagleray.serve._model import Model, dict_of, integer, list_of, number, option, string

__all__ = [
    "AggregationFunction",
    "AutoscalingConfig",
    "AutoscalingContext",
    "AutoscalingPolicy",
    "BackpressureConfig",
    "ControllerOptions",
    "DeploymentActorConfig",
    "GangPlacementStrategy",
    "GangRuntimeFailurePolicy",
    "GangSchedulingConfig",
    "HTTPOptions",
    "ProxyLocation",
    "RequestRouterConfig",
    "gRPCOptions",
]

DEFAULT_HTTP_HOST = "127.0.0.1"
DEFAULT_HTTP_PORT = 8000


def default_http_host() -> str:
    """`EAGLERAY_SERVE_DEFAULT_HTTP_HOST`, else loopback."""
    return os.environ.get("EAGLERAY_SERVE_DEFAULT_HTTP_HOST") or DEFAULT_HTTP_HOST


def default_http_port() -> int:
    """`EAGLERAY_SERVE_DEFAULT_HTTP_PORT`, else 8000."""
    text = os.environ.get("EAGLERAY_SERVE_DEFAULT_HTTP_PORT")
    if not text:
        return DEFAULT_HTTP_PORT
    return _port("EAGLERAY_SERVE_DEFAULT_HTTP_PORT", text)


def _port(name: str, value: Any) -> int:
    port = _validate.integer(name, value, minimum=0)
    if port > 65535:
        raise ValueError(f"{name} must be a port number, 0 (any free one) to 65535, got {value!r}")
    return port


def _is_host(text: str) -> bool:
    """Whether the proxy takes it for `allowed_hosts`: a name, `*.` before a name, an address."""
    if re.fullmatch(r"(\*\.)?[A-Za-z0-9._-]+", text):
        return True
    import ipaddress

    try:
        ipaddress.IPv6Address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        return False
    return True


class ProxyLocation(str, Enum):
    """On which machines a proxy runs. On one machine `EveryNode` is `HeadOnly`; `Disabled` is no HTTP."""

    Disabled = "Disabled"
    HeadOnly = "HeadOnly"
    EveryNode = "EveryNode"

    @classmethod
    def _missing_(cls, value: object) -> ProxyLocation | None:
        return cls.Disabled if value == "NoServer" else None  # its name in older releases


@dataclass
class HTTPOptions:
    """Where the HTTP proxy listens, and what it bounds. Only a node that is not running yet can take them.

    `host=None`, or `location="Disabled"`, is no HTTP at all: nothing listens, and handles reach what runs.
    `request_timeout_s` covers a request up to the last byte of its answer; None, or a negative number, is no limit.
    `limits` changes single limits of `docs/limits.md`, such as `{"header_count": 200}`.
    `trusted_proxies` names addresses and networks (`10.0.0.0/8`) of proxies whose `X-Forwarded-*` and `Forwarded`
    headers say who the client is, and reach user code; loopback always may, and from others they are dropped. If it is
    empty, the variable `FORWARDED_ALLOW_IPS` names them. `allowed_hosts` lists the hosts that requests may name, such
    as `example.com` or `*.example.com`, without ports; all others are answered 421. Empty, the default, is any host.
    With `ssl_certfile` and `ssl_keyfile` HTTP is served over TLS; with `ssl_ca_certs` every client must show a
    certificate.
    """

    host: str | None = field(default_factory=default_http_host)
    port: int | None = None
    root_path: str = ""
    request_timeout_s: float | None = None
    keep_alive_timeout_s: float = 90
    location: Any = None
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile_password: str | None = None
    ssl_ca_certs: str | None = None
    middlewares: Any = None
    num_cpus: float = 0
    root_url: str = ""
    limits: dict[str, float] = field(default_factory=dict)
    trusted_proxies: Sequence[str] = ()
    allowed_hosts: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.host is None:
            self.location = ProxyLocation.Disabled
        elif not isinstance(self.host, str) or not self.host:
            raise _validate.invalid("host", f"host must be an address to listen on, got {self.host!r}", self.host)
        self.port = default_http_port() if self.port is None else _port("port", self.port)
        if not isinstance(self.root_path, str) or (self.root_path and not self.root_path.startswith("/")):
            message = f"root_path must be empty or begin with '/', got {self.root_path!r}"
            raise _validate.invalid("root_path", message, self.root_path)
        if self.middlewares:
            message = "middlewares are not taken; add them to the application behind the ingress"
            raise _validate.invalid("middlewares", message)
        if self.num_cpus:
            raise _validate.invalid("num_cpus", "num_cpus of the proxy must be 0: it reserves none", self.num_cpus)
        if self.request_timeout_s is not None:
            timeout = self.request_timeout_s
            none = isinstance(timeout, (int, float)) and not isinstance(timeout, bool) and timeout < 0
            self.request_timeout_s = None if none else _validate.seconds("request_timeout_s", timeout, positive=True)
        _validate.seconds("keep_alive_timeout_s", self.keep_alive_timeout_s, positive=True)
        self.limits = _limits.take(self.limits)
        if isinstance(self.trusted_proxies, str):
            raise TypeError("trusted_proxies must be a list of addresses and networks")
        for network in self.trusted_proxies:
            import ipaddress

            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as error:
                raise ValueError(f"trusted_proxies: {error}") from None
        self._check_hosts()
        self._check_tls()
        if self.location is not None:
            self.location = _validate.one_of("location", self.location, ProxyLocation)
        if self.root_url:
            raise _validate.not_available("http_options.root_url")

    @property
    def disabled(self) -> bool:
        """Whether nothing shall listen for HTTP."""
        return self.location is ProxyLocation.Disabled

    def _check_hosts(self) -> None:
        if isinstance(self.allowed_hosts, str):
            raise TypeError("allowed_hosts must be a list of host names")
        for host in self.allowed_hosts:
            if not isinstance(host, str) or not _is_host(host):
                raise ValueError(
                    f"allowed_hosts: {host!r} is no host name, no address, and no *. before a name; "
                    "ports do not belong here"
                )

    def _check_tls(self) -> None:
        for name in ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs"):
            file = getattr(self, name)
            if file is not None:
                if not isinstance(file, (str, os.PathLike)) or not os.fspath(file):
                    raise ValueError(f"{name} must be the path of a PEM file, got {file!r}")
                setattr(self, name, os.fspath(Path(file).absolute()))
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            message = "ssl_certfile and ssl_keyfile go together: name both, or neither"
            raise _validate.invalid("ssl_certfile", message)
        if self.ssl_ca_certs is not None and self.ssl_certfile is None:
            raise ValueError("ssl_ca_certs asks clients for certificates over TLS, so it needs ssl_certfile")
        if self.ssl_keyfile_password is not None:
            raise ValueError(
                "ssl_keyfile_password is not taken, since encrypted keys are not: write a decrypted copy that only its "
                "owner can read, `(umask 077; openssl pkey -in ENCRYPTED.pem -out KEY.pem)`, and name it in ssl_keyfile"
            )

    @classmethod
    def _take(cls, value: HTTPOptions | dict[str, Any] | None) -> HTTPOptions:
        if value is None:
            return cls()
        if isinstance(value, cls):
            return value
        if isinstance(value, dict):
            _validate.unknown_keys("http_options", value, [field.name for field in fields(cls)])
            return cls(**value)
        raise TypeError(f"http_options must be HTTPOptions or a dict, got {type(value).__name__}")


HTTPOptions.__init__ = shortened(HTTPOptions.__init__)  # type: ignore[method-assign]


def _servicers(name: str, value: Any) -> list[str]:
    functions: list[str] = list_of(_validate.text)(name, value)
    return functions


class gRPCOptions(Model):  # noqa: N801 - the name is the contract
    """The gRPC ingress. Without servicer functions there is none, and with some it is not available yet."""

    _called = "grpc_options"

    port: int = option(integer(minimum=0, maximum=65535), default=9000)
    grpc_servicer_functions: list[str] = option(_servicers, default=list)
    request_timeout_s: float | None = option(number(positive=True), default=None, optional=True)
    enable_reflection: bool = option(_validate.boolean, default=True)


def _controller_environment(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _validate.invalid(name, f"{name} must be a dict, got {value!r}", value)
    _validate.unknown_keys(name, value, ["env_vars"])
    return {"env_vars": dict_of(string)(f"{name}['env_vars']", value.get("env_vars") or {})}


class ControllerOptions(Model):
    """Environment variables of the controller, which a native one has no use for: not available."""

    _called = "controller_options"

    runtime_env: dict[str, Any] = option(_controller_environment, default=dict)


def __getattr__(name: str) -> Any:
    return _old_names.in_module(__name__, name)
