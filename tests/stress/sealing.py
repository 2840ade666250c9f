"""Write manifests that match any content of a checkpoint folder, so that checksums alone find no fault.

This is an independent implementation of the format, to test the one in `ddpmkit.checkpoint`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from ddpmkit.checkpoint import open_checkpoint

__all__ = ["PARTS", "digests", "read_all", "seal"]

PARTS = ("model", "ema", "optimizer", "progress")


def seal(folder: Path, **changes: Any) -> None:
    """Write a manifest of step 2 that matches the files in the folder, except for `changes`."""
    content = {"format": 1, "step": 2, "files": digests(folder), **changes}
    own = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**content, "sha256": own}, indent=2) + "\n")


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file except the manifest, by name."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
        if file.name != "manifest.json"
    }


def read_all(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return all tensors of a checkpoint, by part."""
    checkpoint = open_checkpoint(folder)
    assert checkpoint.step >= 0
    return {part: checkpoint.tensors(part) for part in PARTS}
