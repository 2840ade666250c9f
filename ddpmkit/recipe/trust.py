"""Decides whether code that a recipe names may run.

Recipe files, `--set` and the locks of this user's runs are trusted. The lock of another user's run or checkpoint may
name any code; such code runs only with `--trust`. The locks of this user have a signature: an HMAC of their content
with a secret key. The key is created on first use in the user's state folder, and only the user can read it.
"""

import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ddpmkit.environment import state_folder
from ddpmkit.errors import InputError
from ddpmkit.plugin.component import ComponentConfig
from ddpmkit.plugin.runs_code import CodeValue, code_values
from ddpmkit.recipe.layers import MergedRecipe
from ddpmkit.recipe.problems import one_line
from ddpmkit.recipe.schema.section_list import LOCK_TABLE
from ddpmkit.recipe.toml.positions import Key
from ddpmkit.recipe.toml.writer import toml_value
from ddpmkit.recipe.toml_file import as_toml_data
from ddpmkit.regular_file import open_regular

__all__ = ["SIGNATURE", "UntrustedCode", "is_signed_by_user", "key_file", "signature", "untrusted_code"]

SIGNATURE = "signature"
"""The key of `[lock]` that contains the signature."""
_KEY_BYTES = 32


class UntrustedCode(InputError):
    """The lock of another user's run names code, and the user has not allowed this code to run."""

    def __init__(self, codes: Iterable[CodeValue], source: str) -> None:
        codes = list(codes)
        dotted = [".".join(map(str, code.key)) for code in codes]
        lines = [
            one_line(f"    {key} = {toml_value(as_toml_data(code.value))}  {code.how}")
            for key, code in zip(dotted, codes, strict=True)
        ]
        super().__init__(
            f"{one_line(source)} was not written by one of your runs, or was changed later. It names code to run:\n"
            + "\n".join(lines),
            remedies=[
                "add --trust to run this code, if you trust the author of the folder (in Python: trust=True)",
                f"add --set '{dotted[0]}=...' to replace it with your value",
            ],
        )


def untrusted_code(recipe: MergedRecipe, key: Key, config: ComponentConfig) -> Iterator[CodeValue]:
    """Return the values of a config (table `key`) that name code and come from a lock that is not trusted."""
    return (code for code in code_values(config, key) if recipe.origin(code.key).untrusted)


def signature(data: Mapping[str, Any]) -> str | None:
    """Return the signature of a lock, given as TOML data; None if the key cannot be stored.

    A signature in `data` is ignored.
    """
    key = _key() or _new_key()
    return _hmac(data, key) if key is not None else None


def is_signed_by_user(data: Mapping[str, Any]) -> bool:
    """Return whether the lock was signed with this user's key, and was not changed later."""
    lock, key = data.get(LOCK_TABLE), _key()
    found = lock.get(SIGNATURE) if isinstance(lock, Mapping) else None
    return key is not None and isinstance(found, str) and hmac.compare_digest(found.encode(), _hmac(data, key).encode())


def key_file() -> Path:
    """Return the file of the secret key."""
    return state_folder() / "run-key"


def _hmac(data: Mapping[str, Any], key: bytes) -> str:
    lock = {name: value for name, value in data[LOCK_TABLE].items() if name != SIGNATURE}
    return hmac.digest(key, json.dumps({**data, LOCK_TABLE: lock}, sort_keys=True).encode(), "sha256").hex()


def _key() -> bytes | None:
    try:
        with open_regular(key_file(), follow_links=True) as file:
            key = file.read(_KEY_BYTES + 1)
    except OSError:
        return None
    return key if len(key) == _KEY_BYTES else None


def _new_key() -> bytes | None:
    """Create the key, unless another process creates it at the same time."""
    file = key_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=file.parent)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as content:
                content.write(secrets.token_bytes(_KEY_BYTES))
                content.flush()
                os.fsync(handle)
            _install_key(Path(partial), file)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError:
        return None
    return _key()


def _install_key(partial: Path, file: Path) -> None:
    """Move the new key to its place. If another process has created a key meanwhile, keep that one."""
    try:
        file.hardlink_to(partial)
    except FileExistsError:
        if _key() is None:
            partial.replace(file)
    except OSError:  # a file system without hard links
        partial.replace(file)
