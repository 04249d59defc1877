"""Prints the lines that replicas write, as `(DEPLOYMENT ID) line`, while the driver lives.

A thread waits for them outside the GIL. It prints lines of applications that this process deployed only: others on a
resident node have their own terminals.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from eagleray import _core


class OutputPrinter:
    """Follows the output of a node's replicas."""

    def __init__(self, node_socket_path: str, ended: threading.Event) -> None:
        self._applications: set[str] = set()
        self._ended = ended
        self._watch = _core.OutputWatch(node_socket_path)
        self._thread = threading.Thread(target=self._run, name="eagleray-output", daemon=True)
        self._thread.start()

    def watch(self, application: str) -> None:
        """Prints the lines of this application from now on."""
        self._applications.add(application)

    def flush(self) -> None:
        """Leaves what was read visible."""
        sys.stdout.flush()

    def finish(self) -> None:
        """Prints what an ended node still sent, then ends."""
        self._thread.join(1.0)
        self.close()

    def close(self) -> None:
        """Ends the thread."""
        self._watch.close()

    def _run(self) -> None:
        while True:
            try:
                line = self._watch.next()
            except (OSError, RuntimeError):
                line = None
            if line is None:
                self._ended.set()
                return
            if line["application"] in self._applications:
                self._print(line)

    def _print(self, line: dict[str, Any]) -> None:
        stream = sys.stderr if line["stderr"] else sys.stdout
        name = f"({line['deployment']} {line['replica_id'][:8]})"
        lost = f"{name} ... {line['lost']} lines lost ...\n" if line["lost"] else ""
        try:
            stream.write(f"{lost}{name} {line['line']}\n")
            stream.flush()
        except (OSError, ValueError):
            pass  # the terminal is gone, or the stream closed at exit
