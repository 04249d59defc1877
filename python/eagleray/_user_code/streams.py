"""`sys.stdout` and `sys.stderr` of a replica: what is printed says when, and in which request.

A mark before the line tells the node, which puts it into the log and shows the line without it
(`crates/supervisor/src/output/lines.rs`). What one `write` prints stays together, however many lines it has. Only what
goes through these objects is marked: native code and child processes write to the descriptor, where the node knows the
replica and not the request, and the time only when it reads.

A program may replace them, redirect them, ask for their descriptor or buffer: they are the text streams that Python
makes, on the same buffers.
"""

from __future__ import annotations

import io
import sys
import time
from typing import TextIO

from eagleray import _request

# The marks, as the node knows them.
_WITH_HEAD = "\x1d"
_PRINTED = "\x1f"
_FROM_NOW_ON = "\x1c"


class Marked(io.TextIOWrapper):
    """A text stream that marks its lines."""

    # As Python's own has it.
    mode = "w"
    # At the beginning of a line.
    _begins = True

    def write(self, text: str, /) -> int:
        """As any stream; a mark comes before each line that begins here."""
        if not text or not isinstance(text, str):
            return super().write(text)
        text = str.__str__(text)  # what a subclass makes of slices and joins is its own
        begins = self._begins
        # Before anything is written: a thread that comes between the two leaves a line unmarked, and never half a mark.
        self._begins = text[-1] == "\n"
        end = len(text) - 1 if self._begins else len(text)
        if not begins and "\n" not in text[:end]:
            return super().write(text)
        mark = f"{_PRINTED}{_request.request_id()} {int(1000 * time.time())}{_PRINTED}"
        lines = text[:end].replace("\n", f"\n{_PRINTED}{mark}")
        super().write(f"{mark if begins else ''}{lines}{text[end:]}")
        return len(text)

    def write_record(self, text: str) -> None:
        """Writes lines that have a head. Never within another line: what that lacks is ended first."""
        first = "" if self._begins else "\n"
        self._begins = True
        super().write(f"{first}{_WITH_HEAD}" + text.replace("\n", f"\n{_WITH_HEAD}") + "\n")
        self.flush()

    def announce(self, encoding: str, revision: str) -> None:
        """Tells the node what the heads of lines are to be from now on."""
        first = "" if self._begins else "\n"
        self._begins = True
        super().write(f"{first}{_FROM_NOW_ON}{encoding} {revision}\n")
        self.flush()


def install() -> None:
    """Puts marked streams in the place of those that this process has; what it has closed stays closed."""
    for name in ("stdout", "stderr"):
        stream = _marked(getattr(sys, name))
        setattr(sys, name, stream)
        # The old one has no buffer any more.
        setattr(sys, f"__{name}__", stream)


def _marked(stream: TextIO | None) -> TextIO | None:
    if type(stream) is not io.TextIOWrapper:
        return stream
    stream.flush()
    encoding, errors, buffers_lines = stream.encoding, stream.errors, stream.line_buffering
    passes_on = stream.write_through
    return Marked(
        stream.detach(), encoding=encoding, errors=errors, line_buffering=buffers_lines, write_through=passes_on
    )
