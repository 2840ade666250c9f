"""The terminal: where results and talk go, and how errors and log messages look there.

Results go to stdout, everything else to stderr. No text of ours is wrapped, highlighted or read as markup, so source
excerpts keep their columns. It does not know which command is running.
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
    """A console on which names of files, metrics and the like cannot do what only we may: colour, move, reorder."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does, with all text escaped; what rich itself controls passes."""
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
    """Lines of label and text in two columns."""
    width = max((len(label) for label, _ in pairs), default=0)
    for label, text in pairs:
        yield f"  {label:<{width}}  {text}"


@dataclass
class Terminal:
    """stdout for results, stderr for the rest."""

    verbose: bool = False
    stdout: SafeStream = field(default_factory=lambda: SafeStream("stdout"))
    out: Console = field(init=False)
    err: Console = field(default_factory=lambda: _console(SafeStream("stderr")))

    def __post_init__(self) -> None:
        """Both consoles survive whatever is wrong with their streams."""
        self.out = _console(self.stdout)

    def lines(self, text: str, indent: int) -> list[str]:
        """At least one line; on a terminal they fit behind `indent` columns, and no path is broken."""
        if not self.out.is_terminal:
            return text.splitlines() or [""]
        room = max(_NARROWEST, self.out.width - indent)
        return [
            line
            for given in text.splitlines() or [""]
            for line in textwrap.wrap(given, room, break_long_words=False, break_on_hyphens=False) or [""]
        ]

    def show_note(self, text: str) -> None:
        """A line on stderr."""
        self.err.print(text)

    def show_error(self, error: DdpmkitError) -> None:
        """What is wrong, then each way out on a line of its own; the traceback only when asked for."""
        if self.verbose:
            self._show_traceback()
        self.err.print(Text.assemble(("error:", "bold red"), " ", error.message))
        for remedy in error.remedies:
            self.err.print(Text.assemble(("  - ", "dim"), remedy))

    def show_os_error(self, error: OSError) -> None:
        """The system's own words (no space, no permission) and the file they are about."""
        if self.verbose:
            self._show_traceback()
        place = f"{error.filename}: " if error.filename is not None else ""
        self.err.print(Text.assemble(("error:", "bold red"), f" {place}{error.strerror or error}"))

    def show_loss(self) -> None:
        """Why results were not shown."""
        reason = getattr(self.stdout.failure, "strerror", None) or self.stdout.failure
        self.err.print(Text.assemble(("error:", "bold red"), f" standard output: {reason}; some of it is lost"))

    def show_unforeseen(self, text: str) -> None:
        """The traceback of what nobody foresaw, and below it what to make of it."""
        self._show_traceback()
        self.err.print(Text.assemble(("error:", "bold red"), " ", text))

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Show warnings of every library, and with `verbose` our own debug messages, on stderr."""
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
        except BaseException as error:  # an exception of a plugin may break whoever shows it
            if is_interrupt(error):
                raise
            self.err.print("".join(traceback.format_exception(shown)))


class _ConsoleHandler(logging.Handler):
    """Prints through the console that also draws the live display, so that neither breaks the other."""

    _STYLES = {logging.ERROR: "bold red", logging.WARNING: "yellow"}  # noqa: RUF012 -- never changed

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """One message, with its exception if it has one."""
        head = (f"{record.levelname.lower()}:", self._STYLES.get(record.levelno, "dim"))
        try:
            self._console.print(Text.assemble(head, " ", self.format(record)))
        except Exception:
            self.handleError(record)
