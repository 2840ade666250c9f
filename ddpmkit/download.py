"""Fetch one file over HTTP: to a temporary name beside its place, resumable, checked, then renamed.

It does not know what the file is for.
"""

from collections.abc import Callable
from pathlib import Path

__all__ = ["download"]


def download(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Download `url` to `destination`."""
    raise NotImplementedError
