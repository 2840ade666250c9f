import errno
import re
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ddpmkit.cli import main, root
from ddpmkit.errors import InputError, RunFailed
from ddpmkit.interrupts import Interrupted
from ddpmkit.plugin.discovery import Discovery
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.loader import BrokenPlugin, LoadedPlugin

LONG = "train.steps = [red] :cat: is not a number" + " of steps" * 20 + "\n   12 | steps = [red]\n      |         ^^^^^"
"""Wider than a terminal, with columns that must be kept and brackets that are not markup."""


@pytest.fixture
def offer(monkeypatch):
    """Installs plugin commands: pairs of a plugin's entry name and a command."""

    def install(*offers: tuple[str, click.Command]) -> None:
        plugins = tuple(
            LoadedPlugin(FoundPlugin(entry, "acme", "ddpmkit-acme", "1.0"), (), (command,)) for entry, command in offers
        )
        monkeypatch.setattr("ddpmkit.plugin.discovery.discover", lambda: Discovery(plugins, ()))

    return install


def raising(error: BaseException) -> click.Command:
    @click.command()
    def zigzag() -> None:
        """Go this way and that."""
        raise error

    return zigzag


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "--help"], ["data", "fetch", "--help"]])
def test_help_is_fast_and_imports_no_torch(arguments):
    heavy = "{'torch', 'wandb', 'PIL', 'scipy', 'torchvision'}"
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print('heavy:', sorted({heavy} & set(sys.modules))))\n"
        f"from ddpmkit.cli import main; main({arguments}, prog_name='ddpmkit')"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    # Importing torch alone takes longer than this; the usual time is a third of a second.
    assert time.monotonic() - began < 3


def test_help_lists_every_command_in_order():
    text = CliRunner().invoke(main, ["--help"]).output
    commands = text.partition("Commands:\n")[2]
    listed = [line.split()[0] for line in commands.splitlines()]
    assert listed[: len(root.COMMANDS)] == list(root.COMMANDS)
    assert "..." not in commands  # no summary is too long for a line


def test_every_command_shows_an_example():
    for name in ("run", "sample", "evaluate", "visualize"):
        assert f"  ddpmkit {name} " in CliRunner().invoke(main, [name, "--help"]).output


def test_ddpmkit_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "ddpmkit", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ddpmkit, version ")


def test_an_unknown_command_exits_2_and_names_the_closest():
    result = CliRunner().invoke(main, ["smaple"])
    assert result.exit_code == 2
    assert "No such command 'smaple'. Did you mean 'sample'?" in result.stderr


def test_commands_of_plugins_appear_and_run(offer):
    @click.command()
    def zigzag() -> None:
        """Go this way and that."""
        click.echo("zig")

    offer(("acme.zigzag", zigzag))
    assert re.search(r"zigzag +Go this way and that\.", CliRunner().invoke(main, ["--help"]).output)
    assert CliRunner().invoke(main, ["zigzag"]).output == "zig\n"


def test_a_plugin_cannot_take_a_command_of_ours(offer, caplog):
    offer(("acme.run", click.Command("run", help="Run away.")))
    assert "Run away" not in CliRunner().invoke(main, ["--help"]).output
    (message,) = caplog.messages
    assert (
        message
        == "command 'run' of plugin acme.run (ddpmkit-acme 1.0) is rejected: the name is taken by ddpmkit itself"
    )


def test_two_plugin_commands_with_one_name_are_both_rejected(offer, caplog):
    offer(("acme.a", click.Command("zigzag")), ("other.b", click.Command("zigzag")))
    assert CliRunner().invoke(main, ["zigzag"]).exit_code == 2
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("error", "exit_code", "text"),
    [
        (InputError(LONG, remedies=["do better"]), 2, f"error: {LONG}\n  - do better\n"),
        (RunFailed("it failed"), 1, "error: it failed\n"),
        (Interrupted(), 130, "interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), 1, "error: a.png: No space left on device\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_are_printed_with_their_remedies(offer, error, exit_code, text):
    offer(("acme.zigzag", raising(error)))
    result = CliRunner().invoke(main, ["zigzag"])
    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", text)


def test_a_bug_shows_its_traceback(offer):
    offer(("acme.zigzag", raising(ZeroDivisionError("oh"))))
    result = CliRunner().invoke(main, ["zigzag"])
    assert result.exit_code == 1
    assert "ZeroDivisionError: oh" in result.stderr
    assert result.stderr.endswith(
        "error: command 'zigzag' of plugin acme.zigzag (ddpmkit-acme 1.0) failed with ZeroDivisionError: oh\n"
    )


def test_an_unexpected_error_is_reported_as_a_bug(monkeypatch):
    monkeypatch.setitem(root.COMMANDS, "zigzag", f"{__name__}:broken")
    result = CliRunner().invoke(main, ["zigzag"])
    assert result.exit_code == 1
    assert result.stderr.endswith("error: this is a bug in ddpmkit or in a plugin; see the traceback above.\n")


broken = raising(GeneratorExit())


class Textless(Exception):
    def __str__(self):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (Textless(), "Textless: (its text cannot be shown: KeyboardInterrupt)"),
    ],
    ids=["interrupt", "generator", "textless"],
)
def test_any_exception_of_a_plugin_command_is_a_failure_with_its_name(offer, error, message):
    offer(("acme.zigzag", raising(error)))
    result = CliRunner().invoke(main, ["zigzag"])
    assert result.exit_code == 1
    assert result.stderr.endswith(
        f"error: command 'zigzag' of plugin acme.zigzag (ddpmkit-acme 1.0) failed with {message}\n"
    )


def test_a_plugins_command_may_choose_its_exit_code(offer):
    offer(("acme.zigzag", raising(SystemExit(3))))
    assert CliRunner().invoke(main, ["zigzag"]).exit_code == 3


def test_an_error_class_with_exit_code_0_still_exits_1(offer):
    class Fine(InputError):
        exit_code = 0

    offer(("acme.zigzag", raising(Fine(5))))
    result = CliRunner().invoke(main, ["zigzag"])
    assert (result.exit_code, result.stderr) == (1, "error: 5\n")


def test_verbose_shows_the_traceback_of_bad_input(offer):
    offer(("acme.zigzag", raising(InputError("bad input"))))
    assert "InputError: bad input" in CliRunner().invoke(main, ["-v", "zigzag"]).stderr


def test_a_closed_pipe_is_not_an_error(tmp_path: Path):
    plugin = tmp_path / "pipe.py"
    plugin.write_text(
        "import sys, os\nfrom ddpmkit.cli import main, root\nimport click\n"
        "@main.command()\n@click.pass_obj\ndef flood(terminal):\n"
        "    for _ in range(100_000): terminal.out.print('x' * 100)\n"
        "root.COMMANDS['flood'] = '__main__:flood'\n"
        "main(['flood'])\n"
    )
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {plugin} | head -1"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_an_unknown_command_may_be_of_a_plugin_that_was_not_loaded(monkeypatch):
    broken = BrokenPlugin(FoundPlugin("acme.zig", "acme", "ddpmkit-acme", "1.0"), "ImportError: zag")
    off = (FoundPlugin("other.thing", "other", "ddpmkit-other", "2.0"),)
    monkeypatch.setattr("ddpmkit.plugin.discovery.discover", lambda: Discovery((), (broken,), off))
    message = CliRunner().invoke(main, ["zigzag"]).stderr
    assert "it may be a command of acme.zig (ddpmkit-acme 1.0), which failed to load: ImportError: zag" in message
    assert "it may be a command of other.thing (ddpmkit-other 2.0), which is disabled" in message
