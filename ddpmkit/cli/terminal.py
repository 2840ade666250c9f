"""Prints to the terminal: results to stdout; messages, errors and the log to stderr.

Text is not wrapped, highlighted or read as markup, so source excerpts keep their columns.
"""

import contextlib
import logging
import sys
import textwrap
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from rich.traceback import Traceback

from ddpmkit.cli.safe_stream import SafeStream, escaped
from ddpmkit.errors import DdpmkitError
from ddpmkit.interrupts import is_interrupt

__all__ = ["Terminal", "aligned"]

_NARROWEST = 20
_OURS = ("ddpmkit", "ddpmkit_plugins")


class _Escaping(Console):
    """A console on which control characters in names of files or metrics are shown escaped."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with all text escaped except for its own control codes."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text), segment.style)


def _console(stream: SafeStream) -> Console:
    return _Escaping(
        file=cast(IO[str], stream),
        stderr=stream.is_stderr,
        soft_wrap=True,
        highlight=False,
        markup=False,
        emoji=False,
    )


def aligned(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Format labels and texts as two columns."""
    width = max((len(label) for label, _ in pairs), default=0)
    for label, text in pairs:
        yield f"  {label:<{width}}  {text}"


@dataclass
class Terminal:
    """The console of stdout, for results, and the console of stderr, for everything else."""

    verbose: bool = False
    stdout: SafeStream = field(default_factory=lambda: SafeStream("stdout"))
    out: Console = field(init=False)
    err: Console = field(default_factory=lambda: _console(SafeStream("stderr")))

    def __post_init__(self) -> None:
        """Create the console of stdout."""
        self.out = _console(self.stdout)

    def lines(self, text: str, indent: int) -> list[str]:
        """Split text into one or more lines; on a terminal, wrap it to fit after `indent` columns. Paths stay whole."""
        if not self.out.is_terminal:
            return text.splitlines() or [""]
        room = max(_NARROWEST, self.out.width - indent)
        return [
            line
            for given in text.splitlines() or [""]
            for line in textwrap.wrap(given, room, break_long_words=False, break_on_hyphens=False) or [""]
        ]

    def show_note(self, text: str) -> None:
        """Print a line to stderr."""
        self.err.print(text)

    def show_error(self, error: DdpmkitError) -> None:
        """Print the error, then each remedy on a line of its own; with `verbose`, the traceback first."""
        if self.verbose:
            self._show_traceback()
        self.err.print(Text.assemble(("error:", "bold red"), " ", error.message))
        for remedy in error.remedies:
            self.err.print(Text.assemble(("  - ", "dim"), remedy))

    def show_os_error(self, error: OSError) -> None:
        """Print the system's message (no space, no permission) and the file."""
        if self.verbose:
            self._show_traceback()
        place = f"{error.filename}: " if error.filename is not None else ""
        self.err.print(Text.assemble(("error:", "bold red"), f" {place}{error.strerror or error}"))

    def show_output_failure(self) -> None:
        """Print why results could not be shown."""
        reason = getattr(self.stdout.failure, "strerror", None) or self.stdout.failure
        self.err.print(Text.assemble(("error:", "bold red"), f" standard output: {reason}; some output is lost"))

    def show_unexpected(self, text: str) -> None:
        """Print the traceback of an unexpected error, then `text`."""
        self._show_traceback()
        self.err.print(Text.assemble(("error:", "bold red"), " ", text))

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Show warnings of all libraries, and with `verbose` our own debug messages, on stderr."""
        handler = _ConsoleHandler(self.err)
        levels = {"": logging.WARNING} | dict.fromkeys(_OURS, logging.DEBUG if self.verbose else logging.NOTSET)
        before = {name: logging.getLogger(name).level for name in levels}
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)

    def _show_traceback(self) -> None:
        shown = sys.exception()
        try:
            self.err.print(Traceback(suppress=["click"]), soft_wrap=False)
        except BaseException as error:  # an exception class of a plugin may break the rendering
            if is_interrupt(error):
                raise
            self.err.print("".join(traceback.format_exception(shown)))


class _ConsoleHandler(logging.Handler):
    """Prints through the console of the live display, so that messages and display do not overwrite each other."""

    _STYLES = {logging.ERROR: "bold red", logging.WARNING: "yellow"}  # noqa: RUF012 -- never modified

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message and its exception, if any."""
        head = (f"{record.levelname.lower()}:", self._STYLES.get(record.levelno, "dim"))
        try:
            self._console.print(Text.assemble(head, " ", self.format(record)))
        except Exception:
            self.handleError(record)
