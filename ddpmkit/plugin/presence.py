"""Whether the code that a component names is there, told without importing it.

It does not know recipes, and runs nothing of the plugin: its packages may import torch.
"""

import importlib.metadata
import importlib.util
import re
import shlex
import symtable
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

__all__ = ["absence", "install_commands", "missing_modules"]

_NAMES_UNKNOWN = re.compile(r"\bimport\s*\(?\s*\*|\bglobals\s*\(|\bdef\s+__getattr__\b")
"""By which a module has more names than its text."""


def missing_modules(names: Sequence[str]) -> list[str]:
    """Those of these top-level modules that are not installed."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def install_commands(modules: Sequence[str], distribution: str) -> list[str]:
    """`pip install` lines for those modules of which the distribution's metadata says where they come from.

    A module's name need not be its distribution's, so `pip install <module>` might install something else.
    """
    from packaging.requirements import Requirement  # seldom needed, and slow to import

    try:
        found = map(Requirement, importlib.metadata.requires(distribution) or [])
        wanted = {_folded(module) for module in modules}
        lines = [f"{item.name}{item.specifier}" for item in found if _folded(item.name) in wanted]
    except (importlib.metadata.PackageNotFoundError, ValueError):  # an unpackaged plugin, or metadata that is none
        return []
    return [f"pip install {shlex.quote(line)}" for line in dict.fromkeys(lines)]


def absence(reference: str) -> Exception | None:
    """What importing `package.module:Name` is bound to raise because it is not there; None when it may well be."""
    module, _, name = reference.partition(":")
    missing = AttributeError(f"module {module!r} has no attribute {name!r}")
    if module in sys.modules:
        return None if hasattr(sys.modules[module], name) else missing
    try:
        source = _source(_spec(module))
        if source is None or _NAMES_UNKNOWN.search(source) or name in _names(source, module):
            return None
    except (ImportError, SyntaxError) as error:
        return error
    return missing


def _spec(module: str) -> ModuleSpec:
    """Raises ModuleNotFoundError. `importlib.util.find_spec` would import the packages around it."""
    parent, _, _ = module.rpartition(".")
    path = _spec(parent).submodule_search_locations if parent else None
    if parent and path is None:
        raise ModuleNotFoundError(f"No module named {module!r}; {parent!r} is not a package")
    specs = (finder.find_spec(module, path) for finder in sys.meta_path)
    if (spec := next((spec for spec in specs if spec is not None), None)) is None:
        raise ModuleNotFoundError(f"No module named {module!r}")
    return spec


def _source(spec: ModuleSpec) -> str | None:
    """None where there is no text, as of a compiled module. Raises ImportError when it cannot be read."""
    get_source = getattr(spec.loader, "get_source", None)
    return get_source(spec.name) if get_source is not None else None


def _names(source: str, module: str) -> set[str]:
    """What the module's text binds at its top level. Raises SyntaxError."""
    symbols = symtable.symtable(source, module, "exec").get_symbols()
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}


def _folded(name: str) -> str:
    return re.sub(r"[-_.]", "", name).lower()
