"""What the threads are doing, for the native I/O thread to read when the event loop hangs.

`faulthandler` writes the stacks from the handler of a signal, so neither the interpreter lock nor the loop is needed.
The I/O thread sends that signal to itself alone, so it interrupts no system call of user code.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal

# Used by nothing else on Linux. `crates/py/src/replica/stacks.rs` names the same.
SIGNAL = signal.SIGSTKFLT


def install() -> int:
    """Makes the file and the handler; to be called before the I/O thread starts. Returns the file's descriptor."""
    file = os.memfd_create("eagleray-stacks", os.MFD_CLOEXEC)
    # Written at its end, so that the reader need not move anything when it empties the file.
    fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
    faulthandler.register(SIGNAL, file=file, all_threads=True, chain=False)
    return file
