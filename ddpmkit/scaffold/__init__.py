"""`ddpmkit plugins new`: write a new plugin as a package with one component, from templates."""

from ddpmkit.scaffold.name import PluginName
from ddpmkit.scaffold.package import write_package

__all__ = ["PluginName", "write_package"]
