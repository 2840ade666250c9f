"""A thread that runs calls one after another, for code that can hang.

The thread is a daemon: a call that never returns blocks neither its caller nor the end of the process.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Worker"]

ResultT = TypeVar("ResultT")


class _Result(Generic[ResultT]):
    """The value or the exception of a call, once it is done."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.value: ResultT | None = None
        self.error: BaseException | None = None


class Worker:
    """A daemon thread with a queue of calls.

    A component that is built and called only in this thread may use objects that are bound to a thread.
    """

    def __init__(self, name: str) -> None:
        """`name`: name of the thread."""
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.busy_since: float | None = None
        """When the current call began, by `time.monotonic`. None between calls."""
        threading.Thread(target=self._run_calls, name=name, daemon=True).start()

    def post(self, call: Callable[[], None]) -> None:
        """Queue `call` and return immediately. `call` must not raise."""
        self._calls.put(call)

    def call(self, function: Callable[[], ResultT], seconds: float) -> ResultT:
        """Run `function` in the thread and return its result.

        Raises what `function` raises, or TimeoutError if there is no result within `seconds`.
        """
        result = _Result[ResultT]()

        def run() -> None:
            try:
                result.value = function()
            except BaseException as error:
                result.error = error
            result.done.set()

        self.post(run)
        if not result.done.wait(seconds):
            raise TimeoutError(f"no answer within {seconds:g} seconds")
        if result.error is not None:
            raise result.error
        return result.value  # type: ignore[return-value]  # None only if the function returns it

    def _run_calls(self) -> None:
        while True:
            call = self._calls.get()
            self.busy_since = time.monotonic()
            call()
            self.busy_since = None
