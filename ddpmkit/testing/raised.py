"""An exception of a component, for its author: what was raised, and where in the author's own files.

It does not know what was being checked.
"""

import os
import sys
import traceback
from pathlib import Path

from ddpmkit.errors import DdpmkitError, PluginError
from ddpmkit.plugin.registry import RegisteredComponent

__all__ = ["place_of", "unwrapped", "worded"]


def unwrapped(error: BaseException) -> BaseException:
    """What the component itself raised, where the registry put it into words for those who only use it."""
    return error.__cause__ if isinstance(error, PluginError) and error.__cause__ is not None else error


def worded(error: BaseException) -> str:
    """`KeyError: 'scale'`; what was said for people stands for itself."""
    return error.message if isinstance(error, DdpmkitError) else f"{type(error).__name__}: {error}"


def place_of(error: BaseException | None, registered: RegisteredComponent) -> str:
    """The last frame in the plugin's own files, `zigzag/loss.py:31 in __call__`; empty where there is none."""
    own = _folders(registered)
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    mine = [frame for frame in frames if any(Path(frame.filename).resolve().is_relative_to(place) for place in own)]
    return f"{_shown(mine[-1].filename)}:{mine[-1].lineno} in {mine[-1].name}" if mine else ""


def _folders(registered: RegisteredComponent) -> list[Path]:
    """Where the code of the component's plugin lies: the folders of its package, or its one file."""
    module = sys.modules.get(registered.component.target.partition(":")[0].partition(".")[0])
    places = getattr(module, "__path__", None) or [getattr(module, "__file__", None)]
    return [Path(place).resolve() for place in places if place]


def _shown(file: str) -> str:
    """Relative to where the author stands, unless it lies elsewhere."""
    path, here = Path(file).resolve(), Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
