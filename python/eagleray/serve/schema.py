"""Status objects and their enums, logging and tracing; names, order and words are those that Ray Serve users know."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from eagleray.serve import _later, _validate
from eagleray.serve._model import Model, list_of, number, option, string
from eagleray.serve.context import ReplicaRank

__all__ = [
    "APIType",
    "ApplicationDetails",
    "ApplicationStatus",
    "ApplicationStatusOverview",
    "CeleryAdapterConfig",
    "ControllerHealthMetrics",
    "DeploymentDetails",
    "DeploymentSchema",
    "DeploymentStatus",
    "DeploymentStatusOverview",
    "DeploymentStatusTrigger",
    "DeploymentTopology",
    "EncodingType",
    "HTTPOptionsSchema",
    "LoggingConfig",
    "ProxyDetails",
    "ProxyStatus",
    "RayActorOptionsSchema",
    "ReplicaDetails",
    "ReplicaRank",
    "ReplicaState",
    "ScaleDeploymentRequest",
    "ServeActorDetails",
    "ServeApplicationSchema",
    "ServeDeploySchema",
    "ServeInstanceDetails",
    "ServeStatus",
    "Target",
    "TargetGroup",
    "TaskProcessorAdapter",
    "TaskProcessorConfig",
    "TaskResult",
    "TracingConfig",
    "gRPCOptionsSchema",
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
class Why:
    """Why something is not fine. `eagleray explain` prints the same."""

    code: str
    """A stable word, such as `loop_hung`."""
    sentence: str
    since_s: float | None = None
    """Wall clock."""
    help: str = ""
    """What to do next, often a command."""
    replica_id: str | None = None


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
    why: list[Why] = field(default_factory=list)
    """One for each thing that is not fine."""


@dataclass
class ApplicationStatusOverview:
    """Status of an application and of its deployments."""

    status: ApplicationStatus
    message: str
    last_deployed_time_s: float
    deployments: dict[str, DeploymentStatusOverview]
    why: list[Why] = field(default_factory=list)
    """One for each thing that is not fine of the application itself."""


@dataclass
class ServeStatus:
    """Everything that runs. Empty when nothing was started."""

    proxies: dict[str, ProxyStatus] = field(default_factory=dict)
    applications: dict[str, ApplicationStatusOverview] = field(default_factory=dict)
    target_capacity: float | None = None
    why: list[Why] = field(default_factory=list)
    """What is not fine of the node's own processes, and of what they keep."""


class EncodingType(str, Enum):
    """Shape of log lines."""

    TEXT = "TEXT"
    JSON = "JSON"


def _encoding(name: str, value: Any) -> EncodingType:
    text = value.upper() if isinstance(value, str) and not isinstance(value, EncodingType) else value
    found: EncodingType = _validate.one_of(name, text, EncodingType)
    return found


def _log_level(name: str, value: Any) -> str | int:
    """A level of `logging`, by name in any case or as a number."""
    import logging

    if isinstance(value, int) and not isinstance(value, bool):
        return value
    known = logging.getLevelNamesMapping()
    if not isinstance(value, str) or value.upper() not in known:
        words = ", ".join(known)
        raise _validate.invalid(name, f"{name} must be one of {words}, or a number, got {value!r}", value)
    return value.upper()


class LoggingConfig(Model):
    """How a deployment logs.

    Attributes:
        encoding: Plain lines, or one JSON object a line.
        log_level: Of the logger `eagleray.serve` in the replicas.
        logs_dir: Not available yet: lines go to the node's log directory.
        enable_access_log: Whether requests to the deployment are in the access log, and calls in the replica's log.
        additional_log_standard_attrs: Attributes of `logging.LogRecord` to add to each line.
    """

    _called = "logging_config"

    encoding: EncodingType | str = option(_encoding, default=EncodingType.TEXT)
    log_level: str | int = option(_log_level, default="INFO")
    logs_dir: str | None = option(_validate.text, default=None, optional=True)
    enable_access_log: bool = option(_validate.boolean, default=True)
    additional_log_standard_attrs: list[str] = option(list_of(_validate.text), default=list)

    @classmethod
    def take(cls, value: Any) -> LoggingConfig:
        """The object for an object or a dict.

        Raises:
            TypeError: `value` is neither.
            ValueError: as `model_validate`.
        """
        if not isinstance(value, (cls, dict)):
            raise TypeError(f"logging_config must be a LoggingConfig or a dict, got {type(value).__name__}")
        return cls.model_validate(value)


class TracingConfig(Model):
    """Whether and where traces go. Tracing itself is not available yet."""

    _called = "tracing_config"

    enabled: bool = option(_validate.boolean, default=False)
    exporter_import_path: str = option(string, default="")
    sampling_ratio: float = option(number(positive=False, maximum=1), default=0.01)


# Of the config file and the REST API, and of task queues: both come later.
APIType = _later.class_(__name__, "APIType")
ApplicationDetails = _later.class_(__name__, "ApplicationDetails")
CeleryAdapterConfig = _later.class_(__name__, "CeleryAdapterConfig")
ControllerHealthMetrics = _later.class_(__name__, "ControllerHealthMetrics")
DeploymentDetails = _later.class_(__name__, "DeploymentDetails")
DeploymentSchema = _later.class_(__name__, "DeploymentSchema")
DeploymentTopology = _later.class_(__name__, "DeploymentTopology")
HTTPOptionsSchema = _later.class_(__name__, "HTTPOptionsSchema")
ProxyDetails = _later.class_(__name__, "ProxyDetails")
RayActorOptionsSchema = _later.class_(__name__, "RayActorOptionsSchema")
ReplicaDetails = _later.class_(__name__, "ReplicaDetails")
ScaleDeploymentRequest = _later.class_(__name__, "ScaleDeploymentRequest")
ServeActorDetails = _later.class_(__name__, "ServeActorDetails")
ServeApplicationSchema = _later.class_(__name__, "ServeApplicationSchema")
ServeDeploySchema = _later.class_(__name__, "ServeDeploySchema")
ServeInstanceDetails = _later.class_(__name__, "ServeInstanceDetails")
Target = _later.class_(__name__, "Target")
TargetGroup = _later.class_(__name__, "TargetGroup")
TaskProcessorAdapter = _later.class_(__name__, "TaskProcessorAdapter")
TaskProcessorConfig = _later.class_(__name__, "TaskProcessorConfig")
TaskResult = _later.class_(__name__, "TaskResult")
gRPCOptionsSchema = _later.class_(__name__, "gRPCOptionsSchema")  # noqa: N816
