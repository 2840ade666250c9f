"""Which of the modules that a component requires are not installed, and how to install them.

A module's name need not be its distribution's, so that `pip install MODULE` may install something else: what the
plugin's distribution depends on tells more.
"""

import importlib.metadata
import importlib.util
import re
import shlex
from collections.abc import Sequence

from ddpmkit.plugin.plugin_source import FoundPlugin

__all__ = ["missing_modules", "way_to_install"]


def missing_modules(names: Sequence[str]) -> list[str]:
    """Those of these top-level modules that are not installed. Nothing is imported."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def way_to_install(modules: Sequence[str], plugin: FoundPlugin) -> str:
    """A command that installs `modules`, or in words what to install where that is not known."""
    if plugin.path is not None:
        package, module = ("package that brings", "module") if len(modules) == 1 else ("packages that bring", "modules")
        return f"pip install the {package} the {module} {', '.join(modules)}"
    from packaging.requirements import Requirement  # seldom needed, and slow to import

    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires(plugin.distribution) or ()]
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    by_name = {
        _squashed(requirement.name): f"{requirement.name}{requirement.specifier}" for requirement in requirements
    }
    packages = [by_name.get(_squashed(module)) for module in modules]
    if None in packages:
        packages = [f"{plugin.distribution}=={plugin.version}"]
    return f"pip install {shlex.join(filter(None, packages))}"


def _squashed(name: str) -> str:
    """`clean-fid` brings `cleanfid`, `efficientnet-lite-pytorch` brings `efficientnet_lite_pytorch`."""
    return re.sub(r"[-_.]", "", name).lower()
