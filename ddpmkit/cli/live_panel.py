"""Shows a run in a terminal: a panel that is redrawn in place, with messages above it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ddpmkit.cli.plain_log import PlainDisplay
from ddpmkit.cli.terminal import Terminal
from ddpmkit.contracts import StepRecord

__all__ = ["LiveDisplay", "open_display"]

_COLOUR = "cyan"


def open_display(terminal: Terminal) -> PlainDisplay:
    """Return a live panel if the terminal can redraw lines, plain lines otherwise. Enter it before use."""
    can_redraw = terminal.err.is_terminal and not terminal.err.is_dumb_terminal
    return LiveDisplay(terminal.err) if can_redraw else PlainDisplay(terminal.err)


class LiveDisplay(PlainDisplay):
    """A plain display with a panel instead of lines for steps and progress."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is shown until the display is entered."""
        super().__init__(console, clock)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, complete_style=_COLOUR),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self._waiting = Spinner("dots", Text("preparing ...", style="dim"))
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        """Show the panel."""
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the panel; the messages stay."""
        self._live.stop()

    def step(self, event: StepRecord) -> None:
        """Store the record for the next refresh of the panel."""
        self.status.advance(event)

    @contextlib.contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a progress bar below the others while the work lasts."""
        task = self._progress.add_task(description, total=total)
        try:
            yield lambda more: self._progress.advance(task, more)
        finally:
            self._progress.remove_task(task)

    def _render(self) -> RenderableType:
        # A terminal writes ^C behind the last line; if that wrapped, the next refresh would start one line too low.
        return Constrain(self._content(), self._console.width - len("^C") - 1)

    def _content(self) -> RenderableType:
        """Return the run's panel including progress bars, or the progress bars alone."""
        bars = [self._progress] if self._progress.tasks else []
        started = self.status.started
        if started is None:
            return Group(*bars) if bars else self._waiting
        return Panel(
            Group(self._step_bar(), *self._lines(), *bars),
            title=Text(started.name, style="bold"),
            title_align="left",
            subtitle=Text(str(started.folder), style="dim"),
            subtitle_align="right",
            border_style=_COLOUR,
        )

    def _step_bar(self) -> Table:
        assert self.status.started is not None
        step, last = self.status.step, self.status.started.last_step
        row = Table.grid(padding=(0, 2, 0, 0), expand=True)
        row.add_column()
        row.add_column(ratio=1)
        row.add_column(justify="right")
        row.add_row(
            Text.assemble("step ", (f"{step:,}", "bold"), f" / {last:,}"),
            ProgressBar(total=last, completed=step, complete_style=_COLOUR),
            f"{step / last:.0%}",
        )
        return row

    def _lines(self) -> Iterator[Text]:
        facts = list(self.facts())
        if facts:
            yield _labelled(facts)
        for metric, text in self.status.last_scores.items():
            yield _labelled([(metric, text)])
        upcoming = [f"{what} at {step:,}" for what, step in self.status.upcoming()]
        if upcoming:
            yield _labelled([("next", ", ".join(upcoming))])


def _labelled(pairs: list[tuple[str, str]]) -> Text:
    parts = [Text.assemble((name, "dim"), " ", text) for name, text in pairs]
    return Text("   ", no_wrap=True, overflow="ellipsis").join(parts)
