"""Options that several commands share."""

import functools
import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddpmkit.cli.third_party_commands import find_commands, rejections

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
        """Return all installed plugins, and the files. Raises InputError if a file does not exist."""
        from ddpmkit.plugin.discovery import discover

        return discover(self.files, third_party=self.third_party)

    def registry(self) -> "Registry":
        """Return the usable components. Warns of each plugin that failed to load and each rejected command."""
        from ddpmkit.cli.root import COMMANDS

        found = self.discover()
        for broken in found.broken:
            # An error about a missing component of this plugin shows the reason.
            why = shlex.join(["ddpmkit", "plugins", "list", *broken.plugin.options])
            _log.warning("plugin %s failed to load: run `%s` to see the reason", broken.plugin, why)
        for sentence in (*rejections(find_commands(found, COMMANDS)), *found.warnings):
            _log.warning(sentence)
        return found.registry()


class _PathType(click.Path):
    """A path that is not empty: with an empty DIR, `--out "$DIR"` would mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reject an empty path."""
        if value == "":
            self.fail("the path is empty; the current folder is '.'", param, ctx)
        return super().convert(value, param, ctx)


path_type = _PathType(path_type=Path)
"""The type of every path argument; the code that opens a path checks whether it exists."""


def plugin_options(command: Command) -> Command:
    """Add `--plugin` and `--no-plugins`; the command receives both as `plugins`, a `PluginChoice`."""

    @click.option(
        "--plugin",
        "plugin_files",
        metavar="FILE",
        multiple=True,
        type=path_type,
        help="Load the components of a Python file as local/NAME. May be repeated.",
    )
    @click.option("--no-plugins", is_flag=True, help="Use only the built-in components and --plugin files.")
    @functools.wraps(command)
    def with_plugins(*args: Any, plugin_files: tuple[Path, ...], no_plugins: bool, **kwargs: Any) -> Any:
        return command(*args, plugins=PluginChoice(plugin_files, third_party=not no_plugins), **kwargs)

    return with_plugins


set_option = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a value of the recipe, as in train.steps=200 or schedule.use=linear. May be repeated.",
)
"""`--set`; the command receives `overrides`, a tuple of strings."""

skip_metrics_option = click.option(
    "--skip-unavailable-metrics",
    is_flag=True,
    help="Skip metrics that are not available on this machine, instead of stopping with an error.",
)
"""`--skip-unavailable-metrics`; the command receives `skip_unavailable_metrics`."""

trust_option = click.option(
    "--trust", is_flag=True, help="Allow code that the run of another user names, such as a metric's extractor."
)
"""`--trust`; the command receives `trust`."""


def _seed(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**63:
        raise click.BadParameter(f"{text!r} is not an integer from 0 to 2**63 - 1.")
    return number


seed_option = click.option("--seed", metavar="N", type=_seed, help="The seed of the noise.  [default: the recipe's]")
"""`--seed`; the command receives `seed`, an int or None."""

run_argument = click.argument("run_folder", metavar="RUN", type=path_type)
"""A run folder, or one checkpoint in it; the command receives `run_folder`."""
