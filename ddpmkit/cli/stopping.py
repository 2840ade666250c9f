"""Signals during a run: the first asks it to stop where nothing is lost, the second ends it at once.

It does not know what the run does when it is asked.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["StopRequest"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Ctrl-C; a scheduler or a shutdown; a scheduler's warning before it; a terminal that was closed."""


class StopRequest:
    """Whether someone has asked the run to stop; calling it answers that.

    Until it is called for the first time nobody listens, and a signal raises KeyboardInterrupt at once. So does the
    second signal at any time.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` is told, from another thread, that the wish was heard."""
        self._say = say
        self._heard = False
        self._before: dict[signal.Signals, Any] = {}
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """True once a signal has come."""
        self._heard = True
        return self.signal is not None

    def __enter__(self) -> Self:
        """Take the signals over."""
        self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
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

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- the signature of a handler
        again, self.signal = self.signal is not None, signal.Signals(number)
        if again or not self._heard:
            raise KeyboardInterrupt
        # A handler interrupts whatever runs, a half-written line included: another thread waits its turn.
        text = "stopping: the run is saved after this step (Ctrl-C again: it ends at once)"
        threading.Thread(target=self._say, args=(text,), daemon=True).start()
