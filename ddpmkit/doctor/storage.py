"""Whether a folder can be written, and how much fits into it.

It does not know what will be written there.
"""

import shutil
import tempfile
from pathlib import Path

from ddpmkit.plugin.diagnosis import Diagnosis

__all__ = ["folder"]

_SCARCE = 5e9
"""Bytes. A run with its checkpoints and pictures, and a decoded dataset, fit into this."""
_TOO_LITTLE = 2e8
"""Bytes. Less than three checkpoints of a small model."""


def folder(subject: str, path: Path, *, remedy: str) -> Diagnosis:
    """Write into `path`, or into what it would be made in; leaves nothing there. `remedy` says how to use another."""
    present = next(place for place in (path, *path.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=present) as probe:
            probe.write(b"ddpmkit" * 1000)
            probe.flush()
        free = shutil.disk_usage(present).free
    except OSError as error:
        finding = f"{path} cannot be written: {(error.strerror or str(error)).lower()}"
        return Diagnosis(subject, "problem", finding, (f"ls -ld {present}  shows whose it is", remedy))
    finding = f"{path}, {free / 1e9:,.1f} GB free"
    if free >= _SCARCE:
        return Diagnosis(subject, "ok", finding)
    remedies = (f"df -h {present}  shows the disk", remedy)
    return Diagnosis(subject, "problem" if free < _TOO_LITTLE else "note", f"{finding}: little for a run", remedies)
