"""The session of this process. Handles ask for it with each call, so it knows nothing of handles.

A process has one at a time; after a fork the child begins anew.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from eagleray import _routers

if TYPE_CHECKING:
    from eagleray._driver.session import Session

lock = threading.RLock()
"""Held by whoever gives the process another session."""

_session: Session | None = None
_session_pid = 0


def had_session() -> bool:
    """Whether this process, or the one that it was forked from, has ever reached a node."""
    from eagleray._driver.session import Session

    return Session.any_made


def has_session() -> bool:
    """Whether this process, or the one that it was forked from, has a session; its node may have ended."""
    return _session is not None


def joined() -> Session | None:
    """The session of this process, or one with the resident node; None where neither is. Starts nothing."""
    if _session is not None and _session_pid == os.getpid() and _session.alive():
        return _session
    with lock:
        from eagleray._driver import node
        from eagleray._driver.session import Session

        of_parent = _session if _session_pid != os.getpid() else None
        if _session is not None and of_parent is None:
            # That node has ended. The next may have the same sockets, and what routers know is not of it.
            _routers.close_all()
        become(None)
        if of_parent is not None:
            # A forked child calls its parent's node, and does not own it.
            try:
                return become(Session(node.Address(of_parent.info["run_directory"] + "/node.sock")))
            except OSError:
                pass
        address = node.find_resident()
        return None if address is None else become(Session(address))


def become(session: Session | None) -> Session | None:
    """Makes it the session of this process, and returns it. Whoever calls this holds `lock`."""
    global _session, _session_pid
    _session, _session_pid = session, os.getpid()
    return session


def _after_fork() -> None:
    global lock  # noqa: PLW0603
    lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)
