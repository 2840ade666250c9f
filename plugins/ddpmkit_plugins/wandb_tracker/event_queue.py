"""Calls made one after another in a thread of their own, so that who posts them never waits."""

import queue
import threading
import time
from collections.abc import Callable


class EventQueue:
    """Takes calls at once and makes them in order; tells the next poster when one failed or does not return."""

    def __init__(self, patience: float) -> None:
        """`patience`: seconds that a single call may take before it is taken for lost."""
        self._patience = patience
        self._calls: queue.Queue[Callable[[], object]] = queue.Queue()
        self._failure: Exception | None = None
        self._busy_since: float | None = None
        threading.Thread(target=self._make_calls, name="postbox", daemon=True).start()

    def post(self, call: Callable[[], object]) -> None:
        """Have `call` made when those before it are. Raises what an earlier call raised, or TimeoutError."""
        self._check(self._patience)
        self._calls.put(call)

    def empty(self, seconds: float) -> None:
        """Wait until every call is made, and for `seconds` at most for a single one. Raises as `post` does."""
        while self._calls.unfinished_tasks:
            self._check(seconds)
            time.sleep(0.02)
        self._check(seconds)

    def _check(self, patience: float) -> None:
        if self._failure is not None:
            raise self._failure
        since = self._busy_since
        if since is not None and time.monotonic() - since > patience:
            raise TimeoutError(f"no answer for {patience:.0f} seconds")

    def _make_calls(self) -> None:
        while True:
            call = self._calls.get()
            self._busy_since = time.monotonic()
            try:
                call()
            except Exception as error:
                self._failure = error
                return
            finally:
                self._busy_since = None
                self._calls.task_done()
