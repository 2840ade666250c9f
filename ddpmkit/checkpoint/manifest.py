"""The manifest of a checkpoint: its format, its step, and the SHA-256 of each of its files and of itself."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpmkit.errors import InputError
from ddpmkit.regular_file import open_regular

__all__ = ["LOCK", "MANIFEST", "DamagedCheckpoint", "manifest_text", "read_manifest"]

FORMAT = 1
MANIFEST = "manifest.json"
LOCK = "recipe.lock.toml"
_FILE_NAME = re.compile(r"[\w-][\w.-]*", re.ASCII)
_LONGEST = 2**20


class DamagedCheckpoint(InputError):
    """A checkpoint does not match its manifest, or cannot be read."""


def manifest_text(step: int, files: Mapping[str, str], version: Any = FORMAT) -> str:
    """The manifest of a checkpoint with these files (SHA-256 by name). It ends with its own SHA-256."""
    content: dict[str, Any] = {"format": version, "step": step, "files": dict(files)}
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=2) + "\n"


def read_manifest(path: Path) -> tuple[int, dict[str, str]]:
    """The step of the checkpoint folder `path`, and SHA-256 by file name.

    Raises DamagedCheckpoint if any byte of the manifest was changed, and InputError if it has another format.
    """
    try:
        # Not opened as text: universal newlines would hide a changed byte.
        with open_regular(path / MANIFEST, follow_links=False) as content:
            text = content.read(_LONGEST).decode()
        manifest = json.loads(text)
        version = manifest["format"]
        step, files = int(manifest["step"]), {str(name): str(value) for name, value in manifest["files"].items()}
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"{path} is not a checkpoint (no {MANIFEST}).") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DamagedCheckpoint(f"checkpoint {path}: {MANIFEST} cannot be read ({reason}).") from error
    if text != manifest_text(step, files, version) or step < 0 or not all(map(_FILE_NAME.fullmatch, files)):
        raise DamagedCheckpoint(f"checkpoint {path}: {MANIFEST} is damaged.")
    if version != FORMAT:
        raise InputError(f"checkpoint {path} has format {version}; this ddpmkit reads format {FORMAT}.")
    return step, files
