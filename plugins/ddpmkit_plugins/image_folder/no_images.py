"""Why the system does not give a file or a folder, in words.

It does not know what was wanted of it.
"""

import errno
from pathlib import Path

_LINKS = {errno.ENOENT: "it is a link that leads nowhere", errno.ELOOP: "it is a link that leads in a circle"}


def refusal(path: Path, error: OSError) -> str:
    """A clause that begins with "it"."""
    if error.errno in _LINKS and path.is_symlink():
        return _LINKS[error.errno]
    return f"it cannot be read ({(error.strerror or str(error)).lower()})"
