"""What a replica's process is called: in its log, and by `ps`."""

from __future__ import annotations

from typing import Any

from eagleray._user_code import log

# Of a revision's hash, as log lines show it.
_REVISION_LENGTH = 8


def component_of(config: dict[str, Any]) -> log.Component:
    """Who writes, by the command that starts a replica."""
    revision = config["revision"][:_REVISION_LENGTH]
    return log.Component(config["application"], config["deployment"], config["replica_id"], revision)


def set_title(*words: str) -> None:
    """What `ps` shows."""
    try:
        import setproctitle
    except ImportError:
        return
    setproctitle.setproctitle(" ".join(words))
