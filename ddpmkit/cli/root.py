"""`ddpmkit`: the list of commands, and how errors become messages and exit codes.

A command is imported only when it is used.
"""

import difflib
import importlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ddpmkit import __version__
from ddpmkit.cli.safe_stream import escaped
from ddpmkit.cli.third_party_commands import find_commands, rejections, unloaded_plugins, usable_commands
from ddpmkit.errors import DdpmkitError, error_text
from ddpmkit.interrupts import is_interrupt, own_sigint_handler

if TYPE_CHECKING:
    from ddpmkit.plugin.discovery import Discovery
    from ddpmkit.plugin.finder import FoundPlugin

__all__ = ["COMMANDS", "main"]

_log = logging.getLogger(__name__)

COMMANDS = {
    "run": "ddpmkit.cli.run:run",
    "sample": "ddpmkit.cli.sample:sample",
    "interpolate": "ddpmkit.cli.interpolate:interpolate",
    "evaluate": "ddpmkit.cli.evaluate:evaluate",
    "visualize": "ddpmkit.cli.visualize:visualize",
    "sweep": "ddpmkit.cli.sweep:sweep",
    "compare": "ddpmkit.cli.compare:compare",
    "profile": "ddpmkit.cli.profile:profile",
    "checkpoint": "ddpmkit.cli.checkpoint:checkpoint",
    "data": "ddpmkit.cli.data:data",
    "recipe": "ddpmkit.cli.recipe:recipe",
    "plugins": "ddpmkit.cli.plugins:plugins",
    "doctor": "ddpmkit.cli.doctor:doctor",
}
"""ddpmkit's own commands, in the order of `--help`."""

_THIRD_PARTY_COMMANDS = f"{__name__}.third_party_commands"
_DISCOVERY = f"{__name__}.discovery"

_WRITES_FILES = frozenset({"run", "sample", "interpolate", "evaluate", "visualize", "sweep"})
"""Commands that write files: lost output is not a failure of theirs."""

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


class Root(click.Group):
    """The group of all commands: our own, then the commands of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our own commands in the order of `COMMANDS`, then the commands of plugins by name."""
        return [*COMMANDS, *_third_party_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; plugins are discovered only for a name that is not ours."""
        if cmd_name in COMMANDS:
            module, _, attribute = COMMANDS[cmd_name].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        return _third_party_commands(ctx).get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Raises UsageError for an unknown command, with the closest known one."""
        known = self.list_commands(ctx) if args[0] not in COMMANDS else [args[0]]
        if args[0] not in known and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Commands are {', '.join(known)}."
            unknown = "".join(f"\n  - it may be a command of {plugin}" for plugin in unloaded_plugins(_discovery(ctx)))
            ctx.fail(f"No such command {args[0]!r}. {hint}{unknown}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; every error becomes a message and an exit code."""
        from ddpmkit.cli.terminal import Terminal

        terminal = ctx.obj = Terminal(verbose=ctx.params["verbose"])
        with own_sigint_handler(), terminal.logging():
            try:
                outcome = super().invoke(ctx)
                if terminal.stdout.failure is None:
                    return outcome
                terminal.show_output_failure()
                code = 0 if ctx.invoked_subcommand in _WRITES_FILES else EXIT_FAILED
            except click.ClickException as error:
                error.message = escaped(error.message)  # type: ignore[misc]  # click calls it final
                raise
            except (click.exceptions.Exit, click.Abort, BrokenPipeError):
                raise  # click handles these
            except DdpmkitError as error:
                terminal.show_error(error)
                # A plugin may subclass our errors with an exit code of 0.
                code = error.exit_code or EXIT_FAILED
            except OSError as error:
                terminal.show_os_error(error)
                code = EXIT_FAILED
            except BaseException as error:
                if is_interrupt(error):
                    terminal.show_note("interrupted")
                    code = EXIT_INTERRUPTED
                else:
                    plugin = _plugin_of(ctx)
                    if plugin is not None and isinstance(error, SystemExit):
                        raise  # the plugin's command chose this exit code
                    terminal.show_unexpected(
                        "this is a bug in ddpmkit or in a plugin; see the traceback above."
                        if plugin is None
                        else f"command {ctx.invoked_subcommand!r} of plugin {plugin} failed with {error_text(error)}"
                    )
                    code = EXIT_FAILED
        raise click.exceptions.Exit(code)


def _third_party_commands(ctx: click.Context) -> Mapping[str, click.Command]:
    """Return the commands of plugins by name. Warns of each rejected one, once per invocation."""
    if _THIRD_PARTY_COMMANDS not in ctx.meta:
        commands = find_commands(_discovery(ctx), COMMANDS)
        for sentence in rejections(commands):
            _log.warning(sentence)
        ctx.meta[_THIRD_PARTY_COMMANDS] = usable_commands(commands)
    found: Mapping[str, click.Command] = ctx.meta[_THIRD_PARTY_COMMANDS]
    return found


def _plugin_of(ctx: click.Context) -> "FoundPlugin | None":
    """Return the plugin whose command was invoked; None for our own commands."""
    if ctx.invoked_subcommand is None or ctx.invoked_subcommand in COMMANDS:
        return None
    return next(one.plugin for one in find_commands(_discovery(ctx), COMMANDS) if one.name == ctx.invoked_subcommand)


def _discovery(ctx: click.Context) -> "Discovery":
    """Return all installed plugins, discovered once per invocation."""
    from ddpmkit.plugin.discovery import discover

    if _DISCOVERY not in ctx.meta:
        ctx.meta[_DISCOVERY] = discover()
    found: Discovery = ctx.meta[_DISCOVERY]
    return found


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ddpmkit")
@click.option("-v", "--verbose", is_flag=True, help="Show the debug log, and the traceback of an error.")
def main(verbose: bool) -> None:
    """Train, sample and evaluate denoising diffusion models from recipes of interchangeable components.

    \b
    ddpmkit run recipes/quickstart.toml      train on synthetic images, no download
    ddpmkit sample results/quickstart        generate images from the trained run
    ddpmkit plugins list                     list the components that recipes can use
    """
