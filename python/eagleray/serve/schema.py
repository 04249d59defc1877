"""Status objects and their enums; names, order and words are those that Ray Serve users know."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from eagleray.serve import _validate

__all__ = [
    "ApplicationStatus",
    "ApplicationStatusOverview",
    "DeploymentStatus",
    "DeploymentStatusOverview",
    "DeploymentStatusTrigger",
    "LoggingConfig",
    "ProxyStatus",
    "ReplicaState",
    "ServeStatus",
]


class ApplicationStatus(str, Enum):
    """State of an application."""

    NOT_STARTED = "NOT_STARTED"
    DEPLOYING = "DEPLOYING"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    RUNNING = "RUNNING"
    UNHEALTHY = "UNHEALTHY"
    DELETING = "DELETING"


class DeploymentStatus(str, Enum):
    """State of a deployment."""

    UPDATING = "UPDATING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    UPSCALING = "UPSCALING"
    DOWNSCALING = "DOWNSCALING"


class DeploymentStatusTrigger(str, Enum):
    """Why a deployment is in its state."""

    UNSPECIFIED = "UNSPECIFIED"
    CONFIG_UPDATE_STARTED = "CONFIG_UPDATE_STARTED"
    CONFIG_UPDATE_COMPLETED = "CONFIG_UPDATE_COMPLETED"
    UPSCALE_COMPLETED = "UPSCALE_COMPLETED"
    DOWNSCALE_COMPLETED = "DOWNSCALE_COMPLETED"
    AUTOSCALING = "AUTOSCALING"
    REPLICA_STARTUP_FAILED = "REPLICA_STARTUP_FAILED"
    DEPLOYMENT_ACTOR_FAILED = "DEPLOYMENT_ACTOR_FAILED"
    HEALTH_CHECK_FAILED = "HEALTH_CHECK_FAILED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    DELETING = "DELETING"


class ReplicaState(str, Enum):
    """State of a replica; RUNNING and PENDING_MIGRATION take requests."""

    STARTING = "STARTING"
    UPDATING = "UPDATING"
    RECOVERING = "RECOVERING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    PENDING_MIGRATION = "PENDING_MIGRATION"


class ProxyStatus(str, Enum):
    """State of a proxy."""

    STARTING = "STARTING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DRAINING = "DRAINING"
    DRAINED = "DRAINED"


@dataclass
class DeploymentStatusOverview:
    """Status of a deployment, with its replicas counted by state."""

    status: DeploymentStatus
    status_trigger: DeploymentStatusTrigger
    replica_states: dict[ReplicaState, int]
    message: str
    abandoned_requests: int = 0
    """Requests that run although nobody waits for their answer: their client left or their time is over, and sync code
    cannot be cancelled."""


@dataclass
class ApplicationStatusOverview:
    """Status of an application and of its deployments."""

    status: ApplicationStatus
    message: str
    last_deployed_time_s: float
    deployments: dict[str, DeploymentStatusOverview]


@dataclass
class ServeStatus:
    """Everything that runs. Empty when nothing was started."""

    proxies: dict[str, ProxyStatus] = field(default_factory=dict)
    applications: dict[str, ApplicationStatusOverview] = field(default_factory=dict)
    target_capacity: float | None = None


@dataclass(frozen=True)
class LoggingConfig:
    """How a deployment logs. So far `enable_access_log` has an effect; other values than the defaults are refused."""

    encoding: str = "TEXT"
    log_level: Any = "INFO"
    logs_dir: str | None = None
    enable_access_log: bool = True
    additional_log_standard_attrs: Any = ()

    def __post_init__(self) -> None:
        if not isinstance(self.enable_access_log, bool):
            raise ValueError(f"logging_config.enable_access_log must be a bool, got {self.enable_access_log!r}")
        later = {
            "encoding": str(getattr(self.encoding, "value", self.encoding)) != "TEXT",
            "log_level": str(self.log_level).upper() not in ("INFO", "20"),
            "logs_dir": self.logs_dir is not None,
            "additional_log_standard_attrs": bool(self.additional_log_standard_attrs),
        }
        for name, given in later.items():
            if given:
                raise _validate.not_available(f"logging_config.{name}")

    @classmethod
    def _take(cls, value: Any) -> LoggingConfig:
        if isinstance(value, cls):
            return value
        if isinstance(value, dict):
            _validate.unknown_keys("logging_config", value, [field.name for field in fields(cls)])
            return cls(**value)
        raise TypeError(f"logging_config must be LoggingConfig or a dict, got {type(value).__name__}")
