"""Signals that end a run; a person's Ctrl-C, and how to tell it from a KeyboardInterrupt that a plugin raises.

Plugins may raise anything, `SystemExit` and `KeyboardInterrupt` included. None of these may end a run as if a person
had ended it, so the core catches BaseException where it calls plugins, and lets only real interrupts pass.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["STOP_SIGNALS", "Interrupted", "is_interrupt", "marked_interrupts"]

STOP_SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
"""Ctrl-C; a scheduler or a shutdown; a scheduler's warning before it; a terminal that was closed."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end at once."""


def is_interrupt(error: BaseException) -> bool:
    """Whether a signal raised `error`.

    While Python's own handler of SIGINT is in place, nobody can tell, and every KeyboardInterrupt counts as one.
    """
    return isinstance(error, Interrupted) or (
        isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


@contextlib.contextmanager
def marked_interrupts() -> Iterator[None]:
    """Have SIGINT raise Interrupted, unless someone handles or ignores it already, or this is not the main thread."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted
