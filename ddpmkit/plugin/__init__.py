"""The public interface for plugin authors, in addition to `ddpmkit.contracts` and the maths of `ddpmkit.diffusion`.

Importing it imports no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ddpmkit.atomic_io import atomic_write
from ddpmkit.download import download
from ddpmkit.environment import cache_folder, setting
from ddpmkit.errors import ComponentUnavailable, DdpmkitError, InputError
from ddpmkit.plugin.component import API_VERSION, Component, ComponentConfig
from ddpmkit.plugin.diagnosis import Diagnosis
from ddpmkit.plugin.hookspecs import hookimpl
from ddpmkit.plugin.runs_code import RunsCode
from ddpmkit.regular_file import sha256_file

if TYPE_CHECKING:
    from ddpmkit.decoding import to_rgb8

__all__ = [
    "API_VERSION",
    "Component",
    "ComponentConfig",
    "ComponentUnavailable",
    "DdpmkitError",
    "Diagnosis",
    "InputError",
    "RunsCode",
    "atomic_write",
    "cache_folder",
    "download",
    "hookimpl",
    "setting",
    "sha256_file",
    "to_rgb8",
    "written_atomically",
]

written_atomically = atomic_write
"""The same as `atomic_write`, for plugins that use this name."""


def __getattr__(name: str) -> Any:
    if name == "to_rgb8":  # imported when it is used, because it imports Pillow
        return importlib.import_module("ddpmkit.decoding").to_rgb8
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
