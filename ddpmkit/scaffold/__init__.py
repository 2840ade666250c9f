"""A new plugin as a package of its own: files from templates, one component of one kind.

It does not know what the component will be about.
"""

from ddpmkit.scaffold.name import PluginName
from ddpmkit.scaffold.package import write_package

__all__ = ["PluginName", "write_package"]
