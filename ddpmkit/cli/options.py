"""Options that several commands share, each written once.

It does not know what a command does with them.
"""

import functools
import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddpmkit.cli.plugin_commands import find_commands, rejections

if TYPE_CHECKING:
    from ddpmkit.plugin.discovery import Discovery
    from ddpmkit.plugin.registry import Registry

__all__ = [
    "PluginChoice",
    "path_type",
    "plugin_options",
    "run_argument",
    "seed_option",
    "set_option",
    "skip_metrics_option",
    "trust_option",
]

_log = logging.getLogger(__name__)

Command = Callable[..., Any]


@dataclass(frozen=True)
class PluginChoice:
    """Which plugins a command may use."""

    files: Sequence[Path]
    third_party: bool

    def discover(self) -> "Discovery":
        """All that is installed, and the files. Raises InputError when a file is not there."""
        from ddpmkit.plugin.discovery import discover

        return discover(self.files, third_party=self.third_party)

    def registry(self) -> "Registry":
        """The usable components; each plugin or command that had to be left out is named in a warning."""
        from ddpmkit.cli.root import COMMANDS

        found = self.discover()
        for broken in found.broken:
            # The reason is told where a component of it is missed; here it would be told twice.
            why = shlex.join(["ddpmkit", "plugins", "list", *broken.plugin.options])
            _log.warning("plugin %s is left out: %s says why", broken.plugin, why)
        for sentence in (*rejections(find_commands(found, COMMANDS)), *found.warnings):
            _log.warning(sentence)
        return found.registry()


class _PathType(click.Path):
    """A path that has a name: `--out "$DIR"` with an empty DIR would mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty name."""
        if value == "":
            self.fail("the name is empty; the current folder is '.'", param, ctx)
        return super().convert(value, param, ctx)


path_type = _PathType(path_type=Path)
"""The type of every path that a person gives; whether there is anything is for whoever opens it."""


def plugin_options(command: Command) -> Command:
    """Add `--plugin` and `--no-plugins`; the command gets both as `plugins`, a `PluginChoice`."""

    @click.option(
        "--plugin",
        "plugin_files",
        metavar="FILE",
        multiple=True,
        type=path_type,
        help="Load the components of a Python file, as local/NAME. May be repeated.",
    )
    @click.option("--no-plugins", is_flag=True, help="Keep to what ddpmkit brings itself, and to --plugin files.")
    @functools.wraps(command)
    def with_plugins(*args: Any, plugin_files: tuple[Path, ...], no_plugins: bool, **kwargs: Any) -> Any:
        return command(*args, plugins=PluginChoice(plugin_files, third_party=not no_plugins), **kwargs)

    return with_plugins


set_option = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change one value of the recipe, as in train.steps=200 or schedule.use=linear. May be repeated.",
)
"""`--set`; the command gets `overrides`, a tuple of strings."""

skip_metrics_option = click.option(
    "--skip-unavailable-metrics",
    is_flag=True,
    help="Go on without the metrics that cannot work here, instead of refusing to start.",
)
"""`--skip-unavailable-metrics`; the command gets `skip_unavailable_metrics`."""

trust_option = click.option(
    "--trust", is_flag=True, help="Run the code that a run from elsewhere names, such as a metric's extractor."
)
"""`--trust`; the command gets `trust`."""


def _seed(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**63:
        raise click.BadParameter(f"{text!r} is no whole number in 0 .. 2**63 - 1.")
    return number


seed_option = click.option(
    "--seed", metavar="N", type=_seed, help="Another seed gives other images.  [default: the recipe's]"
)
"""`--seed`; the command gets `seed`, an int or None."""

run_argument = click.argument("run_folder", metavar="RUN", type=path_type)
"""The folder of a run, or one checkpoint in it; the command gets `run_folder`."""
