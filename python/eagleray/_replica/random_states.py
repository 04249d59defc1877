"""Random generators that an import has left: which of them forks would share, and how each fork gets its own.

As in an interpreter of its own, a generator whose seed was drawn is to draw another in each fork, and one that was
given a seed keeps it. A state does not tell which it is: so while user code is imported, it is noted who draws.
"""

from __future__ import annotations

import gc
import random
import secrets
import sys
from typing import Any

# numpy draws seeds of 128 bits by `secrets.randbits`. What is much smaller may also be a number that somebody chose.
_OF_A_SEED_BITS = 64


class Generators:
    """Those that there were before user code; those that are there now are looked at beside them."""

    def __init__(self) -> None:
        # So that a few numbers drawn change its place alone.
        random.random()
        self._random = random.getstate()[1][:-1]
        self._before = {id(one) for one in _generators()}
        self._notes = _Notes()
        self._drawn: list[Any] = []

    def reason(self) -> str:
        """Why forks would draw the same; empty: each can be given its own. To be called once: notes end."""
        self._notes.end()
        if random.getstate()[1][:-1] != self._random:
            return "the generator of module random was seeded, or has drawn many numbers"
        for one in _generators():
            if id(one) in self._before:
                continue
            drawn = self._notes.drew(one)
            if drawn is None:
                return f"a random generator cannot be seeded again: {_place(one)} ({type(one).__name__})"
            if drawn:
                self._drawn.append(one)
        return ""

    def drawn(self) -> list[Any]:
        """Those that began with a seed that was drawn, for `draw_again`."""
        return self._drawn


def draw_again(generators: list[Any]) -> None:
    """Gives each another seed, as numpy's own generator and that of OpenSSL. Module `random` does so by itself."""
    for one in generators:
        if isinstance(one, random.Random):
            one.seed()
        elif hasattr(one, "spawn_key"):
            _begin_sequence(one)
        else:
            _begin_bits(_bits(one))
    # Unless user code has given it a seed: then each replica begins with that, forked or not.
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None and numpy_random.mtrand._rand._bit_generator.seed_seq is not None:
        numpy_random.seed()


def _begin_sequence(sequence: Any) -> None:
    sequence.__init__(spawn_key=sequence.spawn_key, pool_size=sequence.pool_size)


def _begin_bits(generator: Any) -> None:
    # What it spawns comes from there.
    _begin_sequence(generator.seed_seq)
    generator.state = type(generator)(generator.seed_seq).state


def _generators() -> list[Any]:
    """All that hold a state of their own, but the one of module `random`."""
    kinds: list[type] = [random.Random]
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        kinds += [
            numpy_random.Generator,
            numpy_random.RandomState,
            numpy_random.BitGenerator,
            numpy_random.SeedSequence,
        ]
    wanted = tuple(kinds)
    own = random._inst
    return [
        one
        for one in gc.get_objects()
        if issubclass(type(one), wanted) and one is not own and not isinstance(one, random.SystemRandom)
    ]


def _bits(one: Any) -> Any:
    """The bit generator of a generator of numpy."""
    if hasattr(one, "bit_generator"):
        return one.bit_generator
    return getattr(one, "_bit_generator", one)


def _place(wanted: Any) -> str:
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is wanted:
                return f"{name}.{attribute}"
    return "one that an object holds"


class _Notes:
    """Notes which seeds are drawn, until it is ended."""

    def __init__(self) -> None:
        # By the number of a `random.Random`: whether its seed was drawn.
        self._by_id: dict[int, bool] = {}
        self._numbers: set[int] = set()
        self._originals = random.Random.seed, random.Random.setstate, secrets.randbits
        by_id, numbers, originals = self._by_id, self._numbers, self._originals

        def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
            by_id[id(self)] = a is None
            originals[0](self, a, version)

        def setstate(self: random.Random, state: Any) -> None:
            by_id[id(self)] = False
            originals[1](self, state)

        def randbits(k: int) -> int:
            number = originals[2](k)
            # numpy has this function for good.
            if k >= _OF_A_SEED_BITS and secrets.randbits is randbits:
                numbers.add(number)
            return number

        random.Random.seed, random.Random.setstate = seed, setstate  # type: ignore[method-assign]
        secrets.randbits = randbits

    def end(self) -> None:
        """Puts back what was there."""
        random.Random.seed, random.Random.setstate, secrets.randbits = self._originals  # type: ignore[method-assign]

    def drew(self, one: Any) -> bool | None:
        """Whether its seed was drawn; `None`: nobody has seen it begin."""
        if isinstance(one, random.Random):
            return self._by_id.get(id(one))
        sequence = one if hasattr(one, "spawn_key") else getattr(_bits(one), "seed_seq", None)
        entropy = getattr(sequence, "entropy", None)
        return isinstance(entropy, int) and entropy in self._numbers
