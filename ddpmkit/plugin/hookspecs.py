"""The hooks that a plugin module may implement.

A hook is a module-level function without arguments, marked with `@hookimpl`. It is called once, when the plugin is
loaded. The order in which plugins are loaded has no effect: the results are sorted by name.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from ddpmkit.plugin.component import Component

if TYPE_CHECKING:
    import click

__all__ = ["HOOKS", "PROJECT", "ddpmkit_commands", "ddpmkit_components", "ddpmkit_diagnoses", "hookimpl"]

PROJECT = "ddpmkit"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Mark a function as the implementation of the hook of the same name."""


@hookspec
def ddpmkit_components() -> Iterable[Component]:
    """Yield the components of this plugin. This function and its module must not import torch."""
    raise NotImplementedError


@hookspec
def ddpmkit_commands() -> Iterable["click.Command"]:
    """Yield click commands to add to `ddpmkit`. The name of an existing command is rejected."""
    raise NotImplementedError


@hookspec
def ddpmkit_diagnoses() -> Iterable[str]:
    """Yield the functions that `ddpmkit doctor` calls, each as `"package.module:function"`.

    A function takes no arguments and returns a `Diagnosis`. Its module is imported when it is called. If it raises,
    `ddpmkit doctor` reports a problem with the name of the plugin.
    """
    raise NotImplementedError


HOOKS = ("ddpmkit_components", "ddpmkit_commands", "ddpmkit_diagnoses")
"""The names of all hooks."""
