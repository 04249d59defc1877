"""A revision holds its code: capture it where it is deployed, serve it where it runs, and give it an identity.

Three parts, one each way that code travels:

* :mod:`.capture` reads the source of the user's modules in the driver and packs it into one deterministic blob.
* :mod:`.finder` serves that blob in a replica, ahead of every other finder, so that a file that is edited,
  broken or deleted later does not change a running revision.
* :mod:`.identity` hashes what travels by value (classes and functions of ``__main__``, closures, arguments)
  by structure, so that the same program has the same identity in every process and under every hash seed.

Nothing here uses pickle: a blob is data until the finder compiles it.
"""

from eagleray._code.capture import Capture, capture, package_versions
from eagleray._code.finder import install
from eagleray._code.identity import Identity, Unhashable, identify

__all__ = ["Capture", "Identity", "Unhashable", "capture", "identify", "install", "package_versions"]
