"""Distinguishes the user's Ctrl-C from a KeyboardInterrupt that a plugin raises.

A plugin can raise anything, including `SystemExit` and `KeyboardInterrupt`, and must not end a run that way. So the
core catches BaseException around calls of plugins, and re-raises only if `is_interrupt` is true.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["STOP_SIGNALS", "Interrupted", "is_interrupt", "own_sigint_handler"]

STOP_SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
"""Signals that stop a run: Ctrl-C, a scheduler or a shutdown, a scheduler's early warning, a closed terminal."""


class Interrupted(KeyboardInterrupt):
    """A signal requested an immediate end of the process."""


def is_interrupt(error: BaseException) -> bool:
    """Return whether a signal raised `error`.

    With Python's default SIGINT handler the two cases cannot be distinguished, so every KeyboardInterrupt counts.
    """
    return isinstance(error, Interrupted) or (
        isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


@contextlib.contextmanager
def own_sigint_handler() -> Iterator[None]:
    """Make SIGINT raise `Interrupted` inside this context.

    It has no effect outside the main thread, or if SIGINT is ignored or has a handler other than Python's default.
    """
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
