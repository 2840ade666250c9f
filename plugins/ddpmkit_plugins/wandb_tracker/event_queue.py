"""Makes calls in order in one background thread, so that a training step never waits for the server."""

import queue
import threading
import time
from collections.abc import Callable


class EventQueue:
    """Accepts calls immediately and makes them in order; a later `post` raises if a call failed or does not return."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds that a single call may take."""
        self._timeout = timeout
        self._calls: queue.Queue[Callable[[], object]] = queue.Queue()
        self._failure: Exception | None = None
        self._busy_since: float | None = None
        threading.Thread(target=self._make_calls, name="event queue", daemon=True).start()

    def post(self, call: Callable[[], object]) -> None:
        """Queue `call`. Raises what an earlier call raised, or TimeoutError if one does not return."""
        self._check(self._timeout)
        self._calls.put(call)

    def wait(self, seconds: float) -> None:
        """Wait until all calls are made, at most `seconds` for a single one. Raises as `post` does."""
        while self._calls.unfinished_tasks:
            self._check(seconds)
            time.sleep(0.02)
        self._check(seconds)

    def _check(self, timeout: float) -> None:
        if self._failure is not None:
            raise self._failure
        since = self._busy_since
        if since is not None and time.monotonic() - since > timeout:
            raise TimeoutError(f"no response for {timeout:.0f} seconds")

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
