"""An exception of a component, for its author: what was raised, and where in the author's own files.

It does not know what was being checked.
"""

import os
from pathlib import Path

from ddpmkit.errors import PluginError
from ddpmkit.plugin.fault_location import own_frame
from ddpmkit.plugin.registry import RegisteredComponent

__all__ = ["place_of", "unwrapped"]


def unwrapped(error: BaseException) -> BaseException:
    """What the component itself raised, where the registry put it into words for those who only use it."""
    return error.__cause__ if isinstance(error, PluginError) and error.__cause__ is not None else error


def place_of(error: BaseException | None, registered: RegisteredComponent) -> str:
    """The last frame in the plugin's own files, `zigzag/loss.py:31 in __call__`; empty where there is none."""
    found = own_frame(registered.plugin, error, registered.component.target)
    return f"{_shown(found[0].co_filename)}:{found[1]} in {found[0].co_name}" if found is not None else ""


def _shown(file: str) -> str:
    """Relative to where the author stands, unless it lies elsewhere."""
    path, here = Path(file).resolve(), Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
