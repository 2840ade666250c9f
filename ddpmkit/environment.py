"""The process's surroundings: environment variables and the folders of the user, read here and nowhere else."""

import os
from pathlib import Path

import platformdirs

__all__ = ["cache_folder", "disabled_plugins", "setting", "state_folder"]


def setting(name: str) -> str | None:
    """The environment variable `DDPMKIT_<name>`, or None when it is unset or empty."""
    return os.environ.get(f"DDPMKIT_{name}") or None


def disabled_plugins() -> frozenset[str]:
    """Entry names or namespaces to leave out (`DDPMKIT_DISABLE_PLUGINS=acme,other.thing`)."""
    return frozenset(name.strip() for name in (setting("DISABLE_PLUGINS") or "").split(",") if name.strip())


def cache_folder() -> Path:
    """Where decoded datasets and downloaded weights are kept: `DDPMKIT_CACHE`, or the platform's cache folder."""
    override = setting("CACHE")
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("ddpmkit", appauthor=False))


def state_folder() -> Path:
    """Where the secret of the user's own runs is kept: `DDPMKIT_STATE`, or the platform's folder for a user's state."""
    override = setting("STATE")
    return Path(override).expanduser() if override else Path(platformdirs.user_state_dir("ddpmkit", appauthor=False))
