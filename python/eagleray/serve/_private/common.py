"""As `ray.serve._private.common`, of which programs use these. Nothing of Eagleray itself depends on it."""

from eagleray.serve.context import DeploymentID, ReplicaID
from eagleray.serve.schema import ApplicationStatus, DeploymentStatus, DeploymentStatusTrigger, ReplicaState

__all__ = [
    "ApplicationStatus",
    "DeploymentID",
    "DeploymentStatus",
    "DeploymentStatusTrigger",
    "ReplicaID",
    "ReplicaState",
]
