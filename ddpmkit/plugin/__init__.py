"""The public interface for plugin authors, in addition to `ddpmkit.contracts` and the maths of `ddpmkit.diffusion`.

Importing it imports no torch.
"""

from ddpmkit.atomic_io import written_atomically
from ddpmkit.download import download
from ddpmkit.environment import cache_folder, setting
from ddpmkit.errors import ComponentUnavailable, DdpmkitError, InputError
from ddpmkit.plugin.component import API_VERSION, Component, ComponentConfig
from ddpmkit.plugin.diagnosis import Diagnosis
from ddpmkit.plugin.hookspecs import hookimpl
from ddpmkit.plugin.runs_code import RunsCode

__all__ = [
    "API_VERSION",
    "Component",
    "ComponentConfig",
    "ComponentUnavailable",
    "DdpmkitError",
    "Diagnosis",
    "InputError",
    "RunsCode",
    "cache_folder",
    "download",
    "hookimpl",
    "setting",
    "written_atomically",
]
