"""Finds plugins without importing them: entry points of installed distributions, and single files."""

import importlib.metadata
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ddpmkit.errors import InputError
from ddpmkit.regular_file import sha256_file

__all__ = [
    "BUILTIN_NAMESPACE",
    "ENTRY_POINT_GROUP",
    "FILE_HASH",
    "LOCAL_NAMESPACE",
    "FoundPlugin",
    "file_options",
    "find_plugin_file",
    "find_plugins",
]

ENTRY_POINT_GROUP = "ddpmkit.plugins"

BUILTIN_NAMESPACE = "ddpmkit"
"""Reserved for the distribution of this name. A recipe may omit it: `use = "cosine"` means `ddpmkit/cosine`."""

LOCAL_NAMESPACE = "local"
"""The namespace of single files (`--plugin ./file.py`). No distribution can use it."""

FILE_HASH = "sha256:"
"""The prefix of a single file's version. No version of a distribution can begin with it."""

_ENTRY_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\..+")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class FoundPlugin:
    """A plugin that was found and not imported. Messages show `str()` of it: `acme.zigzag (ddpmkit-acme 1.2)`."""

    entry_name: str
    module: str
    distribution: str
    version: str
    path: Path | None = None
    """The path of a single file. Its `distribution` is that path, its `version` is a hash of the content."""
    editable: bool = False
    """Whether the distribution is an editable install (`pip install -e`)."""

    @property
    def namespace(self) -> str:
        """The namespace of its components: the entry name up to the first dot."""
        return self.entry_name.partition(".")[0]

    @property
    def third_party(self) -> bool:
        """Whether it is neither a built-in plugin nor a single file."""
        return self.path is None and self.distribution != BUILTIN_NAMESPACE

    @property
    def can_be_edited(self) -> bool:
        """Whether the user has the source: a single file or an editable install."""
        return self.editable or self.path is not None

    @property
    def origin(self) -> str:
        """The distribution and its version, or the path of a single file."""
        return f"{self.distribution} {self.version}" if self.path is None else str(self.path)

    @property
    def options(self) -> list[str]:
        """The command-line options that load it: `--plugin FILE` for a single file, otherwise none."""
        return file_options([self.path] if self.path is not None else [])

    def __str__(self) -> str:
        return f"{self.entry_name} ({self.origin})"

    def invalid_reason(self) -> str | None:
        """Return why the plugin must not be imported, or None."""
        if self.path is not None:
            return None
        if not _ENTRY_NAME.fullmatch(self.entry_name):
            return (
                f"the entry name {self.entry_name!r} is not of the form 'namespace.name', the namespace in lower case"
            )
        if self.namespace == LOCAL_NAMESPACE or (self.namespace == BUILTIN_NAMESPACE and self.third_party):
            return f"the namespace {self.namespace!r} is reserved, and {self.distribution} cannot use it"
        if not _MODULE.fullmatch(self.module):
            return f"the entry point refers to {self.module!r}, which is not a module"
        return None


def find_plugins() -> tuple[FoundPlugin, ...]:
    """Return all installed plugins, sorted by entry name. Nothing is imported."""
    found = {_from_entry_point(entry) for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
    return tuple(sorted(found, key=lambda plugin: (plugin.entry_name, plugin.distribution, plugin.module)))


def find_plugin_file(path: Path) -> FoundPlugin:
    """Return a single file as a plugin, identified by a hash of its content. Raises InputError if it does not exist."""
    if not path.is_file():
        raise InputError(f"--plugin {path}: no such file (looked for {path.absolute()}).")
    digest = sha256_file(path)[:12]
    module = f"ddpmkit_local_{digest}"
    return FoundPlugin(f"{LOCAL_NAMESPACE}.{path.stem}", module, str(path), f"{FILE_HASH}{digest}", path)


def file_options(files: Iterable[Path | str]) -> list[str]:
    """Return the command-line arguments that load these files as plugins."""
    return [word for file in files for word in ("--plugin", str(file))]


def _from_entry_point(entry: importlib.metadata.EntryPoint) -> FoundPlugin:
    metadata: dict[str, str] = {}
    editable = False
    if entry.dist is not None:
        editable = _is_editable(entry.dist)
        # An interrupted uninstall leaves entry points without the metadata that names their distribution.
        metadata = {key: entry.dist.metadata[key] for key in ("Name", "Version") if key in entry.dist.metadata}
    name, version = metadata.get("Name", "unknown"), metadata.get("Version", "unknown")
    return FoundPlugin(entry.name, entry.value, name, version, editable=editable)


def _is_editable(distribution: importlib.metadata.Distribution) -> bool:
    """Return whether pip recorded an editable install (PEP 610)."""
    try:
        return bool(json.loads(distribution.read_text("direct_url.json") or "{}")["dir_info"]["editable"])
    except (ValueError, KeyError, TypeError):
        return False
