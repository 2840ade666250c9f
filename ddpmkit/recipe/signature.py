"""How a user's own locks are recognized: an HMAC of their content, by a secret key that stays on this machine.

The key is made at first use, in the user's state folder, and only the user can read it.
"""

import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpmkit.environment import state_folder
from ddpmkit.recipe.schema import LOCK_TABLE
from ddpmkit.regular_file import open_regular

__all__ = ["SIGNATURE", "is_own", "key_file", "signature"]

SIGNATURE = "signature"
"""The key of `[lock]` that holds it."""
_BYTES = 32


def signature(data: Mapping[str, Any]) -> str | None:
    """Of a lock as TOML data, without regard to a signature in it. None where the key cannot be kept."""
    key = _key() or _new_key()
    return _hmac(data, key) if key is not None else None


def is_own(data: Mapping[str, Any]) -> bool:
    """Whether the lock was signed with this user's key and is unchanged since."""
    lock, key = data.get(LOCK_TABLE), _key()
    found = lock.get(SIGNATURE) if isinstance(lock, Mapping) else None
    return key is not None and isinstance(found, str) and hmac.compare_digest(found.encode(), _hmac(data, key).encode())


def key_file() -> Path:
    """Where the secret is kept."""
    return state_folder() / "run-key"


def _hmac(data: Mapping[str, Any], key: bytes) -> str:
    lock = {name: value for name, value in data[LOCK_TABLE].items() if name != SIGNATURE}
    return hmac.digest(key, json.dumps({**data, LOCK_TABLE: lock}, sort_keys=True).encode(), "sha256").hex()


def _key() -> bytes | None:
    try:
        with open_regular(key_file(), follow_links=True) as file:
            key = file.read(_BYTES + 1)
    except OSError:
        return None
    return key if len(key) == _BYTES else None


def _new_key() -> bytes | None:
    """The key, made now or by another process meanwhile."""
    file = key_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=file.parent)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as content:
                content.write(secrets.token_bytes(_BYTES))
                content.flush()
                os.fsync(handle)
            _put_in_place(Path(partial), file)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError:
        return None
    return _key()


def _put_in_place(partial: Path, file: Path) -> None:
    """A key that another process has put there meanwhile stays; a file that is not a key is replaced."""
    try:
        file.hardlink_to(partial)
    except FileExistsError:
        if _key() is None:
            partial.replace(file)
    except OSError:  # a file system without hard links
        partial.replace(file)
