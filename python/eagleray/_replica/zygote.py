"""A process that has imported a replica's code, and that the replica and its siblings are forked from.

The node starts the first replica of a kind as any, with a socket to ask for forks on
(`crates/supervisor/src/replicas/nest.rs`). Before it is a replica it imports the code, and then looks whether it can be
forked. If not it says why, once, and is the replica. If so it is one no more: it closes what makes one, and forks
whenever the node asks.

Nothing of ours is there yet that a fork would break: no thread, no event loop, no connection. What is forked becomes a
process like those that the node starts (`_core.begin_anew`), and its parent is gone, so that it is the node's child.
"""

from __future__ import annotations

import gc
import os
import socket
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from eagleray import _core
from eagleray._replica import afresh, forkable, loading
from eagleray._replica.naming import component_of, set_title
from eagleray._user_code import log, streams

if TYPE_CHECKING:
    from eagleray._bootstrap import Paths

# Before user code may have replaced it.
_os_fork = os.fork

_MESSAGE_BYTES = 4096
_DESCRIPTORS = 4


class Begun(NamedTuple):
    """What a replica begins with."""

    control: int
    listener: int
    loaded: loading.Loaded | None


def begin(paths: Paths, variable: str, control: int, listener: int) -> Begun:
    """Imports the code of the replica that this process was started as.

    Returns in each process that is to be a replica; never in one that they are forked from.

    Args:
        paths: Opened here.
        variable: What the node says: descriptors of the socket and of the first command, and a name for a zygote.
        control: The replica's connection.
        listener: Where the replica listens.
    """
    of_socket, of_command, name = variable.split(":")
    node = socket.socket(fileno=int(of_socket))
    _keep_from_programs(node.fileno(), control, listener)
    with open(int(of_command), "rb") as file:  # noqa: PTH123 - a descriptor
        config = _core.read_command(file.read())
    again = forkable.Again(control, listener)
    if "EAGLERAY_JOIN_RAY" in os.environ:
        _say(node, "U", "it joins a Ray cluster before its code is imported")
        node.close()
        return Begun(control, listener, None)
    settings = config["options"]["logging"]
    streams.install()
    log.configure(component_of(config), settings)
    before = forkable.look()
    loaded = _load(paths, config, settings)
    reason = before.reason() or _nameless(config["replica_id"])
    if loaded.failed or reason:
        # One whose import fails may import another time.
        _say(node, "U", "" if loaded.failed else reason)
        node.close()
        if before.has_loop():
            # Code that asks for the event loop at import is to get the replica's, as ever.
            again.start()
        return Begun(control, listener, loaded)
    files = before.read_only()
    _leave(control, listener, name)
    set_title("eagleray: zygote", f"{config['application']}/{config['deployment']}")
    _say(node, "R")
    return _forks(node, files, before, loaded)


def _nameless(replica_id: str) -> str:
    """Why a fork could not be given a name of its own; empty: it can, as this process now gets the one that it has."""
    try:
        _core.rename_process(replica_id)
    except OSError as error:
        return f"the environment that /proc shows cannot be changed: {error}"
    return ""


def _load(paths: Paths, config: dict[str, Any], settings: str) -> loading.Loaded:
    try:
        loading.open_paths(paths, config)
        return loading.Loaded(settings, loading.load(config), None)
    except BaseException as error:
        return loading.Loaded(settings, None, error)


def _keep_from_programs(*descriptors: int) -> None:
    """No program that user code starts gets these."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)


def _say(node: socket.socket, kind: str, text: str = "") -> None:
    try:
        node.send(f"{kind}{text}".encode(errors="replace")[:_MESSAGE_BYTES])
    except OSError:
        pass  # The node is gone, or user code has closed the socket: the node sees that.


def _leave(control: int, listener: int, name: str) -> None:
    """Is no replica any more."""
    forkable.flush()
    os.close(control)
    os.close(listener)
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    _core.rename_process(name)
    # What stays is never looked at again by the collector of a fork, so the pages that it is on stay shared.
    gc.collect()
    gc.freeze()


def _forks(node: socket.socket, files: list[forkable.File], before: forkable.Before, loaded: loading.Loaded) -> Begun:
    """Forks as often as the node asks, until it is gone. Returns in each fork.

    However it ends, exit handlers of user code do not run: nothing of what they would clean up is this process's.
    """
    parent = os.getpid()
    try:
        while True:
            message, descriptors, _, _ = socket.recv_fds(node, _MESSAGE_BYTES, _DESCRIPTORS)
            if not message:
                os._exit(0)
            if _has_forked(node):
                break
            for descriptor in descriptors:
                os.close(descriptor)
        node.close()
    except BaseException:
        # The node is gone, or a handler of a signal, which is user code's, has raised.
        os._exit(1)
    return _become(message.decode(), parent, descriptors, files, before.drawn(), loaded)


def _has_forked(node: socket.socket) -> bool:
    """Forks, and tells the node. True in the fork."""
    try:
        pid = _fork()
    except OSError as error:
        _say(node, "E", f"it cannot be forked: {error}")
        return False
    if pid:
        _say(node, "F", str(pid))
    return pid == 0


def _fork() -> int:
    """Forks a process that is nobody's child here: the process between the two ends at once. 0 in the new one.

    Raises:
        OSError: There is none.
        EOFError: Nobody knows whether there is one.
    """
    read, write = os.pipe()
    try:
        between = _os_fork()
    except OSError:
        os.close(read)
        os.close(write)
        raise
    if between:
        os.close(write)
        said = os.read(read, 32)
        os.close(read)
        forkable.wait_for(between)
        if not said:
            raise EOFError
        if not said.isdigit():
            raise OSError("the system makes no more processes")
        return int(said)
    try:
        pid = _os_fork()
    except BaseException:
        os.write(write, b"none")
        os._exit(1)
    if pid:
        os.write(write, str(pid).encode())
        os._exit(0)
    os.close(read)
    os.close(write)
    return 0


def _become(
    replica_id: str,
    parent: int,
    descriptors: list[int],
    files: list[forkable.File],
    generators: list[Any],
    loaded: loading.Loaded,
) -> Begun:
    """In a fork of `parent`: becomes the replica."""
    stdout, stderr, control, listener = descriptors
    try:
        _keep_from_programs(control, listener)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        os.close(stderr)
        _core.begin_anew(replica_id, parent)
        os.environ["EAGLERAY_REPLICA"] = replica_id
        afresh.begin(files, generators)
    except BaseException:
        _die()
    return Begun(control, listener, loaded)


def _die() -> NoReturn:
    os.write(2, traceback.format_exc().encode(errors="replace"))
    os._exit(1)
