"""What a replica knows of its gang. Gangs cannot be deployed yet, so `ReplicaContext.gang_context` is None."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["GangContext"]


@dataclass
class GangContext:
    """The gang of a replica, and its place there."""

    gang_id: str
    rank: int
    world_size: int
    member_replica_ids: list[str] = field(default_factory=list)
    pg_name: str = ""
