"""Signals during a run: the first asks it to stop where nothing is lost, the second ends it at once.

It does not know what the run does when it is asked.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from ddpmkit.interrupts import STOP_SIGNALS, Interrupted

__all__ = ["StopRequest"]


class StopRequest:
    """Whether someone has asked the run to stop; calling it answers that.

    Until it is called for the first time nobody listens, and a signal raises Interrupted at once. So does the
    second signal at any time. A signal that the process ignores from its start, as under `nohup`, stays ignored.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` is told, from another thread, that the wish was heard."""
        self._say = say
        self._heard = False
        self._before: dict[signal.Signals, Any] = {}
        self._handler = self._receive  # one object: each access to a method makes another
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """True once a signal has come. A handler that a plugin has put in the place of ours is replaced by ours."""
        self._heard = True
        self._take_back()
        return self.signal is not None

    def __enter__(self) -> Self:
        """Take the signals over."""
        # None is a handler that Python has not installed, and could not put back.
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
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended."""
        return 128 + (self.signal or signal.SIGINT)

    def _take_back(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in self._before:
            if signal.getsignal(number) is not self._handler:
                signal.signal(number, self._handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- the signature of a handler
        again, self.signal = self.signal is not None, signal.Signals(number)
        if again or not self._heard:
            raise Interrupted
        # A handler interrupts whatever runs, a half-written line included: another thread waits its turn.
        text = "stopping: the run is saved after this step (Ctrl-C again: it ends at once)"
        threading.Thread(target=self._say, args=(text,), daemon=True).start()
