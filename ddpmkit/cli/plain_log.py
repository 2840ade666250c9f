"""Shows a run as plain lines, for a log file or a pipe."""

import contextlib
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from rich.console import Console

from ddpmkit.cli.run_status import RunStatus, format_duration, score_text
from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord
from ddpmkit.plural import counted

__all__ = ["PlainDisplay"]

_IMAGE_LABELS = {"samples": "samples", "forward": "forward process", "reverse": "reverse process"}
_SECONDS_BETWEEN_LINES = 5.0
_SHARE_OF_ELAPSED = 0.02


class PlainDisplay:
    """Prints lines on a console; a `ddpmkit.display.Display`."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self.status = RunStatus(clock)
        self._console = console
        self._clock = clock
        self._pace = _Pace(clock)

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to restore."""

    def message(self, text: str) -> None:
        """Print one line."""
        self._console.print(text)

    def run_started(self, event: RunStarted) -> None:
        """Print the run's name, size, steps and folder."""
        self.status.begin(event)
        self._pace = _Pace(self._clock)
        first, last = event.first_step, event.last_step
        extent = f"from step {first:,} to {last:,}" if first else counted(last, "step")
        if self.status.complete_already:
            extent = f"all {counted(last, 'step')} done already"
        self.message(f"{event.name}: {_in_millions(event.parameters)} parameters, {extent}, in {event.folder}")

    def step(self, event: StepRecord) -> None:
        """Print a line every 5 s, and less often as the run gets longer.

        The last step, and steps with a validation loss, are always printed.
        """
        self.status.advance(event)
        assert self.status.started is not None
        last = self.status.started.last_step
        if self._pace.due() or event.validation_loss is not None or event.step == last:
            self.message(f"step {event.step:,}/{last:,}  " + "  ".join(f"{name} {text}" for name, text in self.facts()))

    def picture(self, event: Picture) -> None:
        """Print the path of the image."""
        self.message(f"step {event.step:,}: {_IMAGE_LABELS[event.name]} in {event.path}")

    def scores(self, event: Scores) -> None:
        """Print the scores in one line."""
        self.status.score(event)
        self.message(f"{event.metric}: {score_text(event)}")

    def run_ended(self, event: RunEnded) -> None:
        """Store the event for the summary."""
        self.status.ended = event

    @contextlib.contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Print a line when the work begins; if it takes long, also some during the work and one at its end."""
        began, done, pace = self._clock(), 0, _Pace(self._clock)
        pace.due()

        def advance(more: int) -> None:
            nonlocal done
            done += more
            if pace.due() and done < total:
                self.message(f"{description}: {done:,} of {total:,}")

        self.message(f"{description} ...")
        yield advance
        if (seconds := self._clock() - began) >= _SECONDS_BETWEEN_LINES:
            self.message(f"{description}: done in {format_duration(seconds)}")

    def facts(self) -> Iterator[tuple[str, str]]:
        """Label and text of each value in the last record."""
        status, record = self.status, self.status.record
        if record is None:
            return
        yield "loss", f"{record.loss:.4f}"
        if status.validation_loss is not None:
            yield "validation", f"{status.validation_loss:.4f}"
        yield "it/s", _in_three_digits(status.steps_per_second)
        yield "images/s", _in_three_digits(record.images_per_second)
        if status.seconds_left is not None:
            yield "left", format_duration(status.seconds_left)


class _Pace:
    """When the next line is due."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._began, self._last = clock, clock(), -float("inf")

    def due(self) -> bool:
        """True on the first call, and then after a pause that grows with the elapsed time."""
        now = self._clock()
        pause = max(_SECONDS_BETWEEN_LINES, (now - self._began) * _SHARE_OF_ELAPSED)
        if now - self._last < pause:
            return False
        self._last = now
        return True


def _in_millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count:,}"


def _in_three_digits(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
