"""The hooks a plugin may implement: all of them, on one page.

Mark an implementation with `@hookimpl`. Hooks are called once, in no promised order; results are sorted by name.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from ddpmkit.plugin.component import Component

if TYPE_CHECKING:
    import click

__all__ = ["PROJECT", "ddpmkit_commands", "ddpmkit_components", "ddpmkit_diagnoses", "hookimpl"]

PROJECT = "ddpmkit"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function as an implementation of the hook of its name."""


@hookspec
def ddpmkit_components() -> Iterable[Component]:
    """The components this plugin offers. Declared as data: do not import torch to answer."""
    raise NotImplementedError


@hookspec
def ddpmkit_commands() -> Iterable["click.Command"]:
    """Commands to add to `ddpmkit`. A name that ddpmkit itself has is refused."""
    raise NotImplementedError


@hookspec
def ddpmkit_diagnoses() -> Iterable[str]:
    """Functions that `ddpmkit doctor` calls, as `package.module:function`: no arguments, a `Diagnosis` returned.

    Their modules are imported when they are called, one that raises is named with its plugin.
    """
    raise NotImplementedError
