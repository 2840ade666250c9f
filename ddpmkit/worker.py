"""Calls of code that may hang, made one after another in a thread of its own.

The thread is a daemon: a call that never returns keeps neither its caller nor the process.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Worker"]

ResultT = TypeVar("ResultT")


class _Answer(Generic[ResultT]):
    """What came of a call, once it is there."""

    def __init__(self) -> None:
        self.is_there = threading.Event()
        self.result: ResultT | None = None
        self.error: BaseException | None = None


class Worker:
    """One thread. A component that is built and called in it alone may keep what belongs to a thread."""

    def __init__(self, name: str) -> None:
        """`name` is that of the thread."""
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.busy_since: float | None = None
        """When the call that runs now began, by `time.monotonic`; None between calls."""
        threading.Thread(target=self._make_calls, name=name, daemon=True).start()

    def post(self, call: Callable[[], None]) -> None:
        """Have `call`, which must not raise, made when those before it are done; returns at once."""
        self._calls.put(call)

    def call(self, function: Callable[[], ResultT], seconds: float) -> ResultT:
        """What `function` returns in the thread. Raises what it raises, or TimeoutError after so many seconds."""
        answer = _Answer[ResultT]()

        def answered() -> None:
            try:
                answer.result = function()
            except BaseException as error:
                answer.error = error
            answer.is_there.set()

        self.post(answered)
        if not answer.is_there.wait(seconds):
            raise TimeoutError(f"no answer within {seconds:g} seconds")
        if answer.error is not None:
            raise answer.error
        return answer.result  # type: ignore[return-value]  # None only where the function returns it

    def _make_calls(self) -> None:
        while True:
            call = self._calls.get()
            self.busy_since = time.monotonic()
            call()
            self.busy_since = None
