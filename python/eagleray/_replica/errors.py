"""What pickles of a replica of an older release name."""

from eagleray._user_code.errors import built

__all__ = ["built"]
