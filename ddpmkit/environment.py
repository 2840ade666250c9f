"""Environment variables and the user's folders. No other module reads them."""

import os
from pathlib import Path

import platformdirs

__all__ = ["cache_folder", "disabled_plugins", "setting", "state_folder"]


def setting(name: str) -> str | None:
    """Return the environment variable `DDPMKIT_<name>`, or None if it is not set or empty."""
    return os.environ.get(f"DDPMKIT_{name}") or None


def disabled_plugins() -> frozenset[str]:
    """Return the entry names and namespaces in `DDPMKIT_DISABLE_PLUGINS`, for example `acme,other.thing`."""
    return frozenset(name.strip() for name in (setting("DISABLE_PLUGINS") or "").split(",") if name.strip())


def cache_folder() -> Path:
    """Return the folder for decoded datasets and downloads: `DDPMKIT_CACHE`, or the platform's cache folder."""
    override = setting("CACHE")
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("ddpmkit", appauthor=False))


def state_folder() -> Path:
    """Return the folder of the key that signs this user's runs: `DDPMKIT_STATE`, or the platform's state folder."""
    override = setting("STATE")
    return Path(override).expanduser() if override else Path(platformdirs.user_state_dir("ddpmkit", appauthor=False))
