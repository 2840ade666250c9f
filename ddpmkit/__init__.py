"""ddpmkit: interchangeable components for denoising diffusion.

Public names are imported at first access: importing ddpmkit does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddpmkit.experiment import Run, load, run
    from ddpmkit.recipe import Recipe, read_recipe

__all__ = ["Recipe", "Run", "__version__", "load", "read_recipe", "run"]

__version__ = "0.1.0"

_MODULES = {
    "Recipe": "ddpmkit.recipe",
    "Run": "ddpmkit.experiment",
    "load": "ddpmkit.experiment",
    "read_recipe": "ddpmkit.recipe",
    "run": "ddpmkit.experiment",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'ddpmkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
