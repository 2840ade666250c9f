import io
import logging

import pytest
from rich.console import Console

from ddpmkit.cli.terminal import Terminal, aligned
from ddpmkit.errors import InputError


def terminal(*, colour: bool = False, verbose: bool = False) -> Terminal:
    err = Console(
        file=io.StringIO(), width=40, soft_wrap=True, highlight=False, markup=False, emoji=False,
        force_terminal=colour, color_system="standard" if colour else None, _environ={},
    )  # fmt: skip
    return Terminal(verbose=verbose, err=err)


def test_source_excerpts_keep_their_columns():
    excerpt = "cats.toml:12:1: unknown key [train] :cat: 'stepz' in a line longer than the terminal is wide\n" + (
        "   12 | stepz = 10_000      # a comment that reaches beyond the edge\n      | ^^^^^"
    )
    shown = terminal()
    shown.show_error(InputError(excerpt, remedies=["did you mean 'steps'?", "[known]: steps, seed"]))
    assert shown.err.file.getvalue() == f"error: {excerpt}\n  - did you mean 'steps'?\n  - [known]: steps, seed\n"


def test_only_the_head_is_coloured():
    shown = terminal(colour=True)
    shown.show_error(InputError("step 12 of 'x' is 3.5"))
    assert shown.err.file.getvalue() == "\x1b[1;31merror:\x1b[0m step 12 of 'x' is 3.5\n"


@pytest.mark.parametrize("verbose", [False, True])
def test_tracebacks_are_shown_with_verbose(verbose):
    shown = terminal(verbose=verbose)
    try:
        raise InputError("no")
    except InputError as error:
        shown.show_error(error)
    assert ("Traceback" in shown.err.file.getvalue()) == verbose


def test_an_os_error_is_shown_with_its_file():
    shown = terminal()
    shown.show_os_error(OSError(28, "No space left on device", "results/x/samples/a.png"))
    assert shown.err.file.getvalue() == "error: results/x/samples/a.png: No space left on device\n"


@pytest.mark.parametrize("verbose", [False, True])
def test_the_log(verbose):
    shown, ours, other = terminal(verbose=verbose), logging.getLogger("ddpmkit.x"), logging.getLogger("other")
    with shown.logging():
        ours.debug("a detail")
        other.info("chatter")
        other.warning("of %d [things]", 2)
    ours.debug("too late")
    expected = ["debug: a detail"] * verbose + ["warning: of 2 [things]"]
    assert shown.err.file.getvalue().splitlines() == expected


def test_two_columns():
    assert list(aligned([("N", "5"), ("reference", "all")])) == ["  N          5", "  reference  all"]


def test_the_real_consoles_print_text_as_it_is(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = "step 12 of 'x' is [red], :cat: and longer than a terminal is wide, " * 4
    shown = Terminal()
    shown.show_note(text)
    shown.out.print(text)
    assert capsys.readouterr() == (text + "\n", text + "\n")


@pytest.mark.parametrize("no_colour", [False, True])
def test_no_color_is_respected(monkeypatch, capsys, no_colour):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        monkeypatch.delenv("NO_COLOR", raising=False)
    Terminal().show_error(InputError("no"))
    assert ("\x1b[1;31m" in capsys.readouterr().err) != no_colour
