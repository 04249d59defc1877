"""A revision holds its code: capture it where it is deployed, serve it where it runs, and give it an identity.

Three parts, one each way that code travels:

* `capture` reads the source of the user's modules in the driver and packs it into one deterministic blob.
* `finder` serves that blob in a replica, ahead of every other finder, so that a file that is edited, broken or
  deleted later does not change a running revision.
* `identity` hashes what travels by value (classes and functions of `__main__`, closures, arguments) by structure, so
  that the same program has the same identity in every process and under every hash seed.

A blob is data until the finder compiles it; `pickling` is for what travels by value. The parts are imported when they
are used: a replica needs no capture, a driver no finder.
"""

from __future__ import annotations


def install(path: str) -> None:
    """Serves the code blob at `path` from now on, ahead of every other place that modules come from.

    An empty path means that nothing was captured: code comes from disk.

    Raises:
        OSError: the blob cannot be read.
        ValueError: the blob is cut or of another format.
    """
    if path:
        from eagleray._code import finder

        finder.install(path)
