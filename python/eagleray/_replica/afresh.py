"""What a replica that was forked must not have in common with its siblings: places in files and random states."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from eagleray._replica import forkable, random_states

if TYPE_CHECKING:
    from eagleray._replica.forkable import File


def begin(files: list[File], generators: list[Any]) -> None:
    """To be called in each fork, before user code.

    Args:
        files: Opened again, each at its place.
        generators: Seeded anew.
    """
    for file in files:
        descriptor = forkable.open_again(file)
        os.dup2(descriptor, file.descriptor, os.get_inheritable(file.descriptor))
        os.close(descriptor)
    # OpenSSL notices a fork by itself; so that nobody needs to believe that.
    ssl: Any = sys.modules.get("ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(32), 32.0)
    random_states.draw_again(generators)
