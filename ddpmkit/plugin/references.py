"""References to code, `package.module:Name`: import them, or check without an import that they exist."""

import difflib
import importlib
import re
import symtable
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from typing import Any

from ddpmkit.interrupts import is_interrupt

__all__ = ["expected_import_error", "is_reference", "resolve"]

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_DYNAMIC_NAMES = re.compile(r"\bimport\s*\(?\s*\*|\bglobals\s*\(|\bdef\s+__getattr__\b")
"""Code that can define more names than the source text shows."""


def is_reference(text: str) -> bool:
    """Return whether `text` has the form `package.module:Name`."""
    return _REFERENCE.fullmatch(text) is not None


def resolve(reference: str) -> Any:
    """Import the module and return the attribute.

    Raises ImportError, or AttributeError that suggests the closest name in the module.
    """
    name, _, attribute = reference.partition(":")
    module = importlib.import_module(name)
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise _no_attribute(name, attribute, dir(module)) from error


def expected_import_error(reference: str) -> BaseException | None:
    """Return the exception that `resolve` would raise because the code does not exist; None if it probably exists.

    Nothing is imported, because a module or a package around it may import torch.
    """
    module, _, name = reference.partition(":")
    if module in sys.modules:
        imported = sys.modules[module]
        try:
            return None if hasattr(imported, name) else _no_attribute(module, name, dir(imported))
        except BaseException as error:  # the module's own `__getattr__` can raise anything
            if is_interrupt(error):
                raise
            return error
    try:
        source = _source(_spec(module))
        if source is None or _DYNAMIC_NAMES.search(source):
            return None
        names = _top_level_names(source, module)
    except (ImportError, SyntaxError) as error:
        return error
    return None if name in names else _no_attribute(module, name, names)


def _no_attribute(module: str, name: str, others: Iterable[str]) -> AttributeError:
    """Python's own message, with a suggestion."""
    close = difflib.get_close_matches(name, [other for other in others if not other.startswith("_")], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")


def _spec(module: str) -> ModuleSpec:
    """Raises ModuleNotFoundError. `importlib.util.find_spec` would import the parent packages."""
    parent, _, _ = module.rpartition(".")
    path = _spec(parent).submodule_search_locations if parent else None
    if parent and path is None:
        raise ModuleNotFoundError(f"No module named {module!r}; {parent!r} is not a package")
    specs = (finder.find_spec(module, path) for finder in sys.meta_path)
    if (spec := next((spec for spec in specs if spec is not None), None)) is None:
        raise ModuleNotFoundError(f"No module named {module!r}")
    return spec


def _source(spec: ModuleSpec) -> str | None:
    """None if the module has no source, for example an extension module. Raises ImportError if it cannot be read."""
    get_source = getattr(spec.loader, "get_source", None)
    return get_source(spec.name) if get_source is not None else None


def _top_level_names(source: str, module: str) -> set[str]:
    """Return the names that the module assigns or imports at its top level. Raises SyntaxError."""
    symbols = symtable.symtable(source, module, "exec").get_symbols()
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
