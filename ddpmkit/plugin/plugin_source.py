"""A plugin by name: an entry point of an installed distribution, or a file.

Nothing of it has been imported, and this module does not know how that is done.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BUILTIN_NAMESPACE", "FILE_HASH", "LOCAL_NAMESPACE", "FoundPlugin", "file_options"]

BUILTIN_NAMESPACE = "ddpmkit"
"""Open to the distribution of this name alone; a bare `use` means a component of it."""

LOCAL_NAMESPACE = "local"
"""Of unpackaged plugins (`--plugin ./file.py`), and closed to every distribution."""

FILE_HASH = "sha256:"
"""How the version of an unpackaged plugin begins, and no version of a distribution can."""

_ENTRY_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\..+")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class FoundPlugin:
    """Where components come from. `str()` of it names it in every message: `acme.zigzag (ddpmkit-acme 1.2)`."""

    entry_name: str
    module: str
    distribution: str
    version: str
    path: Path | None = None
    """The file of an unpackaged plugin; its distribution is that path, its version a hash of the content."""
    editable: bool = False
    """Whether the distribution is a checkout (`pip install -e`)."""

    @property
    def namespace(self) -> str:
        """The enforced namespace: what stands before the first dot of the entry name."""
        return self.entry_name.partition(".")[0]

    @property
    def third_party(self) -> bool:
        """Whether it came with neither ddpmkit nor the command line."""
        return self.path is None and self.distribution != BUILTIN_NAMESPACE

    @property
    def can_be_edited(self) -> bool:
        """Whether whoever runs it has the source before them."""
        return self.editable or self.path is not None

    @property
    def origin(self) -> str:
        """Distribution and version, or the file."""
        return f"{self.distribution} {self.version}" if self.path is None else str(self.path)

    @property
    def options(self) -> list[str]:
        """What a command needs to find it: `--plugin FILE` for a file, and nothing for what is installed."""
        return file_options([self.path] if self.path is not None else [])

    def __str__(self) -> str:
        return f"{self.entry_name} ({self.origin})"

    def objection(self) -> str | None:
        """Why it must not even be imported, or None."""
        if self.path is not None:
            return None
        if not _ENTRY_NAME.fullmatch(self.entry_name):
            return (
                f"the entry name {self.entry_name!r} is not of the form 'namespace.name', the namespace in lower case"
            )
        if self.namespace == LOCAL_NAMESPACE or (self.namespace == BUILTIN_NAMESPACE and self.third_party):
            return f"the namespace {self.namespace!r} is not open to {self.distribution}"
        if not _MODULE.fullmatch(self.module):
            return f"the entry point leads to {self.module!r}, which is no module"
        return None


def file_options(files: Iterable[Path | str]) -> list[str]:
    """The words of a command line that load the plugins of these files."""
    return [word for file in files for word in ("--plugin", str(file))]
