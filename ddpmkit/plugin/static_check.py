"""Whether the code that a component names is there, told without importing it.

It does not know recipes, and runs nothing of the plugin: its packages may import torch.
"""

import re
import symtable
import sys
from importlib.machinery import ModuleSpec

from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin.component import no_attribute

__all__ = ["absence"]

_NAMES_UNKNOWN = re.compile(r"\bimport\s*\(?\s*\*|\bglobals\s*\(|\bdef\s+__getattr__\b")
"""By which a module has more names than its text."""


def absence(reference: str) -> BaseException | None:
    """What importing `package.module:Name` is bound to raise because it is not there; None when it may well be."""
    module, _, name = reference.partition(":")
    if module in sys.modules:
        there = sys.modules[module]
        try:
            return None if hasattr(there, name) else no_attribute(module, name, dir(there))
        except BaseException as error:  # the module's own `__getattr__` may raise anything
            if is_interrupt(error):
                raise
            return error
    try:
        source = _source(_spec(module))
        if source is None or _NAMES_UNKNOWN.search(source):
            return None
        names = _names(source, module)
    except (ImportError, SyntaxError) as error:
        return error
    return None if name in names else no_attribute(module, name, names)


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
