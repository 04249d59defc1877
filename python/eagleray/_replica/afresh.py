"""What a replica that was forked must not have in common with its siblings: places in files and random states.

Module `random` seeds its own generator after a fork, and OpenSSL notices one.
"""

from __future__ import annotations

import os
import random
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eagleray._replica.forkable import File


def begin(files: list[File], generators: list[Any]) -> None:
    """To be called in each fork, before user code.

    Args:
        files: Opened again, each at its place.
        generators: Seeded anew.
    """
    for file in files:
        _open_again(file)
    ssl: Any = sys.modules.get("ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(32), 32.0)
    for one in generators:
        if isinstance(one, random.Random):
            one.seed()
        else:
            generator = one.bit_generator if hasattr(one, "bit_generator") else one._bit_generator
            generator.state = type(generator)().state
    # numpy's own, unless user code has given it a seed: then each replica begins with that, forked or not.
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None and numpy_random.mtrand._rand._bit_generator.seed_seq is not None:
        numpy_random.seed()


def _open_again(file: File) -> None:
    place = os.lseek(file.descriptor, 0, os.SEEK_CUR)
    inherited = os.get_inheritable(file.descriptor)
    flags = file.flags & (os.O_ACCMODE | os.O_NONBLOCK | os.O_DIRECTORY | os.O_CLOEXEC)
    descriptor = os.open(f"/proc/self/fd/{file.descriptor}", flags)
    os.lseek(descriptor, place, os.SEEK_SET)
    os.dup2(descriptor, file.descriptor, inherited)
    os.close(descriptor)
