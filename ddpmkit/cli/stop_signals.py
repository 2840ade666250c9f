"""Signals during a run: the first requests a stop at a safe point, the second ends the run immediately."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from ddpmkit.interrupts import STOP_SIGNALS, Interrupted

__all__ = ["StopRequest"]


class StopRequest:
    """Handles stop signals; calling the object returns whether a stop was requested.

    Until it is called for the first time, a signal raises Interrupted immediately. So does the second signal at any
    time. A signal that the process ignored when it started, as under `nohup`, stays ignored.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        """`show` is called from another thread with a message that confirms the request."""
        self._show = show
        self._is_polled = False
        self._before: dict[signal.Signals, Any] = {}
        self._handler = self._receive  # stored, because each access to a method creates a new object
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """Whether a signal was received. Reinstalls our handler if a plugin replaced it."""
        self._is_polled = True
        self._reinstall()
        return self.signal is not None

    def __enter__(self) -> Self:
        """Install the handlers."""
        # None is a handler that Python did not install and could not restore.
        self._before = {
            number: handler
            for number in STOP_SIGNALS
            if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
        }
        for number in self._before:
            signal.signal(number, self._handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """The exit code that shells use for a process ended by a signal."""
        return 128 + (self.signal or signal.SIGINT)

    def _reinstall(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in self._before:
            if signal.getsignal(number) is not self._handler:
                signal.signal(number, self._handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- the signature of a handler
        again, self.signal = self.signal is not None, signal.Signals(number)
        if again or not self._is_polled:
            raise Interrupted
        # The handler may interrupt a half-written line; another thread can wait for the console.
        text = "stopping: the run is saved after this step (Ctrl-C again: end immediately)"
        threading.Thread(target=self._show, args=(text,), daemon=True).start()
