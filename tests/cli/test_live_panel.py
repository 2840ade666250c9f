import io
import logging

import pytest
from rich.console import Console

from ddpmkit.cli.live_panel import LiveDisplay, open_display
from ddpmkit.cli.plain_log import PlainDisplay
from ddpmkit.cli.terminal import Terminal


def console(width: int) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=30, soft_wrap=True, highlight=False, markup=False,
        color_system=None, _environ={},
    )  # fmt: skip


def rendered(display: LiveDisplay, width: int) -> list[str]:
    """The lines of the current panel."""
    paper = Console(file=io.StringIO(), width=width, color_system=None, _environ={})
    paper.print(display._render())
    return paper.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_panel(width, clock, started, record, scores, run_folder):
    display = LiveDisplay(console(width), clock)
    display.run_started(started())
    clock.now += 100
    display.step(record(250, validation_loss=0.25))
    display.scores(scores)
    with display.progress("16 samples", 50) as advance:
        advance(20)
        lines = rendered(display, width)
    # Three columns stay free: a terminal that echoes ^C there must not wrap.
    assert [len(line) for line in lines] == [width - 3] * 7
    top, bar, facts, score, upcoming, work, bottom = lines
    assert top.startswith("╭─ cats ─")
    assert bar.startswith("│ step 250 / 1,000  ━")
    assert bar.endswith("25% │")
    assert facts.split() == [
        "│",
        "loss",
        "0.1250",
        "validation",
        "0.2500",
        "it/s",
        "3",
        "images/s",
        "96",
        "left",
        "0:05:00",
        "│",
    ]
    assert score.strip("│ ") == "clean-fid fid 102.3 (floor 8.125) at step 400 · 5,000 samples, standard"
    assert upcoming.strip("│ ") == "next samples at 400, clean-fid at 1,000"
    assert work.startswith("│ 16 samples ━")
    assert "20/50" in work
    assert run_folder.name in bottom


def test_a_finished_progress_bar_is_removed_from_the_panel(clock, started):
    display = LiveDisplay(console(80), clock)
    display.run_started(started())
    with display.progress("16 samples", 50):
        pass
    assert not any("16 samples" in line for line in rendered(display, 80))


def test_progress_without_a_run_is_shown_without_a_panel():
    display = LiveDisplay(console(80))
    assert "preparing" in rendered(display, 80)[0]
    with display.progress("64 samples", 100):
        (line,) = rendered(display, 80)
    assert line.startswith("64 samples")


def test_messages_and_warnings_stay_above_the_panel(started):
    terminal = Terminal(err=console(80))
    with terminal.logging(), LiveDisplay(terminal.err) as display:
        display.run_started(started())
        logging.getLogger("someone.else").warning("the [disk] is nearly full")
        display.message("skipped metric 'clean-fid'")
    text = terminal.err.file.getvalue()
    assert "warning: the [disk] is nearly full\n" in text
    assert "skipped metric 'clean-fid'\n" in text
    # The cursor is hidden during redrawing and shown again.
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_steps_update_the_panel_and_print_nothing(started, record):
    paper = console(80)
    display = LiveDisplay(paper)
    display.run_started(started())
    before = paper.file.getvalue()
    display.step(record(10))
    assert paper.file.getvalue() == before


@pytest.mark.parametrize(
    ("is_terminal", "term", "expected"),
    [(True, "xterm-256color", LiveDisplay), (True, "dumb", PlainDisplay), (False, "xterm-256color", PlainDisplay)],
)
def test_the_panel_is_live_only_if_the_terminal_can_redraw_lines(is_terminal, term, expected):
    console = Console(file=io.StringIO(), force_terminal=is_terminal, _environ={"TERM": term})
    assert type(open_display(Terminal(err=console))) is expected
