"""Finds the modules that a component requires and that are not installed, and the pip command that installs them.

The name of a module can differ from that of its distribution, so `pip install MODULE` can install something else.
The dependencies of the plugin's distribution are therefore searched first.
"""

import importlib.metadata
import importlib.util
import re
import shlex
from collections.abc import Sequence

from ddpmkit.plugin.finder import FoundPlugin

__all__ = ["install_hint", "missing_modules"]


def missing_modules(names: Sequence[str]) -> list[str]:
    """Return the top-level modules among `names` that are not installed. Nothing is imported."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def install_hint(modules: Sequence[str], plugin: FoundPlugin) -> str:
    """Return the command that installs `modules`, or a sentence if the distribution is not known."""
    if plugin.path is not None:
        if len(modules) == 1:
            return f"pip install the package that provides the module {modules[0]}"
        return f"pip install the packages that provide the modules {', '.join(modules)}"
    from packaging.requirements import Requirement  # slow to import, and rarely needed

    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires(plugin.distribution) or ()]
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    by_name = {
        _normalized(requirement.name): f"{requirement.name}{requirement.specifier}" for requirement in requirements
    }
    packages = [by_name.get(_normalized(module)) for module in modules]
    if None in packages:
        packages = [f"{plugin.distribution}=={plugin.version}"]
    return f"pip install {shlex.join(filter(None, packages))}"


def _normalized(name: str) -> str:
    """Equal for `clean-fid` and `cleanfid`, a distribution and its module."""
    return re.sub(r"[-_.]", "", name).lower()
